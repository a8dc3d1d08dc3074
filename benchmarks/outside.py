"""What an outsider sees of a bus or of a peer: how far a group has come, and what stands on a topic for those who read committed data."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any, Final, NamedTuple

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from benchmarks.processes import Program
from benchmarks.stage import PARTITIONS
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
async def reading(bootstrap: str, topic: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of committed data on all partitions of a topic, from its beginning on, in no group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        for partition in partitions:
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
    first moment, in the time from there to the last."""

    lost: int
    twice: int
    oversold: int
    per_second: float


async def count_answers(
    bootstrap: str, topic: str, referrals: Collection[str], places: Mapping[str, int]
) -> Counted:
    """Which of the referrals were answered, how often, in what time, and how many offers went beyond a unit's ``places``."""
    wanted = frozenset(referrals)
    decoding = Reading()
    found: Counter[str] = Counter()
    offered: Counter[str] = Counter()
    times: list[int] = []
    async for message in every_record(bootstrap, topic):
        datum = decoding.datum(message.value)
        if datum.name in ANSWERS:
            referral = datum.fields.get("referral") or datum.fields.get("about")
            if referral in wanted:
                found[referral] += 1
                times.append(message.timestamp)
            if datum.name == "OfferMade":
                offered[datum.fields["unit"]] += 1
    first, last = min(times, default=0), max(times, default=0)
    rate = sum(at > first for at in times) * 1000 / (last - first) if last > first else 0.0
    oversold = sum(max(0, count - places[unit]) for unit, count in offered.items())
    return Counted(len(wanted) - len(found), sum(n - 1 for n in found.values()), oversold, rate)


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
    async with reading(bootstrap, topic) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
    left = {partition: end for partition, end in ends.items() if end}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        before, moved_at = -1, time.monotonic()
        while True:
            offsets = {}
            with contextlib.suppress(KafkaError):  # no such group yet: the limit below ends the waiting
                offsets = await admin.list_consumer_group_offsets(group)
            through = {p: at.offset for p, at in offsets.items() if p in left and at.offset > 0}
            total = sum(through.values())
            if total != before:
                before, moved_at = total, time.monotonic()
            if all(through.get(partition, 0) >= end for partition, end in left.items()):
                return
            if not program.running:
                raise program.failed()
            if time.monotonic() > moved_at + _STALLED_SECONDS:
                raise Stalled(f"{program.name} stopped at {total} of {sum(left.values())}")
            await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await admin.close()
