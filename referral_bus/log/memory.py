"""A Kafka cluster in memory, in which a test decides what goes wrong and when.

It keeps Kafka's rules that matter to whoever builds on them: a committed reader sees nothing from the first open transaction
on, aborted records and the markers that end transactions leave gaps in the offsets, a transactional id has one owner and the
former one is fenced, a group's members lose all their partitions before any is assigned anew.

What a test can order: :meth:`MemoryLog.crash`, :meth:`~MemoryLog.expel`, :meth:`~MemoryLog.rebalance`,
:meth:`~MemoryLog.redeliver`, :meth:`~MemoryLog.break_commit`, :meth:`~MemoryLog.abort`, :attr:`~MemoryLog.away` and
:attr:`~MemoryLog.interrupt`. Nothing happens by itself and nothing takes time, except that reads wait as long as they are told, by the
event loop's clock: on a loop with a clock of its own, a run can be repeated exactly.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Literal

from referral_bus.log.port import (
    Fenced,
    Kept,
    LogError,
    LogUnavailable,
    Outgoing,
    Partition,
    Position,
    Rebalanced,
    Record,
    TopicSpec,
    check,
    count_of,
    to_read,
)

Moment = Literal["before", "written", "committed"]
"""Of a commit: before anything is written; with all written and the transaction left open; with all of it done."""


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


@dataclass(eq=False)
class _Transaction:
    state: Literal["open", "committed", "aborted"] = "open"
    offsets: dict[tuple[str, Partition], int] = field(default_factory=dict)
    partitions: set[Partition] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Slot:
    """One offset: a record, or the marker that ends a transaction."""

    record: Record | None
    transaction: _Transaction | None


@dataclass(eq=False)
class _Group:
    name: str
    members: list[MemoryMember] = field(default_factory=list)
    offsets: dict[Partition, int] = field(default_factory=dict)
    rebalancing: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryLog:
    """A cluster. ``clock`` gives the append time in epoch milliseconds, UTC."""

    def __init__(self, clock: Callable[[], int] = _wall_clock) -> None:
        self.away = False
        """While true, the broker does not answer: reads bring nothing, all else raises LogUnavailable."""
        self.interrupt: Callable[[str], Awaitable[None]] | None = None
        """Awaited with the transactional id in the middle of each commit, when its records are written and it is still open."""
        self._clock = clock
        self._topics: dict[str, TopicSpec] = {}
        self._starts: dict[Partition, int] = {}
        self._slots: dict[Partition, list[_Slot]] = {}
        self._stable: dict[Partition, int] = {}
        self._epochs: dict[str, int] = {}
        self._open: dict[str, _Transaction] = {}
        self._groups: dict[str, _Group] = {}
        self._broken: deque[Moment] = deque()
        self._waiting: list[tuple[frozenset[str], asyncio.Event]] = []

    # What the port asks for

    async def appender(self) -> MemoryAppender:
        self.reachable("start an appender")
        return MemoryAppender(self)

    async def transactor(self, transactional_id: str) -> MemoryTransactor:
        self.reachable(f"take over {transactional_id}")
        self._epochs[transactional_id] = self._epochs.get(transactional_id, 0) + 1
        left_open = self._open.pop(transactional_id, None)
        if left_open is not None:
            self._end(left_open, "aborted")
        return MemoryTransactor(self, transactional_id, self._epochs[transactional_id])

    async def reader(self, partition: Partition) -> MemoryReader:
        self.reachable(f"read {partition.topic}/{partition.number}")
        self._at(partition)
        return MemoryReader(self, partition)

    async def join(
        self, group: str, topics: Iterable[str], *, assigned: Rebalanced, revoked: Rebalanced
    ) -> MemoryMember:
        self.reachable(f"join the group {group}")
        names = frozenset(to_read(group, topics, await self.topics()))
        joined = self._group(group)
        member = MemoryMember(self, joined, names, assigned, revoked)
        joined.members.append(member)
        try:
            await self.rebalance(group)
        except BaseException:
            await member.close()  # who gives up joining is not in the group
            raise
        return member

    async def topics(self) -> dict[str, int]:
        self.reachable("look up topics")
        return {name: spec.partitions for name, spec in self._topics.items()}

    async def partitions(self, topic: str) -> int:
        return count_of(await self.topics(), topic)

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        self.reachable("create the topics")
        for spec in topics:
            there = self._topics.setdefault(spec.name, spec)
            if (there.partitions, there.retention_ms, there.append_time) != (
                spec.partitions,
                spec.retention_ms,
                spec.append_time,
            ):
                raise LogError(f"topic {spec.name} exists with other settings: use another bus id")
            if there.replication < spec.replication:
                raise LogError(
                    f"topic {spec.name} has {there.replication} copies where {spec.replication} are wanted"
                )
            for number in range(spec.partitions):
                self._slots.setdefault(Partition(spec.name, number), [])

    async def close(self) -> None:
        for group in self._groups.values():
            group.members.clear()

    # What a test can order

    def break_commit(self, at: Moment) -> None:
        """The next commit (each call adds one) fails as unavailable at that moment; its caller can't know the outcome."""
        self._broken.append(at)

    async def abort(self, records: Sequence[Outgoing]) -> None:
        """Write the records in a transaction that is aborted: they leave a gap."""
        transactor = await self.transactor("aborted by a test")
        self.break_commit("written")
        try:
            await transactor.commit(records, "no group", {})
        except LogUnavailable:
            await self.transactor("aborted by a test")

    def crash(self, member: MemoryMember) -> None:
        """The member's process is gone, with no word to anyone. Its partitions stay with it until :meth:`rebalance`."""
        member.dead = True

    async def expel(self, member: MemoryMember) -> None:
        """The group takes a living member for dead and gives its partitions away. It is not told, and goes on."""
        member.expelled = True
        await self.rebalance(member.group.name)

    async def rebalance(self, group: str) -> None:
        """Take all partitions from all members, leave out the dead, and assign anew."""
        joined = self._group(group)
        async with joined.rebalancing:
            joined.members = [m for m in joined.members if m.belongs]
            for member in list(joined.members):
                if member.belongs:
                    await member.lose()
            # Some may have left while the others gave up what they had.
            joined.members = [m for m in joined.members if m.belongs]
            for member, partitions in self._dealt(joined).items():
                await member.gain(frozenset(partitions))

    def redeliver(self, member: MemoryMember, partition: Partition, start: int, end: int) -> None:
        """The member's next poll brings the records from ``start`` up to ``end`` besides, wherever it stands: fetched before
        an assignment or a seek, or delivered twice."""
        member.stale.append((partition, self.visible(partition, start, end - start)))
        self.notify([partition.topic])

    def records(self, topic: str) -> list[Record]:
        """All records that a committed reader sees, partition by partition."""
        found: list[Record] = []
        for number in range(self._topics[topic].partitions):
            found += self.visible(Partition(topic, number), 0, len(self._slots[Partition(topic, number)]))
        return found

    def committed(self, group: str) -> dict[Partition, int]:
        """The group's stored next offsets."""
        return dict(self._group(group).offsets)

    def expire(self, partition: Partition, before: int) -> None:
        """Delete what is before this offset, as a broker does with what is older than the topic keeps."""
        self._starts[partition] = before

    # What the clients below use

    def start(self, partition: Partition) -> int:
        """The first offset that is kept."""
        return self._starts.get(partition, 0)

    def end(self, partition: Partition) -> int:
        """The last stable offset. It never goes back, so what lies below is not looked at again."""
        slots, offset = self._at(partition), self._stable.get(partition, 0)
        while offset < len(slots):
            transaction = slots[offset].transaction
            if transaction is not None and transaction.state == "open":
                break
            offset += 1
        self._stable[partition] = offset
        return offset

    def visible(self, partition: Partition, start: int, span: int) -> list[Record]:
        slots = self._at(partition)[
            max(start, self.start(partition)) : min(start + span, self.end(partition))
        ]
        return [
            slot.record
            for slot in slots
            if slot.record is not None and (slot.transaction is None or slot.transaction.state == "committed")
        ]

    def take(self, partition: Partition, start: int, limit: int) -> tuple[list[Record], int]:
        """At most ``limit`` visible records, and the offset to go on from: past everything that can't be seen."""
        if self.away:
            return [], start
        if not self.start(partition) <= start <= len(self._at(partition)):
            raise LogError(
                f"{partition.topic}/{partition.number}: offset {start} is not there; it was deleted, or the topic was made "
                "anew: look at the topic's retention"
            )
        end = self.end(partition)
        if start >= end:
            return [], start
        records = self.visible(partition, start, end - start)
        if len(records) <= limit:
            return records, max(start, end)
        return records[:limit], records[limit - 1].offset + 1

    def write(self, record: Outgoing, transaction: _Transaction | None) -> Position:
        partition = Partition(record.topic, record.partition)
        check(record)
        slots, now = self._at(partition), self._clock()
        stored = Record(
            record.topic, record.partition, len(slots), now, record.key, record.value, record.headers
        )
        slots.append(_Slot(stored, transaction))
        if transaction is not None:
            transaction.partitions.add(partition)
        self.notify([record.topic])
        return Position(record.topic, record.partition, stored.offset, now)

    async def commit(
        self,
        transactional_id: str,
        epoch: int,
        records: Sequence[Outgoing],
        group: str,
        next_offsets: Mapping[Partition, int],
    ) -> None:
        self._own(transactional_id, epoch)
        broken = self._broken.popleft() if self._broken else None
        if broken == "before":
            raise LogUnavailable(f"commit of {transactional_id}: no answer before anything was written")
        transaction = self._open[transactional_id] = _Transaction()
        for record in records:
            self.write(record, transaction)
        transaction.offsets = {(group, partition): offset for partition, offset in next_offsets.items()}
        if broken == "written":
            raise LogUnavailable(f"commit of {transactional_id}: no answer after all was written")
        if self.interrupt is not None:
            await self.interrupt(transactional_id)
            self._own(transactional_id, epoch)
        self.reachable(f"commit of {transactional_id}")
        self._end(self._open.pop(transactional_id), "committed")
        if broken == "committed":
            raise LogUnavailable(f"commit of {transactional_id}: no answer after it was committed")

    def store(self, group: str, next_offsets: Mapping[Partition, int]) -> None:
        self._group(group).offsets.update(next_offsets)

    async def until_changed(self, topics: frozenset[str], wait: float) -> bool:
        """Wait for anything of these topics to change, at most ``wait`` seconds; False when the time is over."""
        waiting = topics, asyncio.Event()
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(wait):
                await waiting[1].wait()
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(waiting)
        return True

    def reachable(self, doing: str) -> None:
        if self.away:
            raise LogUnavailable(f"{doing}: no answer; check that the broker runs and is reachable")

    def _own(self, transactional_id: str, epoch: int) -> None:
        self.reachable(f"commit of {transactional_id}")
        if self._epochs[transactional_id] != epoch:
            raise Fenced(f"commit of {transactional_id}: another owner has started; forget the state")

    def _end(self, transaction: _Transaction, state: Literal["committed", "aborted"]) -> None:
        transaction.state = state
        for partition in sorted(transaction.partitions):
            self._slots[partition].append(_Slot(None, None))
        if state == "committed":
            for (group, partition), offset in transaction.offsets.items():
                self._group(group).offsets[partition] = offset
        self.notify(partition.topic for partition in transaction.partitions)

    def _at(self, partition: Partition) -> list[_Slot]:
        slots = self._slots.get(partition)
        if slots is None:
            raise LogError(
                f"topic {partition.topic} has no partition {partition.number}: create the topics first"
            )
        return slots

    def _group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group(name))

    def _dealt(self, group: _Group) -> dict[MemoryMember, set[Partition]]:
        """Kafka's round-robin assignor: all partitions dealt out one by one to those who read their topic, in the order they joined."""
        dealt: dict[MemoryMember, set[Partition]] = {member: set() for member in group.members}
        turn = cycle(group.members)
        for topic in sorted({topic for member in group.members for topic in member.topics}):
            for number in range(self._topics[topic].partitions):
                member = next(m for m in turn if topic in m.topics)
                dealt[member].add(Partition(topic, number))
        return dealt

    def notify(self, topics: Iterable[str] | None = None) -> None:
        """Something changed on these topics, or on any."""
        changed = None if topics is None else frozenset(topics)
        for waited, rung in self._waiting:
            if changed is None or not waited.isdisjoint(changed):
                rung.set()


class MemoryAppender:
    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        self._log.reachable("append")
        return [self._log.write(record, None) for record in records]

    async def close(self) -> None:
        return None


class MemoryTransactor:
    def __init__(self, log: MemoryLog, transactional_id: str, epoch: int) -> None:
        self._log, self._id, self._epoch = log, transactional_id, epoch
        self._failed: BaseException | None = None

    async def commit(
        self, records: Sequence[Outgoing], group: str, next_offsets: Mapping[Partition, int]
    ) -> None:
        if self._failed is not None:
            kind = Fenced if isinstance(self._failed, Fenced) else LogError
            raise kind(f"{self._id} failed before and can't go on: make a new one") from self._failed
        try:
            await self._log.commit(self._id, self._epoch, records, group, next_offsets)
        except BaseException as error:
            self._failed = error
            raise

    async def close(self) -> None:
        return None


class MemoryReader:
    def __init__(self, log: MemoryLog, partition: Partition) -> None:
        self._log, self._partition, self._position = log, partition, 0

    async def start(self) -> int:
        self._log.reachable(f"the start of {self._partition.topic}/{self._partition.number}")
        return self._log.start(self._partition)

    async def end(self) -> int:
        self._log.reachable(f"the end of {self._partition.topic}/{self._partition.number}")
        return self._log.end(self._partition)

    async def read(self, start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
        deadline = asyncio.get_running_loop().time() + wait
        self._position = start
        while True:
            records, self._position = self._log.take(self._partition, self._position, limit)
            left = deadline - asyncio.get_running_loop().time()
            if records or left <= 0:
                return records
            await self._log.until_changed(frozenset([self._partition.topic]), left)

    def position(self) -> int:
        return self._position

    async def close(self) -> None:
        return None


class MemoryMember:
    def __init__(
        self, log: MemoryLog, group: _Group, topics: frozenset[str], assigned: Rebalanced, revoked: Rebalanced
    ) -> None:
        self.group, self.topics = group, topics
        self.dead = self.expelled = self.left = False
        self.stale: deque[tuple[Partition, list[Record]]] = deque()
        self._log = log
        self._assigned, self._revoked = assigned, revoked
        self._mine: frozenset[Partition] = frozenset()
        self._positions: dict[Partition, int] = {}
        self._resumed: set[Partition] = set()
        self._failed: Exception | None = None

    @property
    def belongs(self) -> bool:
        """Whether the group counts on it."""
        return not (self.dead or self.expelled or self.left)

    async def lose(self) -> None:
        gone, self._mine = self._mine, frozenset()
        self._positions.clear()
        self._resumed.clear()
        await self._tell(self._revoked, gone)

    async def gain(self, partitions: frozenset[Partition]) -> None:
        if not self.belongs:
            return
        self._mine = partitions
        self._positions.clear()
        self._resumed.clear()
        await self._tell(self._assigned, partitions)

    async def _tell(self, callback: Rebalanced, partitions: frozenset[Partition]) -> None:
        try:
            await callback(self, partitions)
        except Exception as error:
            # As with Kafka, the group goes on; the member hears of it at its next poll.
            self._failed = error

    async def poll(self, limit: int = 500, wait: float = 0.1) -> Mapping[Partition, list[Record]]:
        deadline = asyncio.get_running_loop().time() + wait
        while not self.dead:
            if self._failed is not None:
                raise LogError(
                    f"the member of {self.group.name}: a rebalance failed; restart the process"
                ) from self._failed
            found = self._fetched(limit)
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0:
                return found
            await self._log.until_changed(self.topics, left)
        return {}

    def _fetched(self, limit: int) -> dict[Partition, list[Record]]:
        found: dict[Partition, list[Record]] = {}
        while self.stale:
            partition, records = self.stale.popleft()
            found.setdefault(partition, []).extend(records)
        for partition in sorted(self._resumed):
            if limit <= 0:
                break
            records, self._positions[partition] = self._log.take(partition, self._positions[partition], limit)
            if records:
                found.setdefault(partition, []).extend(records)
                limit -= len(records)
        return found

    async def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        self._log.reachable(f"commit for {self.group.name}")
        if self.dead or self.expelled:
            raise LogError(f"the member of {self.group.name} is no longer in the group: join again")
        self._log.store(self.group.name, next_offsets)

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        self._log.reachable(f"committed offsets of {self.group.name}")
        return {partition: self.group.offsets.get(partition, 0) for partition in partitions}

    async def kept(self, partitions: Iterable[Partition]) -> dict[Partition, Kept]:
        self._log.reachable(f"what is kept for {self.group.name}")
        return {
            partition: Kept(self._log.start(partition), self._log.end(partition)) for partition in partitions
        }

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        for partition, offset in next_offsets.items():
            if partition in self._mine:
                self._positions[partition] = offset
        self._log.notify(self.topics)

    def pause(self, partitions: Iterable[Partition]) -> None:
        self._resumed.difference_update(partitions)

    def resume(self, partitions: Iterable[Partition]) -> None:
        for partition in self._mine.intersection(partitions):
            if partition not in self._positions:
                raise LogError(
                    f"{partition.topic}/{partition.number} has no position: seek before resuming it"
                )
            self._resumed.add(partition)
        self._log.notify(self.topics)

    async def lag(self) -> dict[Partition, int]:
        self._log.reachable(f"lag of {self.group.name}")
        return {p: max(0, self._log.end(p) - at) for p, at in self._positions.items()}

    async def close(self) -> None:
        was_in = self.belongs and self in self.group.members
        self.left = True
        self._mine = frozenset()
        self._positions.clear()
        self._resumed.clear()
        if was_in:
            await self._log.rebalance(self.group.name)
