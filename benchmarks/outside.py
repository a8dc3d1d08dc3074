"""What an outsider sees of a bus or of a peer: how far a group has come, and what stands on a topic for those who read committed data."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, Final, NamedTuple, Self

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from benchmarks.processes import Program
from referral_bus.log.port import Log, Outgoing
from referral_bus.wire.schemas import registered

ANSWERS: Final = frozenset({"OfferMade", "ReferralClosed", "SubmissionRefused"})
"""In a backlog of new referrals that nobody answers, each leads to just one of these."""

_AT_ONCE: Final = 500
_LOOK_SECONDS: Final = 0.1
_STALLED_SECONDS: Final = 60.0
_FRAME: Final = 5


class Stalled(Exception):
    """A program made no progress for a minute; what it did before still counts."""


class Datum(NamedTuple):
    """A value as an outsider reads it: the message's name, and its fields."""

    name: str
    fields: dict[str, Any]


class Reading:
    """Decodes framed Avro by the registered schemas, without the bus's models."""

    def __init__(self) -> None:
        self._schemas = {
            one.id: (one.name.rpartition(".")[2], fastavro.parse_schema(one.parsed(), named_schemas={}))
            for one in registered()
        }

    def datum(self, value: bytes) -> Datum:
        name, schema = self._schemas[int.from_bytes(value[1:_FRAME], "big")]
        stream = BytesIO(value)
        stream.seek(_FRAME)
        found: Any = fastavro.schemaless_reader(stream, schema, None)
        return Datum(name, found)


async def append(log: Log, records: Sequence[Outgoing]) -> None:
    """Put records on the log, acknowledged."""
    appender = await log.appender()
    try:
        for start in range(0, len(records), _AT_ONCE):
            await appender.append(records[start : start + _AT_ONCE])
    finally:
        await appender.close()


@asynccontextmanager
async def reading(
    bootstrap: str, topic: str, isolation: str = "read_committed"
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed data on all partitions of a topic, from its beginning on, in no group."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    try:
        for partition in consumer.assignment():
            consumer.seek(partition, 0)
        yield consumer
    finally:
        await consumer.stop()


async def every_record(bootstrap: str, topic: str) -> AsyncGenerator[Any, None]:
    """All committed records there are now."""
    async with reading(bootstrap, topic) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        while not await _at_the_end(consumer, ends):
            for messages in (await consumer.getmany(timeout_ms=500, max_records=2000)).values():
                for message in messages:
                    yield message


async def _at_the_end(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


class Counted(NamedTuple):
    """The answers on a topic. ``per_second`` is by the broker's append times, so that looking costs nothing: all that came after the
    first moment, in the time from there to the last. ``last`` is that moment (epoch milliseconds)."""

    lost: int
    twice: int
    oversold: int
    per_second: float
    last: int


async def count_answers(
    bootstrap: str, topic: str, referrals: Collection[str], places: Mapping[str, int]
) -> Counted:
    """Which of the referrals were answered, how often, in what time, and how many offers went beyond a unit's ``places``."""
    decoding, tally = Reading(), Tally(referrals, places)
    async for message in every_record(bootstrap, topic):
        tally.add(decoding.datum(message.value), message.timestamp)
    return tally.counted()


class Tally:
    """Counts the answers to some referrals. ``places`` is how many each unit has."""

    def __init__(self, referrals: Collection[str], places: Mapping[str, int]) -> None:
        self._wanted = frozenset(referrals)
        self._places = places
        self._found: Counter[str] = Counter()
        self._offered: Counter[str] = Counter()
        self._times: list[int] = []

    def add(self, datum: Datum, timestamp: int) -> None:
        """One event of the topic, appended at ``timestamp`` (epoch milliseconds)."""
        if datum.name not in ANSWERS:
            return
        referral = datum.fields.get("referral") or datum.fields.get("about")
        if referral in self._wanted:
            self._found[referral] += 1
            self._times.append(timestamp)
        if datum.name == "OfferMade":
            self._offered[datum.fields["unit"]] += 1

    def counted(self) -> Counted:
        first, last = min(self._times, default=0), max(self._times, default=0)
        rate = sum(at > first for at in self._times) * 1000 / (last - first) if last > first else 0.0
        return Counted(
            lost=len(self._wanted) - len(self._found),
            twice=sum(times - 1 for times in self._found.values()),
            oversold=sum(max(0, count - self._places[unit]) for unit, count in self._offered.items()),
            per_second=rate,
            last=last,
        )


async def markers(bootstrap: str, topic: str) -> int:
    """How many offsets of a topic hold no committed record: the ends of transactions, and whatever was aborted.

    None at all means that nothing was written in a transaction, whatever the writer was set to.
    """
    async with reading(bootstrap, topic) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
    return int(sum(ends.values())) - sum([1 async for _ in every_record(bootstrap, topic)])


async def worked_through(bootstrap: str, group: str, topic: str, program: Program) -> None:
    """Wait until the group has committed all that stands on the topic now.

    Raises Stalled, and EmbeddedError where the program ended.
    """
    async with Progress.of(bootstrap, group, topic) as progress:
        before, moved_at = -1, time.monotonic()
        while True:
            left = await progress.left()
            if left == 0:
                return
            if left != before:
                before, moved_at = left, time.monotonic()
            if not program.running:
                raise program.failed()
            if time.monotonic() > moved_at + _STALLED_SECONDS:
                raise Stalled(f"{program.name} stopped with {left} records left to do")
            await asyncio.sleep(_LOOK_SECONDS)


class Progress:
    """How far a group has come with what stood on a topic when this was made."""

    def __init__(self, admin: AIOKafkaAdminClient, group: str, ends: Mapping[TopicPartition, int]) -> None:
        self._admin = admin
        self._group = group
        self._ends = ends

    @classmethod
    @asynccontextmanager
    async def of(cls, bootstrap: str, group: str, topic: str) -> AsyncIterator[Self]:
        async with reading(bootstrap, topic) as consumer:
            ends = await consumer.end_offsets(list(consumer.assignment()))
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            yield cls(admin, group, ends)
        finally:
            await admin.close()

    async def left(self) -> int:
        """How many records the group has not committed yet."""
        offsets = {}
        with contextlib.suppress(KafkaError):  # no such group yet: it has done nothing
            offsets = await self._admin.list_consumer_group_offsets(self._group)
        through = {one: max(0, at.offset) for one, at in offsets.items()}
        return sum(max(0, end - through.get(one, 0)) for one, end in self._ends.items())


async def appended(consumer: AIOKafkaConsumer) -> int:
    """How many offsets the topic of a consumer has by now."""
    ends = await consumer.end_offsets(list(consumer.assignment()))
    return int(sum(ends.values()))


async def settled(bootstrap: str, topic: str, within: float) -> None:
    """Wait until no transaction stands open on a topic. Raises Stalled where one still does after ``within`` seconds."""
    async with (
        reading(bootstrap, topic) as committed,
        reading(bootstrap, topic, "read_uncommitted") as every,
    ):
        until = time.monotonic() + within
        while await appended(committed) < await appended(every):
            if time.monotonic() > until:
                raise Stalled(f"a transaction on {topic} still stands open after {within:.0f} s")
            await asyncio.sleep(_LOOK_SECONDS)
