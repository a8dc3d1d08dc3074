"""The notifier's tables, in PostgreSQL and in memory, with the same subscriptions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from services.notifier import tables
from tests.support.memory_notifier import NotifierTables, Subscribed
from tests.support.told_tables import FEEDS, SUBSCRIPTIONS, InMemory, InPostgres, Side


async def subscribe(engine: AsyncEngine, subscriptions: Sequence[Subscribed]) -> None:
    rows = [
        {"subscription": one.subscription, "organisation": one.organisation, "channel": one.channel, "role": one.role,
         "types": None if one.types is None else list(one.types), "url": one.url, "sealed_secret": one.sealed_secret,
         "created_at": 0}
        for one in subscriptions
    ]  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(insert(tables.subscriptions), rows)


@pytest.fixture
async def engine(postgres: str) -> AsyncIterator[AsyncEngine]:
    """PostgreSQL, subscribed to."""
    engine = new_engine(postgres)
    await migrate(engine, tables.SCHEMA, "services.notifier.migrations")
    await subscribe(engine, SUBSCRIPTIONS)
    yield engine
    names = ", ".join(f"{tables.SCHEMA}.{name}" for name in (t.name for t in tables.metadata.tables.values()))
    async with engine.begin() as connection:
        await connection.execute(text(f"truncate {names}"))
    await engine.dispose()


@pytest.fixture(params=["memory", "postgres"])
def side(request: pytest.FixtureRequest) -> Side:
    if request.param == "memory":
        return InMemory(NotifierTables(list(SUBSCRIPTIONS)))
    return InPostgres(request.getfixturevalue("engine"))


@pytest.fixture
async def fed(side: Side) -> Side:
    """The same, with two who read their feed besides."""
    if isinstance(side, InMemory):
        side.tables.subscriptions.extend(FEEDS)
    elif isinstance(side, InPostgres):
        await subscribe(side.engine, FEEDS)
    return side
