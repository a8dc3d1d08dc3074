"""The engine to PostgreSQL, with time limits on everything that could wait for ever."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

CONNECT_SECONDS = 5
STATEMENT_MS = 30_000
_NOW = text("select (extract(epoch from clock_timestamp()) * 1000)::bigint")


def new_engine(url: str, pool_size: int = 8) -> AsyncEngine:
    """An engine for ``postgresql+psycopg://`` addresses. Connections are checked before use, so a restarted database is noticed.
    Statement parameters stay out of error messages."""
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c statement_timeout={STATEMENT_MS} -c timezone=UTC",
        },
    )


async def time_of(connection: AsyncConnection) -> int:
    """What time the database has, in epoch milliseconds."""
    now: int = (await connection.execute(_NOW)).scalar_one()
    return now
