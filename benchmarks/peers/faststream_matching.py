"""The peers' job (:mod:`benchmarks.peers.job`) in FastStream: a batch subscriber that acknowledges what it has published.

It is at least once, and can be no more: FastStream passes a transactional id on to its producer, but has no way to put the offsets of what
was read into a transaction, and no state. So state, events and offsets are written one after the other: a kill in between repeats the
batch, and a place may be held for a referral that is then given another. It commits each batch, "at once" and "in time".
"""

from __future__ import annotations

import asyncio
import sys
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import uvloop
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from benchmarks.peers.job import HEARTBEAT_MS, SESSION_MS, Job
from benchmarks.peers.kept import Kept
from benchmarks.processes import collect_as_services_do
from referral_bus.log.kafka import PRODUCER

_AT_MOST: Final = 2_000
_TAKEN: Final = ("acks", "enable_idempotence", "compression_type", "linger_ms", "max_batch_size")


async def run(bootstrap: str, bus: str, source: str, target: str, services: str) -> None:
    job, kept, changelog = Job(Path(services)), Kept(), f"peer-{bus}-held"
    broker = KafkaBroker(bootstrap, logger=None, **{name: PRODUCER[name] for name in _TAKEN})

    async def undecoded(_message: Any) -> None:
        """The job reads Avro from the records themselves."""

    @broker.subscriber(
        source,
        batch=True,
        group_id=f"peer-{bus}",
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        max_records=_AT_MOST,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=undecoded,
        no_reply=True,
    )
    async def decide(message: KafkaMessage) -> None:
        records: Any = message.raw_message
        events, changes = [], []
        for number, part in groupby(records, key=lambda record: record.partition):
            for record in part:
                for event in job.decide(record.value, record.offset, record.timestamp, kept.used, kept.hold):
                    events.append((event, record.key, number))
            changes += [(held, unit, number) for unit, held in kept.changes()]
        # State first: the other way round a kill in between would sell a place twice.
        await published(changelog, changes)
        await published(target, events)

    async def published(topic: str, what: list[tuple[bytes, bytes, int]]) -> None:
        waiting = [
            await broker.publish(value, topic, key=key, partition=number, no_confirm=True)
            for value, key, number in what
        ]
        await asyncio.gather(*waiting)

    async def restored() -> None:
        await kept.restore(bootstrap, changelog, job.regions)

    await FastStream(broker, logger=None, on_startup=[restored]).run()


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(*sys.argv[1:6]))
