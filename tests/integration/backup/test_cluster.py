"""Records written to a real Kafka as they were: in many batches, with their own times, at the offsets they had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from referral_bus.backup.cluster import at_their_offsets, cluster
from referral_bus.backup.errors import BackupError
from referral_bus.embedded.ports import free_ports
from referral_bus.log.port import Outgoing, Partition, Record, TopicSpec
from referral_bus.log.reading import everything

START, END, AT = 1_000, 60_000, 1_700_000_000_000


def _records(partition: Partition) -> Iterator[Record]:
    """With gaps, and one as large as the bus's producers send."""
    for offset in range(START, END - 10):
        if offset % 7:
            size = 900_000 if offset == START + 1 else 40 + offset % 50
            value = offset.to_bytes(4, "big") * (size // 4)
            yield Record(*partition, offset, AT + offset, b"north", value, (("h", b"%d" % offset),))


async def test_what_is_written_has_the_offsets_and_times_it_had_and_the_broker_stamps_what_follows(
    kafka: str,
) -> None:
    partition = Partition(f"t-{uuid4().hex[:8]}", 0)
    spec = TopicSpec(partition.topic, 1, append_time=True)
    async with cluster(kafka) as there:
        await there.make([spec])
        assert await there.write(partition, at_their_offsets(_records(partition), END, AT)) == END
        await there.expire(partition, START)
        await there.settle([spec])
        [position] = await (await there.log.appender()).append([Outgoing(*partition, None, b"next")])
        found = await everything(there.log, partition.topic)
    assert (position.offset, found[0].offset) == (END, START)
    assert [one for one in found[:-1] if one.value] == list(_records(partition))
    assert found[-1].value == b"next"
    assert found[-1].timestamp > AT + END


async def test_a_broker_that_hears_late_how_a_topic_is_to_be_is_asked_again(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, told, asked = TopicSpec(f"t-{uuid4().hex[:8]}", 1, append_time=True), list[Any](), list[Any]()
    alter, describe = AIOKafkaAdminClient.alter_configs, AIOKafkaAdminClient.describe_configs

    async def late(admin: AIOKafkaAdminClient, resources: Any) -> None:
        told.append(resources)

    async def before_it_hears(admin: AIOKafkaAdminClient, resources: Any) -> Any:
        asked.append(answer := await describe(admin, resources))
        if len(asked) == 1:
            await alter(admin, told[0])
        return answer

    async with cluster(kafka) as there:
        await there.make([spec])
        monkeypatch.setattr(AIOKafkaAdminClient, "alter_configs", late)
        monkeypatch.setattr(AIOKafkaAdminClient, "describe_configs", before_it_hears)
        await there.settle([spec])
    assert len(asked) > 1


async def test_a_partition_that_something_else_writes_is_noticed(kafka: str) -> None:
    partition = Partition(f"t-{uuid4().hex[:8]}", 0)
    async with cluster(kafka) as there:
        await there.make([TopicSpec(partition.topic, 1)])
        await (await there.log.appender()).append([Outgoing(*partition, None, b"of another")])
        with pytest.raises(BackupError, match="something else writes this topic"):
            await there.write(partition, [Record(*partition, 0, AT, None, b"ours")])


async def test_a_group_is_placed_where_it_stood(kafka: str) -> None:
    topic, group = f"t-{uuid4().hex[:8]}", f"refbus-{uuid4().hex[:8]}-relay"
    async with cluster(kafka) as there:
        await there.make([TopicSpec(topic, 2)])
        await there.place(group, {Partition(topic, 1): 12})
        assert await there.groups(group, [topic]) == {group: {topic: {1: 12}}}
        assert await there.groups(group, ["another"]) == {}


async def test_a_broker_that_is_not_there_is_said_in_a_sentence() -> None:
    with pytest.raises(BackupError, match="check that it runs and is reachable"):
        async with cluster(f"127.0.0.1:{free_ports(1)[0]}"):
            pass
