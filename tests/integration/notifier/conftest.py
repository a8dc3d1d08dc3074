"""A bus as the notifier sees it, on a real broker and a real database."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from referral_bus.access.tokens import jwks_of, new_signing_key
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.secrets import Secrets, new_key, write_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec
from services.notifier.settings import NotifierSettings
from tests.support.notifying import PARTIES, Ledger, World, receiving


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = NotifierSettings(
        bus=bus,
        kafka=kafka,
        database_url=SecretStr(postgres),
        master_key=SecretStr(write_key(master)),
        jwks=str(tmp_path / "jwks"),
        port=port,
        webhook_allow_http_loopback=True,
        webhook_first_retry_seconds=0.05,
        webhook_longest_retry_seconds=0.2,
        stream_heartbeat_seconds=1.0,
    )
    yield World(
        bus=bus,
        kafka=kafka,
        database=postgres,
        codec=codec,
        log=log,
        ledger=Ledger(log, bus, codec),
        sealer=Sealer(codec),
        keys=KeyStore(engine, {"facts": derived.facts_key, "identity": derived.identity_key}),
        organisation_keys={name: new_encryption_keys() for name in PARTIES},
        signing=signing,
        settings=settings,
    )
    async with engine.begin() as connection:
        await connection.execute(text("drop schema if exists notifier, sealing cascade"))
    await engine.dispose()
    await log.close()


@pytest.fixture
async def receivers() -> AsyncIterator[Callable[[], Any]]:
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(receiving())
