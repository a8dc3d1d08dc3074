"""Schedules of HSDS as the opening hours of the bus: RRULE (RFC 5545) of 2.x and 3.x, weekdays of 1.x."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Final, get_args

from pydantic import ValidationError

from referral_bus.contracts.localtime import Day
from referral_bus.contracts.services import OpeningHours, Schedule
from referral_bus.directory.rows import Row
from referral_bus.directory.values import Unusable

DAYS: Final[tuple[Day, ...]] = get_args(Day)
MIDNIGHT: Final = 1440
_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NOT_KNOWN: Final = ("byweekno", "byyearday", "bymonth", "bysetpos", "count")
_TIME: Final = re.compile(
    r"(\d{1,2})(?::?(\d{2}))?(?::\d{2}(?:\.\d+)?)?\s*(?:([ap])\.?m\.?)?\s*(?:z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)

Span = tuple[Day, int, int]
"""A day and the minutes after midnight at which it opens and closes."""


def hours_of(row: Row, today: date | None) -> list[Span] | Schedule:
    """What a schedule's row says: the days and times of a plain week that lasts, or else a schedule.

    Raises Unusable for what is neither, and for what ended before ``today``.
    """
    frequency = row["freq"].upper() or "WEEKLY"
    if frequency not in ("DAILY", "WEEKLY", "MONTHLY"):
        raise Unusable(f"the schedule repeats {frequency[:20]!r}; the bus knows days, weeks and months")
    for column in _NOT_KNOWN:
        if row[column]:
            raise Unusable(f"the schedule says {column}, which the bus does not know")
    every = _count(row["interval"] or "1", "interval")
    if frequency == "DAILY" and every > 1:
        raise Unusable("the schedule skips days (interval); the bus knows weeks and months that are skipped")
    starts = _day_of(row, "valid_from")
    if every > 1:
        starts = _day_of(row, "dtstart") or starts
    ends = min((day for day in (_day_of(row, "valid_to"), _day_of(row, "until")) if day), default=None)
    if ends is not None and today is not None and ends < today.isoformat():
        raise Unusable(f"the schedule ended on {ends}")
    if starts is not None and today is not None and every == 1 and starts <= today.isoformat():
        starts = None
    month_days = [_count(part, "bymonthday") for part in _parts(row["bymonthday"])]
    days, nth = _days_and_places(row["byday"], frequency) if not month_days or row["byday"] else ([], [])
    if not row["opens_at"] or not row["closes_at"]:
        raise Unusable(
            "the schedule states no opening and closing time (opens_at, closes_at), as for a closed day"
        )
    opens, closes = minutes(row["opens_at"]), minutes(row["closes_at"])
    if opens == closes:
        raise Unusable("the schedule opens and closes at the same time")
    if frequency != "MONTHLY" and every == 1 and not month_days and starts is None and ends is None:
        return _week(days, opens, closes)
    try:
        return Schedule(
            frequency="monthly" if frequency == "MONTHLY" else "weekly",
            opens=opens,
            closes=closes,
            days=days,
            nth=nth,
            month_days=month_days,
            every=every,
            starts=starts,
            ends=ends,
        )
    except ValidationError as error:
        raise Unusable(f"the schedule can't be used: {error.errors()[0]['msg']}") from None


def opening_hours(found: Iterable[Span]) -> list[OpeningHours]:
    """Spans gathered by their times, in the order of the week."""
    by_times: dict[tuple[int, int], set[Day]] = defaultdict(set)
    for day, opens, closes in found:
        by_times[opens, closes].add(day)
    weeks = [(sorted(days, key=DAYS.index), times) for times, days in by_times.items()]
    weeks.sort(key=lambda week: (DAYS.index(week[0][0]), week[1]))
    return [OpeningHours(days=list(days), opens=opens, closes=closes) for days, (opens, closes) in weeks]


def minutes(text: str) -> int:
    """Minutes after midnight of a time of day (``09:00``, ``9:30 PM``, ``17:00:00Z``); a zone is local time.
    Raises Unusable."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise Unusable(f"{text[:40]!r} is not a time of day; write 09:00")
    hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise Unusable(f"{text[:40]!r} is not a time of day; write 09:00")
        hour = hour % 12 + (12 if half == "p" else 0)
    if minute > 59 or hour * 60 + minute > MIDNIGHT:
        raise Unusable(f"{text[:40]!r} is not a time of day; write 09:00")
    return hour * 60 + minute


def _week(days: list[Day], opens: int, closes: int) -> list[Span]:
    if opens < closes:
        return [(day, opens, closes) for day in days]
    return [part for day in days for part in _past_midnight(day, opens, closes)]


def _days_and_places(text: str, frequency: str) -> tuple[list[Day], list[int]]:
    """Days of the week, and which of them in a month (``1MO,3MO``: the first and third Monday)."""
    if frequency == "DAILY" and not text:
        return list(DAYS), []
    if frequency != "MONTHLY":
        return _days(text), []
    found: dict[Day, set[int]] = defaultdict(set)
    for part in _parts(text):
        place = re.match(r"([+-]?\d)?(?=[A-Za-z])", part)
        if place is None:
            raise Unusable(f"{part[:20]!r} is no day of a month; write 1MO")
        found[_day(part[place.end() :])].add(int(place[1] or 0))
    if not found:
        raise Unusable("the schedule names no day (byday, bymonthday)")
    counted, *others = found.values()
    if any(other != counted for other in others) or (0 in counted and len(counted) > 1):
        raise Unusable("the schedule counts its days differently (byday); give each its own row")
    return sorted(found, key=DAYS.index), sorted(counted - {0})


def _parts(text: str) -> list[str]:
    return [part for part in re.split(r"[,;\s]+", text.strip()) if part]


def _count(text: str, column: str) -> int:
    try:
        number = int(text.removesuffix(".0"))
    except ValueError:
        raise Unusable(f"{column} {text[:20]!r} is not a whole number") from None
    if not -31 <= number <= 60 or number == 0 or (column == "interval" and number < 1):
        raise Unusable(f"{column} {number} is out of range")
    return number


def _day_of(row: Row, column: str) -> str | None:
    """A date as ``YYYY-MM-DD``; iCalendar's ``20260131T000000Z`` is one as well."""
    text = row[column]
    if not text:
        return None
    try:
        return date.fromisoformat(re.split("[T ]", text)[0]).isoformat()
    except ValueError:
        raise Unusable(f"{column} {text[:20]!r} is not a date; write YYYY-MM-DD") from None


def _days(text: str) -> list[Day]:
    days = [_day(part) for part in _parts(text)]
    if not days:
        raise Unusable("the schedule names no day (byday, weekday)")
    return days


def _day(text: str) -> Day:
    plain = text.lower().rstrip(".")
    if plain.upper() in DAYS:
        return DAYS[DAYS.index(plain.upper())]
    if plain in ("1", "2", "3", "4", "5", "6", "7"):
        return DAYS[int(plain) - 1]
    named = [
        day for day, name in zip(DAYS, _NAMES, strict=True) if len(plain) >= 3 and name.startswith(plain)
    ]
    if not named:
        raise Unusable(f"{text[:20]!r} is not a day of the week; write MO, Monday or 1")
    return named[0]


def _past_midnight(day: Day, opens: int, closes: int) -> list[Span]:
    """Hours over midnight belong to two days. At midnight itself the next day gets nothing."""
    after: Day = DAYS[(DAYS.index(day) + 1) % 7]
    first: list[Span] = [(day, opens, MIDNIGHT)] if opens < MIDNIGHT else []
    return first + ([(after, 0, closes)] if closes else [])
