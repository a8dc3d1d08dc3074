"""A broker of these tests' own, to be frozen, killed and taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import pytest

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import TopicSpec

TOPIC: Final = "numbers"
"""Of two partitions."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One for each file, with :data:`TOPIC`."""
    broker = EmbeddedKafka(tmp_path_factory.mktemp("kafka"), free_ports(1)[0])
    broker.start()
    try:
        asyncio.run(KafkaLog(broker.bootstrap).ensure([TopicSpec(TOPIC, 2, 1, 60_000)]))
        yield broker
    finally:
        broker.stop()
