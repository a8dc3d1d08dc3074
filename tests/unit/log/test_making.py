"""What is missing of a bus's topics is made, but an inbox or a ledger never twice."""

from __future__ import annotations

import pytest

from referral_bus.log.kafka import configs_of
from referral_bus.log.making import gone, make_topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import LogError, Outgoing, TopicSpec
from referral_bus.log.topics import disclosure, inbox, ledger, reference, topics

BUS = "main"
ALL = {spec.name for spec in topics(BUS, 2, 1)}


async def put(log: MemoryLog, topic: str) -> None:
    await (await log.appender()).append([Outgoing(topic, 0, b"key", b"value")])


async def without(*names: str) -> MemoryLog:
    log = MemoryLog()
    await log.ensure([spec for spec in topics(BUS, 2, 1) if spec.name not in names])
    return log


async def test_what_a_making_that_broke_off_left_out_is_made() -> None:
    log = await without(ledger(BUS), disclosure(BUS))
    assert await gone(log, BUS) == []
    await make_topics(log, BUS, 2, 1)
    assert (await log.topics()).keys() == ALL


@pytest.mark.parametrize("lost", [inbox(BUS), ledger(BUS)])
@pytest.mark.parametrize("used", [reference(BUS), disclosure(BUS)])
async def test_of_a_bus_that_was_in_use_inbox_and_ledger_are_not_made_anew(lost: str, used: str) -> None:
    log = await without(lost)
    await put(log, used)
    assert await gone(log, BUS) == [lost]
    with pytest.raises(LogError, match=rf"topic {lost} is gone.* restore"):
        await make_topics(log, BUS, 2, 1)
    assert lost not in await log.topics()


async def test_another_topic_of_a_bus_that_was_in_use_is_made_anew() -> None:
    log = await without(disclosure(BUS))
    await put(log, ledger(BUS))
    await make_topics(log, BUS, 2, 1)
    assert (await log.topics()).keys() == ALL


def test_a_topic_of_three_copies_acknowledges_what_two_have() -> None:
    assert configs_of(TopicSpec("a", 1, replication=3))["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in configs_of(TopicSpec("a", 1, replication=2))
