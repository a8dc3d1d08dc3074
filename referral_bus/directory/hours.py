"""Schedules of HSDS as the opening hours of the bus: RRULE weeks of 2.x and 3.x, weekdays of 1.x."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Literal, get_args

from referral_bus.contracts.services import OpeningHours
from referral_bus.directory.rows import Row
from referral_bus.directory.values import Unusable

Day = Literal["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
MIDNIGHT: Final = 1440
_NAMES: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME: Final = re.compile(
    r"(\d{1,2})(?::?(\d{2}))?(?::\d{2}(?:\.\d+)?)?\s*(?:([ap])\.?m\.?)?\s*(?:z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)

Span = tuple[Day, int, int]
"""A day and the minutes after midnight at which it opens and closes."""


def spans(row: Row) -> list[Span]:
    """The days and times of a schedule's row. Raises Unusable for what is no plain week."""
    if (frequency := row["freq"].upper()) not in ("", "WEEKLY", "DAILY"):
        raise Unusable(f"the schedule repeats {frequency[:20]!r}; the bus knows weeks only")
    if row["interval"] not in ("", "1", "1.0"):
        raise Unusable("the schedule skips weeks (interval); the bus knows every week only")
    for column in ("valid_to", "until"):
        if row[column]:
            raise Unusable(
                f"the schedule ends on {row[column][:20]!r} ({column}); the bus knows lasting hours only"
            )
    days = list(DAYS) if frequency == "DAILY" and not row["byday"] else _days(row["byday"])
    if not row["opens_at"] or not row["closes_at"]:
        raise Unusable(
            "the schedule states no opening and closing time (opens_at, closes_at), as for a closed day"
        )
    opens, closes = minutes(row["opens_at"]), minutes(row["closes_at"])
    if opens < closes:
        return [(day, opens, closes) for day in days]
    if closes == opens:
        raise Unusable("the schedule opens and closes at the same time")
    return [part for day in days for part in _past_midnight(day, opens, closes)]


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


def _days(text: str) -> list[Day]:
    days = [_day(part) for part in re.split(r"[,;\s]+", text.strip()) if part]
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
