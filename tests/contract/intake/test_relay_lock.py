"""What intake's relay relies on, in PostgreSQL and in memory: one holds the lock, and loses it with the connection it writes with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from services.intake.outages import OUTAGES
from services.intake.relay import _LOCK, _MOVE, _POSITIONS
from tests.support.memory_database import Beside
from tests.support.memory_intake import IntakeTables, RelayEngine

KEY = {"key": 4711}


class Side(Protocol):
    """Gives connections, each of a process of its own, and kills the process of one."""

    async def connection(self) -> Any: ...

    async def kill(self, connection: Any) -> None: ...


@dataclass
class Process:
    dead: bool = False


class InMemory:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack, self._tables = stack, IntakeTables()

    async def connection(self) -> Any:
        return await self._stack.enter_async_context(RelayEngine(Process(), Beside(), self._tables).connect())

    async def kill(self, connection: Any) -> None:
        connection._process.dead = True


class InPostgres:
    def __init__(self, stack: AsyncExitStack, engine: AsyncEngine) -> None:
        self._stack = stack
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def connection(self) -> Any:
        return await self._stack.enter_async_context(self._engine.connect())

    async def kill(self, connection: Any) -> None:
        pid = await connection.scalar(text("select pg_backend_pid()"))
        async with self._engine.connect() as other:
            await other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


@pytest.fixture(params=["memory", "postgres"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield InMemory(stack)
            return
        engine = new_engine(request.getfixturevalue("postgres"))
        stack.push_async_callback(engine.dispose)
        await migrate(engine, "intake", "services.intake.migrations")
        async with engine.begin() as connection:
            await connection.execute(text("truncate intake.relayed"))
        yield InPostgres(stack, engine)


async def positions(connection: Any) -> dict[str, int]:
    return {region: int(following) for region, following in await connection.execute(_POSITIONS)}


async def comes_to_hold(connection: Any) -> None:
    """A server finds out in a moment that somebody is gone."""
    async with asyncio.timeout(20):
        while not await connection.scalar(_LOCK, KEY):
            await asyncio.sleep(0.02)


async def test_a_position_moves_and_whoever_comes_later_finds_it(side: Side) -> None:
    one = await side.connection()
    assert await positions(one) == {}
    for region, following in (("north", 3), ("south", 4), ("north", 9)):
        await one.execute(_MOVE, {"region": region, "next": following})
    assert await positions(one) == await positions(await side.connection()) == {"north": 9, "south": 4}


async def test_one_holds_the_lock_and_the_others_do_not(side: Side) -> None:
    one, other = await side.connection(), await side.connection()
    assert await one.scalar(_LOCK, KEY)
    assert not await other.scalar(_LOCK, KEY)
    assert await one.scalar(_LOCK, KEY), "it has it already"
    assert not await other.scalar(_LOCK, KEY)


async def test_who_closes_its_connection_gives_the_lock_up_and_can_write_no_more(side: Side) -> None:
    one, other = await side.connection(), await side.connection()
    await one.scalar(_LOCK, KEY)
    await one.invalidate()
    await comes_to_hold(other)
    with pytest.raises((SQLAlchemyError, OSError)):
        await one.execute(_MOVE, {"region": "north", "next": 3})
    assert await positions(other) == {}


async def test_who_is_killed_holds_no_lock(side: Side) -> None:
    one, other = await side.connection(), await side.connection()
    await one.scalar(_LOCK, KEY)
    await side.kill(one)
    await comes_to_hold(other)


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_a_database_that_is_away_is_waited_out(kind: str) -> None:
    database = Beside()
    database.away = True
    engine: Any = RelayEngine(Process(), database, IntakeTables())
    if kind == "postgres":
        engine = new_engine("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(OUTAGES):
        async with engine.connect() as connection:
            await connection.scalar(_LOCK, KEY)
