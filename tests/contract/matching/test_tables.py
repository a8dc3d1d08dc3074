"""The reference pages of the protocol say what the core does."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from referral_bus.contracts.requests import REQUESTS
from referral_bus.contracts.vocabulary import BusinessStatus, TaskStatus
from referral_bus.wire.codec import Codec
from tests.contract.matching.test_refusals import SCENARIOS
from tests.support.actions import actions, rewritten, said_by
from tests.support.deciding import World
from tests.support.tables import (
    REFERENCE,
    Seen,
    everything_said_everywhere,
    moves_seen,
    refusals,
    tables,
    watched,
    written,
)

AGAIN = "run python -m tests.support.tables, and read what it changed"


@pytest.fixture(scope="module")
def seen(codec: Codec) -> Seen:
    with watched() as seen:
        everything_said_everywhere(codec)
        for _, _, scenario in SCENARIOS:
            scenario(World(codec))
    return seen


@pytest.fixture(scope="module")
def told(seen: Seen) -> dict[str, list[list[str]]]:
    return tables(seen)


@pytest.mark.parametrize("page", ["refusals.md", "decline-reasons.md", "task-life.md"])
def test_the_tables_of_the_page_are_what_the_core_does(told: dict[str, list[list[str]]], page: str) -> None:
    assert written((REFERENCE / page).read_text()) == told[page], AGAIN


def test_the_page_of_actions_is_what_the_routes_the_requests_and_the_core_say(seen: Seen) -> None:
    page = (REFERENCE / "actions.md").read_text()
    assert page == rewritten(page, seen, refusals(seen)), AGAIN
    headings = {line[3:].lower().replace(" ", "-") for line in page.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\(#([\w-]+)\)", page)) <= headings


def test_each_thing_a_party_can_say_has_a_command_and_openapi_lists_it_for_those_who_may() -> None:
    found = actions()
    assert {one.submission for one in found} >= set(REQUESTS.values())
    tags = {"agency": "agencies", "provider": "providers", "operations": "operations"}
    for one in found:
        assert said_by(one), one.title
        assert one.routes[0].tags == tuple(tags[role] for role in one.roles), one.title


def test_every_status_a_task_can_have_is_come_by(seen: Seen) -> None:
    moved = {one for moves in moves_seen(seen).values() for one in moves}
    assert {status for status, _ in moved} == set(get_args(TaskStatus))
    assert {business for _, business in moved} == set(get_args(BusinessStatus))
