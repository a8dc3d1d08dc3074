"""``refbus topics`` makes the topics of a bus, once, and never takes what is there for what was asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest

from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from tests.support.commands import refbus, write_addresses


@pytest.fixture
def home(kafka: str, tmp_path: Path) -> Path:
    bus = f"b{uuid4().hex[:8]}"
    write_addresses(tmp_path, bus=bus, kafka=kafka, database="postgresql+psycopg://nowhere/none")
    return tmp_path


async def test_every_topic_of_the_bus_is_made_with_the_partitions_it_is_to_have(
    kafka: str, home: Path
) -> None:
    for _ in range(2):
        await asyncio.to_thread(refbus, "topics", "--partitions", "3", "--home", home)
    bus = json.loads((home / "addresses.json").read_text())["bus"]
    log = KafkaLog(kafka)
    try:
        found = {spec.name: await log.partitions(spec.name) for spec in topics.topics(bus, 3, 1)}
    finally:
        await log.close()
    assert found == {spec.name: spec.partitions for spec in topics.topics(bus, 3, 1)}


def test_other_partitions_than_there_are_are_refused_with_what_to_do(home: Path) -> None:
    refbus("topics", "--partitions", "2", "--home", home)
    said = refbus("topics", "--partitions", "4", "--home", home, code=1)
    assert "has 2 partitions where 4 are wanted" in said and "Traceback" not in said
