"""The reference pages of the protocol say what the core does."""

from __future__ import annotations

from typing import get_args

import pytest

from referral_bus.contracts.vocabulary import BusinessStatus, TaskStatus
from referral_bus.wire.codec import Codec
from tests.contract.matching.test_refusals import SCENARIOS
from tests.support.deciding import World
from tests.support.tables import (
    REFERENCE,
    Seen,
    everything_said_everywhere,
    moves_seen,
    tables,
    watched,
    written,
)


@pytest.fixture(scope="module")
def seen(codec: Codec) -> Seen:
    with watched() as seen:
        everything_said_everywhere(codec)
        for _, _, scenario in SCENARIOS:
            scenario(World(codec))
    return seen


@pytest.mark.parametrize("page", ["refusals.md", "decline-reasons.md", "task-life.md"])
def test_the_tables_of_the_page_are_what_the_core_does(seen: Seen, page: str) -> None:
    assert written((REFERENCE / page).read_text()) == tables(seen)[page], (
        "run python -m tests.support.tables, and read what it changed"
    )


def test_every_status_a_task_can_have_is_come_by(seen: Seen) -> None:
    moved = {one for moves in moves_seen(seen).values() for one in moves}
    assert {status for status, _ in moved} == set(get_args(TaskStatus))
    assert {business for _, business in moved} == set(get_args(BusinessStatus))
