"""A worker as a process of its own, to be killed: it copies numbers, each with its place in the output.

``python -m tests.support.copying BOOTSTRAP FROM TO GROUP BATCH SECONDS``; SECONDS is how long each batch takes it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence

import uvloop

from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Log, Outgoing, Partition, Record
from referral_bus.runtime.health import Health
from referral_bus.runtime.worker import Worker


class Copying:
    """Counts on from what the output holds: a number that is lost, repeated or overtaken shows in the places."""

    def __init__(self, log: Log, output: Partition, seconds: float) -> None:
        self._log, self._output, self._seconds = log, output, seconds
        self._place = 0

    async def load(self, progress: Callable[[float], None]) -> int:
        reader = await self._log.reader(self._output)
        end, at, proven = await reader.end(), 0, 0
        while at < end:
            records = await reader.read(at, 5000, 1.0)
            self._place += len(records)
            if records:
                proven = int(records[-1].key or b"") + 1
            at = reader.position()
            progress(at / end)
        await reader.close()
        return proven

    async def work(self, records: Sequence[Record]) -> list[Outgoing]:
        await asyncio.sleep(self._seconds)
        outcome = []
        for record in records:
            self._place += 1
            value = b"%s %d" % (record.value, self._place)
            key = b"%d" % record.offset
            outcome.append(Outgoing(self._output.topic, self._output.number, key, value))
        return outcome

    def committed(self, records: Sequence[Record]) -> None:
        return None

    async def close(self) -> None:
        return None


async def copy(bootstrap: str, source: str, target: str, group: str, batch: int, seconds: float) -> None:
    """Until SIGTERM."""
    log = KafkaLog(bootstrap)
    worker = Worker(
        log,
        lambda partition: Copying(log, Partition(target, partition.number), seconds),
        Health(),
        topic=source,
        group=group,
        transactional_id=lambda number: f"{group}-{number}",
        batch=batch,
    )
    task = asyncio.create_task(worker.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    await log.close()
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    uvloop.run(copy(*sys.argv[1:5], int(sys.argv[5]), float(sys.argv[6])))
