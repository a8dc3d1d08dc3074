"""Business time: due times and what passes between two moments, held against a slow count of minutes by the time zone database."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import chain, combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.services import OpeningHours
from referral_bus.directory.zones import offsets
from services.matching.core.calendar import LATEST, BusinessTime, business_ms, due, is_open, prepare

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WEEK_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
ZONES = (
    "Europe/Berlin",
    "America/Chicago",
    "America/Phoenix",
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Beirut",  # changes at midnight: one day of the year has no midnight, another has two
)
FIRST_YEAR, LAST_YEAR = 2026, 2028
OFFICE = [OpeningHours(days=["MO", "TU", "WE", "TH", "FR"], opens=540, closes=1020)]


@cache
def offsets_of(zone: str) -> list[UtcOffset]:
    return offsets(zone, FIRST_YEAR - 1, LAST_YEAR + 1)


def calendar_of(
    hours: list[OpeningHours] = OFFICE,
    holidays: tuple[str, ...] = (),
    zone: str = "Europe/Berlin",
    **more: Any,
) -> Calendar:
    content = {"hours": hours, "holidays": list(holidays), "time_zone": zone, "offsets": offsets_of(zone)}
    return Calendar(**{"calendar": "office", "name": "Office hours", **content, **more})


def hours(days: str, opens: int, closes: int) -> OpeningHours:
    return OpeningHours.model_validate({"days": days.split(), "opens": opens, "closes": closes})


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> int:
    """The moment at which the wall clock shows this; the second time, with ``fold``."""
    return ms(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold))


def ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def wall(moment: int, zone: str) -> datetime:
    return (EPOCH + timedelta(milliseconds=moment)).astimezone(ZoneInfo(zone))


def open_by_the_wall_clock(calendar: Calendar, moment: int) -> bool:
    """What the contract says, written down as plainly as can be."""
    local = wall(moment, calendar.time_zone)
    if local.date().isoformat() in calendar.holidays:
        return False
    minute = local.hour * 60 + local.minute
    today, yesterday = WEEK_DAYS[local.weekday()], WEEK_DAYS[local.weekday() - 1]
    for part in calendar.hours:
        if part.opens < part.closes:
            if today in part.days and part.opens <= minute < part.closes:
                return True
        elif (today in part.days and minute >= part.opens) or (
            yesterday in part.days and minute < part.closes
        ):
            return True
    return False


def due_minute_by_minute(calendar: Calendar, start: int, minutes: int) -> int:
    while minutes:
        minutes -= open_by_the_wall_clock(calendar, start)
        start += MINUTE
    return start


@st.composite
def opening_hours(draw: st.DrawFn) -> OpeningHours:
    """Half an hour at least, over midnight now and then."""
    days = draw(st.lists(st.sampled_from(WEEK_DAYS), min_size=1, max_size=7, unique=True))
    opens = draw(st.integers(0, 1439))
    closes = opens + draw(st.integers(30, 1410))
    return hours(" ".join(days), opens, closes if closes <= 1440 else closes - 1440)


@st.composite
def moments(draw: st.DrawFn, zone: str, every: int = 1) -> int:
    """A moment of the years that the offsets cover, every second one within three days of a change of the clock."""
    changes = [offset.since for offset in offsets_of(zone)[1:]]
    first, last = at(f"{FIRST_YEAR}-01-01", zone), at(f"{LAST_YEAR}-12-31", zone)
    near = [c for c in changes if first + 3 * DAY <= c <= last - 3 * DAY]
    if near and draw(st.booleans()):
        middle = draw(st.sampled_from(near))
        first, last = middle - 3 * DAY, middle + 3 * DAY
    return draw(st.integers(first // every, last // every)) * every


@st.composite
def situations(draw: st.DrawFn, every: int = 1) -> tuple[Calendar, int]:
    """A calendar, and a moment that its holidays are near to."""
    zone = draw(st.sampled_from(ZONES))
    start = draw(moments(zone, every))
    today = wall(start, zone).date()
    holidays = draw(st.sets(st.integers(-3, 12), max_size=6))
    week = draw(st.lists(opening_hours(), min_size=1, max_size=4))
    days = sorted((today + timedelta(days=ahead)).isoformat() for ahead in holidays)
    return calendar_of(week, tuple(days), zone), start


LIMITS = st.integers(0, 30 * DAY)
PLENTY = settings(max_examples=300)


@PLENTY
@given(situations(), LIMITS)
def test_just_the_limit_has_passed_when_it_is_due_and_not_a_moment_earlier(
    situation: tuple[Calendar, int], limit: int
) -> None:
    calendar, start = situation
    counting = prepare(calendar)
    end = due(start, limit, counting)
    assert business_ms(start, end, counting) == limit
    if limit:
        assert business_ms(start, end - 1, counting) == limit - 1


@PLENTY
@given(situations(), LIMITS, st.integers(0, 30 * DAY), st.integers(0, 30 * DAY))
def test_what_starts_later_or_takes_longer_is_never_due_earlier(
    situation: tuple[Calendar, int], limit: int, later: int, longer: int
) -> None:
    calendar, start = situation
    counting = prepare(calendar)
    assert due(start, limit, counting) <= due(start + later, limit, counting)
    assert due(start, limit, counting) <= due(start, limit + longer, counting)


@PLENTY
@given(situations(), LIMITS, LIMITS)
def test_two_limits_one_after_the_other_are_due_like_their_sum(
    situation: tuple[Calendar, int], first: int, second: int
) -> None:
    calendar, start = situation
    counting = prepare(calendar)
    assert due(due(start, first, counting), second, counting) == due(start, first + second, counting)


@PLENTY
@given(situations(), st.integers(1, 10 * HOUR))
def test_nothing_is_due_while_it_is_closed_but_at_closing_time(
    situation: tuple[Calendar, int], limit: int
) -> None:
    calendar, start = situation
    end = due(start, limit, prepare(calendar))
    assert open_by_the_wall_clock(calendar, end - 1)


@PLENTY
@given(situations(), st.integers(-40 * DAY, 40 * DAY), st.integers(-40 * DAY, 40 * DAY))
def test_business_time_adds_up_and_never_exceeds_time(
    situation: tuple[Calendar, int], there: int, further: int
) -> None:
    calendar, start = situation
    counting = prepare(calendar)
    middle, end = start + there, start + there + further
    counted = business_ms(start, middle, counting)
    assert counted + business_ms(middle, end, counting) == business_ms(start, end, counting)
    assert counted == -business_ms(middle, start, counting)
    assert min(0, there) <= counted <= max(0, there)


@PLENTY
@given(situations())
def test_open_hours_are_those_of_the_wall_clock(situation: tuple[Calendar, int]) -> None:
    calendar, moment = situation
    assert is_open(moment, prepare(calendar)) == open_by_the_wall_clock(calendar, moment)


@settings(max_examples=120)
@given(situations(every=MINUTE), st.integers(0, 600))
def test_due_times_are_those_of_a_count_minute_by_minute(
    situation: tuple[Calendar, int], minutes: int
) -> None:
    calendar, start = situation
    assert due(start, minutes * MINUTE, prepare(calendar)) == due_minute_by_minute(calendar, start, minutes)


@settings(max_examples=60)
@given(situations(every=MINUTE), st.integers(0, 4 * 1440))
def test_business_time_is_that_of_a_count_minute_by_minute(
    situation: tuple[Calendar, int], minutes: int
) -> None:
    calendar, start = situation
    counted = sum(open_by_the_wall_clock(calendar, start + minute * MINUTE) for minute in range(minutes))
    assert business_ms(start, start + minutes * MINUTE, prepare(calendar)) == counted * MINUTE


@pytest.mark.parametrize("zone", ZONES)
def test_every_day_of_three_years_is_as_long_as_the_wall_clock_says(zone: str) -> None:
    counting = prepare(calendar_of([hours(" ".join(WEEK_DAYS), 0, 1440)], zone=zone))
    day = date(FIRST_YEAR, 1, 1)
    while day.year <= LAST_YEAR:
        start, end = at(day.isoformat(), zone), at((day + timedelta(days=1)).isoformat(), zone)
        assert business_ms(start, end, counting) == end - start
        day += timedelta(days=1)


@pytest.mark.parametrize("zone", ZONES[:2] + ZONES[4:])
def test_holidays_before_on_and_after_a_change_of_the_clock_leave_the_other_days_whole(zone: str) -> None:
    everyday = [hours(" ".join(WEEK_DAYS), 30, 1410)]
    for change in (offset.since for offset in offsets_of(zone)[1:3]):
        days = [(wall(change, zone) + timedelta(days=ahead)).date().isoformat() for ahead in (-1, 0, 1)]
        for closed in chain.from_iterable(combinations(days, number) for number in range(4)):
            calendar = calendar_of(everyday, closed, zone)
            counting = prepare(calendar)
            start, counted = change - 3 * DAY, 0
            for moment in range(start, change + 3 * DAY, 30 * MINUTE):
                assert business_ms(start, moment, counting) == counted
                assert due(start, counted + 1, counting) > moment
                counted += 30 * MINUTE * open_by_the_wall_clock(calendar, moment)


def test_a_limit_that_the_weekend_interrupts_goes_on_on_monday() -> None:
    office = prepare(calendar_of())
    assert due(at("2026-05-08T16:00"), 2 * HOUR, office) == at("2026-05-11T10:00")
    assert due(at("2026-05-09T12:00"), 2 * HOUR, office) == at("2026-05-11T11:00")


def test_what_is_used_up_at_closing_time_is_due_then() -> None:
    office = prepare(calendar_of())
    assert due(at("2026-05-08T16:00"), HOUR, office) == at("2026-05-08T17:00")
    assert due(at("2026-05-08T16:00"), HOUR + 1, office) == at("2026-05-11T09:00") + 1


def test_a_limit_of_nothing_is_due_at_once_even_when_closed() -> None:
    sunday = at("2026-05-10T12:00")
    assert due(sunday, 0, prepare(calendar_of())) == sunday


def test_holidays_do_not_count() -> None:
    office = prepare(calendar_of(holidays=("2026-12-24", "2026-12-25", "2026-12-31", "2027-01-01")))
    assert due(at("2026-12-23T16:00"), 2 * HOUR, office) == at("2026-12-28T10:00")
    assert due(at("2026-12-23T16:00"), 33 * HOUR, office) == at("2027-01-04T17:00")
    assert not is_open(at("2026-12-24T12:00"), office)


def test_several_hours_of_a_day_leave_out_the_break() -> None:
    counting = prepare(calendar_of([hours("MO", 840, 1080), hours("MO TU", 540, 720)]))
    assert due(at("2026-05-11T11:00"), 2 * HOUR, counting) == at("2026-05-11T15:00")
    assert due(at("2026-05-11T17:30"), HOUR, counting) == at("2026-05-12T09:30")


def test_hours_that_overlap_count_once() -> None:
    counting = prepare(calendar_of([hours("MO MO", 540, 720), hours("MO", 600, 660), hours("MO", 660, 780)]))
    assert business_ms(at("2026-05-11T00:00"), at("2026-05-12T00:00"), counting) == 4 * HOUR


def test_hours_over_midnight_go_on_on_the_day_after_and_on_sunday_into_the_next_week() -> None:
    night = prepare(calendar_of([hours("FR SU", 1320, 360)]))
    assert due(at("2026-05-08T23:00"), 3 * HOUR, night) == at("2026-05-09T02:00")
    assert due(at("2026-05-09T05:00"), 2 * HOUR, night) == at("2026-05-10T23:00")
    assert due(at("2026-05-10T23:00"), 3 * HOUR, night) == at("2026-05-11T02:00")


def test_hours_over_midnight_are_the_same_as_two_parts_of_a_day_holidays_included() -> None:
    holidays = ("2026-05-09",)
    over = prepare(calendar_of([hours("FR SA", 1320, 360)], holidays))
    parts = prepare(calendar_of([hours("FR SA", 1320, 1440), hours("SA SU", 0, 360)], holidays))
    assert over == parts
    assert business_ms(at("2026-05-08T12:00"), at("2026-05-10T12:00"), over) == 8 * HOUR


def test_midnight_may_be_written_as_the_end_of_a_day_or_the_beginning_of_the_next() -> None:
    assert prepare(calendar_of([hours("FR SU", 1440, 360)])) == prepare(calendar_of([hours("SA MO", 0, 360)]))
    assert prepare(calendar_of([hours("FR SU", 1320, 0)])) == prepare(
        calendar_of([hours("FR SU", 1320, 1440)])
    )


def test_an_hour_that_the_clock_leaves_out_is_not_counted_and_one_it_shows_twice_counts_twice() -> None:
    night = prepare(calendar_of([hours("SU", 60, 240)]))
    assert business_ms(at("2027-03-28T00:00"), at("2027-03-28T12:00"), night) == 2 * HOUR
    assert business_ms(at("2027-10-31T00:00"), at("2027-10-31T12:00"), night) == 4 * HOUR
    assert due(at("2027-10-31T01:00"), 90 * MINUTE, night) == at("2027-10-31T02:30")
    assert due(at("2027-10-31T01:00"), 150 * MINUTE, night) == at("2027-10-31T02:30", fold=1)


def test_hours_within_the_hour_shown_twice_come_twice_and_within_the_one_left_out_not_at_all() -> None:
    brief = prepare(calendar_of([hours("SU", 125, 150)]))
    assert business_ms(at("2027-10-31T00:00"), at("2027-10-31T12:00"), brief) == 50 * MINUTE
    assert business_ms(at("2027-03-28T00:00"), at("2027-03-28T12:00"), brief) == 0


def test_a_day_of_two_midnights_is_a_holiday_in_both_its_parts() -> None:
    # In Beirut the clock goes back from midnight to 23:00, so that the last hour of Saturday comes again.
    everyday = [hours(" ".join(WEEK_DAYS), 0, 1440)]
    counting = prepare(calendar_of(everyday, ("2026-10-24",), "Asia/Beirut"))
    noon, later = at("2026-10-23T12:00", "Asia/Beirut"), at("2026-10-25T12:00", "Asia/Beirut")
    assert later - noon == 49 * HOUR
    assert business_ms(noon, later, counting) == 24 * HOUR


def test_a_day_that_a_place_leaves_out_does_no_harm() -> None:
    # Samoa went from Thursday the 29th to Saturday the 31st of December 2011.
    samoa = offsets("Pacific/Apia", 2011, 2012)
    week = [hours("TH FR SA", 540, 1020)]
    counting = prepare(calendar_of(week, ("2011-12-30",), "Pacific/Apia", offsets=samoa))
    start = at("2011-12-29T16:00", "Pacific/Apia")
    assert due(start, 2 * HOUR, counting) == at("2011-12-31T10:00", "Pacific/Apia") == start + 18 * HOUR


def test_the_first_offset_holds_before_it_too_and_the_last_for_ever() -> None:
    winter, summer = (
        UtcOffset(since=at("2026-01-01"), minutes=60),
        UtcOffset(since=at("2026-03-29"), minutes=120),
    )
    office = prepare(calendar_of(offsets=[winter, summer]))
    assert is_open(ms(datetime(1971, 2, 1, 8, tzinfo=UTC)), office)
    assert not is_open(ms(datetime(1971, 2, 1, 7, tzinfo=UTC)), office)
    assert is_open(ms(datetime(2199, 1, 1, 7, tzinfo=UTC)), office)
    assert not is_open(ms(datetime(2199, 1, 1, 15, tzinfo=UTC)), office)


def test_no_limit_ends_after_the_last_moment_a_message_can_hold() -> None:
    seldom = prepare(calendar_of([hours("MO", 0, 1)], ("9999-12-30", "9999-12-31")))
    end = due(at("2026-05-11T12:00"), 365 * DAY, seldom)
    assert end == LATEST == due(end, 1, seldom) == due(LATEST - 1, 2, None)
    west = prepare(calendar_of(OFFICE, ("9999-12-31",), "America/Chicago"))
    assert due(LATEST - 6 * HOUR, HOUR, west) == LATEST


def test_a_holiday_before_the_epoch_or_on_its_day_is_no_trouble() -> None:
    utc = [UtcOffset(since=0, minutes=0)]
    counting = prepare(calendar_of(OFFICE, ("1969-12-31", "1970-01-01"), offsets=utc))
    assert due(0, HOUR, counting) == DAY + 10 * HOUR


def test_without_a_calendar_time_is_counted_round_the_clock() -> None:
    start = at("2026-05-09T23:30")
    assert due(start, 5 * DAY, None) == start + 5 * DAY
    assert due(start, 0, None) == start
    assert business_ms(start, start + DAY, None) == DAY
    assert is_open(start, None)


def test_a_due_time_takes_steps_not_minutes_however_far_it_is() -> None:
    class Counted(int):
        """A number that counts how often it is compared, which is what a search does."""

        comparisons = 0

        def __lt__(self, other: int) -> bool:
            Counted.comparisons += 1
            return int(self) < other

    days = [date(2026, 1, 1) + timedelta(days=2 * n) for n in range(500)]
    prepared = prepare(calendar_of(holidays=tuple(day.isoformat() for day in days)))
    counting = BusinessTime(
        prepared.week,
        tuple(map(Counted, prepared.starts)),
        prepared.shifts,
        prepared.closed,
        tuple(map(Counted, prepared.passed)),
        prepared.weekly,
    )
    assert len(counting.starts) > 1000
    expected = due(at("2026-01-01T12:00"), 1000 * DAY, prepared)
    assert due(at("2026-01-01T12:00"), 1000 * DAY, counting) == expected
    assert 0 < Counted.comparisons <= 2 * 11


BAD = {
    "no hours at all": ({"hours": []}, "at least 1"),
    "hours of no length": ({"hours": [{"days": ["MO"], "opens": 540, "closes": 540}]}, "at the same time"),
    "from midnight to itself": (
        {"hours": [{"days": ["MO"], "opens": 1440, "closes": 0}]},
        "at the same time",
    ),
    "hours on no day": ({"hours": [{"days": [], "opens": 0, "closes": 1440}]}, "at least 1"),
    "a day that is none": ({"holidays": ["2026-02-29"]}, "no such day"),
    "a day of another notation": ({"holidays": ["20260229"]}, "pattern"),
    "digits of another script": ({"holidays": ["٢٠٢٦-٠١-٠١"]}, "pattern"),  # noqa: RUF001
    "holidays out of order": ({"holidays": ["2026-05-02", "2026-05-01"]}, "not in order"),
    "a holiday twice": ({"holidays": ["2026-05-01", "2026-05-01"]}, "stands there twice"),
    "too many holidays": (
        {"holidays": [(date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(501)]},
        "at most 500",
    ),
    "no offset": ({"offsets": []}, "at least 1"),
    "offsets out of order": (
        {"offsets": [{"since": 2, "minutes": 60}, {"since": 1, "minutes": 120}]},
        "order of their moments",
    ),
    "two offsets at once": (
        {"offsets": [{"since": 1, "minutes": 60}, {"since": 1, "minutes": 120}]},
        "order of their moments",
    ),
    "an offset no place has": ({"offsets": [{"since": 0, "minutes": 841}]}, "less than or equal to 840"),
    "too many offsets": ({"offsets": [{"since": n, "minutes": 0} for n in range(501)]}, "at most 500"),
    "a zone that is a path": ({"time_zone": "../etc/passwd"}, "pattern"),
}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_a_calendar_that_makes_no_sense_is_refused(change: dict[str, Any], said: str) -> None:
    content = calendar_of().model_dump() | change
    with pytest.raises(ValidationError, match=said):
        Calendar.model_validate(content)


def test_a_calendar_comes_through_json_as_it_was() -> None:
    calendar = calendar_of(holidays=("2026-05-01", "2028-02-29"))
    assert Calendar.model_validate_json(calendar.model_dump_json()) == calendar
