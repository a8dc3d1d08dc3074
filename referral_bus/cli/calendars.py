"""Which published calendars run out soon: their clocks and holidays are data, and somebody must write more of it in time."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Final

from referral_bus.contracts.calendar import Calendar
from referral_bus.directory.zones import offsets
from referral_bus.log.port import Log
from referral_bus.log.reading import everything
from referral_bus.log.topics import reference
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError

SOON: Final = timedelta(days=90)
"""How long before its end a calendar is told of: a new version takes somebody to write it."""


async def published(log: Log, bus: str) -> list[Calendar]:
    """The calendars on the reference topic, the latest version of each. Raises LogError."""
    codec = Codec.load()
    found: dict[str, Calendar] = {}
    for record in await everything(log, reference(bus)):
        try:
            message = codec.decode(record.value)
        except WireError:
            continue
        if isinstance(message, Calendar):
            former = found.get(message.calendar)
            if former is None or former.version < message.version:
                found[message.calendar] = message
    return list(found.values())


def ends(calendar: Calendar, now: datetime) -> list[str]:
    """What of a calendar runs out within :data:`SOON`, in words; nothing where there is no more to tell."""
    found: list[str] = []
    last = datetime.fromtimestamp(calendar.offsets[-1].since / 1000, UTC)
    if last < now + SOON and _changes_after(calendar.time_zone, last, now):
        found.append(f"the clock of {calendar.time_zone} is told until its change of {last:%Y-%m-%d}")
    if calendar.holidays and date.fromisoformat(calendar.holidays[-1]) < (now + SOON).date():
        found.append(f"the last holiday is {calendar.holidays[-1]}")
    return found


def _changes_after(zone: str, last: datetime, now: datetime) -> bool:
    """Whether the zone's clock changes after that, this year or next; of a zone that this machine doesn't know it may."""
    try:
        _, *changes = offsets(zone, now.year, now.year + 1)
    except ValueError:
        return True
    return any(change.since > last.timestamp() * 1000 for change in changes)
