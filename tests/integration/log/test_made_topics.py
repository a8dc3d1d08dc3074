"""A cluster holds the topics that somebody made on purpose, also where its brokers create what they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from referral_bus.embedded import kafka
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogError, Outgoing, TopicSpec


@pytest.fixture
def creating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a broker with Kafka's own default, to create each topic that it is asked for."""
    settings = kafka._PROPERTIES.replace("auto.create.topics.enable=false", "auto.create.topics.enable=true")
    assert settings != kafka._PROPERTIES
    monkeypatch.setattr(kafka, "_PROPERTIES", settings)
    broker = EmbeddedKafka(tmp_path / "kafka", free_ports(1)[0])
    yield broker.start()
    broker.stop()


async def _there(address: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        return sorted(await admin.list_topics())
    finally:
        await admin.close()


async def test_to_look_for_a_topic_does_not_make_it_and_one_that_is_deleted_stays_away(creating: str) -> None:
    log = KafkaLog(creating)
    try:
        for _ in range(2):
            with pytest.raises(LogError, match="there is no topic nobodys"):
                await log.partitions("nobodys")
        assert await _there(creating) == []

        await log.ensure([TopicSpec("mine", 2, append_time=True)])
        assert await log.partitions("mine") == 2
        appender = await log.appender()
        await appender.append([Outgoing("mine", 0, None, b"said")])
        await appender.close()
        await log.delete("mine")
        await log.delete("mine")
        assert await _there(creating) == []
        with pytest.raises(LogError, match="there is no topic mine"):
            await log.partitions("mine")
    finally:
        await log.close()
