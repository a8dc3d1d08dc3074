"""While Kafka or PostgreSQL is away intake says 503 and is not ready; nothing is lost, and it goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.runtime.health import Health
from referral_bus.wire.codec import Codec
from tests.integration.intake.test_refusals import told
from tests.support.admitting import World, referral, until

BODY = referral().model_dump(mode="json")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedKafka]:
    """A broker of this test's own, to be taken away."""
    broker = EmbeddedKafka(tmp_path / "kafka", free_ports(1)[0])
    await asyncio.to_thread(broker.start)
    yield broker
    await asyncio.to_thread(broker.stop)


@pytest.mark.timeout(240)
async def test_while_the_broker_is_away_it_says_so_and_afterwards_the_same_is_taken(
    broker: EmbeddedKafka, postgres: str, tmp_path: Path, codec: Codec
) -> None:
    bootstrap = broker.bootstrap
    log = KafkaLog(bootstrap)
    world = World(kafka=bootstrap, database=postgres, folder=tmp_path, log=log, codec=codec)
    await log.ensure(topics.topics(world.bus, 2, 1))
    async with world.running() as health:
        await world.publish()
        async with world.http("hospital") as http:
            first = await http.post("/v1/referrals", json=BODY, headers={"idempotency-key": "b-1"})
            await asyncio.to_thread(broker.stop)
            away = await http.post("/v1/referrals", json=BODY, headers={"idempotency-key": "b-2"})
            await until(lambda: "kafka" in health.problems())
            at_once = await http.post("/v1/referrals", json=BODY, headers={"idempotency-key": "b-3"})
            forgetting = await http.post("/v1/subjects/forget", json={"subject": "nobody"})
            await asyncio.to_thread(broker.start)
            await until(lambda: not health.problems(), 60.0)
            async with world.client("hospital", patience=60.0) as bus:
                answers = {id: await bus.submit(referral(), id=id) for id in ("b-1", "b-2", "b-3")}
        assert len({answer.referral for answer in answers.values()}) == 3
    assert first.json()["token"] == answers["b-1"].token
    for refused in (away, at_once, forgetting):
        assert told(refused) == (503, "unavailable", None)
        assert int(refused.headers["retry-after"]) >= 1
    said = {received.admitted.id for _, received in await world.inbox()}
    assert {"b-1", "b-2", "b-3"} <= said
    await log.close()


@contextmanager
def away(administration: URL, database: str) -> Iterator[None]:
    """Nobody gets into the database, and who is in is thrown out."""
    name = make_url(database).database or ""
    address = administration.set(drivername="postgresql").render_as_string(hide_password=False)
    allow = sql.SQL("alter database {} with allow_connections {}")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
            )
            yield
        finally:
            connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


async def test_while_the_database_is_away_it_says_so_and_afterwards_the_same_is_taken(
    world: World, postgres_server: URL
) -> None:
    async with world.running() as health:
        await world.publish()
        async with world.http("hospital") as http:
            with away(postgres_server, world.database):
                refused = await http.post("/v1/referrals", json=BODY, headers={"idempotency-key": "r-1"})
                await until(lambda: "database" in health.problems())
                at_once = await http.post("/v1/referrals", json=BODY, headers={"idempotency-key": "r-1"})
        async with world.client("hospital", patience=30.0) as bus:
            assert (await bus.submit(referral(), id="r-1")).submission == "r-1"
        await until(lambda: not health.problems())
        assert len(await world.said()) == 1
    assert told(refused) == told(at_once) == (503, "unavailable", None)
    assert isinstance(health, Health) and health.stuck() == []
