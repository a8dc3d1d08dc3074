"""What a schedule of HSDS says by RRULE, held against another reading of RFC 5545."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from dateutil import rrule
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.contracts.localtime import DAYS, UtcOffset
from referral_bus.contracts.services import OpeningHours, Schedule
from referral_bus.directory.hours import NotOpen, hours_of
from referral_bus.directory.model import Assumptions, Import
from referral_bus.directory.reader import read
from referral_bus.directory.rows import Row
from referral_bus.directory.values import Unusable
from services.matching.core.judging.opening import LOOKAHEAD_DAYS, opening, opens_at
from tests.support.deciding import DAY, offers

TODAY: Final = date(2026, 1, 1)
CHICAGO: Final = frozenset({-360, -300})
NINE_TO_FIVE: Final = {"opens_at": "09:00", "closes_at": "17:00"}


def row(**columns: str) -> Row:
    return Row("schedules.csv", "2", columns)


def open_days(said: Schedule, first: date, days: int) -> set[date]:
    """The days on which the bus takes a service to be open."""
    ready = opening(offers("beds", schedules=[said], offsets=[UtcOffset(since=0, minutes=0)]))
    assert ready is not None
    found, day = set(), (first - date(1970, 1, 1)).days
    last = day + days
    while day < last:
        opens = opens_at(ready, day * DAY)
        day = day + LOOKAHEAD_DAYS if opens is None else opens // DAY
        if opens is not None and day < last:
            found.add(date(1970, 1, 1) + timedelta(days=day))
            day += 1
    return found


def by_the_rfc(columns: Mapping[str, str], first: date, days: int, week_starts: str) -> set[date]:
    begins = date.fromisoformat(columns["dtstart"])
    months = [int(day) for day in columns.get("bymonthday", "").split(",") if day]
    by_day = columns.get("byday", "").split(",") if not months else []
    valid = columns.get("valid_from", "")
    occurrences = rrule.rrule(
        rrule.MONTHLY if columns["freq"] == "MONTHLY" else rrule.WEEKLY,
        dtstart=datetime(begins.year, begins.month, begins.day),
        interval=int(columns["interval"]),
        wkst=getattr(rrule, week_starts),
        bymonthday=months or None,
        byweekday=[
            getattr(rrule, day[-2:])(int(day[:-2])) if day[:-2] else getattr(rrule, day) for day in by_day
        ]
        or None,
        until=datetime(2030, 1, 1),
    )
    return {
        at.date()
        for at in occurrences
        if first <= at.date() < first + timedelta(days=days) and (not valid or at.date().isoformat() >= valid)
    }


_DATES: Final = st.dates(date(2025, 6, 1), date(2027, 6, 1)).map(date.isoformat)
_DAYS: Final = st.sets(st.sampled_from(DAYS), min_size=1).map(lambda days: ",".join(sorted(days)))
_RULES: Final = st.fixed_dictionaries(
    {"dtstart": _DATES, "interval": st.integers(1, 4).map(str)},
    optional={"valid_from": _DATES},
).flatmap(
    lambda given: st.one_of(
        st.builds(
            lambda days, starts: {**given, "freq": "WEEKLY", "byday": days, "wkst": starts},
            _DAYS,
            st.sampled_from(["", *DAYS]),
        ),
        st.builds(
            lambda day, place: {**given, "freq": "MONTHLY", "byday": f"{place}{day}"},
            st.sampled_from(DAYS),
            st.sampled_from([1, 2, 4, -1]),
        ),
        st.builds(
            lambda day: {**given, "freq": "MONTHLY", "bymonthday": str(day)},
            st.sampled_from([1, 15, 31, -1]),
        ),
    )
)


@given(_RULES)
def test_a_service_is_open_on_the_days_that_rfc_5545_says_or_its_rule_is_left_out(
    columns: dict[str, str],
) -> None:
    first = min(date.fromisoformat(columns[name]) for name in ("dtstart", "valid_from") if name in columns)
    first -= timedelta(days=10)
    starts = columns.get("wkst") or "MO"
    wanted = by_the_rfc(columns, first, 800, starts)
    try:
        said = hours_of(row(**NINE_TO_FIVE, **columns), None)
    except Unusable as why:
        assert "wkst" in str(why)
        assert wanted != by_the_rfc({**columns, "valid_from": ""}, first, 800, "MO")
        return
    assert isinstance(said, Schedule)
    assert open_days(said, first, 800) == wanted


@given(_RULES, st.integers(1, 40))
def test_a_count_ends_a_rule_on_the_day_that_rfc_5545_says_or_the_rule_is_left_out(
    columns: dict[str, str], count: int
) -> None:
    columns = {**columns, "valid_from": ""}
    first = date.fromisoformat(columns["dtstart"])
    wanted = sorted(
        by_the_rfc({**columns, "interval": columns["interval"]}, first, 1200, columns.get("wkst") or "MO")
    )
    try:
        said = hours_of(row(**NINE_TO_FIVE, **columns, count=str(count)), None)
    except Unusable as why:
        assert "wkst" in str(why) or (first not in wanted and "dtstart" in str(why))
        return
    assert isinstance(said, Schedule)
    assert wanted[0] == first
    if len(wanted) >= count:
        assert said.ends == wanted[count - 1].isoformat()


def test_a_rule_whose_count_is_over_has_ended() -> None:
    over = {**NINE_TO_FIVE, "freq": "WEEKLY", "byday": "MO", "dtstart": "2025-12-08", "count": "3"}
    with pytest.raises(NotOpen, match="ended on 2025-12-22"):
        hours_of(row(**over), TODAY)
    said = hours_of(row(**{**over, "count": "5"}), TODAY)
    assert said == Schedule(frequency="weekly", opens=540, closes=1020, days=["MO"], ends="2026-01-05")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"dtstart": "2025-12-08", "count": "0"}, "count '0'"),
        ({"dtstart": "2025-12-08", "count": "some"}, "count 'some'"),
        ({"count": "3"}, "from which day on"),
        ({"dtstart": "2025-12-09", "count": "3"}, "none of its own"),
        ({"dtstart": "2025-12-08", "count": "9999"}, "longer than the bus reckons"),
    ],
)
def test_a_count_that_is_not_exact_is_left_out(columns: dict[str, str], reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        hours_of(row(**NINE_TO_FIVE, freq="WEEKLY", byday="MO", **columns), TODAY)


def test_weeks_that_begin_on_another_day_are_left_out_where_that_changes_them() -> None:
    every_other = {**NINE_TO_FIVE, "freq": "WEEKLY", "interval": "2", "dtstart": "2026-01-05"}
    with pytest.raises(Unusable, match="wkst"):
        hours_of(row(**every_other, wkst="SU", byday="MO,SU"), TODAY)
    said = hours_of(row(**every_other, wkst="SU", byday="MO,WE"), TODAY)
    assert isinstance(said, Schedule)
    assert said.starts == "2026-01-05"


def test_weeks_of_which_none_is_skipped_may_begin_on_any_day() -> None:
    said = hours_of(row(**NINE_TO_FIVE, freq="WEEKLY", wkst="SU", byday="MO,SU"), TODAY)
    assert said == [("MO", 540, 1020), ("SU", 540, 1020)]


def test_a_week_that_begins_in_the_future_is_not_open_before() -> None:
    said = hours_of(row(**NINE_TO_FIVE, freq="WEEKLY", dtstart="2027-01-04", byday="MO"), TODAY)
    assert said == Schedule(frequency="weekly", opens=540, closes=1020, days=["MO"], starts="2027-01-04")


def test_a_week_that_has_begun_is_a_plain_week() -> None:
    said = hours_of(row(**NINE_TO_FIVE, freq="WEEKLY", dtstart="2025-01-06", byday="MO"), TODAY)
    assert said == [("MO", 540, 1020)]


@pytest.mark.parametrize("time", ["15:00Z", "15:00:00Z", "15:00+00:00", "15:00+0100", "3:00 pm Z"])
def test_a_time_of_another_clock_than_the_directorys_is_left_out(time: str) -> None:
    with pytest.raises(Unusable, match=r"opens_at .*another clock"):
        hours_of(row(byday="MO", opens_at=time, closes_at="23:00"), TODAY, CHICAGO)


@pytest.mark.parametrize("time", ["09:00-06:00", "09:00-0500", "09:00"])
def test_a_time_of_the_directorys_clock_is_taken_as_it_is(time: str) -> None:
    said = hours_of(row(byday="MO", opens_at=time, closes_at="17:00"), TODAY, CHICAGO)
    assert said == [("MO", 540, 1020)]


def directory(folder: Path, schedule: str, zone: str | None) -> Import:
    (folder / "organizations.csv").write_text("id,name\no,Legal Help\n")
    (folder / "services.csv").write_text("id,organization_id,name\n7,o,Advice\n")
    (folder / "schedules.csv").write_text(
        f"id,service_id,freq,byday,opens_at,closes_at,timezone\ns,7,WEEKLY,MO,{schedule}\n"
    )
    return read(folder, Assumptions(region="north", zone=zone, today=TODAY))


def test_the_report_names_the_times_of_another_clock(tmp_path: Path) -> None:
    found = directory(tmp_path, "15:00Z,23:00Z,+00:00", "America/Chicago")
    assert found.services[0].hours is None
    assert [(one.row, one.used) for one in found.problems] == [("2", False)]
    assert "'15:00Z' is told by another clock" in found.problems[0].reason
    assert directory(tmp_path, "15:00Z,23:00Z,+00:00", "Europe/London").problems == []


def test_a_row_of_another_time_zone_whose_times_name_none_is_read_by_the_directorys_clock_and_reported(
    tmp_path: Path,
) -> None:
    found = directory(tmp_path, "09:00,17:00,+00:00", "America/Chicago")
    assert found.services[0].hours == [OpeningHours(days=["MO"], opens=540, closes=1020)]
    assert [(one.row, one.used) for one in found.problems] == [("2", True)]
    assert "timezone '+00:00'" in found.problems[0].reason
    assert directory(tmp_path, "09:00,17:00,-06:00", "America/Chicago").problems == []
    assert directory(tmp_path, "09:00,17:00,America/Chicago", "America/Chicago").problems == []
