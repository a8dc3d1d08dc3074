"""Topics as they stand: all that is on them now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from referral_bus.log.port import Log, Partition, Reader, Record, count_of

_AT_ONCE: Final = 1000
_BESIDE: Final = 8
"""Partitions that are read beside each other: most of the time of a short one is waiting until its reader has begun and ended."""
_WAIT_SECONDS: Final = 1.0


async def everything(log: Log, *topics: str) -> list[Record]:
    """All committed records of the topics, partition after partition. Raises LogError."""
    there = await log.topics()
    partitions = [Partition(topic, number) for topic in topics for number in range(count_of(there, topic))]
    beside = asyncio.Semaphore(_BESIDE)

    async def of(partition: Partition) -> list[Record]:
        async with beside:
            return [record async for record in everything_in(log, partition)]

    reading = [asyncio.create_task(of(partition)) for partition in partitions]
    try:
        return [record for records in await asyncio.gather(*reading) for record in records]
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def everything_in(log: Log, partition: Partition, first: int = 0) -> AsyncIterator[Record]:
    """All committed records of a partition, from offset ``first`` or the first that is kept up to the end it has now. Raises LogError."""
    reader = await log.reader(partition)
    try:
        async for record in read_on(reader, max(first, await reader.start())):
            yield record
    finally:
        await reader.close()


async def read_on(reader: Reader, at: int) -> AsyncIterator[Record]:
    """All committed records from offset ``at``, which is kept, up to the end the partition has now. Raises LogError."""
    end = await reader.end()
    while at < end:
        for record in await reader.read(at, _AT_ONCE, _WAIT_SECONDS):
            yield record
        at = reader.position()
