"""Who keeps the bus's own out of a group is found for many groups at once."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import GroupMember, Partition
from tests.integration.log.conftest import TOPIC


async def test_strangers_are_found_among_many_groups_by_one_client(
    broker: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = asyncio.Event()
    started: list[AIOKafkaAdminClient] = []
    start = AIOKafkaAdminClient.start

    async def hears(member: GroupMember, partitions: frozenset[Partition]) -> None:
        came.set()

    async def counted(client: AIOKafkaAdminClient) -> None:
        started.append(client)
        await start(client)

    log = KafkaLog(broker.bootstrap)
    member = await log.join("ours", [TOPIC], assigned=hears, revoked=hears)
    stranger = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=broker.bootstrap,
        group_id="taken",
        client_id="somebodys-script",
        partition_assignment_strategy=(RangePartitionAssignor,),
    )
    try:
        await stranger.start()
        async with asyncio.timeout(20.0):
            while not came.is_set():
                await member.poll(wait=0.1)
        monkeypatch.setattr(AIOKafkaAdminClient, "start", counted)
        found = await log.strangers(["ours", "taken", "empty"])
    finally:
        await stranger.stop()
        await log.close()
    assert found == {"taken": ["somebodys-script at 127.0.0.1"]}
    assert len(started) == 1
