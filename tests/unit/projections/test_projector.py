"""The projector on a log whose rebalances, repeats and zombies are ordered by the test: each record reflected once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, NamedTuple

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Column, Integer, MetaData, Table, Text

from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import Outgoing, Partition, Record, TopicSpec
from referral_bus.runtime.health import Health
from referral_bus.runtime.projector import Projector
from referral_bus.store.memory import MemoryViews
from referral_bus.store.port import Superseded
from referral_bus.store.rows import Put
from tests.support.hanging import hung

TOPIC, GROUP = "refbus.main.ledger", "refbus-main-projections"
ZERO, ONE = Partition(TOPIC, 0), Partition(TOPIC, 1)

totals = Table(
    "totals",
    MetaData(),
    Column("partition", Text, primary_key=True),
    Column("count", Integer),
    Column("sum", Integer),
)


class Unreadable(Exception):
    pass


class Watched(MemoryViews):
    """Remembers whom it refused."""

    def __init__(self) -> None:
        super().__init__([totals])
        self.refused: list[int] = []

    async def apply(
        self, partition: Partition, epoch: int, start: int, end: int, changes: Sequence[Put]
    ) -> None:
        try:
            await super().apply(partition, epoch, start, end, changes)
        except Superseded:
            self.refused.append(epoch)
            raise


class World:
    """Two partitions, one store, and any number of projectors. What is projected is the count and the sum of what was written:
    a record that is lost, repeated or overtaken shows in one of them."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.store = Watched()
        self.health = Health()
        self.batches: list[list[int]] = []
        self.written = {0: 0, 1: 0}
        self.hold_rows: Callable[[], Awaitable[None]] | None = None
        self.hold: Callable[[], Awaitable[None]] | None = None

    async def write(self, partition: int, count: int) -> None:
        numbers = range(self.written[partition] + 1, self.written[partition] + count + 1)
        appender = await self.log.appender()
        await appender.append([Outgoing(TOPIC, partition, None, b"%d" % number) for number in numbers])
        self.written[partition] += count

    def projector(self, health: Health | None = None) -> Projector[Put]:
        return Projector(
            self.log,
            self.store,
            self.project,
            health or self.health,
            topic=TOPIC,
            group=GROUP,
            retry_seconds=0.01,
        )

    async def project(self, partition: Partition, records: Sequence[Record]) -> Sequence[Put]:
        if self.hold_rows is not None:
            await self.hold_rows()
        name = str(partition.number)
        found = await self.store.rows({("totals", "partition"): [name]})
        row = found[0][1] if found else {"partition": name, "count": 0, "sum": 0}
        self.batches.append([record.offset for record in records])
        for record in records:
            if record.value == b"unreadable":
                raise Unreadable(f"offset {record.offset}")
            if record.value != b"%d" % (row["count"] + 1):
                raise Unreadable(f"offset {record.offset} is not what comes next")
            row = {**row, "count": row["count"] + 1, "sum": row["sum"] + int(record.value or b"")}
        if self.hold is not None:
            await self.hold()
        return [Put("totals", row)]

    def is_reflected(self) -> bool:
        rows = {row["partition"]: (row["count"], row["sum"]) for row in self.store.table("totals")}
        return rows == {str(p): (n, n * (n + 1) // 2) for p, n in self.written.items() if n}

    async def until_reflected(self) -> None:
        await until(self.is_reflected)

    def member(self, number: int = 0) -> MemoryMember:
        return self.log._groups[GROUP].members[number]


class Overtaken(NamedTuple):
    """The projector that another has overtaken, and what lets it go on."""

    zombie: asyncio.Task[None]
    go: asyncio.Event


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(projector: Projector[Put]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(projector.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def world() -> World:
    made = World()
    await made.log.ensure([TopicSpec(TOPIC, 2)])
    return made


async def test_what_is_on_the_log_is_reflected_once(world: World) -> None:
    await world.write(0, 30)
    async with running(world.projector()):
        await world.until_reflected()
        await world.write(1, 20)
        await world.write(0, 5)
        await world.until_reflected()


async def test_aborted_records_are_gaps_and_nothing_more(world: World) -> None:
    await world.write(0, 3)
    await world.log.abort([Outgoing(TOPIC, 0, None, b"1000")])
    await world.write(0, 3)
    async with running(world.projector()):
        await world.until_reflected()


async def test_a_restart_goes_on_where_the_rows_are(world: World) -> None:
    await world.write(0, 10)
    async with running(world.projector()):
        await world.until_reflected()
    world.batches.clear()
    await world.write(0, 4)
    async with running(world.projector()):
        await world.until_reflected()
    assert world.batches[0][0] == 10


async def test_records_delivered_again_are_reflected_once(world: World) -> None:
    await world.write(0, 10)
    async with running(world.projector()):
        await world.until_reflected()
        world.log.redeliver(world.member(), ZERO, 2, 9)
        await world.write(0, 3)
        await world.until_reflected()


async def test_a_rebalance_in_the_middle_of_a_batch_loses_and_repeats_nothing(world: World) -> None:
    async def rebalance() -> None:
        world.hold = None
        await world.log.rebalance(GROUP)

    world.hold = rebalance
    await world.write(0, 10)
    await world.write(1, 10)
    async with running(world.projector()):
        await world.until_reflected()
        await world.write(0, 5)
        await world.until_reflected()


async def test_records_fetched_before_a_rebalance_are_not_taken_for_those_after_it(world: World) -> None:
    await world.write(0, 10)
    async with running(world.projector()):
        await world.until_reflected()

        async def stale() -> None:
            world.hold = None
            await world.log.rebalance(GROUP)
            world.log.redeliver(world.member(), ZERO, 0, 5)

        world.hold = stale
        await world.write(0, 10)
        await world.until_reflected()


async def test_members_share_the_partitions_and_take_over_from_the_dead(world: World) -> None:
    async with running(world.projector()) as first:
        await world.write(0, 10)
        await world.until_reflected()
        async with running(world.projector()):
            await until(lambda: len(world.log._groups[GROUP].members) == 2)
            await world.write(0, 5)
            await world.write(1, 5)
            await world.until_reflected()
            world.log.crash(world.member(0))
            first.cancel()
            await world.log.rebalance(GROUP)
            await world.write(0, 5)
            await world.until_reflected()


@asynccontextmanager
async def overtaken(world: World, held: Literal["hold", "hold_rows"]) -> AsyncIterator[Overtaken]:
    """A projector that stands still in the midst of a batch, there, while another has taken its partition over and gone on."""
    stuck, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        setattr(world, held, None)
        stuck.set()
        await go.wait()

    async with running(world.projector()) as zombie:
        await world.write(0, 5)
        await world.until_reflected()
        member = world.member()
        setattr(world, held, wait)
        await world.write(0, 5)
        await asyncio.wait_for(stuck.wait(), 5)
        async with running(world.projector()):
            await world.log.expel(member)
            await until(lambda: world.store.position(ZERO) == 10)
            yield Overtaken(zombie, go)


async def test_a_zombie_writes_nothing(world: World) -> None:
    async with overtaken(world, "hold") as (zombie, go):
        before = world.store.table("totals")
        assert world.store.refused == []
        go.set()
        await until(lambda: world.store.refused != [])
        assert world.store.table("totals") == before
        zombie.cancel()
        await world.write(0, 5)
        await world.until_reflected()


async def test_a_zombie_that_folds_on_rows_another_has_gone_on_with_is_no_damage(world: World) -> None:
    async with overtaken(world, "hold_rows") as (zombie, go):
        go.set()
        await until(lambda: world.store.refused != [])
        await world.write(0, 5)
        await world.until_reflected()
        assert not zombie.done()


async def test_an_answer_the_store_lost_is_neither_repeated_nor_left_out(world: World) -> None:
    world.store.lose_answers = 2
    await world.write(0, 10)
    async with running(world.projector()):
        await world.until_reflected()
        await world.write(0, 10)
        await world.until_reflected()


async def test_it_waits_for_a_store_that_is_away(world: World) -> None:
    world.store.away = True
    await world.write(0, 10)
    async with running(world.projector()) as task:
        await until(lambda: bool(world.health.problems()))
        await asyncio.sleep(0.05)
        assert not task.done()
        world.store.away = False
        await world.until_reflected()


async def test_what_was_fetched_is_behind_until_the_store_reflects_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral_bus.runtime.projector.LAG_SECONDS", 0.0)
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    def behind() -> float | None:
        return REGISTRY.get_sample_value("refbus_lag_records", {"topic": TOPIC, "partition": "0"})

    world.hold = wait
    await world.write(0, 10)
    async with running(world.projector()):
        await until(lambda: behind() == 10)
        go.set()
        await until(lambda: behind() == 0)


async def test_what_the_fold_cannot_read_stops_it_and_is_not_skipped(world: World) -> None:
    await world.write(0, 3)
    appender = await world.log.appender()
    await appender.append([Outgoing(TOPIC, 0, None, b"unreadable")])
    await world.write(0, 3)
    async with running(world.projector()) as task:
        with pytest.raises(Unreadable):
            await asyncio.wait_for(asyncio.shield(task), 5)
    assert world.store.position(ZERO) <= 3


async def test_it_is_ready_once_it_has_reached_the_end_it_saw(world: World) -> None:
    held, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        held.set()
        await go.wait()

    world.hold = wait
    await world.write(0, 10)
    await world.log.abort([Outgoing(TOPIC, 0, None, b"1")])
    async with running(world.projector()):
        await asyncio.wait_for(held.wait(), 5)
        assert "projector" in world.health.problems()
        go.set()
        await until(lambda: world.health.problems() == {})
        assert world.is_reflected()


async def test_it_is_not_ready_while_the_group_has_not_said_what_is_its_own(world: World) -> None:
    """It may have been taken out of the group and not have come in again; who is given none of it by the group is ready."""
    healths = [Health() for _ in range(3)]
    async with AsyncExitStack() as projectors:
        for health in healths:
            await projectors.enter_async_context(running(world.projector(health)))
        await until(
            lambda: len(world.log._group(GROUP).members) == 3 and all(h.problems() == {} for h in healths)
        )
        for number in range(3):
            await world.member(number).lose()
        for health in healths:
            assert health.problems() == {"projector": "waits for its share of refbus.main.ledger"}
        await world.log.rebalance(GROUP)
        await until(lambda: all(health.problems() == {} for health in healths))


async def test_it_waits_for_a_log_that_is_away_at_the_start(world: World) -> None:
    await world.write(0, 5)
    world.log.away = True
    async with running(world.projector()) as task:
        await asyncio.sleep(0.05)
        assert not task.done()
        world.log.away = False
        await world.until_reflected()


async def test_a_loop_that_hangs_breaks_its_promise_to_beat(world: World) -> None:
    """Nothing else tells of it: the group's heartbeats go on beside it."""
    now = [0.0]
    health = Health(lambda: now[0])
    async with running(world.projector(health)):
        await until(lambda: health.problems() == {})
        await hung(world.member())
        assert health.stuck() == []
        now[0] += 121.0
        assert health.stuck() == ["projector"]
