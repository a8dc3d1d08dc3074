"""What is done for partitions beside each other: one that can't go on holds up no other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from referral_bus.log.port import Partition


class UnderWay:
    """What is being done for each partition, one thing at a time."""

    def __init__(self) -> None:
        self._tasks: dict[Partition, asyncio.Task[None]] = {}

    def start(self, partition: Partition, work: Coroutine[None, None, None]) -> None:
        """Begin what follows what was done for it before."""
        self._tasks[partition] = asyncio.create_task(work, name=f"{partition.topic}/{partition.number}")

    def cancel(self, partition: Partition) -> None:
        """Nothing more is to be done for it here."""
        if task := self._tasks.pop(partition, None):
            task.cancel()

    def raise_failures(self) -> None:
        """Raise what any of it ended by."""
        for partition, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[partition]
                task.result()

    async def give_up(self) -> None:
        """End all of it."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
