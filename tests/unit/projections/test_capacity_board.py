"""What the capacity board makes of a unit's row."""

from __future__ import annotations

from typing import Final

import pytest

from services.matching.core.judging.places import HOUR_MS, number_counted
from services.projections.answers import UnitRow
from services.projections.api import _unit

COUNTED: Final = 500_000 * HOUR_MS + 59 * 60_000
"""A minute before the hour of the clock is over."""


def shown(now: int, trust: list[list[int]] | None) -> UnitRow:
    said = dict.fromkeys(("unit", "region", "service", "organisation", "service_name", "name"), "x")
    counts = dict.fromkeys(("total", "taken", "held", "overbook", "doubted", "free", "kept", "broken"), 0)
    times = {"counted_at": COUNTED, "reported_at": COUNTED + 5, "doubted_until": None}
    return _unit({**said, **counts, **times, "offered": True, "trust": trust}, now)


@pytest.mark.parametrize(
    ("later", "hours", "trust"),
    [
        (-HOUR_MS, 0, 1000),
        (59_999, 0, 1000),
        (60_000, 1, 900),
        (HOUR_MS + 59_999, 1, 900),
        (HOUR_MS + 60_000, 2, 400),
    ],
)
def test_a_count_is_believed_by_the_hours_of_the_clock_that_have_begun_as_matching_believes_it(
    later: int, hours: int, trust: int
) -> None:
    now = COUNTED + later
    unit = shown(now, [[1, 900], [2, 400]])
    assert (unit.stale_hours, unit.trust) == (hours, trust)
    assert hours == max(0, number_counted(COUNTED) - number_counted(now))


def test_a_count_shows_when_it_was_true_and_when_it_was_reported() -> None:
    unit = shown(COUNTED, None)
    assert (unit.counted_at, unit.reported_at, unit.trust) == (COUNTED, COUNTED + 5, None)
