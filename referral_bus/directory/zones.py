"""A time zone of the IANA database as the explicit offsets of a calendar, for whoever publishes one."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from referral_bus.contracts.localtime import UtcOffset

_STEP: Final = timedelta(days=1)
"""Two changes of a zone's offset are never this near to each other: since 1970 the nearest were a week apart (Brazil, October 2000)."""

_FIRST: Final = 1970
_LAST: Final = 9998


def offsets(time_zone: str, first_year: int, last_year: int) -> list[UtcOffset]:
    """The zone's offsets in the years from first to last (UTC), by this machine's edition of the time zone database.

    The first offset begins with the first year. Raises ValueError for a zone that the database doesn't have, for years out of order or
    before 1970, and where the zone was ahead of UTC by no whole minutes (Liberia until 1972).
    """
    if not _FIRST <= first_year <= last_year <= _LAST:
        raise ValueError(
            f"the years {first_year} to {last_year} are no range within {_FIRST} to {_LAST}; give the earlier one first"
        )
    zone = _zone(time_zone)
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(last_year + 1, 1, 1, tzinfo=UTC)
    ahead = _ahead(zone, at)
    found = [_offset(time_zone, at, ahead)]
    while at < end:
        later = at + _STEP
        if (then := _ahead(zone, later)) != ahead:
            found.append(_offset(time_zone, _change(zone, at, later), then))
            ahead = then
        at = later
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"there is no time zone {name[:64]!r} here; give a name of the IANA database as 'America/Chicago'"
            " (where the system has no such database, the package tzdata brings it)"
        ) from None


def _ahead(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second of the offset that holds at ``after`` and not yet at ``before``."""
    former = _ahead(zone, before)
    seconds = range(int((after - before).total_seconds()))

    def changed(second: int) -> bool:
        return _ahead(zone, before + timedelta(seconds=second)) != former

    return before + timedelta(seconds=bisect_left(seconds, True, key=changed))


def _offset(name: str, at: datetime, ahead: timedelta) -> UtcOffset:
    minutes, rest = divmod(ahead, timedelta(minutes=1))
    if rest:
        raise ValueError(
            f"{name} was {ahead} ahead of UTC on {at:%Y-%m-%d}, which is no whole minute; begin with a later year"
        )
    return UtcOffset(since=int(at.timestamp()) * 1000, minutes=minutes)
