"""A bus as intake sees it, on a real broker and a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from tests.support.admitting import World


@pytest.fixture
async def world(kafka: str, postgres: str, tmp_path: Path, codec: Codec) -> AsyncIterator[World]:
    log = KafkaLog(kafka)
    world = World(kafka=kafka, database=postgres, folder=tmp_path, log=log, codec=codec)
    await log.ensure(topics.topics(world.bus, 2, 1))
    yield world
    await log.close()
    engine = new_engine(postgres)
    async with engine.begin() as connection:
        await connection.execute(text("drop schema if exists intake cascade"))
        await connection.execute(text("drop schema if exists sealing cascade"))
    await engine.dispose()
