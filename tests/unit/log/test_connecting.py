"""A client does not wait for a broker that hangs where another one would do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka.client import AIOKafkaClient, ConnectionGroup

from referral_bus.log import kafka
from referral_bus.log.connecting import connect_apart
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogUnavailable
from tests.support.brokers import ANSWERS, HANGS, HOST, IS_DOWN, Brokers


@pytest.fixture
async def brokers() -> AsyncIterator[Brokers]:
    brokers = Brokers()
    await brokers.start()
    yield brokers
    brokers.stop()


@pytest.fixture
async def client(brokers: Brokers) -> AsyncIterator[AIOKafkaClient]:
    connect_apart()
    client = AIOKafkaClient(bootstrap_servers=f"{HOST}:{brokers.ports[IS_DOWN]}", request_timeout_ms=60_000)
    client.cluster._brokers = brokers.known
    yield client
    brokers.wakes.set()
    await client.close()


async def _until(held: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not held():
            await asyncio.sleep(0.01)


async def test_who_wants_a_broker_that_lives_does_not_wait_for_one_that_hangs(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    groups = (ConnectionGroup.DEFAULT, ConnectionGroup.COORDINATION)
    knocking = [asyncio.create_task(client._get_conn(HANGS, group=group)) for group in groups]
    await _until(lambda: brokers.knocked == [HANGS, HANGS])
    assert (await client._get_conn(ANSWERS)).connected()
    assert await client._get_conn(IS_DOWN) is None
    assert not any(one.done() for one in knocking)
    brokers.wakes.set()
    assert all([connection.connected() for connection in await asyncio.gather(*knocking)])


async def test_who_want_the_same_broker_at_once_get_one_connection(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    connections = await asyncio.gather(*[client._get_conn(ANSWERS) for _ in range(3)])
    assert connections[0] is connections[1] is connections[2] is await client._get_conn(ANSWERS)
    assert brokers.knocked == [ANSWERS]


async def test_who_waits_behind_a_knock_in_vain_does_not_knock_again(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    client._request_timeout_ms = 100
    assert await asyncio.gather(*[client._get_conn(HANGS) for _ in range(3)]) == [None, None, None]
    assert brokers.knocked == [HANGS]
    brokers.wakes.set()
    client._request_timeout_ms = 60_000
    assert (await client._get_conn(HANGS)).connected()


async def test_who_waits_behind_a_knock_that_is_given_up_knocks_itself(
    client: AIOKafkaClient, brokers: Brokers
) -> None:
    first = asyncio.create_task(client._get_conn(HANGS))
    await _until(lambda: brokers.knocked == [HANGS])
    second = asyncio.create_task(client._get_conn(HANGS))
    await asyncio.sleep(0)
    first.cancel()
    await _until(lambda: brokers.knocked == [HANGS, HANGS])
    brokers.wakes.set()
    assert (await second).connected()


async def test_a_connection_that_was_closed_is_made_anew(client: AIOKafkaClient, brokers: Brokers) -> None:
    connection = await client._get_conn(ANSWERS)
    connection.close()
    assert (await client._get_conn(ANSWERS)) is not connection
    assert brokers.knocked == [ANSWERS, ANSWERS]


@pytest.fixture
async def log(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KafkaLog]:
    """Of a cluster whose broker that hangs is always the first to be asked what there is."""
    monkeypatch.setattr(kafka, "LOOK_SECONDS", 0.3)
    monkeypatch.setattr(kafka, "ASK_SECONDS", 1.0)
    monkeypatch.setattr(random, "shuffle", lambda nodes: nodes.sort())
    log = KafkaLog(f"{HOST}:{brokers.ports[ANSWERS]}")
    yield log
    await log.close()


async def test_which_topics_there_are_says_another_broker_where_one_hangs(
    log: KafkaLog, brokers: Brokers
) -> None:
    brokers.topics = {"inbox": 2, "reference": 1}
    assert await log.topics() == {"inbox": 2, "reference": 1}
    assert HANGS in brokers.knocked


async def test_where_no_broker_says_which_topics_there_are_the_log_is_away(
    log: KafkaLog, brokers: Brokers
) -> None:
    del brokers.ports[ANSWERS]
    with pytest.raises(LogUnavailable, match="look up topics: no answer from Kafka"):
        await log.topics()


async def test_who_finds_no_log_at_all_does_not_try_a_second_time(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    knocked: list[str] = []

    async def in_vain(_: KafkaLog, doing: str, *__: float) -> None:
        knocked.append(doing)
        raise LogUnavailable(doing)

    monkeypatch.setattr(KafkaLog, "_admin", in_vain)
    with pytest.raises(LogUnavailable):
        await log.topics()
    assert knocked == ["look up topics"]
