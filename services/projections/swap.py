"""Putting views that were made anew in the place of those that serve, in one transaction.

PostgreSQL resolves names anew after a schema is renamed, also for statements that were prepared before, so processes that run go
on with the new tables. A writer is stopped by its position: it is held still, and its epoch is passed, so that its next write
is refused and it claims anew, as after any other owner.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from referral_bus.log.port import Partition
from services.projections.tables import FORMER_SCHEMA, NEXT_SCHEMA, SCHEMA, SERVING, ViewTables

_LOCK_SECONDS: Final = 10
_SWAPPING: Final = 0x7265_6662_7573_0001
_REBUILDING: Final = 0x7265_6662_7573_0002
"""Advisory locks: nothing may be swapped just now; a rebuild is under way."""

Reach = Callable[[Mapping[Partition, int]], Awaitable[None]]
"""Brings the new views to at least these positions, and to what follows no further than needed."""


@asynccontextmanager
async def unswapped(engine: AsyncEngine) -> AsyncIterator[None]:
    """While this holds, no views are swapped."""
    async with _session(engine) as connection:
        await connection.execute(select(func.pg_advisory_lock_shared(_SWAPPING)))
        try:
            yield
        finally:
            await connection.execute(select(func.pg_advisory_unlock_shared(_SWAPPING)))


@asynccontextmanager
async def only_rebuild(engine: AsyncEngine) -> AsyncIterator[bool]:
    """Whether this is the only rebuild; it stays so while this holds."""
    async with _session(engine) as connection:
        alone = bool(await connection.scalar(select(func.pg_try_advisory_lock(_REBUILDING))))
        try:
            yield alone
        finally:
            if alone:
                await connection.execute(select(func.pg_advisory_unlock(_REBUILDING)))


async def swap(engine: AsyncEngine, following: ViewTables, reach: Reach) -> None:
    """Bring the new views level with those that serve, whose writers are held still meanwhile, and put them in their place.

    Raises what ``reach`` raises, and SQLAlchemy's errors where the views could not be held still in time: then nothing changed.
    """
    async with engine.begin() as connection:
        await connection.execute(text(f"set local lock_timeout = '{_LOCK_SECONDS}s'"))
        await connection.execute(select(func.pg_advisory_xact_lock(_SWAPPING)))
        # Readers go on; whoever would write waits here for the commit, and is then refused.
        await connection.execute(text(f"lock table {SERVING.positions.fullname} in exclusive mode"))
        serving = await _rows(connection, SERVING)
        await reach({partition: position for partition, (_, position) in serving.items()})
        positions = following.positions.c
        for partition, (epoch, _) in serving.items():
            await connection.execute(
                update(following.positions)
                .where(positions.topic == partition.topic, positions.partition == partition.number)
                .values(epoch=func.greatest(positions.epoch, epoch) + 1)
            )
        await connection.execute(text(f"drop schema if exists {FORMER_SCHEMA} cascade"))
        await connection.execute(text(f"alter schema {SCHEMA} rename to {FORMER_SCHEMA}"))
        await connection.execute(text(f"alter schema {NEXT_SCHEMA} rename to {SCHEMA}"))
    # In a transaction of its own: no query names these tables any more, so none can wait for another crosswise.
    await drop(engine, FORMER_SCHEMA)


async def drop(engine: AsyncEngine, schema: str) -> None:
    """Drop a schema of views, if it is there."""
    async with engine.begin() as connection:
        await connection.execute(text("set local statement_timeout = 0"))
        await connection.execute(text(f"drop schema if exists {schema} cascade"))


async def _rows(connection: AsyncConnection, tables: ViewTables) -> dict[Partition, tuple[int, int]]:
    positions = tables.positions.c
    rows = await connection.execute(
        select(positions.topic, positions.partition, positions.epoch, positions.next)
    )
    return {Partition(row.topic, row.partition): (row.epoch, row.next) for row in rows}


@asynccontextmanager
async def _session(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for locks that belong to the session and not to a transaction, which would hold back what is old."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("set statement_timeout = 0"))
        yield connection
