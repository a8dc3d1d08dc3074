"""A zone's offsets written out are those of the time zone database."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.contracts.localtime import UtcOffset
from referral_bus.directory.zones import offsets

ZONES = ["Europe/Berlin", "America/Chicago", "America/Phoenix", "Asia/Kolkata", "Australia/Lord_Howe"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = 1970, 2060


@cache
def written_out(zone: str) -> list[UtcOffset]:
    return offsets(zone, FIRST, LAST)


def minutes_at(found: list[UtcOffset], moment: int) -> int:
    return found[bisect_right([offset.since for offset in found], moment) - 1].minutes


def minutes_by_the_database(zone: str, moment: int) -> int:
    ahead = (EPOCH + timedelta(milliseconds=moment)).astimezone(ZoneInfo(zone)).utcoffset()
    assert ahead is not None
    return ahead // timedelta(minutes=1)


def start_of(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=200)
@given(st.integers(start_of(FIRST), start_of(LAST + 1) - 1))
def test_at_any_moment_the_offset_is_that_of_the_database(zone: str, moment: int) -> None:
    assert minutes_at(written_out(zone), moment) == minutes_by_the_database(zone, moment)


@pytest.mark.parametrize(
    "zone", [*ZONES, "America/St_Johns", "Asia/Gaza"]
)  # the last two change at odd minutes
def test_every_change_comes_to_the_millisecond(zone: str) -> None:
    for former, later in pairwise(written_out(zone)):
        assert former.minutes != later.minutes
        assert minutes_by_the_database(zone, later.since - 1) == former.minutes
        assert minutes_by_the_database(zone, later.since) == later.minutes


def test_the_offsets_begin_with_the_first_year_and_end_with_the_last() -> None:
    found = offsets("Europe/Berlin", 2026, 2027)
    changes = ["2026-03-29T01:00Z", "2026-10-25T01:00Z", "2027-03-28T01:00Z", "2027-10-31T01:00Z"]
    assert [offset.since for offset in found] == [
        start_of(2026),
        *(int(datetime.fromisoformat(change).timestamp()) * 1000 for change in changes),
    ]
    assert [offset.minutes for offset in found] == [60, 120, 60, 120, 60]


def test_a_zone_without_summer_time_has_one_offset() -> None:
    assert offsets("America/Phoenix", 2026, 2036) == [UtcOffset(since=start_of(2026), minutes=-420)]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "../etc/passwd", "", "a\0b", "x" * 5000])
def test_a_zone_that_is_none_is_an_error_that_says_what_to_give(zone: str) -> None:
    with pytest.raises(ValueError, match="give a name of the IANA database"):
        offsets(zone, 2026, 2027)


@pytest.mark.parametrize(("first", "last"), [(2027, 2026), (1969, 1980), (2026, 9999)])
def test_years_out_of_order_or_range_are_an_error(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="give the earlier one first"):
        offsets("Europe/Berlin", first, last)


def test_an_offset_of_odd_seconds_is_an_error_and_not_rounded() -> None:
    with pytest.raises(ValueError, match="no whole minute"):
        offsets("Africa/Monrovia", 1970, 1980)
    assert [offset.minutes for offset in offsets("Africa/Monrovia", 1973, 1980)] == [0]
