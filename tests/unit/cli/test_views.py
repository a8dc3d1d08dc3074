"""What ``refbus show`` shows: tables of what the query API really has, in local time, and whole rows for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import call, create_autospec

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from referral_bus.cli import views
from referral_bus.cli.rows import console
from referral_bus.client.answers import Page
from referral_bus.client.sync import SyncBus
from services.projections import answers

NOW = 1_700_000_000_000
ROWS: dict[str, type[BaseModel]] = {
    "caseload": answers.ReferralRow,
    "inbox": answers.TaskRow,
    "queue": answers.Waiting,
    "waiting-list": answers.WaitingInLine,
    "capacity": answers.UnitRow,
    "submissions": answers.SubmissionRow,
}


class Shown:
    """The commands on a bus whose views hold what a test puts there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = create_autospec(SyncBus, instance=True)
        self.roles: list[tuple[str, ...]] = []
        monkeypatch.setattr(views, "connected", self.connected)
        monkeypatch.setattr(time, "time_ns", lambda: NOW * 1_000_000)
        monkeypatch.setattr(console, "_width", 200)

    @contextmanager
    def connected(self, _: Path, __: str, roles: tuple[str, ...], *___: Any, **____: Any) -> Iterator[Any]:
        self.roles.append(roles)
        yield self.bus

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(views.show, [*arguments, "--as", "harbor"])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    return Shown(monkeypatch)


def clock(millis: int) -> str:
    return f"{datetime.fromtimestamp(millis / 1000).astimezone():%H:%M:%S}"


@pytest.mark.parametrize("name", views.VIEWS)
def test_each_column_is_one_that_the_query_api_has(name: str) -> None:
    assert set(views.VIEWS[name].columns) <= ROWS[name].model_fields.keys()
    assert ROWS.keys() == views.VIEWS.keys()


def test_a_view_is_a_table_with_moments_in_local_time_and_nothing_for_nothing(shown: Shown) -> None:
    shown.bus.queue.return_value = Page(
        items=[
            {
                "referral": "rf-north-a",
                "task": None,
                "urgency": "crisis",
                "waits_for": "answer",
                "party": "harbor",
                "due_at": NOW + 60_000,
                "overdue": True,
            }
        ]
    )
    result = shown.run("queue", "--after", "north.0.7", "--most", "5")
    assert result.exit_code == 0
    assert shown.bus.queue.call_args == call(limit=5, after="north.0.7")
    [head, row] = result.stdout.splitlines()
    assert head.split() == ["referral", "task", "urgency", "waits", "for", "step", "party", "due", "overdue"]
    assert row.split() == ["rf-north-a", "crisis", "answer", "harbor", clock(NOW + 60_000), "yes"]


def test_a_waiting_list_says_where_in_each_line_a_referral_stands(shown: Shown) -> None:
    lines = [{"service": "sv-north-a", "place": 1}, {"service": "sv-north-b", "place": 3}]
    shown.bus.waiting_list.return_value = Page(items=[{"referral": "rf-north-a", "lines": lines}])
    assert "1. at sv-north-a, 3. at sv-north-b" in shown.run("waiting-list").stdout


def test_json_is_whole_rows_one_a_line(shown: Shown) -> None:
    rows = [{"unit": "un-north-a", "free": 0, "other": [1]}, {"unit": "un-north-b", "free": 2, "other": []}]
    shown.bus.capacity.return_value = Page(items=rows)
    assert [json.loads(line) for line in shown.run("capacity", "--json").stdout.splitlines()] == rows


@pytest.mark.parametrize("name", ["capacity", "queue"])
def test_what_concerns_others_too_can_be_narrowed_to_ones_own(shown: Shown, name: str) -> None:
    asked = getattr(shown.bus, name)
    asked.side_effect = [Page(items=[{"unit": "un-north-a"}], cursor="next"), Page(), Page()]
    assert shown.run(name, "--mine").exit_code == 0
    assert asked.call_args_list == [call(limit=50, mine=True), call(limit=49, mine=True, cursor="next")]
    shown.run(name)
    assert asked.call_args == call(limit=50)


def test_what_is_ones_own_in_any_case_is_not_narrowed(shown: Shown) -> None:
    assert shown.run("inbox", "--mine").exit_code == 2


def test_as_many_pages_are_read_as_rows_are_asked_for(shown: Shown) -> None:
    first = [{"referral": f"rf-north-{number}"} for number in range(200)]
    second = [{"referral": f"rf-north-{number}"} for number in range(200, 250)]
    shown.bus.caseload.side_effect = [Page(items=first, cursor="next"), Page(items=second, cursor="more")]
    result = shown.run("caseload", "--most", "250", "--json")
    assert len(result.stdout.splitlines()) == 250
    assert shown.bus.caseload.call_args_list == [call(limit=200), call(limit=50, cursor="next")]


def test_an_empty_view_says_so(shown: Shown) -> None:
    shown.bus.inbox.return_value = Page()
    assert shown.run("inbox").stdout == "There is nothing.\n"
    assert shown.roles == [("provider",)]


def test_what_a_region_decides_by_is_listed_or_shown_as_it_was_published(shown: Shown) -> None:
    row = {"region": "north", "kind": "policy", "name": "standard", "version": 3, "at": NOW}
    shown.bus.references.return_value = Page(items=[row])
    assert "standard" in shown.run("reference", "policy").stdout
    assert shown.bus.references.call_args == call(limit=50, kind="policy")
    shown.bus.reference.return_value = {**row, "content": {"seed": "a seed"}}
    result = shown.run("reference", "policy", "standard", "--region", "north")
    assert json.loads(result.stdout)["content"] == {"seed": "a seed"}
    assert shown.bus.reference.call_args == call("policy", "standard", "north", None)
    assert "--region" in shown.run("reference", "policy", "standard").stderr
