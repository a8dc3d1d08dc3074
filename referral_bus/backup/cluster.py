"""What a backup needs of Kafka beyond the port to the log: where groups stand, and records written as they were.

The port writes what happens now. Only a restore writes what happened, with its own time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import repeat
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from referral_bus.backup.errors import BackupError
from referral_bus.log.access import KafkaAccess
from referral_bus.log.kafka import CONSUMER, PRODUCER, RETRY_SECONDS, KafkaLog, configs_of
from referral_bus.log.port import LogError, Partition, Record, TopicSpec
from referral_bus.log.refusal import refusal

_UNDER_WAY: Final = 5
"""Batches that are sent and not acknowledged yet: as many as an idempotent producer may have."""

_HEARD_SECONDS: Final = 30.0


class Cluster:
    """A Kafka cluster. Made by :func:`cluster`."""

    def __init__(self, reached: Mapping[str, Any], log: KafkaLog, admin: AIOKafkaAdminClient) -> None:
        self.log = log
        self._reached = reached
        self._admin = admin

    async def topics(self) -> set[str]:
        return set(await self._admin.list_topics())

    async def replicas(self, topics: Iterable[str]) -> dict[str, int]:
        """How many copies there are to be of each topic."""
        # Of all: a broker may make a topic that it is asked for and has not.
        wanted, described = set(topics), await self._admin.describe_topics()
        return {
            one["topic"]: max(len(part["replicas"]) for part in one["partitions"])
            for one in described
            if one["topic"] in wanted and one["partitions"]
        }

    async def brokers(self) -> int:
        """How many brokers there are now."""
        return len((await self._admin.describe_cluster())["brokers"])

    async def groups(self, prefix: str, topics: Iterable[str]) -> dict[str, dict[str, dict[int, int]]]:
        """The stored offsets of the groups whose names begin so, on these topics."""
        wanted, found = set(topics), dict[str, dict[str, dict[int, int]]]()
        for group, *_ in await self._admin.list_consumer_groups():
            if group.startswith(prefix):
                for at, stored in (await self._admin.list_consumer_group_offsets(group)).items():
                    if at.topic in wanted and stored.offset >= 0:
                        found.setdefault(group, {}).setdefault(at.topic, {})[at.partition] = stored.offset
        return found

    async def place(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Store where a group stands. Nobody may be in it."""
        consumer = AIOKafkaConsumer(**self._reached, group_id=group, **CONSUMER)
        await consumer.start()
        try:
            wanted = {TopicPartition(*partition): offset for partition, offset in offsets.items()}
            consumer.assign(list(wanted))
            await consumer.commit(wanted)
        finally:
            await consumer.stop()

    async def make(self, specs: Sequence[TopicSpec]) -> None:
        """Make topics on which, until :meth:`settle`, records keep the time they come with. Raises LogError."""
        await self.log.ensure([replace(spec, append_time=False) for spec in specs])

    async def settle(self, specs: Sequence[TopicSpec]) -> None:
        """Let the broker stamp what comes from now on, where it is to. Raises LogError."""
        stamped = [spec for spec in specs if spec.append_time]
        await self._admin.alter_configs(
            [
                ConfigResource(ConfigResourceType.TOPIC, spec.name, configs=configs_of(spec))
                for spec in stamped
            ]
        )
        # A broker hears of it from the controller, some time after this is answered.
        deadline = time.monotonic() + _HEARD_SECONDS
        while True:
            try:
                return await self.log.ensure(specs)
            except LogError:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def write(self, partition: Partition, records: Iterable[Record]) -> int:
        """Write a new partition that nobody else writes, from offset 0 on; returns how many records it has. Raises BackupError."""
        producer = AIOKafkaProducer(**self._reached, **PRODUCER)
        await producer.start()
        under_way: deque[tuple[int, Any]] = deque()
        written = 0
        try:
            for batch, count in _batches(producer, records):
                sent = await producer.send_batch(batch, partition.topic, partition=partition.number)
                under_way.append((written, sent))
                written += count
                if len(under_way) == _UNDER_WAY:
                    await _arrived(*under_way.popleft(), partition)
            for at, sent in under_way:
                await _arrived(at, sent, partition)
        finally:
            await producer.stop()
        return written

    async def expire(self, partition: Partition, before: int) -> None:
        """Delete what is before an offset."""
        await self._admin.delete_records({TopicPartition(*partition): RecordsToDelete(before)})


def at_their_offsets(records: Iterable[Record], end: int, timestamp: int) -> Iterator[Record]:
    """The records, with an empty one for each offset up to ``end`` that none of them has: written from offset 0 on, each gets the offset it
    had. ``timestamp`` is that of what follows the last."""
    at = 0
    for record in records:
        yield from repeat(replace(record, key=None, value=b"", headers=()), record.offset - at)
        yield record
        at = record.offset + 1
    yield from repeat(Record("", 0, 0, timestamp, None, b""), end - at)


def _batches(producer: AIOKafkaProducer, records: Iterable[Record]) -> Iterator[tuple[Any, int]]:
    batch, count = producer.create_batch(), 0
    for record in records:
        if not _fits(batch, record):
            yield batch, count
            batch, count = producer.create_batch(), 0
            _fits(batch, record)  # a batch takes any one record
        count += 1
    if count:
        yield batch, count


def _fits(batch: Any, record: Record) -> bool:
    headers = list(record.headers)
    added = batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=headers)
    return added is not None


async def _arrived(wanted: int, sent: Any, partition: Partition) -> None:
    at = (await sent).offset
    if at != wanted:
        raise BackupError(
            f"offset {at} of {partition.topic}/{partition.number} was given where {wanted} was next: something else writes this topic. "
            "Stop all services, empty the cluster and the database, and restore again"
        )


@asynccontextmanager
async def cluster(to: KafkaAccess | str) -> AsyncIterator[Cluster]:
    """Connect to a cluster. Raises BackupError where Kafka does not do what is asked."""
    access = KafkaAccess.of(to)
    reached = {"bootstrap_servers": access.bootstrap, **access.options}
    log, admin = KafkaLog(access), AIOKafkaAdminClient(**reached)
    try:
        await admin.start()
        yield Cluster(reached, log, admin)
    except (kafka_errors.KafkaError, TimeoutError, OSError) as error:
        if (why := await refusal(access)) is not None:
            raise BackupError(why) from error
        raise BackupError(
            f"Kafka at {access.bootstrap} did not do what was asked ({type(error).__name__}: {str(error)[:200]}): "
            "check that it runs and is reachable"
        ) from error
    finally:
        await admin.close()
        await log.close()
