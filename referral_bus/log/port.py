"""The port to the log: what the bus needs of Kafka, and no more.

Two implementations stand behind it, :mod:`referral_bus.log.kafka` for the real broker and :mod:`referral_bus.log.memory`
for tests that must order crashes and rebalances; one contract suite holds both to the same behaviour.

Times are epoch milliseconds, UTC. Keys, values and header values are bytes; meaning is given to them by
:mod:`referral_bus.wire`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]

LARGEST_RECORD: Final = 2_097_152
"""Bytes that a record may have at most with all that belongs to it. Topics are made to take as many, twice what a broker takes by itself:
the terms of a whole county's vocabulary stand in one event, once as they were said and once as they are in force."""
LARGEST_VALUE: Final = LARGEST_RECORD - 2_048
"""Bytes that a value may have, which leaves room for key, headers and framing."""


class LogError(Exception):
    """The log did not do what was asked. The message says what, where and what to do next."""


class LogUnavailable(LogError):
    """No broker answered within the time limit; trying again later may help."""


class LogRefused(LogError):
    """The brokers let nobody in who comes so: user, password or certificate are not what they want, or theirs is not trusted."""


class Fenced(LogError):
    """Another owner of the same transactional id has started: this one must stop writing and forget its state."""


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read: where it stands, when the broker appended it, and its bytes."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written. ``partition`` is always named by the caller: the bus never hashes keys."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def check(record: Outgoing) -> None:
    """Refuse what no log takes. Raises LogError."""
    if record.key is None and record.value is None:
        raise LogError(f"a record for {record.topic} has neither key nor value: give it one")
    size = len(record.value or b"") + len(record.key or b"")
    if size > LARGEST_RECORD - 1024:
        raise LogError(f"a record of {size} bytes for {record.topic} is larger than the log takes")


def count_of(there: Mapping[str, int], topic: str) -> int:
    """How many partitions the topic has, of those that are there. Raises LogError where it is not one of them."""
    if topic not in there:
        raise LogError(f"there is no topic {topic}: create the topics of the bus first")
    return there[topic]


def to_read(group: str, topics: Iterable[str], there: Mapping[str, int]) -> list[str]:
    """What a member of the group is to read, in order. Raises LogError where that is nothing, or is not there."""
    if not (names := sorted(topics)):
        raise LogError(f"join the group {group}: it is to read no topic; name one at least")
    for name in names:
        count_of(there, name)
    return names


class Position(NamedTuple):
    """Where the broker put a record, and the append time it gave it."""

    topic: str
    partition: int
    offset: int
    timestamp: int


class Kept(NamedTuple):
    """The offsets of a partition that can be read: from ``start`` up to ``end``, which is after the last."""

    start: int
    end: int


class Appender(Protocol):
    """Writes outside transactions: idempotent, acknowledged by all in-sync replicas (acks=all)."""

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        """Write the records and return their positions, in order, once all are acknowledged.

        Raises :class:`LogUnavailable` when the broker does not acknowledge in time; the records may then still arrive.
        """

    async def close(self) -> None: ...


class Transactor(Protocol):
    """The single transactional writer of one input partition. Creating it fences the former owner of its id and
    aborts what that owner left open."""

    async def commit(
        self, records: Sequence[Outgoing], group: str, next_offsets: Mapping[Partition, int]
    ) -> None:
        """Write the records and the group's next input offsets in one transaction: all of it or nothing. Committed readers see
        it moments after this returns; whoever has made the id's next transactor sees it at once.

        Raises :class:`Fenced` when another owner has started; any other :class:`LogError` leaves the outcome unknown: the
        caller closes this transactor, makes a new one (which settles the old transaction), and reads back what was
        committed. After any error this transactor refuses to go on.
        """

    async def close(self) -> None: ...


class Reader(Protocol):
    """Reads one partition by offset, outside any group; committed data only."""

    async def start(self) -> int:
        """The first offset that is kept now: what is older than the topic keeps is no longer there to be read."""

    async def end(self) -> int:
        """The offset after the last record a committed reader can see now (the last stable offset)."""

    async def read(self, start: int, limit: int = 500, wait: float = 0.0) -> list[Record]:
        """At most ``limit`` records from offset ``start`` on, in order; waits up to ``wait`` seconds for the first.

        Offsets may have gaps (control records, aborted data). An empty list means nothing came within ``wait``.
        """

    def position(self) -> int:
        """The offset the next read would start from; passes over trailing control records and aborted data."""

    async def close(self) -> None: ...


class GroupMember(Protocol):
    """A member of a consumer group. Reads committed data only; never commits by itself.

    A partition comes paused and without a position, whoever had it before: the new owner seeks to where it continues and
    then resumes. That leaves it all the time it needs to load its state, and nothing is delivered from a position that
    nobody chose.
    """

    async def poll(self, limit: int = 500, wait: float = 0.1) -> Mapping[Partition, list[Record]]:
        """Records of the assigned, resumed partitions, at most ``limit`` in all; waits up to ``wait`` seconds for the first.

        May return records that were fetched before an assignment or a seek changed: the runtime drops what does not belong
        to the present generation, and seeks back. While the broker is away nothing comes. Raises :class:`LogError` when
        the membership is lost for good, or records were deleted before they were read.
        """

    async def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Store the group's next offsets, outside a transaction (for readers whose work is idempotent)."""

    async def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The group's stored next offset of each partition; 0 where there is none."""

    async def kept(self, partitions: Iterable[Partition]) -> dict[Partition, Kept]:
        """What the topic holds of each partition now: from nowhere else can it be read."""

    def seek(self, next_offsets: Mapping[Partition, int]) -> None:
        """Continue from the given offsets. Does not await, so nothing can come in between. What is no longer assigned is
        passed over."""

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Deliver nothing from these until they are resumed. What is no longer assigned is passed over."""

    def resume(self, partitions: Iterable[Partition]) -> None:
        """Deliver from the position again. Raises :class:`LogError` for a partition that was assigned and never sought."""

    async def lag(self) -> dict[Partition, int]:
        """Offsets between the read position and the end of each assigned partition that has a position."""

    async def close(self) -> None:
        """Leave the group, so that the others need not wait for the session to time out. ``revoked`` is not called."""


Rebalanced = Callable[[GroupMember, frozenset[Partition]], Awaitable[None]]
"""Told of partitions that come or go. It must be quick, and what it raises ends the membership."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is to be. ``retention_ms`` of -1 keeps for ever; ``append_time`` lets the broker's clock stamp it."""

    name: str
    partitions: int
    retention_ms: int = -1
    append_time: bool = False
    replication: int = 1


class Log(Protocol):
    """A cluster. Everything it hands out must be closed; :meth:`close` closes the rest."""

    async def appender(self) -> Appender: ...

    async def transactor(self, transactional_id: str) -> Transactor: ...

    async def reader(self, partition: Partition) -> Reader: ...

    async def join(
        self, group: str, topics: Iterable[str], *, assigned: Rebalanced, revoked: Rebalanced
    ) -> GroupMember:
        """Join a consumer group and wait for the first assignment, which may be empty: ``assigned`` is told of that too. All is
        revoked before anything is assigned anew (eager): from the one to the other it is not in the group. ``revoked`` is not
        called by a process that dies, nor for one thought dead. Members that read the same topics get as many partitions as each
        other, give or take one, however many topics they are of."""

    async def topics(self) -> dict[str, int]:
        """All topics there are, and how many partitions each has."""

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has. Raises :class:`LogError` where there is no such topic."""

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create what is missing. Raises :class:`LogError` where a topic exists with other partitions or settings."""

    async def close(self) -> None: ...


__all__ = [
    "Appender",
    "Fenced",
    "GroupMember",
    "Headers",
    "Kept",
    "Log",
    "LogError",
    "LogRefused",
    "LogUnavailable",
    "Outgoing",
    "Partition",
    "Position",
    "Reader",
    "Rebalanced",
    "Record",
    "TopicSpec",
    "Transactor",
]
