"""When a service is open, by its own wall clock: weeks, months, summer time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from referral_bus.contracts.facts import Need
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.services import OpeningHours, Schedule, ServiceDefinition, Unit
from referral_bus.directory.zones import offsets
from services.matching.core.judging.opening import LOOKAHEAD_DAYS, Opening, opening, opens_at
from tests.support.judging import judge_hours

CHICAGO = ZoneInfo("America/Chicago")
OFFSETS = offsets("America/Chicago", 2025, 2027)
MINUTE = 60_000
HOUR = 60 * MINUTE


def service(**more: Any) -> ServiceDefinition:
    return ServiceDefinition.model_validate(
        {
            "service": "sv-north-1",
            "organisation": "shelter",
            "name": "Beds",
            "terms": [Need(code="1121")],
            "units": [Unit(unit="un-north-1", name="bed", total=1, available=1)],
            "offsets": OFFSETS,
        }
        | more
    )


def ready(**more: Any) -> Opening:
    found = opening(service(**more))
    assert found is not None
    return found


def at(text: str) -> int:
    """A moment by Chicago's clock."""
    return round(datetime.fromisoformat(text).replace(tzinfo=CHICAGO).timestamp() * 1000)


def local(moment: int | None) -> str:
    assert moment is not None
    return datetime.fromtimestamp(moment / 1000, CHICAGO).strftime("%a %Y-%m-%d %H:%M")


OFFICE = ready(hours=[OpeningHours(days=["MO", "TU", "WE", "TH", "FR"], opens=540, closes=1020)])


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-06-01 08:59", "Mon 2026-06-01 09:00"),
        ("2026-06-01 09:00", "Mon 2026-06-01 09:00"),
        ("2026-06-01 16:59", "Mon 2026-06-01 16:59"),
        ("2026-06-01 17:00", "Tue 2026-06-02 09:00"),
        ("2026-06-05 17:00", "Mon 2026-06-08 09:00"),
        ("2026-10-30 18:00", "Mon 2026-11-02 09:00"),
        ("2026-03-07 12:00", "Mon 2026-03-09 09:00"),
    ],
)
def test_the_next_opening_is_by_the_wall_clock_in_summer_and_winter(now: str, opens: str) -> None:
    assert local(opens_at(OFFICE, at(now))) == opens


def test_open_now_or_within_the_limit_is_yes() -> None:
    monday = at("2026-06-01 08:30")
    assert judge_hours(OFFICE, monday, monday + 30 * MINUTE) == "y"
    assert judge_hours(OFFICE, monday, monday + 29 * MINUTE) == "n"
    assert judge_hours(OFFICE, monday + HOUR, monday + HOUR) == "y"


def test_hours_not_stated_or_of_no_known_clock_are_unknown() -> None:
    assert opening(service()) is None
    assert opening(service(hours=[OpeningHours(days=["MO"], opens=0, closes=1)], offsets=[])) is None
    assert judge_hours(None, 0, HOUR) == "u"


def test_hours_over_midnight_go_on_the_day_after() -> None:
    night = ready(hours=[OpeningHours(days=["SA"], opens=1320, closes=360)])
    assert local(opens_at(night, at("2026-06-07 05:59"))) == "Sun 2026-06-07 05:59"
    assert local(opens_at(night, at("2026-06-07 06:00"))) == "Sat 2026-06-13 22:00"


def test_round_the_clock_is_always_open() -> None:
    always = ready(
        hours=[OpeningHours(days=["MO", "TU", "WE", "TH", "FR", "SA", "SU"], opens=0, closes=1440)]
    )
    for day in range(0, 400, 7):
        moment = at("2026-01-01 00:00") + day * 24 * HOUR + day * MINUTE
        assert opens_at(always, moment) == moment


@pytest.mark.parametrize(
    ("schedule", "days"),
    [
        ({"frequency": "monthly", "days": ["TU"], "nth": [1, -1]}, ["06-02", "06-30", "07-07", "07-28"]),
        ({"frequency": "monthly", "days": ["FR"]}, ["06-05", "06-12", "06-19", "06-26"]),
        ({"frequency": "monthly", "month_days": [15, -1]}, ["06-15", "06-30", "07-15", "07-31"]),
        (
            {"frequency": "monthly", "month_days": [31], "every": 2, "starts": "2026-05-01"},
            ["07-31"],
        ),
        (
            {"frequency": "weekly", "days": ["WE"], "every": 2, "starts": "2026-05-28"},
            ["06-10", "06-24", "07-08"],
        ),
        (
            {"frequency": "weekly", "days": ["SU", "MO"], "starts": "2026-06-08", "ends": "2026-06-21"},
            ["06-08", "06-14", "06-15", "06-21"],
        ),
    ],
)
def test_schedules_of_months_and_of_every_other_week(schedule: dict[str, Any], days: list[str]) -> None:
    found = ready(schedules=[Schedule(opens=600, closes=720, **schedule)])
    opened: list[str] = []
    now = at("2026-06-01 00:00")
    while len(opened) < len(days):
        opens = opens_at(found, now)
        assert opens is not None
        opened.append(local(opens)[9:14])
        assert local(opens).endswith("10:00")
        now = opens + 2 * HOUR
    assert opened == days


def test_a_schedule_that_is_over_never_opens_again() -> None:
    over = ready(schedules=[Schedule(frequency="weekly", days=["MO"], opens=0, closes=60, ends="2026-06-01")])
    assert opens_at(over, at("2026-06-02 00:00")) is None
    assert judge_hours(over, at("2026-06-02 00:00"), at("2027-06-02 00:00")) == "n"


def test_an_hour_the_clock_leaves_out_is_no_opening_before_its_time() -> None:
    early = ready(hours=[OpeningHours(days=["SU"], opens=150, closes=240)])
    assert local(opens_at(early, at("2026-03-08 00:00"))) in (
        "Sun 2026-03-08 03:00",
        "Sun 2026-03-08 03:30",
    )


DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
HOURS = st.builds(
    lambda days, opens, length: OpeningHours(
        days=[day for day in DAYS if day in days], opens=opens, closes=min(1440, opens + length)
    ),
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(0, 1400),
    st.integers(1, 1000),
)


@settings(max_examples=150)
@given(st.lists(HOURS, min_size=1, max_size=4), st.integers(0, 600 * 24 * 60))
def test_a_service_is_open_when_its_wall_clock_says_so(hours: list[OpeningHours], minutes: int) -> None:
    """Against a plain look at the clock on the wall, minute by minute; the hours of the night in which the clock is changed apart."""
    found = ready(hours=hours)
    start = at("2025-06-01 00:00") + minutes * MINUTE

    def is_open(moment: int) -> bool:
        clock = datetime.fromtimestamp(moment / 1000, CHICAGO)
        minute = clock.hour * 60 + clock.minute
        return any(DAYS[clock.weekday()] in one.days and one.opens <= minute < one.closes for one in hours)

    around = {datetime.fromtimestamp(start / 1000, CHICAGO).date() + timedelta(days=n) for n in (-1, 0, 1)}
    if around & {date(2025, 11, 2), date(2026, 3, 8), date(2026, 11, 1)}:
        return
    opens = opens_at(found, start)
    assert opens is not None
    assert (opens == start) == is_open(start)
    until = min(opens, start + 24 * HOUR)
    assert not any(is_open(moment) for moment in range(start, until, 13 * MINUTE))


@settings(max_examples=30)
@given(st.lists(HOURS, min_size=1, max_size=2), st.integers(0, 300), st.integers(0, 30), st.integers(0, 30))
def test_more_time_never_turns_a_yes_into_a_no(
    hours: list[OpeningHours], day: int, days: int, more: int
) -> None:
    found = ready(hours=hours)
    start = round(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000) + day * 24 * HOUR
    shorter = judge_hours(found, start, start + days * 24 * HOUR)
    assert shorter == "n" or judge_hours(found, start, start + (days + more) * 24 * HOUR) == "y"
    assert judge_hours(found, start, start + LOOKAHEAD_DAYS * 24 * HOUR) == "y"


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ({"frequency": "weekly"}, "days of the week or days of the month"),
        ({"frequency": "monthly", "days": ["MO"], "month_days": [1]}, "and not both"),
        ({"frequency": "weekly", "month_days": [1]}, "only where the frequency is monthly"),
        ({"frequency": "weekly", "days": ["MO"], "nth": [1]}, "only where the frequency is monthly"),
        ({"frequency": "monthly", "month_days": [1], "nth": [1]}, "nth counts days of the week"),
        ({"frequency": "monthly", "month_days": [0]}, "counted from 1"),
        ({"frequency": "weekly", "days": ["MO"], "every": 2}, "counted from one"),
        ({"frequency": "weekly", "days": ["MO"], "starts": "2026-02-30"}, "no such day"),
        (
            {"frequency": "weekly", "days": ["MO"], "starts": "2026-02-02", "ends": "2026-02-01"},
            "ends before it starts",
        ),
    ],
)
def test_what_is_no_schedule_is_refused(schedule: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Schedule(opens=0, closes=60, **schedule)


def test_offsets_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="not in the order"):
        service(offsets=[UtcOffset(since=2, minutes=0), UtcOffset(since=1, minutes=60)])
