"""What ``refbus deliveries`` shows: a table of what the notifier really has, all pages of it, and how many are attempted anew."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest.mock import call, create_autospec

import pytest
from typer.testing import CliRunner, Result

from referral_bus.cli import deliveries
from referral_bus.cli.rows import console
from referral_bus.client.sync import SyncBus
from services.notifier import api

NOW = 1_700_000_000_000
ROW: dict[str, Any] = {
    "delivery": "sb-aaaaaaaaaaaaaaaaaaaa.north.7",
    "subscription": "sb-aaaaaaaaaaaaaaaaaaaa",
    "number": 3,
    "type": "org.referralbus.ledger.OfferMade.v1",
    "referral": "rf-north-a",
    "state": "waiting",
    "attempts": 2,
    "reason": "http_500",
    "due_at": NOW + 60_000,
    "done_at": None,
}


class Shown:
    """The commands on a bus whose notifier says what a test puts there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = create_autospec(SyncBus, instance=True)
        monkeypatch.setattr(deliveries, "connected", self.connected)
        monkeypatch.setattr(time, "time_ns", lambda: NOW * 1_000_000)
        monkeypatch.setattr(console, "_width", 200)

    @contextmanager
    def connected(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield self.bus

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(deliveries.commands, [*arguments, "--as", "harbor"])
        assert result.exit_code == 0, result.output
        return result


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


def test_each_column_is_one_that_the_notifier_has() -> None:
    assert set(deliveries.COLUMNS) <= api.DeliveryView.model_fields.keys() == ROW.keys()


def test_deliveries_are_a_table_with_the_event_by_its_name(shown: Shown) -> None:
    shown.bus.deliveries.return_value = {"deliveries": [ROW], "cursor": None}
    [head, row] = shown.run("list").stdout.splitlines()
    assert head.split() == ["delivery", "type", "referral", "state", "attempts", "reason", "due", "done"]
    due = f"{datetime.fromtimestamp((NOW + 60_000) / 1000).astimezone():%H:%M:%S}"
    assert row.split() == [ROW["delivery"], "OfferMade", "rf-north-a", "waiting", "2", "http_500", due]


def test_as_many_pages_are_read_as_deliveries_are_asked_for_and_json_is_whole_rows(shown: Shown) -> None:
    kept = [{**ROW, "number": number} for number in range(450)]
    shown.bus.deliveries.side_effect = [
        {"deliveries": kept[:200], "cursor": "a"},
        {"deliveries": kept[200:400], "cursor": "b"},
        {"deliveries": kept[400:], "cursor": None},
    ]
    result = shown.run("list", "--most", "1000", "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == kept
    assert shown.bus.deliveries.call_args_list == [
        call(limit=200),
        call(limit=200, cursor="a"),
        call(limit=200, cursor="b"),
    ]


def test_where_nothing_was_delivered_it_says_so(shown: Shown) -> None:
    shown.bus.deliveries.return_value = {"deliveries": [], "cursor": None}
    assert shown.run("list").stdout == "There is nothing.\n"


@pytest.mark.parametrize(
    ("resent", "said"),
    [(0, "0 deliveries are"), (1, "1 delivery is"), (3, "3 deliveries are")],
)
def test_it_says_how_many_are_attempted_anew(shown: Shown, resent: int, said: str) -> None:
    shown.bus.resend_deliveries.return_value = resent
    assert shown.run("resend").stdout == f"{said} attempted anew.\n"
