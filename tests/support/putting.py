"""Bytes put on a topic from outside, by a test that is not asynchronous."""

from __future__ import annotations

import asyncio

from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing


def put(kafka: str, topic: str, value: bytes) -> None:
    """Append one record to the first partition."""

    async def work() -> None:
        log = KafkaLog(kafka)
        try:
            await (await log.appender()).append([Outgoing(topic, 0, None, value)])
        finally:
            await log.close()

    asyncio.run(work())
