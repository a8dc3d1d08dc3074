"""The worker on a real broker, in processes that are killed: nothing lost, nothing twice, in order."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from referral_bus.embedded.process import ChildProcess
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Appender, Outgoing, TopicSpec

ROOT = Path(__file__).resolve().parents[3]
PARTITIONS, BATCH, BATCH_SECONDS = 4, 25, 0.02
KILLS, BACKLOG = 4, 400
SECONDS = 30.0


class Numbers:
    """A topic of numbers, a topic of copies, and what an outsider can see of both."""

    def __init__(self, bootstrap: str, appender: Appender, watcher: AIOKafkaConsumer, name: str) -> None:
        self.source, self.target, self.group = f"{name}.source", f"{name}.target", name
        self.bootstrap = bootstrap
        self.written = dict.fromkeys(range(PARTITIONS), 0)
        self.enough = asyncio.Event()
        self._appender, self._watcher = appender, watcher

    async def committed(self) -> dict[int, int]:
        """The group's next offset of each partition, as the broker has it."""
        return {
            number: await self._watcher.committed(TopicPartition(self.source, number)) or 0
            for number in self.written
        }

    async def backlog(self) -> dict[int, int]:
        """How many numbers of each partition nobody has worked through. The source has no gaps: its offsets are counts."""
        committed = await self.committed()
        return {partition: count - committed[partition] for partition, count in self.written.items()}

    async def top_up(self) -> None:
        """Keep work waiting on every partition, however fast it is done, until :attr:`enough`."""
        while not self.enough.is_set():
            for partition, waiting in (await self.backlog()).items():
                await self._write(partition, max(0, 2 * BACKLOG - waiting))
            await asyncio.sleep(0.02)

    async def _write(self, partition: int, count: int) -> None:
        first = self.written[partition] + 1
        numbers = range(first, first + count)
        await self._appender.append([Outgoing(self.source, partition, None, b"%d" % n) for n in numbers])
        self.written[partition] += count

    async def copies(self) -> dict[int, list[str]]:
        """What an independent reader of committed data finds, partition by partition."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, isolation_level="read_committed", enable_auto_commit=False
        )
        await consumer.start()
        partitions = [TopicPartition(self.target, number) for number in self.written]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[str]] = {number: [] for number in self.written}
        async with asyncio.timeout(SECONDS):
            while any([await consumer.position(p) < ends[p] for p in partitions]):
                for partition, messages in (await consumer.getmany(timeout_ms=500)).items():
                    found[partition.partition] += [message.value.decode() for message in messages]
        await consumer.stop()
        return found


@asynccontextmanager
async def numbers(bootstrap: str) -> AsyncIterator[Numbers]:
    name = f"copying.{secrets.token_hex(4)}"
    log = KafkaLog(bootstrap)
    # It asks for the group's offsets and never joins the group.
    watcher = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=name, enable_auto_commit=False)
    try:
        made = Numbers(bootstrap, await log.appender(), watcher, name)
        await log.ensure([TopicSpec(made.source, PARTITIONS), TopicSpec(made.target, PARTITIONS)])
        await watcher.start()
        yield made
    finally:
        await watcher.stop()
        await log.close()


def process(world: Numbers, name: str, folder: Path) -> ChildProcess:
    arguments = (world.bootstrap, world.source, world.target, world.group, str(BATCH), str(BATCH_SECONDS))
    return ChildProcess(
        name,
        (sys.executable, "-m", "tests.support.copying", *arguments),
        {"PYTHONPATH": str(ROOT)},
        folder / f"{name}.log",
    )


async def until_all_move(world: Numbers, by: int = 4 * BATCH) -> None:
    """Until every partition is being worked through, so whoever is killed next is in the middle of something."""
    before = await world.committed()
    async with asyncio.timeout(SECONDS):
        while any(at < before[partition] + by for partition, at in (await world.committed()).items()):
            await asyncio.sleep(0.02)


async def until_done(holds: Callable[[dict[int, int]], bool], world: Numbers) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds(await world.backlog()):
            await asyncio.sleep(0.05)


async def test_workers_that_are_killed_again_and_again_lose_nothing_and_repeat_nothing(
    kafka: str, tmp_path: Path
) -> None:
    async with numbers(kafka) as world:
        names = (f"worker-{number}" for number in itertools.count(1))
        workers = [process(world, next(names), tmp_path) for _ in range(2)]
        backlogs: list[dict[int, int]] = []
        filling = asyncio.create_task(world.top_up())
        began = time.monotonic()
        try:
            for worker in workers:
                await worker.start()
            for kill in range(KILLS):
                await until_all_move(world)
                victim = workers[kill % 2]
                assert victim.running
                await victim.kill()
                backlogs.append(await world.backlog())
                workers[kill % 2] = process(world, next(names), tmp_path)
                await workers[kill % 2].start()
            await until_all_move(world)
            world.enough.set()
            await filling
            await until_done(lambda backlog: not any(backlog.values()), world)
            assert all(worker.running for worker in workers)
        finally:
            world.enough.set()
            await asyncio.gather(filling, return_exceptions=True)
            await asyncio.gather(*(worker.stop(10.0) for worker in workers))
        took = time.monotonic() - began

        copies = await world.copies()
        lost, twice, misplaced = 0, 0, 0
        for partition, found in copies.items():
            copied = [int(copy.split()[0]) for copy in found]
            lost += len(set(range(1, world.written[partition] + 1)) - set(copied))
            twice += len(copied) - len(set(copied))
            misplaced += found != [f"{n} {n}" for n in range(1, world.written[partition] + 1)]
        print(
            f"{sum(world.written.values())} numbers, {KILLS} kills, {took:.1f} s; lost {lost}, twice {twice}"
        )
        print("backlog at each kill, by partition:", *(list(backlog.values()) for backlog in backlogs))
        assert (lost, twice, misplaced) == (0, 0, 0)
        assert all(min(backlog.values()) > 0 for backlog in backlogs) and len(backlogs) == KILLS
        assert [await worker.wait() for worker in workers] == [0, 0]


async def test_a_worker_that_is_told_to_stop_hands_over_at_once(kafka: str, tmp_path: Path) -> None:
    """No session has to time out: the other has all partitions while one that was killed would still be waited for."""
    async with numbers(kafka) as world:
        first, second = process(world, "first", tmp_path), process(world, "second", tmp_path)
        filling = asyncio.create_task(world.top_up())
        try:
            await first.start()
            await until_all_move(world)
            await second.start()
            await until_all_move(world)
            await first.stop()
            assert await first.wait() == 0
            async with asyncio.timeout(5.0):
                await until_all_move(world)
        finally:
            world.enough.set()
            await asyncio.gather(filling, return_exceptions=True)
            await asyncio.gather(first.stop(), second.stop())
