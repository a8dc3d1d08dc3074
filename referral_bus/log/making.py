"""The topics of a bus are made where they are missing, but for an inbox and a ledger that were there before."""

from __future__ import annotations

from referral_bus.log.port import Log, LogError, Partition
from referral_bus.log.topics import inbox, ledger, topics

RESTORE = "Bring it back, or restore inbox and ledger from a backup (docs/how-to/back-up-and-restore.md)."


async def make_topics(log: Log, bus: str, partitions: int, replication: int) -> None:
    """Make what is missing of the topics of a bus; ``partitions`` are those of inbox and ledger.

    Raises LogError where one of these two is gone, and where a topic that is there is otherwise than it should be.
    """
    if lost := await gone(log, bus):
        raise LogError(
            f"topic {lost[0]} is gone, or this user may not see it, though the bus was in use. An empty one would be taken for the "
            f"beginning of another bus: what was decided would be decided again. {RESTORE}"
        )
    await log.ensure(topics(bus, partitions, replication))


async def gone(log: Log, bus: str) -> list[str]:
    """Inbox and ledger, where they are not there though something was written to another topic of the bus. Raises LogError."""
    there = await log.topics()
    lost = [name for name in (inbox(bus), ledger(bus)) if name not in there]
    if not lost:
        return []
    for spec in topics(bus, 1, 1):
        for number in range(there.get(spec.name, 0)):
            reader = await log.reader(Partition(spec.name, number))
            try:
                if await reader.end():
                    return lost
            finally:
                await reader.close()
    return []
