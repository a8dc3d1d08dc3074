"""The worker on a log whose rebalances, crashes, zombies and lost answers are ordered by the test: each record once, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from referral_bus.log.memory import MemoryLog, MemoryMember, Moment
from referral_bus.log.port import Log, LogError, LogUnavailable, Outgoing, Partition, Record, TopicSpec
from referral_bus.runtime import joining
from referral_bus.runtime.health import Health
from referral_bus.runtime.worker import Limits, Worker
from tests.support.deaf import deafen_the_first
from tests.support.hanging import hung
from tests.support.simulated import SimulatedLoop

IN, OUT, GROUP = "refbus.main.inbox", "refbus.main.ledger", "refbus-main-matching"
ZERO, ONE = Partition(IN, 0), Partition(IN, 1)
BATCH = 10
SECONDS = 5.0

LIMITS = Limits(
    take_seconds=2.0,
    silence_seconds=2.0,
    work_seconds=2.0,
    commit_seconds=2.0,
    revoke_seconds=1.0,
    close_seconds=1.0,
    rest_seconds=0.002,
    fenced_rest_seconds=0.02,
    longest_rest_seconds=0.05,
)

Hook = Callable[["Numbering"], Awaitable[None]]


class Mistake(Exception):
    pass


class Numbering:
    """Copies numbers, each with its place in the output, counted from what was loaded: a number that is lost, repeated or overtaken
    shows, and so does a state that does not belong to the output."""

    def __init__(self, world: World, partition: Partition) -> None:
        self.world, self.partition = world, partition
        self.output = Partition(OUT, partition.number)
        self.count = 0
        self.is_closed = False

    async def load(self, progress: Callable[[float], None]) -> int:
        proven = 0
        for record in self.world.log.visible(self.output, 0, self.world.log.end(self.output)):
            self.count, proven = self.count + 1, int((record.value or b"").split()[2]) + 1
        if (hook := self.world.while_loading) is not None:
            await hook(self)
        progress(1.0)
        return proven

    async def work(self, records: Sequence[Record]) -> list[Outgoing]:
        self.world.batches.append([record.offset for record in records])
        outcome = []
        for record in records:
            if record.value != b"nothing":
                self.count += 1
                text = b"%s %d %d" % (record.value, self.count, record.offset)
                outcome.append(Outgoing(OUT, self.partition.number, None, text))
        if (hook := self.world.while_working) is not None:
            await hook(self)
        return outcome

    def committed(self, records: Sequence[Record]) -> None:
        self.world.committed[self.partition.number] += [record.offset for record in records]
        if self.world.after_commit is not None:
            self.world.after_commit()

    async def close(self) -> None:
        self.is_closed = True


class World:
    """Two partitions of numbers, and any number of workers that copy them."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.written = {0: 0, 1: 0}
        self.batches: list[list[int]] = []
        self.committed: dict[int, list[int]] = {0: [], 1: []}
        self.made: list[Numbering] = []
        self.while_loading: Hook | None = None
        self.while_working: Hook | None = None
        self.after_commit: Callable[[], None] | None = None

    async def write(self, partition: int, count: int) -> None:
        first = self.written[partition] + 1
        self.written[partition] += count
        await self.put(partition, *(str(number) for number in range(first, first + count)))

    async def put(self, partition: int, *values: str) -> None:
        for value in values:
            self.log.write(Outgoing(IN, partition, None, value.encode()), None)

    def make(self, partition: Partition) -> Numbering:
        self.made.append(Numbering(self, partition))
        return self.made[-1]

    def worker(
        self, health: Health | None = None, log: Log | None = None, limits: Limits = LIMITS
    ) -> Worker[Numbering]:
        return Worker(
            log or self.log,
            self.make,
            health or Health(),
            topic=IN,
            group=GROUP,
            transactional_id=lambda number: f"{GROUP}-{number}",
            batch=BATCH,
            limits=limits,
        )

    def output(self, partition: int) -> list[str]:
        found = self.log.visible(Partition(OUT, partition), 0, self.log.end(Partition(OUT, partition)))
        return [b" ".join((record.value or b"").split()[:2]).decode() for record in found]

    def expected(self, partition: int) -> list[str]:
        return [f"{number} {number}" for number in range(1, self.written[partition] + 1)]

    async def until_copied(self, seconds: float = SECONDS) -> None:
        """Until each partition's output has as many numbers as were written; then they must be just those."""
        await until(lambda: all(len(self.output(p)) >= count for p, count in self.written.items()), seconds)
        for partition in self.written:
            assert self.output(partition) == self.expected(partition)

    def member(self, number: int = 0) -> MemoryMember:
        return self.log._groups[GROUP].members[number]

    def members(self) -> int:
        return len(self.log._group(GROUP).members)

    def committed_offset(self, partition: Partition) -> int:
        return self.log.committed(GROUP).get(partition, 0)


async def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(worker: Worker[Numbering]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def once(hook: Hook, world: World) -> Hook:
    """The hook, at the first call only."""

    async def first(work: Numbering) -> None:
        world.while_working = world.while_loading = None
        await hook(work)

    return first


async def new_world() -> World:
    made = World()
    await made.log.ensure([TopicSpec(IN, 2), TopicSpec(OUT, 2)])
    return made


@pytest.fixture
async def world() -> World:
    return await new_world()


# What it does


async def test_each_record_is_worked_through_once_and_in_order(world: World) -> None:
    await world.write(0, 35)
    async with running(world.worker()):
        await world.until_copied()
        await world.write(1, 25)
        await world.write(0, 5)
        await world.until_copied()
    assert world.committed == {0: list(range(40)), 1: list(range(25))}


async def test_what_waits_is_committed_together_and_never_more_than_a_batch(world: World) -> None:
    await world.write(0, 25)
    async with running(world.worker()):
        await world.until_copied()
    assert [len(batch) for batch in world.batches] == [10, 10, 5]


async def test_a_record_alone_is_not_kept_waiting_for_a_batch(world: World) -> None:
    async with running(world.worker()):
        await until(lambda: world.members() == 1)
        for _ in range(3):
            await world.write(0, 1)
            await world.until_copied(seconds=1.0)
    assert world.batches == [[0], [1], [2]]


async def test_offsets_and_outcome_are_committed_together(world: World) -> None:
    await world.write(0, 8)
    seen: list[tuple[int, int]] = []

    async def look(_: str) -> None:
        seen.append((len(world.output(0)), world.committed_offset(ZERO)))

    world.log.interrupt = look
    async with running(world.worker()):
        await until(lambda: world.committed_offset(ZERO) > 0)
        assert (world.committed_offset(ZERO), len(world.output(0))) == (8, 8)
    assert seen == [(0, 0)]


async def test_records_that_lead_to_nothing_are_passed_too(world: World) -> None:
    await world.put(0, "nothing", "nothing")
    async with running(world.worker()):
        await until(lambda: world.committed_offset(ZERO) == 2)
    assert world.committed[0] == [0, 1]


async def test_aborted_records_are_gaps_and_nothing_more(world: World) -> None:
    await world.write(0, 3)
    await world.log.abort([Outgoing(IN, 0, None, b"1000")])
    await world.write(0, 3)
    async with running(world.worker()):
        await world.until_copied()
        await world.log.abort([Outgoing(IN, 0, None, b"1000")])
        await world.write(0, 3)
        await world.until_copied()


async def test_no_more_is_fetched_than_is_needed_to_go_on(world: World) -> None:
    go = asyncio.Event()

    async def wait(_: Numbering) -> None:
        await go.wait()

    world.while_working = wait
    await world.write(0, 1000)
    async with running(world.worker()):
        await until(lambda: len(world.batches) == 1)
        await asyncio.sleep(0.05)
        assert world.member()._positions[ZERO] <= 3 * BATCH
        go.set()
        await world.until_copied()


async def test_the_partitions_work_side_by_side(world: World) -> None:
    go = asyncio.Event()

    async def wait(work: Numbering) -> None:
        if work.partition == ZERO:
            await go.wait()

    world.while_working = wait
    await world.write(0, 100)
    async with running(world.worker(limits=replace(LIMITS, work_seconds=60.0))):
        await until(lambda: len(world.batches) == 1)
        for _ in range(3):
            await world.write(1, 35)
            await until(lambda: world.output(1) == world.expected(1))
        assert world.output(0) == []
        go.set()
        await world.until_copied()


async def test_a_partition_that_loads_holds_up_no_other_and_no_rebalance(world: World) -> None:
    go = asyncio.Event()

    async def wait(work: Numbering) -> None:
        if work.partition == ZERO:
            await go.wait()

    world.while_loading = wait
    await world.write(0, 5)
    await world.write(1, 5)
    async with running(world.worker()):
        await until(lambda: world.output(1) == world.expected(1))
        async with asyncio.timeout(1.0):
            await world.log.rebalance(GROUP)
        await world.write(1, 5)
        await until(lambda: world.output(1) == world.expected(1))
        go.set()
        await world.until_copied()


# Where it begins


async def test_a_restart_goes_on_where_the_state_ends(world: World) -> None:
    await world.write(0, 10)
    async with running(world.worker()):
        await world.until_copied()
    world.batches.clear()
    await world.write(0, 4)
    async with running(world.worker()):
        await world.until_copied()
    assert world.batches == [[10, 11, 12, 13]]


async def test_what_the_state_proves_counts_where_the_group_knows_less(world: World) -> None:
    await world.write(0, 10)
    async with running(world.worker()):
        await world.until_copied()
    world.log.store(GROUP, {ZERO: 3})
    await world.write(0, 4)
    async with running(world.worker()):
        await world.until_copied()
    assert world.batches[-1] == [10, 11, 12, 13]


async def test_what_the_group_committed_counts_for_nothing_where_its_outcome_is_not_there(
    world: World,
) -> None:
    """A broker that was killed while it committed may have committed the offsets alone."""
    await world.write(0, 3)
    async with running(world.worker()):
        await world.until_copied()
    await world.write(0, 5)
    world.log.store(GROUP, {ZERO: 7})
    async with running(world.worker()):
        await world.until_copied()


async def test_what_led_to_nothing_is_worked_through_again_and_leads_to_nothing_again(world: World) -> None:
    await world.write(0, 3)
    await world.put(0, "nothing")
    async with running(world.worker()):
        await until(lambda: world.committed_offset(ZERO) == 4)
    world.batches.clear()
    await world.write(0, 2)
    async with running(world.worker()):
        await world.until_copied()
    assert world.batches == [[3, 4, 5]]


async def test_what_led_to_nothing_and_was_deleted_since_is_passed_over(world: World) -> None:
    await world.write(0, 3)
    for _ in range(3):
        await world.put(0, "nothing")
    async with running(world.worker()):
        await until(lambda: world.committed_offset(ZERO) == 6)
    world.log.expire(ZERO, 5)
    world.batches.clear()
    await world.write(0, 2)
    async with running(world.worker()):
        await world.until_copied()
    assert world.batches == [[5, 6, 7]]


async def test_the_former_owner_is_fenced_before_the_state_is_loaded(world: World) -> None:
    """Were it loaded first, what the former owner commits meanwhile would be missing from the state, and be decided again."""
    in_commit, let_commit, loading, loaded = (asyncio.Event() for _ in range(4))

    async def hang(_: str) -> None:
        world.log.interrupt = None
        in_commit.set()
        await let_commit.wait()

    async def wait(work: Numbering) -> None:
        if work.partition == ZERO:
            loading.set()
            await loaded.wait()

    await world.write(0, 5)
    world.log.interrupt = hang
    async with running(world.worker()) as former:
        await until(in_commit.is_set)
        world.while_loading = wait
        async with running(world.worker()):
            await world.log.expel(world.member(0))
            await until(loading.is_set)
            let_commit.set()
            await until(lambda: len(world.committed[0]) == 5 or any(w.is_closed for w in world.made))
            former.cancel()
            loaded.set()
            await world.until_copied()
            await world.write(0, 5)
            await world.until_copied()


# Rebalances


async def test_a_rebalance_waits_for_the_batch_under_way(world: World) -> None:
    await world.write(0, 5)
    rebalances: list[asyncio.Task[None]] = []

    async def rebalance(_: str) -> None:
        world.log.interrupt = None
        rebalances.append(asyncio.create_task(world.log.rebalance(GROUP)))
        await asyncio.sleep(0.05)
        assert not rebalances[0].done()

    world.log.interrupt = rebalance
    async with running(world.worker()):
        await world.until_copied()
        await until(lambda: bool(rebalances) and rebalances[0].done())
        await world.write(0, 5)
        await world.until_copied()
    assert world.committed[0] == list(range(10))  # the first five as well: they were not given up


async def test_a_rebalance_does_not_wait_for_ever(world: World) -> None:
    in_commit, never = asyncio.Event(), asyncio.Event()

    async def hang(_: str) -> None:
        world.log.interrupt = None
        in_commit.set()
        await never.wait()

    await world.write(0, 5)
    world.log.interrupt = hang
    async with running(world.worker(limits=replace(LIMITS, revoke_seconds=0.05))):
        await until(in_commit.is_set)
        async with asyncio.timeout(1.0):
            await world.log.rebalance(GROUP)
        await world.until_copied()


async def test_a_rebalance_in_the_middle_of_a_batch_loses_and_repeats_nothing(world: World) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def rebalance(_: Numbering) -> None:
        tasks.append(asyncio.create_task(world.log.rebalance(GROUP)))
        await asyncio.sleep(0.005)

    world.while_working = once(rebalance, world)
    await world.write(0, 45)
    await world.write(1, 45)
    async with running(world.worker()):
        await world.until_copied()
        await asyncio.wait(tasks)


async def test_records_delivered_again_are_left_out(world: World) -> None:
    await world.write(0, 10)
    async with running(world.worker()):
        await world.until_copied()
        world.log.redeliver(world.member(), ZERO, 2, 9)
        await world.write(0, 3)
        await world.until_copied()
    assert world.committed[0] == list(range(13))


async def test_records_fetched_before_an_assignment_are_dropped_and_fetched_again(world: World) -> None:
    """They may lie beyond the next offset, and then look like what comes after a gap."""
    await world.write(0, 10)
    async with running(world.worker()):
        await world.until_copied()

        async def stale(work: Numbering) -> None:
            if work.partition == ZERO:
                world.while_loading = None
                await world.write(0, 10)
                world.log.redeliver(world.member(), ZERO, 15, 20)

        world.while_loading = stale
        await world.log.rebalance(GROUP)
        await world.until_copied()
        await world.write(0, 5)
        await world.until_copied()
    assert world.committed[0] == list(range(25))


async def test_workers_share_the_partitions(world: World) -> None:
    first, second = world.worker(), world.worker()
    async with running(first), running(second):
        await until(lambda: len(first.owned) == 1 and len(second.owned) == 1)
        assert first.owned.keys() | second.owned.keys() == {ZERO, ONE}
        await world.write(0, 50)
        await world.write(1, 50)
        await world.until_copied()


async def test_a_worker_that_stops_leaves_its_partitions_to_the_other(world: World) -> None:
    first, second = world.worker(), world.worker()
    async with running(second):
        async with running(first):
            await until(lambda: len(first.owned) == 1 and len(second.owned) == 1)
            await world.write(0, 50)
            await world.write(1, 50)
        await until(lambda: len(second.owned) == 2)
        await world.until_copied()
        await world.write(0, 5)
        await world.write(1, 5)
        await world.until_copied()


async def test_stopping_ends_the_batch_under_way_and_not_the_next(world: World) -> None:
    in_commit = asyncio.Event()

    async def slow(_: str) -> None:
        in_commit.set()
        await asyncio.sleep(0.05)
        assert world.members() == 1  # nobody comes to take over before it is done

    await world.write(0, 50)
    world.log.interrupt = slow
    async with running(world.worker()) as task:
        await until(in_commit.is_set)
        task.cancel()
    assert world.committed_offset(ZERO) == len(world.output(0)) == BATCH
    assert world.members() == 0
    assert all(work.is_closed for work in world.made)


# Crashes, zombies, lost answers


async def test_a_crash_in_a_transaction_is_undone_by_who_takes_over(world: World) -> None:
    in_commit, never = asyncio.Event(), asyncio.Event()

    async def die(_: str) -> None:
        world.log.interrupt = None
        in_commit.set()
        await never.wait()

    await world.write(0, 25)
    await world.write(1, 25)
    world.log.interrupt = die
    async with running(world.worker(limits=replace(LIMITS, revoke_seconds=0.01))) as first:
        await until(in_commit.is_set)
        world.log.crash(world.member())
        first.cancel()
        await asyncio.wait([first])
        async with running(world.worker()):
            await world.until_copied()


async def test_a_zombie_writes_nothing_and_leaves_the_partition_to_its_owner(world: World) -> None:
    await world.write(0, 5)
    long = replace(LIMITS, fenced_rest_seconds=30.0, longest_rest_seconds=30.0)
    zombie, owner = world.worker(limits=long), world.worker()
    async with running(zombie):
        await world.until_copied()
        member = world.member()
        async with running(owner):
            await until(lambda: len(owner.owned) == 1)
            await world.log.expel(member)
            await until(lambda: len(owner.owned) == 2)
            made = len(world.made)
            await world.write(0, 5)
            await world.write(1, 5)
            await world.until_copied()
            await until(lambda: not zombie.owned)
            assert member._resumed == set()  # nothing is fetched for nobody
            for _ in range(5):
                await world.write(0, 5)
                await world.until_copied()
            assert len(world.made) == made  # nobody took it from its owner


async def test_being_fenced_is_no_fault(world: World) -> None:
    fences: list[str] = []

    async def fence(writer_id: str) -> None:
        fences.append(writer_id)
        if len(fences) <= 2 * LIMITS.faults:
            await world.log.transactor(writer_id)

    world.log.interrupt = fence
    await world.write(0, 5)
    async with running(world.worker()) as task:
        await world.until_copied()
        assert not task.done()


async def test_a_partition_that_stays_assigned_after_a_fence_is_taken_again(world: World) -> None:
    worker = world.worker()
    await world.write(0, 5)
    async with running(worker):
        await world.until_copied()
        passing_by = await world.log.transactor(f"{GROUP}-0")
        await passing_by.close()
        await world.write(0, 5)
        await world.until_copied()


@pytest.mark.parametrize("moment", ["before", "written", "committed"])
async def test_a_commit_without_an_answer_is_neither_repeated_nor_left_out(
    world: World, moment: Moment
) -> None:
    for _ in range(3):
        world.log.break_commit(moment)
    await world.write(0, 35)
    async with running(world.worker()):
        await world.until_copied()
        world.log.break_commit(moment)
        await world.write(0, 15)
        await world.until_copied()


async def test_after_a_failed_transaction_writer_and_state_are_made_anew(world: World) -> None:
    await world.write(0, 5)
    async with running(world.worker()):
        await world.until_copied()
        former = [work for work in world.made if work.partition == ZERO]
        epoch = world.log._epochs[f"{GROUP}-0"]
        world.log.break_commit("written")
        await world.write(0, 5)
        await world.until_copied()
        latter = [work for work in world.made if work.partition == ZERO]
        assert (len(former), len(latter)) == (1, 2)
        assert (latter[0].is_closed, latter[1].is_closed) == (True, False)
        assert world.log._epochs[f"{GROUP}-0"] == epoch + 1


async def test_it_waits_for_a_broker_that_is_away(world: World) -> None:
    health = Health()
    await world.write(0, 5)
    async with running(world.worker(health)) as task:
        await world.until_copied()
        await until(lambda: not health.problems())
        world.log.away = True
        await world.write(0, 25)
        world.log.redeliver(world.member(), ZERO, 5, 15)  # fetched before it went away
        await until(lambda: "worker" in health.problems())
        await asyncio.sleep(0.1)  # far more tries than faults are allowed
        assert not task.done()
        world.log.away = False
        await world.until_copied()
        await until(lambda: not health.problems())


async def test_it_waits_for_a_broker_that_is_away_at_the_start(world: World) -> None:
    world.log.away = True
    await world.write(0, 5)
    async with running(world.worker()) as task:
        await asyncio.sleep(0.05)
        assert not task.done()
        world.log.away = False
        await world.until_copied()


async def test_a_member_that_is_left_without_answers_for_long_makes_room_for_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "UNANSWERED_SECONDS", 0.05)
    deaf = deafen_the_first(monkeypatch, "committed")
    await world.write(0, 5)
    await world.write(1, 5)
    async with running(world.worker()):
        await world.until_copied()
    assert deaf[0].left


async def test_a_membership_that_is_lost_stops_it(world: World) -> None:
    async with running(world.worker()) as task:
        await until(lambda: world.members() == 1)
        world.member()._failed = RuntimeError()
        world.log.notify()
        with pytest.raises(LogError, match="restart the process"):
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(task)


# A Work that fails


async def test_a_work_that_fails_is_made_anew_and_what_it_had_done_is_undone(world: World) -> None:
    async def fail(_: Numbering) -> None:
        raise Mistake

    world.while_working = once(fail, world)
    await world.write(0, 5)
    async with running(world.worker()):
        await world.until_copied()
    assert world.batches == [[0, 1, 2, 3, 4]] * 2


@pytest.mark.parametrize("where", ["while_loading", "while_working"])
async def test_a_work_that_goes_on_failing_stops_the_worker_and_nothing_is_skipped(
    world: World, where: str
) -> None:
    calls: list[int] = []

    async def fail(work: Numbering) -> None:
        if work.partition == ZERO:
            calls.append(1)
            raise Mistake

    setattr(world, where, fail)
    await world.write(0, 5)
    async with running(world.worker()) as task:
        with pytest.raises(Mistake):
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(task)
    assert len(calls) == LIMITS.faults
    assert (world.output(0), world.committed_offset(ZERO)) == ([], 0)


async def test_faults_count_in_a_row_only(world: World) -> None:
    turns: list[int] = []

    async def fail_every_other_time(_: Numbering) -> None:
        turns.append(1)
        if len(turns) % 2:
            raise Mistake

    world.while_working = fail_every_other_time
    async with running(world.worker()) as task:
        for _ in range(2 * LIMITS.faults):
            await world.write(0, 1)
            await world.until_copied()
        assert not task.done()


async def test_a_work_that_can_not_reach_the_log_waits_for_it(world: World) -> None:
    tries: list[int] = []

    async def unavailable(work: Numbering) -> None:
        if work.partition == ZERO:
            tries.append(1)
            if len(tries) <= 2 * LIMITS.faults:
                raise LogUnavailable("no answer")

    world.while_loading = unavailable
    await world.write(0, 5)
    async with running(world.worker()):
        await world.until_copied()


async def test_what_fails_after_the_commit_stops_the_worker_at_once(world: World) -> None:
    def fail() -> None:
        raise Mistake

    world.after_commit = fail
    await world.write(0, 5)
    async with running(world.worker()) as task:
        with pytest.raises(Mistake):
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(task)
    assert (len(world.output(0)), world.committed_offset(ZERO), len(world.batches)) == (5, 5, 1)


async def test_a_batch_that_hangs_is_given_up(world: World) -> None:
    async def hang(_: Numbering) -> None:
        await asyncio.Event().wait()

    world.while_working = once(hang, world)
    await world.write(0, 5)
    async with running(world.worker(limits=replace(LIMITS, work_seconds=0.05))):
        await world.until_copied()


async def test_a_transaction_that_hangs_is_given_up(world: World) -> None:
    async def hang(_: str) -> None:
        world.log.interrupt = None
        await asyncio.Event().wait()

    world.log.interrupt = hang
    await world.write(0, 5)
    async with running(world.worker(limits=replace(LIMITS, commit_seconds=0.05))):
        await world.until_copied()


async def test_a_load_that_is_silent_too_long_is_given_up(world: World) -> None:
    async def hang(_: Numbering) -> None:
        await asyncio.Event().wait()

    world.while_loading = once(hang, world)
    await world.write(0, 5)
    await world.write(1, 5)
    async with running(world.worker(limits=replace(LIMITS, silence_seconds=0.05))):
        await world.until_copied()


async def test_a_load_may_take_long_as_long_as_it_gets_on(world: World) -> None:
    log, loads = world.log, []

    class Slow(Numbering):
        async def load(self, progress: Callable[[float], None]) -> int:
            loads.append(self.partition)
            for step in range(10):
                await asyncio.sleep(0.02)
                progress(step / 10)
            return await super().load(progress)

    await world.write(0, 5)
    worker = Worker(
        log,
        lambda partition: Slow(world, partition),
        Health(),
        topic=IN,
        group=GROUP,
        transactional_id=lambda number: f"{GROUP}-{number}",
        limits=replace(LIMITS, silence_seconds=0.1),
    )
    async with running(worker):
        await world.until_copied()
    assert sorted(loads) == [ZERO, ONE]


# What it says of itself


async def test_it_is_ready_once_it_has_reached_the_end_it_saw(world: World) -> None:
    held, go, health = asyncio.Event(), asyncio.Event(), Health()

    async def wait(_: Numbering) -> None:
        held.set()
        await go.wait()

    world.while_working = wait
    await world.write(0, 25)
    async with running(world.worker(health)):
        await until(held.is_set)
        await until(lambda: health.problems().get("worker", "").startswith("1 of 2"))
        go.set()
        await until(lambda: health.problems() == {})
        assert world.output(0) == world.expected(0)
    assert health.problems() == {"worker": "has stopped"}


async def test_it_is_not_ready_while_a_partition_loads(world: World) -> None:
    go, health = asyncio.Event(), Health()

    async def wait(_: Numbering) -> None:
        await go.wait()

    async with running(world.worker(health)):
        await until(lambda: health.problems() == {})
        world.while_loading = wait
        await world.log.rebalance(GROUP)
        await until(lambda: health.problems().get("worker", "").startswith("2 of 2"))
        go.set()
        await until(lambda: health.problems() == {})


async def test_it_is_not_ready_while_the_group_has_not_said_what_is_its_own(world: World) -> None:
    """It may have been taken out of the group and not have come in again; who is given none of it by the group is ready."""
    healths = [Health() for _ in range(3)]
    async with AsyncExitStack() as workers:
        for health in healths:
            await workers.enter_async_context(running(world.worker(health)))
        await until(lambda: world.members() == 3 and all(health.problems() == {} for health in healths))
        async with world.log._group(GROUP).rebalancing:  # the last of them may be about to be given its share
            pass
        for number in range(3):
            await world.member(number).lose()
        for health in healths:
            assert health.problems() == {"worker": "waits for its share of refbus.main.inbox"}
        await world.log.rebalance(GROUP)
        await until(lambda: all(health.problems() == {} for health in healths))


async def test_a_loop_that_hangs_breaks_its_promise_to_beat(world: World) -> None:
    """Nothing else tells of it: the group's heartbeats go on beside it."""
    now = [0.0]
    health = Health(lambda: now[0])
    async with running(world.worker(health)):
        await until(lambda: health.problems() == {})
        await hung(world.member())
        assert health.stuck() == []
        now[0] += 121.0
        assert health.stuck() == ["worker"]


async def test_marks_of_transactions_at_the_end_do_not_keep_it_from_being_ready(world: World) -> None:
    health = Health()
    await world.write(0, 3)
    await world.log.abort([Outgoing(IN, 0, None, b"1000")])
    async with running(world.worker(health)):
        await until(lambda: health.problems() == {})
        assert world.output(0) == world.expected(0)


async def test_owned_shows_what_is_loaded_now_and_nothing_else(world: World) -> None:
    go = asyncio.Event()

    async def wait(work: Numbering) -> None:
        if work.partition == ONE:
            await go.wait()

    world.while_loading = wait
    worker = world.worker()
    owned = worker.owned
    assert dict(owned) == {}
    async with running(worker):
        await until(lambda: len(owned) == 1)
        assert list(owned) == [ZERO] and ONE not in owned
        go.set()
        await until(lambda: len(owned) == 2)
        assert {partition: work.partition for partition, work in owned.items()} == {ZERO: ZERO, ONE: ONE}
    assert dict(owned) == {}


# All of it at once


class Disorder:
    """Faults in an order drawn from a seed, while numbers are written."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.workers: list[asyncio.Task[None]] = []
        self.gone: list[asyncio.Task[None]] = []
        self.rebalances: set[asyncio.Task[None]] = set()
        world.while_loading, world.while_working = self.loading, self.working
        world.log.interrupt = self.committing

    async def loading(self, work: Numbering) -> None:
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * 0.01)
        for member in self.world.log._groups[GROUP].members:
            # Only who has not begun may be given what lies beyond its position: it was fetched before the assignment.
            begins = work.partition in member._mine and work.partition not in member._positions
            if begins and self.random.random() < 0.3:
                end = self.world.log.end(work.partition)
                self.world.log.redeliver(member, work.partition, self.random.randint(0, end), end)

    async def working(self, _: Numbering) -> None:
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * 0.005)
        if self.random.random() < 0.03:
            raise Mistake

    async def committing(self, _: str) -> None:
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * 0.01)

    def start(self) -> None:
        limits = replace(LIMITS, revoke_seconds=0.02, faults=1000)
        self.workers.append(asyncio.create_task(self.world.worker(limits=limits).run()))

    async def step(self) -> None:
        draw, log = self.random, self.world.log
        members = log._groups[GROUP].members
        match draw.randrange(9):
            case 0 if len(self.workers) < 4:
                self.start()
            case 1 if len(self.workers) > 1:
                gone = self.workers.pop(draw.randrange(len(self.workers)))
                gone.cancel()
                self.gone.append(gone)
            case 2:
                self.rebalance()
            case 3 if len(members) > 1:
                self.rebalance(draw.choice(members))
            case 4:
                log.break_commit(draw.choice(("before", "written", "committed")))
            case 5 if not log._broken:  # else it would be this transaction that is broken otherwise
                await log.abort([Outgoing(IN, draw.randrange(2), None, b"1000")])
            case 6:
                log.away = True
                await asyncio.sleep(0.005)
                log.away = False
            case 7:
                self.repeat()
            case _:
                pass
        await self.world.write(draw.randrange(2), draw.randrange(25))
        await asyncio.sleep(draw.random() * 0.01)

    def repeat(self) -> None:
        """Deliver again what was delivered."""
        for member in self.world.log._groups[GROUP].members:
            for partition in sorted(member._resumed):
                position = member._positions[partition]
                self.world.log.redeliver(member, partition, self.random.randint(0, position), position)

    def rebalance(self, zombie: MemoryMember | None = None) -> None:
        log = self.world.log
        work = log.rebalance(GROUP) if zombie is None else log.expel(zombie)
        task = asyncio.create_task(work)
        self.rebalances.add(task)
        task.add_done_callback(self.rebalances.discard)

    async def end(self) -> None:
        for task in self.workers:
            task.cancel()
        await asyncio.wait([*self.workers, *self.gone, *self.rebalances])


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_in_whatever_order_each_record_comes_out_once(seed: int) -> None:
    async def run() -> None:
        world = await new_world()
        disorder = Disorder(world, seed)
        disorder.start()
        await until(lambda: world.members() == 1)
        try:
            for _ in range(30):
                await disorder.step()
            # One that belongs to the group: those it took for dead are not told of it here, as they would be by Kafka.
            disorder.start()
            await world.until_copied(seconds=60.0)
        finally:
            await disorder.end()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(run())
