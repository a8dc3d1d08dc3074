"""``refbus topics`` makes the topics of a bus, once, and never takes what is there for what was asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from uuid import uuid4

import pytest

from referral_bus.cli import doctor
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing
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


def test_fewer_copies_than_are_wanted_are_told_of(home: Path) -> None:
    refbus("topics", "--partitions", "2", "--home", home)
    said = refbus("topics", "--partitions", "2", "--replication", "3", "--home", home, code=1)
    assert "has 1 copy where 3 are wanted" in said and "Traceback" not in said


async def test_a_ledger_that_is_gone_is_not_made_anew_and_doctor_says_to_restore_it(
    kafka: str, home: Path
) -> None:
    await asyncio.to_thread(refbus, "topics", "--partitions", "2", "--home", home)
    bus = json.loads((home / "addresses.json").read_text())["bus"]
    log = KafkaLog(kafka)
    try:
        await (await log.appender()).append([Outgoing(topics.reference(bus), 0, b"key", b"value")])
        await log.delete(topics.ledger(bus))
        said = await asyncio.to_thread(refbus, "topics", "--partitions", "2", "--home", home, code=1)
        assert f"topic {topics.ledger(bus)} is gone" in said and "Traceback" not in said
        assert topics.ledger(bus) not in await log.topics()
    finally:
        await log.close()
    found = await doctor.kafka(doctor.SetUp(home, bus, kafka, None, probe=False))
    [told] = [finding for finding in found if finding.about == "topics"]
    assert f"{topics.ledger(bus)} gone" in told.found and "restore inbox and ledger" in told.advice
