"""A topic as it stands: all that is on it now."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from referral_bus.log.port import Log, Partition, Record

_AT_ONCE: Final = 1000
_WAIT_SECONDS: Final = 1.0


async def everything(log: Log, topic: str) -> list[Record]:
    """All committed records of a topic, partition after partition. Raises LogError."""
    return [
        record
        for number in range(await log.partitions(topic))
        async for record in everything_in(log, Partition(topic, number))
    ]


async def everything_in(log: Log, partition: Partition, first: int = 0) -> AsyncIterator[Record]:
    """All committed records of a partition, from offset ``first`` or the first that is kept up to the end it has now. Raises LogError."""
    reader = await log.reader(partition)
    try:
        at, end = max(first, await reader.start()), await reader.end()
        while at < end:
            for record in await reader.read(at, _AT_ONCE, _WAIT_SECONDS):
                yield record
            at = reader.position()
    finally:
        await reader.close()
