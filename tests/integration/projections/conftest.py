"""Projections on a real broker and a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from referral_bus.access.tokens import jwks_of, new_signing_key
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.secrets import Secrets, new_key, write_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec
from services.projections.settings import ProjectionsSettings
from tests.support.served_views import World
from tests.support.viewing import PARTIES, Region


@pytest.fixture
async def world(kafka: str, postgres: str, tmp_path: Path) -> AsyncIterator[World]:
    bus = f"b{uuid4().hex[:8]}"
    codec, master, signing = Codec.load(), new_key(), new_signing_key()
    log = KafkaLog(kafka)
    await log.ensure(topics.topics(bus, 2, 1, PARTIES))
    (tmp_path / "jwks").write_text(jwks_of(signing))
    derived = Secrets.derive(master, bus)
    engine = new_engine(postgres)
    await migrate(engine, "sealing", "referral_bus.sealing.migrations")
    settings = ProjectionsSettings(
        bus=bus,
        kafka=kafka,
        database_url=SecretStr(postgres),
        master_key=SecretStr(write_key(master)),
        jwks=str(tmp_path / "jwks"),
        port=free_ports(1)[0],
    )
    yield World(
        bus=bus,
        codec=codec,
        log=log,
        engine=engine,
        sealer=Sealer(codec),
        keys=KeyStore(engine, {"facts": derived.facts_key, "identity": derived.identity_key}),
        signing=signing,
        settings=settings,
        north=Region("north", 0, topics.ledger(bus)),
        south=Region("south", 1, topics.ledger(bus)),
        folder=tmp_path,
    )
    async with engine.begin() as connection:
        for schema in ("projections", "projections_next", "projections_former", "sealing"):
            await connection.execute(text(f"drop schema if exists {schema} cascade"))
    await engine.dispose()
    await log.close()
