"""Business time: how much of it passes between two moments, and when a time limit counted in it is over.

All moments and lengths are whole milliseconds, moments since the epoch in UTC. Nothing here asks the machine for a clock, a time zone or a
locale: what the wall clock shows is in the calendar (:class:`~referral_bus.contracts.calendar.Calendar`), so a due time comes out the
same on every machine and in every year. A place is open at a moment if its wall clock then shows a time within the hours of that day
and the day is no holiday. So an hour that the clock leaves out isn't counted, and one that it shows twice is counted twice.

Wherever ``calendar`` is None, time is counted round the clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import accumulate
from typing import Final, NamedTuple

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.localtime import DAYS
from referral_bus.contracts.services import OpeningHours

LATEST: Final = 253_402_300_799_999
"""No time limit ends later: the last moment that a message can hold, the end of year 9999."""

_NEVER: Final = 2 * LATEST
"""Behind the last holiday there can be, so that every calendar is open again after its holidays."""

_MINUTE: Final = 60_000
_DAY: Final = 86_400_000
_WEEK: Final = 7 * _DAY
_MONDAY: Final = 3 * _DAY
"""From the last Monday before the epoch, which was a Thursday, to the epoch."""
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class Week(NamedTuple):
    """The working hours of a week, in milliseconds after midnight before Monday by the wall clock."""

    opens: tuple[int, ...]
    """When the place opens, in order; the first is 0, for no time at all if need be."""
    closes: tuple[int, ...]
    """When it closes after each opening."""
    before: tuple[int, ...]
    """How long it was open in the week before each opening."""
    total: int
    """How long it is open in all: more than nothing, which the contract holds."""


class BusinessTime(NamedTuple):
    """A calendar made ready to count by: a week that repeats for ever, and stretches of time within which nothing disturbs it.

    A stretch begins where the wall clock is put forward or back and where a holiday begins or ends. The business time passed before each is
    known, so that counting is a search among stretches and one within the week, however long the way.
    """

    week: Week
    starts: tuple[int, ...]
    """When each stretch begins; the first at the epoch."""
    shifts: tuple[int, ...]
    """What the wall clock is ahead of UTC in each stretch."""
    closed: tuple[bool, ...]
    """Whether each stretch is a holiday, or a part of one. The last never is."""
    passed: tuple[int, ...]
    """Business time from the epoch to the beginning of each stretch."""
    weekly: tuple[int, ...]
    """The business time that weeks without holidays would have had by the beginning of each stretch."""


def prepare(calendar: Calendar) -> BusinessTime:
    """A calendar made ready to count by. It takes as long as a thousand counts: do it once, when the calendar is adopted."""
    week = _week(calendar.hours)
    starts, shifts, closed = zip(*_stretches(calendar), strict=True)
    weekly = tuple(_weekly(week, start + shift) for start, shift in zip(starts, shifts, strict=True))
    passed = [0]
    for stretch, end in enumerate(starts[1:]):
        counted = 0 if closed[stretch] else _weekly(week, end + shifts[stretch]) - weekly[stretch]
        passed.append(passed[-1] + counted)
    return BusinessTime(week, starts, shifts, closed, tuple(passed), weekly)


def due(start: int, limit: int, calendar: BusinessTime | None) -> int:
    """The first moment by which ``limit`` of business time has passed since ``start``: ``start`` itself for a limit of nothing.

    What is used up at closing time is due then, not when the doors open again. Never later than LATEST.
    """
    if limit <= 0:
        return start
    if calendar is None:
        return min(start + limit, LATEST)
    wanted = _passed(start, calendar) + limit
    # The last stretch that began with less than is wanted. It is no holiday, since in it the wanted time is reached.
    stretch = bisect_left(calendar.passed, wanted) - 1
    week = calendar.week
    # Its last millisecond is looked for, which is within the hours where the moment after it may not be.
    weeks, rest = divmod(calendar.weekly[stretch] + wanted - calendar.passed[stretch] - 1, week.total)
    opening = bisect_right(week.before, rest) - 1
    local = weeks * _WEEK - _MONDAY + week.opens[opening] + rest - week.before[opening] + 1
    return min(local - calendar.shifts[stretch], LATEST)


def business_ms(start: int, end: int, calendar: BusinessTime | None) -> int:
    """The business time from ``start`` to ``end``; negative if ``end`` is the earlier."""
    if calendar is None:
        return end - start
    return _passed(end, calendar) - _passed(start, calendar)


def is_open(at: int, calendar: BusinessTime | None) -> bool:
    """Whether business time passes at a moment. At closing time it no longer does."""
    if calendar is None:
        return True
    stretch = bisect_right(calendar.starts, at) - 1
    if calendar.closed[stretch]:
        return False
    rest = (at + calendar.shifts[stretch] + _MONDAY) % _WEEK
    return rest < calendar.week.closes[bisect_right(calendar.week.opens, rest) - 1]


def _passed(at: int, calendar: BusinessTime) -> int:
    """The business time from the epoch to a moment."""
    stretch = bisect_right(calendar.starts, at) - 1
    passed = calendar.passed[stretch]
    if calendar.closed[stretch]:
        return passed
    return passed + _weekly(calendar.week, at + calendar.shifts[stretch]) - calendar.weekly[stretch]


def _weekly(week: Week, local: int) -> int:
    """The business time that weeks without holidays have had when the wall clock shows ``local``, since the Monday before the epoch."""
    weeks, rest = divmod(local + _MONDAY, _WEEK)
    opening = bisect_right(week.opens, rest) - 1
    within = min(rest, week.closes[opening]) - week.opens[opening]
    return weeks * week.total + week.before[opening] + within


def _week(hours: Iterable[OpeningHours]) -> Week:
    """The hours in order and apart from each other: what overlaps or touches is one."""
    found = []
    for part in hours:
        for day in part.days:
            midnight = DAYS.index(day) * _DAY
            opening = midnight + part.opens * _MINUTE
            closing = midnight + part.closes * _MINUTE + (0 if part.opens < part.closes else _DAY)
            # Past midnight on Sunday belongs to the Monday that begins the next week.
            found.append((min(opening, _WEEK), min(closing, _WEEK)))
            found.append((max(opening, _WEEK) - _WEEK, max(closing, _WEEK) - _WEEK))
    apart = [(0, 0)]
    for opening, closing in sorted(found):
        if opening <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], closing))
        elif opening < closing:
            apart.append((opening, closing))
    opens, closes = zip(*apart, strict=True)
    open_ms = [closing - opening for opening, closing in apart]
    return Week(opens, closes, tuple(accumulate(open_ms[:-1], initial=0)), sum(open_ms))


def _stretches(calendar: Calendar) -> Iterator[tuple[int, int, bool]]:
    """Where each stretch begins, what the wall clock is ahead of UTC there, and whether it is a holiday; from the epoch on."""
    holidays = [(date.fromisoformat(day).toordinal() - _EPOCH_DAY) * _DAY for day in calendar.holidays]
    changes = [(offset.since, offset.minutes * _MINUTE) for offset in calendar.offsets]
    changes[0] = (0, changes[0][1])
    for (start, shift), (end, _) in zip(changes, [*changes[1:], (_NEVER, 0)], strict=True):
        at = start
        for midnight in holidays[bisect_right(holidays, start + shift - _DAY) :]:
            if midnight - shift >= end:
                break
            if midnight - shift > at:
                yield at, shift, False
                at = midnight - shift
            yield at, shift, True
            at = midnight + _DAY - shift
        if at < end:
            yield at, shift, False
