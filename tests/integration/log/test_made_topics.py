"""A cluster holds the topics that somebody made on purpose, also where its brokers create what they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

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


async def test_a_topic_that_too_few_brokers_are_up_for_is_asked_for_again(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    create = AIOKafkaAdminClient.create_topics

    async def starved(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> Any:
        asked.append([topic.name for topic in topics])
        few = [topic for topic in topics if len(asked) == 1 and topic.name == "starved-b"]
        for topic in few:
            topic.replication_factor = 2
        return await create(admin, topics)

    monkeypatch.setattr(AIOKafkaAdminClient, "create_topics", starved)
    log = KafkaLog(kafka)
    try:
        await log.ensure([TopicSpec("starved-a", 1), TopicSpec("starved-b", 1)])
        assert asked == [["starved-a", "starved-b"], ["starved-b"]]
        assert await log.partitions("starved-b") == 1
    finally:
        await log.close()


async def test_a_topic_that_wants_more_brokers_than_there_are_is_refused_in_the_end(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral_bus.log.kafka._BROKERS_SECONDS", 0.5)
    log = KafkaLog(kafka)
    try:
        with pytest.raises(LogError, match="topic many could not be created: InvalidReplicationFactorError"):
            await log.ensure([TopicSpec("many", 1, replication=3)])
    finally:
        await log.close()
