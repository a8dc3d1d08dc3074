"""The peers' job (:mod:`benchmarks.peers.job`) on bare aiokafka: the transactional recipe, with the bus's own settings.

Events, changelog and offsets go into one transaction a batch, so it is exactly once. One producer serves all partitions, so a second
process could not take over any of them safely: it scales no further than its one process. It commits each batch, "at once" and "in time".
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.job import Job
from benchmarks.peers.kept import Kept
from benchmarks.processes import collect_as_services_do
from referral_bus.log.kafka import CONSUMER, GROUP, PRODUCER, TRANSACTIONS

_AT_MOST: Final = 2_000
"""Submissions a transaction: commits are what this waits for."""


async def run(bootstrap: str, bus: str, source: str, target: str, services: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    job, kept, group, changelog = Job(Path(services)), Kept(), f"peer-{bus}", f"peer-{bus}-held"
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, transactional_id=f"{group}-0", **PRODUCER, **TRANSACTIONS
    )
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        **{**CONSUMER, **GROUP, "auto_offset_reset": "earliest"},
    )
    # Before the changelog is read: this settles the transaction of whoever was killed.
    await producer.start()
    await kept.restore(bootstrap, changelog, job.regions)
    await consumer.start()
    try:
        while not stopped.is_set():
            found = await consumer.getmany(timeout_ms=200, max_records=_AT_MOST)
            if not found:
                continue
            await producer.begin_transaction()
            waiting = []
            for partition, messages in found.items():
                number = partition.partition
                for message in messages:
                    for event in job.decide(
                        message.value, message.offset, message.timestamp, kept.used, kept.hold
                    ):
                        waiting.append(await producer.send(target, event, message.key, number))
                for unit, held in kept.changes():
                    waiting.append(await producer.send(changelog, held, unit, number))
            offsets = {partition: messages[-1].offset + 1 for partition, messages in found.items()}
            await asyncio.gather(*waiting, producer.send_offsets_to_transaction(offsets, group))
            await producer.commit_transaction()
    finally:
        await consumer.stop()
        await producer.stop()


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(*sys.argv[1:6]))
