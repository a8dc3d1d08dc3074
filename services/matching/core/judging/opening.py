"""When a service is open, told by its own wall clock, which stands in its definition: no time zone tables of a machine are asked."""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from referral_bus.contracts.localtime import DAYS
from referral_bus.contracts.services import OpeningHours, Schedule, ServiceDefinition

LOOKAHEAD_DAYS: Final = 100
"""How far ahead an opening is looked for; three months have at least one of whatever is open each month."""

_MINUTE_MS: Final = 60_000
_DAY_MINUTES: Final = 1440
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST_DAY: Final = date.max.toordinal()


class Rule(NamedTuple):
    """A line of hours made ready. Days of the week are counted from Monday, 0; days of the calendar as Python's ordinals."""

    opens: int
    closes: int
    days: frozenset[int]
    monthly: bool
    nth: frozenset[int]
    month_days: frozenset[int]
    every: int
    starts: int
    ends: int


class Opening(NamedTuple):
    """A service's hours made ready: its rules, and since when its clock is how many minutes ahead of UTC."""

    rules: tuple[Rule, ...]
    moments: tuple[int, ...]
    minutes: tuple[int, ...]


def opening(definition: ServiceDefinition) -> Opening | None:
    """A service's hours made ready; None where it says none, or not by which clock."""
    rules = [_weekly(hours) for hours in definition.hours or ()] + [
        _rule(one) for one in definition.schedules
    ]
    if not rules or not definition.offsets:
        return None
    return Opening(
        tuple(rules),
        tuple(offset.since for offset in definition.offsets),
        tuple(offset.minutes for offset in definition.offsets),
    )


def opens_at(service: Opening, at: int) -> int | None:
    """The first moment from ``at`` on at which the service is open: ``at`` itself if it is open then; None for none within
    :data:`LOOKAHEAD_DAYS`."""
    today = (at // _MINUTE_MS + _ahead(service, at)) // _DAY_MINUTES + _EPOCH
    best: int | None = None
    for day in range(max(1, today - 1), min(_LAST_DAY, today + LOOKAHEAD_DAYS) + 1):
        for rule in service.rules:
            if not _open_on(rule, day):
                continue
            opens, closes = _moment(service, day, rule.opens), _moment(service, day, rule.closes)
            if closes > at and (best is None or opens < best):
                best = opens
        if best is not None and day > today:
            break
    return None if best is None else max(at, best)


def _weekly(hours: OpeningHours) -> Rule:
    return _rule(Schedule(frequency="weekly", opens=hours.opens, closes=hours.closes, days=hours.days))


def _rule(schedule: Schedule) -> Rule:
    return Rule(
        opens=schedule.opens,
        closes=schedule.closes if schedule.closes > schedule.opens else schedule.closes + _DAY_MINUTES,
        days=frozenset(DAYS.index(day) for day in schedule.days),
        monthly=schedule.frequency == "monthly",
        nth=frozenset(schedule.nth),
        month_days=frozenset(schedule.month_days),
        every=schedule.every,
        starts=date.fromisoformat(schedule.starts).toordinal() if schedule.starts else 1,
        ends=date.fromisoformat(schedule.ends).toordinal() if schedule.ends else _LAST_DAY,
    )


def _open_on(rule: Rule, day: int) -> bool:
    if not rule.starts <= day <= rule.ends:
        return False
    weekday = (day - 1) % 7
    if not rule.monthly:
        weeks = (day - 1) // 7 - (rule.starts - 1) // 7
        return weekday in rule.days and weeks % rule.every == 0
    months, of_month, length = _in_month(day)
    if (months - _in_month(rule.starts)[0]) % rule.every:
        return False
    if rule.month_days:
        return of_month in rule.month_days or of_month - length - 1 in rule.month_days
    if weekday not in rule.days:
        return False
    return not rule.nth or not rule.nth.isdisjoint(((of_month - 1) // 7 + 1, -((length - of_month) // 7 + 1)))


@lru_cache(maxsize=1024)
def _in_month(day: int) -> tuple[int, int, int]:
    """The month, counted through; the day in it; how many it has."""
    on = date.fromordinal(day)
    return on.year * 12 + on.month, on.day, monthrange(on.year, on.month)[1]


def _ahead(service: Opening, at: int) -> int:
    """Minutes the wall clock is ahead of UTC at a moment."""
    return service.minutes[max(0, bisect_right(service.moments, at) - 1)]


def _moment(service: Opening, day: int, minute: int) -> int:
    """When the wall clock shows a minute of a day: the first time if it does twice, and if it never does, when it has just passed it."""
    local = ((day - _EPOCH) * _DAY_MINUTES + minute) * _MINUTE_MS
    for offset in _both(service, local):
        at = local - offset * _MINUTE_MS
        if _ahead(service, at) == offset:
            return at
    return local - _ahead(service, local) * _MINUTE_MS


def _both(service: Opening, local: int) -> Iterator[int]:
    """The offsets that may hold then, the clock that is farther ahead first."""
    around = {_ahead(service, local - 840 * _MINUTE_MS), _ahead(service, local + 720 * _MINUTE_MS)}
    return iter(sorted(around, reverse=True))
