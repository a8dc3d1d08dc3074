"""A bare consume-transform-produce loop on aiokafka, with the bus's settings, or with aiokafka's own.

It decides nothing, decodes nothing, and keeps no state: the bytes go out as they came. One producer serves all partitions, so a second
process could not take over any of them safely. It is the least a transaction takes, and no way to run matching.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.processes import collect_as_services_do
from referral_bus.log.kafka import CONSUMER, GROUP, PRODUCER, TRANSACTIONS

OWN: Final = "own"
_OF_ANY: Final[dict[str, Any]] = {"isolation_level": "read_committed", "enable_auto_commit": False}
"""What no exactly-once loop can do without."""


async def run(bootstrap: str, bus: str, source: str, target: str, settings: str = "") -> None:
    own = settings == OWN

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    group = f"peer-{bus}"
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        **{**(_OF_ANY if own else {**CONSUMER, **GROUP}), "auto_offset_reset": "earliest"},
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        transactional_id=f"peer-{bus}-0",
        **({} if own else {**PRODUCER, **TRANSACTIONS}),
    )
    await producer.start()
    await consumer.start()
    try:
        while not stopped.is_set():
            found = await consumer.getmany(timeout_ms=200, max_records=500)
            if not found:
                continue
            await producer.begin_transaction()
            waiting = [
                await producer.send(
                    target, message.value, message.key, message.partition, headers=list(message.headers)
                )
                for messages in found.values()
                for message in messages
            ]
            offsets = {partition: messages[-1].offset + 1 for partition, messages in found.items()}
            await asyncio.gather(*waiting, producer.send_offsets_to_transaction(offsets, group))
            await producer.commit_transaction()
    finally:
        await consumer.stop()
        await producer.stop()


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(*sys.argv[1:6]))
