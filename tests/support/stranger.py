"""A program of somebody else's that reads under a group of the bus: ``python -m tests.support.stranger BOOTSTRAP GROUP TOPIC``.

Its members deal out in another way than those of the bus, so that Kafka lets no two of them into one group: whoever comes first is in. It
tries until it is that, prints "in", and stays until it is ended.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import InconsistentGroupProtocolError


async def main(bootstrap: str, group: str, topic: str) -> None:
    while True:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id="somebodys-script",
            enable_auto_commit=False,
            session_timeout_ms=6_000,
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        try:
            await consumer.start()
            print("in", flush=True)
            while True:
                await consumer.getmany(timeout_ms=1_000)
        except InconsistentGroupProtocolError:
            await asyncio.sleep(0.1)
        finally:
            await consumer.stop()


if __name__ == "__main__":
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    asyncio.run(main(*sys.argv[1:]))
