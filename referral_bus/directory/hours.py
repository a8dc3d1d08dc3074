"""Schedules of HSDS as the opening hours of the bus: RRULE (RFC 5545) of 2.x and 3.x, weekdays of 1.x."""

from __future__ import annotations

import re
from calendar import monthrange
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Final, get_args

from pydantic import ValidationError

from referral_bus.contracts.localtime import Day
from referral_bus.contracts.services import OpeningHours, Schedule
from referral_bus.directory.rows import Row
from referral_bus.directory.values import Unusable

DAYS: Final[tuple[Day, ...]] = get_args(Day)
MIDNIGHT: Final = 1440
_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NOT_KNOWN: Final = ("byweekno", "byyearday", "bymonth", "bysetpos")
_TIME: Final = re.compile(
    r"(\d{1,2})(?::?(\d{2}))?(?::\d{2}(?:\.\d+)?)?\s*(?:([ap])\.?m\.?)?\s*(z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_AHEAD: Final = re.compile(r"(?:z|utc)|([+-])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)

_FARTHEST: Final = 50 * 366
"""How many days after its first a schedule's last day is looked for."""

Span = tuple[Day, int, int]
"""A day and the minutes after midnight at which it opens and closes."""


class NotOpen(Unusable):
    """A row was read and names no time at which the doors are open: it ended, or names days on which they are closed."""


def hours_of(row: Row, today: date | None, clock: frozenset[int] = frozenset()) -> list[Span] | Schedule:
    """What a schedule's row says: the days and times of a plain week that lasts, or else a schedule. ``clock`` is how many minutes the
    directory's clock is ahead of UTC, in summer and in winter; empty: nobody said.

    Raises NotOpen for what ended before ``today`` and for closed days, and Unusable for what is neither, and for times of another clock:
    what they are on the directory's own changes with its summer time.
    """
    ends = min((day for day in (_day_of(row, "valid_to"), _day_of(row, "until")) if day), default=None)
    _not_ended(ends, today)
    frequency = row["freq"].upper() or "WEEKLY"
    if frequency not in ("DAILY", "WEEKLY", "MONTHLY"):
        raise Unusable(f"the schedule repeats {frequency[:20]!r}; the bus knows days, weeks and months")
    for column in _NOT_KNOWN:
        if row[column]:
            raise Unusable(f"the schedule says {column}, which the bus does not know")
    every = _count(row["interval"] or "1", "interval")
    if frequency == "DAILY" and every > 1:
        raise Unusable("the schedule skips days (interval); the bus knows weeks and months that are skipped")
    counted_from, valid_from = _day_of(row, "dtstart"), _day_of(row, "valid_from")
    starts = _start(counted_from, valid_from, every, frequency)
    if starts is not None and today is not None and every == 1 and starts <= today.isoformat():
        starts = None
    month_days = [_count(part, "bymonthday") for part in _parts(row["bymonthday"])]
    days, nth = _days_and_places(row["byday"], frequency) if not month_days or row["byday"] else ([], [])
    if frequency == "WEEKLY" and every > 1 and row["wkst"]:
        _weeks_from_monday(_day(row["wkst"]), days, counted_from or valid_from)
    if row["count"]:
        last = _last_day(counted_from, _count_of_days(row["count"]), every, frequency, days, nth, month_days)
        ends = last if ends is None else min(ends, last)
        _not_ended(ends, today)
    if not row["opens_at"] and not row["closes_at"] and not row["description"]:
        raise NotOpen(
            "the schedule states no opening and closing time (opens_at, closes_at), as for a closed day"
        )
    if not row["opens_at"] or not row["closes_at"]:
        raise Unusable("the schedule states no opening and closing time (opens_at, closes_at)")
    opens, closes = minutes(row["opens_at"]), minutes(row["closes_at"])
    for column in ("opens_at", "closes_at"):
        zone = _matched(row[column])[4]
        if zone and clock and _ahead(zone) not in clock:
            raise Unusable(
                f"{column} {row[column][:40]!r} is told by another clock than the directory's (--zone); write the local time"
            )
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


def _not_ended(ends: str | None, today: date | None) -> None:
    """Raises NotOpen for what ended before the day of the import."""
    if ends is not None and today is not None and ends < today.isoformat():
        raise NotOpen(f"the schedule ended on {ends}")


def minutes(text: str) -> int:
    """Minutes after midnight of a time of day (``09:00``, ``9:30 PM``, ``17:00:00Z``), by whatever clock it is told. Raises Unusable."""
    found = _matched(text)
    hour, minute, half = int(found[1]), int(found[2] or 0), (found[3] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise Unusable(f"{text[:40]!r} is not a time of day; write 09:00")
        hour = hour % 12 + (12 if half == "p" else 0)
    if minute > 59 or hour * 60 + minute > MIDNIGHT:
        raise Unusable(f"{text[:40]!r} is not a time of day; write 09:00")
    return hour * 60 + minute


def another_clock(row: Row, clock: frozenset[int]) -> str | None:
    """What is to be said of a row whose times name no zone and are in one by another column, ``timezone``, that the directory's clock never
    shows: HSDS means it for dates, and many write the same in every row."""
    ahead = _ahead(row["timezone"])
    if ahead is None or not clock or ahead in clock or _matched(row["opens_at"])[4]:
        return None
    return f"timezone {row['timezone'][:20]!r} is not the directory's (--zone), by whose clock the hours are taken"


def _matched(text: str) -> re.Match[str]:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise Unusable(f"{text[:40]!r} is not a time of day; write 09:00")
    return found


def _ahead(zone: str) -> int | None:
    """Minutes an offset is ahead of UTC; None for what is no offset."""
    found = _AHEAD.fullmatch(zone)
    if found is None:
        return None
    if not found[1]:
        return 0
    ahead = int(found[2]) * 60 + int(found[3] or 0)
    return -ahead if found[1] == "-" else ahead


def _start(counted_from: str | None, valid_from: str | None, every: int, frequency: str) -> str | None:
    """The later of the two; where weeks or months are skipped, the first day from then on of one that is not, as they are counted."""
    if counted_from is None or valid_from is None or valid_from <= counted_from:
        return counted_from or valid_from
    first, day = date.fromisoformat(counted_from), date.fromisoformat(valid_from)
    try:
        if frequency == "MONTHLY":
            month = day.year * 12 + day.month - 1
            skipped = (first.year * 12 + first.month - 1 - month) % every
            later = date((month + skipped) // 12, (month + skipped) % 12 + 1, 1)
        else:
            monday = day - timedelta(days=day.weekday())
            skipped = ((first - timedelta(days=first.weekday()) - monday).days // 7) % every
            later = monday + timedelta(weeks=skipped)
    except (ValueError, OverflowError):
        raise Unusable(f"valid_from {valid_from} is too far away") from None
    return max(later, day).isoformat()


def _last_day(
    first: str | None,
    count: int,
    every: int,
    frequency: str,
    days: Sequence[Day],
    nth: Sequence[int],
    month_days: Sequence[int],
) -> str:
    """The day on which a schedule was open ``count`` times from its first day on. Raises Unusable where the days can't be counted exactly:
    RFC 5545 leaves open whether a first day counts that the rule does not name."""
    if first is None:
        raise Unusable("the schedule says count, and not from which day on (dtstart)")
    begins = date.fromisoformat(first)
    monday = begins - timedelta(days=begins.weekday())
    for ahead in range(min(_FARTHEST, (date.max - begins).days)):
        day = begins + timedelta(days=ahead)
        if frequency == "MONTHLY":
            passed = (day.year - begins.year) * 12 + day.month - begins.month
            found = passed % every == 0 and _in_month(day, days, nth, month_days)
        else:
            found = (day - monday).days // 7 % every == 0 and DAYS[day.weekday()] in days
        if not found and day == begins:
            raise Unusable(
                f"the schedule says count, and begins on a day that is none of its own (dtstart {first})"
            )
        count -= found
        if count == 0:
            return day.isoformat()
    raise Unusable("the schedule says count, and lasts longer than the bus reckons")


def _in_month(day: date, days: Sequence[Day], nth: Sequence[int], month_days: Sequence[int]) -> bool:
    """Whether a rule that repeats by months names this day, counted from the month's beginning or from its end."""
    length = monthrange(day.year, day.month)[1]
    if month_days:
        return day.day in month_days or day.day - length - 1 in month_days
    if DAYS[day.weekday()] not in days:
        return False
    return not nth or (day.day + 6) // 7 in nth or -((length - day.day) // 7 + 1) in nth


def _weeks_from_monday(week_starts: Day, days: Sequence[Day], counted_from: str | None) -> None:
    """Raises Unusable where weeks that begin on another day than Monday put one of the days into another week."""
    if counted_from is None:
        return
    begins, weekday = DAYS.index(week_starts), date.fromisoformat(counted_from).weekday()
    into = (weekday - begins) % 7
    if any(DAYS.index(day) - weekday != (DAYS.index(day) - begins) % 7 - into for day in days):
        raise Unusable(
            f"the schedule's weeks begin with {week_starts} (wkst), which changes what weeks are skipped; the bus counts them from Monday"
        )


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


def _count_of_days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _FARTHEST:
        raise Unusable(f"count {text[:20]!r} is not a whole number from 1 to {_FARTHEST}")
    return int(text)


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
