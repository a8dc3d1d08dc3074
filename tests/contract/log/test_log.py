"""What both logs promise: the port, rule by rule, on the real broker and in memory, there also over the simulator's way to it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from referral_bus.log.kafka import GROUP, KafkaLog
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import (
    LARGEST_RECORD,
    LARGEST_VALUE,
    Fenced,
    GroupMember,
    Log,
    LogError,
    LogUnavailable,
    Outgoing,
    Partition,
    Reader,
    Rebalanced,
    Record,
    TopicSpec,
    Transactor,
)
from referral_bus.log.reading import everything
from tests.simulation.network import Wire
from tests.support.fair_weather import wire_to

SECONDS = 20.0
DAY_MS = 86_400_000


class Cluster:
    """The log under test, with a topic of two partitions, and names nobody else uses."""

    def __init__(self, log: Log, bootstrap: str | None, stack: AsyncExitStack) -> None:
        name = secrets.token_hex(4)
        self.log = log
        self.topic = f"contract.{name}"
        self.group = f"contract-{name}"
        self.writer_id = f"contract-writer-{name}"
        self.zero, self.one = Partition(self.topic, 0), Partition(self.topic, 1)
        self._memory = log.log if isinstance(log, Wire) else log if isinstance(log, MemoryLog) else None
        self._bootstrap = bootstrap
        self._stack = stack

    def another(self) -> Log:
        """Another connection to the cluster."""
        if self._bootstrap is None:
            return self.log
        log = KafkaLog(self._bootstrap)
        self._stack.push_async_callback(log.close)
        return log

    def record(self, value: str, partition: int = 0) -> Outgoing:
        return Outgoing(self.topic, partition, b"key", value.encode())

    def records(self, *values: str, partition: int = 0) -> list[Outgoing]:
        return [self.record(value, partition) for value in values]

    async def append(self, *values: str, partition: int = 0) -> None:
        appender = await self.log.appender()
        await appender.append(self.records(*values, partition=partition))
        await appender.close()

    async def commit(
        self, writer: Transactor, *values: str, offsets: Mapping[Partition, int] | None = None
    ) -> None:
        await writer.commit(self.records(*values), self.group, {self.zero: 0} if offsets is None else offsets)

    async def leave_open(self, writer_id: str, *values: str) -> None:
        """A writer that dies in the middle: its records are written, its transaction neither committed nor aborted."""
        if self._memory is not None:
            writer = await self.log.transactor(writer_id)
            self._memory.break_commit("written")
            with pytest.raises(LogUnavailable):
                await self.commit(writer, *values)
            return
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, transactional_id=writer_id)
        await producer.start()
        self._stack.push_async_callback(producer.stop)
        await producer.begin_transaction()
        for record in self.records(*values):
            await producer.send_and_wait(record.topic, record.value, record.key, partition=record.partition)

    async def expire(self, before: int) -> None:
        """Partition 0 keeps nothing before this offset any more."""
        if self._memory is not None:
            self._memory.expire(self.zero, before)
            return
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(*self.zero): RecordsToDelete(before)})
        finally:
            await admin.close()

    async def holds(self, partition: Partition, expected: list[str]) -> None:
        """Wait until a committed reader sees just this: a broker shows a transaction some moments after it was committed."""
        reader = await self.log.reader(partition)
        seen: list[str] = []

        async def so() -> bool:
            seen[:] = await all_of(reader)
            return len(seen) >= len(expected)

        await until(so)
        assert seen == expected

    async def committed_offset(self, member: GroupMember, expected: int) -> None:
        """Wait until the group's next offset of partition 0 is this one."""

        async def so() -> bool:
            return (await member.committed([self.zero]))[self.zero] == expected

        await until(so)

    async def settle(self, writer_id: str) -> None:
        """Whoever takes a writer's id settles what was left open."""
        await (await self.log.transactor(writer_id)).close()

    async def join(
        self, assigned: Rebalanced | None = None, revoked: Rebalanced | None = None, group: str | None = None
    ) -> GroupMember:
        return await self.log.join(
            group or self.group, [self.topic], assigned=assigned or ignore, revoked=revoked or ignore
        )


async def ignore(member: GroupMember, partitions: frozenset[Partition]) -> None:
    return None


@pytest.fixture(params=["memory", "simulated", "kafka"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        bootstrap = request.getfixturevalue("kafka") if request.param == "kafka" else None
        log: Log = MemoryLog() if bootstrap is None else KafkaLog(bootstrap)
        if request.param == "simulated":
            log = wire_to(MemoryLog())
        stack.push_async_callback(log.close)
        made = Cluster(log, bootstrap, stack)
        await log.ensure([TopicSpec(made.topic, 2)])
        yield made


def values(records: Sequence[Record]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


async def all_of(reader: Reader, start: int = 0) -> list[str]:
    """Everything up to the end that is seen now."""
    end, found = await reader.end(), []
    async with asyncio.timeout(SECONDS):
        while start < end:
            found += await reader.read(start, wait=1.0)
            start = reader.position()
    return values(found)


async def polled(member: GroupMember, count: int, limit: int = 500) -> list[Record]:
    """The next ``count`` records or more."""
    found: list[Record] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            for records in (await member.poll(limit, 0.2)).values():
                found += records
    return found


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await holds():
            await asyncio.sleep(0.02)


class Heard:
    """What a member was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, frozenset[int]]] = []
        self.mine: frozenset[Partition] = frozenset()

    async def assigned(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self.mine = partitions
        self.told.append(("assigned", frozenset(p.number for p in partitions)))

    async def revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self.mine = frozenset()
        self.told.append(("revoked", frozenset(p.number for p in partitions)))


# Appending and reading


async def test_appended_records_are_acknowledged_with_their_positions_in_order(cluster: Cluster) -> None:
    appender = await cluster.log.appender()
    first = await appender.append(cluster.records("a", "b"))
    second = await appender.append([cluster.record("c", 1), cluster.record("d", 0), cluster.record("e", 1)])
    assert [(p.topic, p.partition, p.offset) for p in first + second] == [
        (cluster.topic, partition, offset) for partition, offset in [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1)]
    ]
    assert all(position.timestamp > 0 for position in first + second)


async def test_nothing_to_append_is_acknowledged_at_once(cluster: Cluster) -> None:
    assert await (await cluster.log.appender()).append([]) == []


async def test_a_record_is_read_as_it_was_written(cluster: Cluster) -> None:
    headers = (("ce_id", b"1"), ("ce_id", b"2"), ("empty", b""))
    appender = await cluster.log.appender()
    written = [
        Outgoing(cluster.topic, 0, b"\x00key", b"\xffvalue", headers),
        Outgoing(cluster.topic, 0, None, b"no key"),
        Outgoing(cluster.topic, 0, b"no value", None),
    ]
    positions = await appender.append(written)
    reader = await cluster.log.reader(cluster.zero)
    assert await reader.read(0, wait=5.0) == [
        Record(cluster.topic, 0, position.offset, position.timestamp, out.key, out.value, out.headers)
        for out, position in zip(written, positions, strict=True)
    ]


async def test_a_record_with_neither_key_nor_value_is_refused(cluster: Cluster) -> None:
    appender = await cluster.log.appender()
    with pytest.raises(LogError, match="neither key nor value"):
        await appender.append([Outgoing(cluster.topic, 0, None, None)])
    assert await (await cluster.log.reader(cluster.zero)).end() == 0


async def test_a_record_that_is_larger_than_the_log_takes_is_refused_and_waiting_would_not_mend_it(
    cluster: Cluster,
) -> None:
    large = Outgoing(cluster.topic, 0, b"key", os.urandom(LARGEST_RECORD))
    appender, writer = await cluster.log.appender(), await cluster.log.transactor(cluster.writer_id)
    for attempt in (
        lambda: appender.append([large]),
        lambda: writer.commit([large], cluster.group, {cluster.zero: 1}),
    ):
        with pytest.raises(LogError) as caught:
            await attempt()
        assert not isinstance(caught.value, LogUnavailable)
    largest = Outgoing(cluster.topic, 0, b"key", os.urandom(LARGEST_VALUE), (("header", bytes(1_024)),))
    again = await cluster.log.transactor(cluster.writer_id)
    await appender.append([largest])
    await again.commit([largest], cluster.group, {cluster.zero: 1})
    reader = await cluster.log.reader(cluster.zero)
    assert [record.value for record in await reader.read(0, wait=5.0)][:1] == [largest.value]


async def test_a_partition_that_is_not_there_is_named_in_the_error(cluster: Cluster) -> None:
    appender = await cluster.log.appender()
    with pytest.raises(LogError, match=f"{cluster.topic} has no partition 7"):
        await appender.append([cluster.record("a", 7)])
    with pytest.raises(LogError, match=cluster.topic):
        await cluster.log.reader(Partition(cluster.topic, 7))


async def test_the_topics_that_are_there_are_told_with_their_partitions(cluster: Cluster) -> None:
    there = await cluster.log.topics()
    assert there[cluster.topic] == 2
    assert f"{cluster.topic}.missing" not in there


async def test_a_topic_that_is_not_there_is_named_in_the_error(cluster: Cluster) -> None:
    missing = f"{cluster.topic}.missing"
    for ask in (
        lambda: cluster.log.partitions(missing),
        lambda: cluster.log.reader(Partition(missing, 0)),
        lambda: cluster.log.join(cluster.group, [missing], assigned=ignore, revoked=ignore),
    ):
        with pytest.raises(LogError, match=missing):
            await ask()


async def test_nobody_joins_a_group_to_read_nothing(cluster: Cluster) -> None:
    with pytest.raises(LogError, match="no topic"):
        await cluster.log.join(cluster.group, [], assigned=ignore, revoked=ignore)


async def test_appending_to_a_topic_that_is_not_there_is_an_error(cluster: Cluster) -> None:
    appender = await cluster.log.appender()
    with pytest.raises(LogError, match="create the topics") as caught:
        await appender.append([Outgoing(f"{cluster.topic}.missing", 0, b"key", b"value")])
    assert not isinstance(caught.value, LogUnavailable)


async def test_a_read_brings_no_more_than_it_was_asked_for_and_the_next_goes_on(cluster: Cluster) -> None:
    await cluster.append(*"abcde")
    reader = await cluster.log.reader(cluster.zero)
    assert values(await reader.read(0, limit=2, wait=5.0)) == ["a", "b"]
    assert reader.position() == 2
    assert values(await reader.read(2, limit=2, wait=5.0)) == ["c", "d"]
    assert values(await reader.read(4, limit=2, wait=5.0)) == ["e"]
    assert reader.position() == await reader.end() == 5


async def test_a_read_may_begin_anywhere(cluster: Cluster) -> None:
    await cluster.append(*"abcde")
    reader = await cluster.log.reader(cluster.zero)
    assert values(await reader.read(3, wait=5.0)) == ["d", "e"]
    assert values(await reader.read(1, wait=5.0)) == ["b", "c", "d", "e"]


async def test_a_read_at_the_end_is_empty_and_the_position_stays(cluster: Cluster) -> None:
    await cluster.append("a")
    reader = await cluster.log.reader(cluster.zero)
    assert await reader.read(1, wait=0.05) == []
    assert reader.position() == 1


async def test_everything_on_a_topic_is_what_is_committed_on_all_its_partitions(cluster: Cluster) -> None:
    await cluster.append("a", "b")
    await cluster.append("c", partition=1)
    await cluster.commit(await cluster.log.transactor(cluster.writer_id), "d")
    await cluster.holds(cluster.zero, ["a", "b", "d"])
    found = await everything(cluster.log, cluster.topic)
    assert [(record.partition, record.value) for record in found] == [
        (0, b"a"),
        (0, b"b"),
        (0, b"d"),
        (1, b"c"),
    ]


async def test_everything_on_several_topics_comes_topic_after_topic_and_one_that_is_not_there_is_said(
    cluster: Cluster,
) -> None:
    other = f"{cluster.topic}.other"
    await cluster.log.ensure([TopicSpec(other, 1)])
    await (await cluster.log.appender()).append([Outgoing(other, 0, None, b"z")])
    await cluster.append("b", partition=1)
    found = await everything(cluster.log, other, cluster.topic)
    assert [(record.topic, record.value) for record in found] == [(other, b"z"), (cluster.topic, b"b")]
    with pytest.raises(LogError, match=f"there is no topic {cluster.topic}.none"):
        await everything(cluster.log, cluster.topic, f"{cluster.topic}.none")


async def test_what_is_no_longer_kept_is_left_out_of_everything_and_can_not_be_read(cluster: Cluster) -> None:
    await cluster.append("a", "b", "c")
    reader = await cluster.log.reader(cluster.zero)
    assert await reader.start() == 0
    await cluster.expire(before=2)
    assert await reader.start() == 2
    assert [record.value for record in await everything(cluster.log, cluster.topic)] == [b"c"]
    with pytest.raises(LogError, match="offset 1 is not there"):
        await reader.read(1, wait=SECONDS)


async def test_a_read_waits_for_what_comes(cluster: Cluster) -> None:
    reader = await cluster.log.reader(cluster.zero)
    waiting = asyncio.create_task(reader.read(0, wait=SECONDS))
    assert not (await asyncio.wait([waiting], timeout=0.1))[0]
    await cluster.append("a")
    assert values(await waiting) == ["a"]


async def test_a_read_from_beyond_the_end_is_an_error(cluster: Cluster) -> None:
    await cluster.append("a")
    reader = await cluster.log.reader(cluster.zero)
    with pytest.raises(LogError, match="offset 9"):
        await reader.read(9, wait=5.0)


# Transactions


async def test_a_transaction_writes_its_records_and_the_offsets(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    await writer.commit(
        [*cluster.records("a", "b"), cluster.record("c", 1)], cluster.group, {cluster.zero: 5, cluster.one: 7}
    )
    await cluster.holds(cluster.zero, ["a", "b"])
    await cluster.holds(cluster.one, ["c"])
    member = await cluster.join()
    await cluster.committed_offset(member, 5)
    assert await member.committed([cluster.zero, cluster.one]) == {cluster.zero: 5, cluster.one: 7}


async def test_a_transaction_may_carry_offsets_alone(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(writer, offsets={cluster.zero: 3})
    await cluster.commit(writer, offsets={cluster.zero: 4})
    member = await cluster.join()
    await cluster.committed_offset(member, 4)


async def test_a_transaction_of_thousands_of_records_keeps_their_order(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    numbers = [f"{n}-{'x' * 300}" for n in range(5000)]
    await cluster.commit(writer, *numbers)
    await cluster.holds(cluster.zero, numbers)


async def test_transactions_follow_each_other(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    for number in range(5):
        await cluster.commit(writer, str(number), offsets={cluster.zero: number + 1})
    await cluster.holds(cluster.zero, ["0", "1", "2", "3", "4"])


async def test_the_end_of_a_transaction_leaves_a_gap_that_the_position_passes_over(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(writer, "a")
    await cluster.commit(writer, "b")
    await cluster.holds(cluster.zero, ["a", "b"])
    reader = await cluster.log.reader(cluster.zero)
    assert [record.offset for record in await reader.read(0, wait=5.0)] == [0, 2]

    async def passed() -> bool:
        await reader.read(reader.position(), wait=0.1)
        return reader.position() == 4

    await until(passed)
    await until(lambda: _end_is(reader, 4))


async def test_an_open_transaction_hides_all_that_comes_after_its_start(cluster: Cluster) -> None:
    await cluster.append("before")
    await cluster.leave_open(cluster.writer_id, "open")
    await cluster.append("after")
    reader = await cluster.log.reader(cluster.zero)
    assert await reader.end() == 1
    assert await all_of(reader) == ["before"]
    assert await reader.read(1, wait=0.2) == []
    assert reader.position() == 1


async def test_what_was_aborted_is_never_seen(cluster: Cluster) -> None:
    await cluster.append("before")
    await cluster.leave_open(cluster.writer_id, "aborted", "aborted too")
    await cluster.append("after")
    await cluster.settle(cluster.writer_id)
    reader = await cluster.log.reader(cluster.zero)
    assert await all_of(reader) == ["before", "after"]
    assert await reader.end() == 5  # with two aborted records and the marker that ended them


async def test_who_takes_a_writers_id_settles_what_the_former_left_open(cluster: Cluster) -> None:
    await cluster.leave_open(cluster.writer_id, "left open")
    writer = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(writer, "new")
    await cluster.holds(cluster.zero, ["new"])


async def test_who_takes_a_writers_id_sees_at_once_all_that_the_former_committed(cluster: Cluster) -> None:
    member = await cluster.join()
    reader = await cluster.log.reader(cluster.zero)
    writer = await cluster.log.transactor(cluster.writer_id)
    expected = []
    for number in range(5):
        expected.append(str(number))
        await cluster.commit(writer, str(number), offsets={cluster.zero: number + 1})
        writer = await cluster.log.transactor(cluster.writer_id)
        assert await member.committed([cluster.zero]) == {cluster.zero: number + 1}
        assert await all_of(reader) == expected


async def test_a_former_owner_writes_nothing_and_moves_no_offset(cluster: Cluster) -> None:
    former = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(former, "former", offsets={cluster.zero: 1})
    latter = await cluster.log.transactor(cluster.writer_id)
    with pytest.raises(Fenced):
        await cluster.commit(former, "zombie", offsets={cluster.zero: 9})
    with pytest.raises(Fenced):
        await cluster.commit(former, "zombie again", offsets={cluster.zero: 9})
    member = await cluster.join()
    assert await member.committed([cluster.zero]) == {cluster.zero: 1}
    await cluster.commit(latter, "latter", offsets={cluster.zero: 2})
    await cluster.holds(cluster.zero, ["former", "latter"])
    await cluster.committed_offset(member, 2)


async def test_a_former_owner_that_has_written_nothing_yet_is_fenced_too(cluster: Cluster) -> None:
    former = await cluster.log.transactor(cluster.writer_id)
    await cluster.log.transactor(cluster.writer_id)
    with pytest.raises(Fenced):
        await cluster.commit(former, "zombie")
    await cluster.holds(cluster.zero, [])


async def test_writers_of_different_ids_do_not_fence_each_other(cluster: Cluster) -> None:
    one = await cluster.log.transactor(f"{cluster.writer_id}-1")
    other = await cluster.log.transactor(f"{cluster.writer_id}-2")
    await cluster.commit(one, "one")
    await cluster.commit(other, "other")
    await cluster.commit(one, "one again")
    await cluster.holds(cluster.zero, ["one", "other", "one again"])


async def test_after_an_error_a_writer_refuses_to_go_on(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    with pytest.raises(LogError, match="neither key nor value"):
        await writer.commit(
            [cluster.record("a"), Outgoing(cluster.topic, 0, None, None)], cluster.group, {cluster.zero: 1}
        )
    with pytest.raises(LogError, match="make a new one"):
        await cluster.commit(writer, "b")
    again = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(again, "c")
    await cluster.holds(cluster.zero, ["c"])


async def test_a_transaction_that_can_not_be_written_whole_is_not_written_at_all(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    with pytest.raises(LogError):
        await writer.commit([cluster.record("a"), cluster.record("b", 7)], cluster.group, {cluster.zero: 9})
    await cluster.settle(cluster.writer_id)
    await cluster.holds(cluster.zero, [])
    member = await cluster.join()
    assert await member.committed([cluster.zero]) == {cluster.zero: 0}


# Groups


async def test_a_member_alone_has_all_partitions(cluster: Cluster) -> None:
    heard = Heard()
    await cluster.join(heard.assigned, heard.revoked)
    await until(lambda: _is(heard.mine == {cluster.zero, cluster.one}))


async def test_nothing_is_delivered_before_it_is_sought_and_resumed(cluster: Cluster) -> None:
    await cluster.append("a")
    member = await cluster.join()
    assert await member.poll(500, 0.3) == {}
    member.seek({cluster.zero: 0})
    assert await member.poll(500, 0.3) == {}
    member.resume([cluster.zero])
    assert values(await polled(member, 1)) == ["a"]


async def test_a_partition_without_a_position_can_not_be_resumed(cluster: Cluster) -> None:
    member = await cluster.join()
    with pytest.raises(LogError, match="seek before resuming"):
        member.resume([cluster.zero])


async def test_the_position_is_where_it_was_sought_whatever_was_committed(cluster: Cluster) -> None:
    await cluster.append(*"abcd")
    writer = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(writer, offsets={cluster.zero: 4})
    member = await cluster.join()
    member.seek({cluster.zero: 2})
    member.resume([cluster.zero])
    assert values(await polled(member, 2)) == ["c", "d"]
    member.seek({cluster.zero: 1})
    assert values(await polled(member, 3)) == ["b", "c", "d"]


async def test_a_poll_brings_no_more_than_it_was_asked_for_and_the_next_goes_on(cluster: Cluster) -> None:
    await cluster.append(*"abcde")
    await cluster.append(*"fghij", partition=1)
    member = await cluster.join()
    member.seek({cluster.zero: 0, cluster.one: 0})
    member.resume([cluster.zero, cluster.one])
    found: list[Record] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < 10:
            got = await member.poll(3, 0.2)
            assert sum(len(records) for records in got.values()) <= 3
            for partition, records in got.items():
                assert all((r.topic, r.partition) == partition for r in records)
                found += records
    assert values([r for r in found if r.partition == 0]) == list("abcde")
    assert values([r for r in found if r.partition == 1]) == list("fghij")


async def test_a_pause_holds_delivery_and_loses_nothing_of_what_was_fetched(cluster: Cluster) -> None:
    await cluster.append(*"abcdef")
    member = await cluster.join()
    member.seek({cluster.zero: 0})
    member.resume([cluster.zero])
    assert values(await polled(member, 2, limit=2)) == ["a", "b"]
    member.pause([cluster.zero])
    assert await member.poll(500, 0.3) == {}
    member.resume([cluster.zero])
    assert values(await polled(member, 4)) == ["c", "d", "e", "f"]


async def test_a_paused_partition_does_not_hold_up_another(cluster: Cluster) -> None:
    await cluster.append("a", "b")
    member = await cluster.join()
    member.seek({cluster.zero: 0, cluster.one: 0})
    member.resume([cluster.zero, cluster.one])
    assert values(await polled(member, 1, limit=1)) == ["a"]
    member.pause([cluster.zero])
    await cluster.append("c", "d", partition=1)
    assert values(await polled(member, 2)) == ["c", "d"]
    member.resume([cluster.zero])
    assert values(await polled(member, 1)) == ["b"]


async def test_a_seek_while_paused_decides_where_it_goes_on(cluster: Cluster) -> None:
    await cluster.append(*"abcdef")
    member = await cluster.join()
    member.seek({cluster.zero: 0})
    member.resume([cluster.zero])
    await polled(member, 2, limit=2)
    member.pause([cluster.zero])
    member.seek({cluster.zero: 4})
    member.resume([cluster.zero])
    assert values(await polled(member, 2)) == ["e", "f"]


async def test_what_is_not_assigned_is_passed_over(cluster: Cluster) -> None:
    member = await cluster.join()
    other = Partition(f"{cluster.topic}.other", 0)
    member.seek({other: 3})
    member.pause([other])
    member.resume([other])
    await cluster.append("a")
    member.seek({cluster.zero: 0})
    member.resume([cluster.zero])
    assert values(await polled(member, 1)) == ["a"]


async def test_a_member_is_given_committed_records_only(cluster: Cluster) -> None:
    await cluster.append("before")
    await cluster.leave_open(cluster.writer_id, "open")
    await cluster.append("after")
    member = await cluster.join()
    member.seek({cluster.zero: 0})
    member.resume([cluster.zero])
    assert values(await polled(member, 1)) == ["before"]
    assert await member.poll(500, 0.3) == {}
    await cluster.settle(cluster.writer_id)
    after = await polled(member, 1)
    assert [(record.offset, record.value) for record in after] == [(2, b"after")]


async def test_a_poll_waits_for_what_comes(cluster: Cluster) -> None:
    member = await cluster.join()
    member.seek({cluster.zero: 0, cluster.one: 0})
    member.resume([cluster.zero, cluster.one])
    waiting = asyncio.create_task(member.poll(500, 10.0))
    assert not (await asyncio.wait([waiting], timeout=0.1))[0]
    await cluster.append("a", partition=1)
    found = await waiting or await member.poll(500, 10.0)
    assert {partition: values(records) for partition, records in found.items()} == {cluster.one: ["a"]}


async def test_a_seek_beyond_the_end_is_an_error(cluster: Cluster) -> None:
    await cluster.append("a")
    member = await cluster.join()
    member.seek({cluster.zero: 9})
    member.resume([cluster.zero])
    with pytest.raises(LogError, match="retention"):
        await polled(member, 1)


async def test_a_member_knows_what_is_kept_of_its_partitions(cluster: Cluster) -> None:
    await cluster.append("a", "b", "c")
    member = await cluster.join()
    await cluster.expire(before=2)
    assert await member.kept([cluster.zero, cluster.one]) == {cluster.zero: (2, 3), cluster.one: (0, 0)}


async def test_committed_offsets_are_nought_until_something_is_committed(cluster: Cluster) -> None:
    member = await cluster.join()
    both = [cluster.zero, cluster.one]
    assert await member.committed(both) == {cluster.zero: 0, cluster.one: 0}
    await member.commit({cluster.zero: 3})
    assert await member.committed(both) == {cluster.zero: 3, cluster.one: 0}


async def test_a_transaction_moves_no_offset_until_it_is_committed(cluster: Cluster) -> None:
    member = await cluster.join()
    await member.commit({cluster.zero: 3})
    await cluster.leave_open(cluster.writer_id, "open")
    assert await member.committed([cluster.zero]) == {cluster.zero: 3}
    await cluster.settle(cluster.writer_id)
    assert await member.committed([cluster.zero]) == {cluster.zero: 3}


async def test_committed_offsets_outlast_the_member(cluster: Cluster) -> None:
    member = await cluster.join()
    await member.commit({cluster.zero: 3})
    await member.close()
    again = await cluster.join()
    assert await again.committed([cluster.zero]) == {cluster.zero: 3}


async def test_groups_have_their_own_offsets(cluster: Cluster) -> None:
    member = await cluster.join()
    await member.commit({cluster.zero: 3})
    other = await cluster.join(group=f"{cluster.group}-other")
    assert await other.committed([cluster.zero]) == {cluster.zero: 0}


async def test_all_is_revoked_before_anything_is_assigned_anew(cluster: Cluster) -> None:
    one, other = Heard(), Heard()
    first = await cluster.join(one.assigned, one.revoked)
    await until(lambda: _is(len(one.mine) == 2))
    joining = asyncio.create_task(cluster.join(other.assigned, other.revoked))
    await until(lambda: _polls(first, len(one.mine) == 1 and len(other.mine) == 1))
    second = await joining
    assert one.mine | other.mine == {cluster.zero, cluster.one}
    told = [entry for entry in one.told if entry[1]]
    assert told == [
        ("assigned", {0, 1}),
        ("revoked", {0, 1}),
        ("assigned", {p.number for p in one.mine}),
    ]
    await second.close()
    await until(lambda: _polls(first, len(one.mine) == 2))


async def test_who_leaves_is_not_told_of_it(cluster: Cluster) -> None:
    heard = Heard()
    member = await cluster.join(heard.assigned, heard.revoked)
    await until(lambda: _is(len(heard.mine) == 2))
    await member.close()
    assert [entry for entry in heard.told if entry[1]] == [("assigned", {0, 1})]


async def test_a_partition_comes_back_shut_and_without_a_position(cluster: Cluster) -> None:
    await cluster.append("a")
    await cluster.append("b", partition=1)
    one, other = Heard(), Heard()
    first = await cluster.join(one.assigned, one.revoked)
    await until(lambda: _is(len(one.mine) == 2))
    first.seek({cluster.zero: 0, cluster.one: 0})
    first.resume([cluster.zero, cluster.one])
    await polled(first, 2)
    joining = asyncio.create_task(cluster.join(other.assigned, other.revoked))
    await until(lambda: _polls(first, len(one.mine) == 1 and len(other.mine) == 1))
    await joining
    kept, lost = next(iter(one.mine)), next(iter(other.mine))
    await cluster.append("c", partition=kept.number)
    assert await first.poll(500, 0.3) == {}
    with pytest.raises(LogError, match="seek before resuming"):
        first.resume([kept])
    first.seek({lost: 0})
    first.resume([lost])  # passed over: it is the other's
    assert await first.poll(500, 0.3) == {}
    first.seek({kept: 1})
    first.resume([kept])
    assert values(await polled(first, 1)) == ["c"]


async def test_topics_of_one_partition_are_shared_out_too(cluster: Cluster) -> None:
    topics = [f"{cluster.topic}.{number}" for number in range(4)]
    await cluster.log.ensure([TopicSpec(topic, 1) for topic in topics])
    one, other = Heard(), Heard()
    await cluster.log.join(cluster.group, topics, assigned=one.assigned, revoked=one.revoked)
    await cluster.log.join(cluster.group, topics, assigned=other.assigned, revoked=other.revoked)
    await until(lambda: _is(len(one.mine) == len(other.mine) == 2))
    assert one.mine | other.mine == {Partition(topic, 0) for topic in topics}


async def test_a_rebalance_waits_until_the_revocation_was_dealt_with(cluster: Cluster) -> None:
    go, told, other = asyncio.Event(), asyncio.Event(), Heard()

    async def revoked(_: GroupMember, partitions: frozenset[Partition]) -> None:
        if partitions:
            told.set()
            await go.wait()

    one = Heard()
    first = await cluster.join(one.assigned, revoked)
    await until(lambda: _is(len(one.mine) == 2))
    joining = asyncio.create_task(cluster.join(other.assigned, other.revoked))
    async with asyncio.timeout(SECONDS):
        await told.wait()
    await asyncio.sleep(0.2)
    assert other.mine == frozenset()
    go.set()
    await until(lambda: _polls(first, len(other.mine) == 1))
    await joining


async def test_who_reads_nothing_stays_in_its_group_and_takes_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member rests while it loads, while its database is away, and for as long as there are fewer partitions than members."""
    monkeypatch.setitem(GROUP, "max_poll_interval_ms", 500)  # looked at with each heartbeat, once a second
    heard = [Heard() for _ in range(3)]
    members, resting = [], []
    for one in heard:
        members.append(await cluster.join(one.assigned, one.revoked))
        resting.append(asyncio.create_task(_rests(members[-1])))
    # Who is given none is told that too; until then it was told last that what it had is gone.
    await until(
        lambda: _is(
            sorted(len(one.mine) for one in heard) == [0, 1, 1]
            and {one.told[-1][0] for one in heard} == {"assigned"}
        )
    )
    before = [list(one.told) for one in heard]
    await asyncio.sleep(2.5)
    assert [one.told for one in heard] == before
    spare = next(one for one in heard if not one.mine)
    for one, member in zip(heard, members, strict=True):
        if one is not spare:
            await member.close()
    await until(lambda: _is(spare.mine == {cluster.zero, cluster.one}))
    for task in resting:
        task.cancel()
    await asyncio.wait(resting)


@pytest.mark.parametrize("when", ["assigned", "revoked"])
async def test_what_a_callback_raises_ends_the_membership(cluster: Cluster, when: str) -> None:
    async def fails(_: GroupMember, partitions: frozenset[Partition]) -> None:
        if partitions:
            raise RuntimeError("the callback's own")

    member = await cluster.join(fails if when == "assigned" else None, fails if when == "revoked" else None)
    if when == "revoked":
        joining = asyncio.create_task(cluster.join())
    with pytest.raises(LogError, match="rebalance failed"):
        async with asyncio.timeout(SECONDS):
            while True:
                await member.poll(500, 0.1)
    if when == "revoked":
        await joining


async def test_lag_is_what_lies_between_the_position_and_the_end(cluster: Cluster) -> None:
    await cluster.append(*"abcde")
    member = await cluster.join()
    assert await member.lag() == {}
    member.seek({cluster.zero: 1, cluster.one: 0})
    assert await member.lag() == {cluster.zero: 4, cluster.one: 0}
    member.resume([cluster.zero])
    await polled(member, 4)
    assert await member.lag() == {cluster.zero: 0, cluster.one: 0}


async def test_lag_is_nought_once_only_the_marks_of_transactions_are_left(cluster: Cluster) -> None:
    writer = await cluster.log.transactor(cluster.writer_id)
    await cluster.commit(writer, "a")
    member = await cluster.join()
    member.seek({cluster.zero: 0})
    member.resume([cluster.zero])
    await polled(member, 1)

    async def nought() -> bool:
        await member.poll(500, 0.05)
        return await member.lag() == {cluster.zero: 0}

    await until(nought)


async def _end_is(reader: Reader, offset: int) -> bool:
    return await reader.end() == offset


async def _is(holds: bool) -> bool:
    return holds


async def _rests(member: GroupMember) -> None:
    while True:
        await member.poll(500, 0.1)


async def _polls(member: GroupMember, holds: bool) -> bool:
    await member.poll(500, 0.01)
    return holds


# Topics, and the end


async def test_topics_are_made_as_they_are_wanted_and_asking_again_changes_nothing(cluster: Cluster) -> None:
    spec = TopicSpec(f"{cluster.topic}.more", 3, DAY_MS, append_time=True)
    await cluster.log.ensure([spec])
    assert await cluster.log.partitions(spec.name) == 3
    await cluster.log.ensure([spec, TopicSpec(cluster.topic, 2)])
    await cluster.log.ensure([])
    assert await cluster.log.partitions(cluster.topic) == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda name: TopicSpec(name, 4, DAY_MS, append_time=True),
        lambda name: TopicSpec(name, 3, 2 * DAY_MS, append_time=True),
        lambda name: TopicSpec(name, 3, DAY_MS, append_time=False),
        lambda name: TopicSpec(name, 3, DAY_MS, append_time=True, replication=3),
    ],
    ids=["partitions", "retention", "append time", "copies"],
)
async def test_a_topic_with_other_settings_is_refused(
    cluster: Cluster, other: Callable[[str], TopicSpec]
) -> None:
    name = f"{cluster.topic}.more"
    await cluster.log.ensure([TopicSpec(name, 3, DAY_MS, append_time=True)])
    with pytest.raises(LogError, match=name):
        await cluster.log.ensure([other(name)])


async def test_closing_the_log_closes_all_it_handed_out_and_leaves_the_group(cluster: Cluster) -> None:
    await cluster.log.appender()
    await cluster.log.transactor(cluster.writer_id)
    await cluster.log.reader(cluster.zero)
    await cluster.join()
    await cluster.log.close()
    await cluster.log.close()
    after, heard = cluster.another(), Heard()
    member = await after.join(cluster.group, [cluster.topic], assigned=heard.assigned, revoked=heard.revoked)
    assert heard.mine == {cluster.zero, cluster.one}  # nobody else is in the group
    await member.close()


async def test_a_client_may_be_closed_twice(cluster: Cluster) -> None:
    for client in (
        await cluster.log.appender(),
        await cluster.log.transactor(cluster.writer_id),
        await cluster.log.reader(cluster.zero),
        await cluster.join(),
    ):
        await client.close()
        await client.close()
