"""What time it is for deliveries: the database's, which all processes of the notifier share.

Leases and retries are times in the database that one process writes and another reads: by its own clock, one that is ten minutes ahead
would keep a delivery, and with it the rest of a feed, from everybody for ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.runtime.clock import Clock
from referral_bus.store.engine import time_of

logger = logging.getLogger(__name__)

_ASK_SECONDS: Final = 10.0


class DatabaseClock:
    """The database's time as of when it was last asked, and what has passed since by ``own``, which nobody sets."""

    def __init__(self, engine: AsyncEngine, own: Clock) -> None:
        self._engine = engine
        self._own = own
        self._ahead = 0
        """How far the database's time is ahead of what has passed by our own."""

    def now(self) -> int:
        return self._own.elapsed() + self._ahead

    def elapsed(self) -> int:
        return self._own.elapsed()

    async def ask(self) -> None:
        """Ask the database. To be done once before anybody wants to know the time. Raises what the database raises."""
        async with self._engine.connect() as connection:
            asked_at = self._own.elapsed()
            now = await time_of(connection)
        self._ahead = now - asked_at

    async def run(self) -> None:
        """Ask again and again, until cancelled; while the database is away, time goes on from what it said last."""
        while True:
            await asyncio.sleep(_ASK_SECONDS)
            try:
                await self.ask()
            except (SQLAlchemyError, OSError) as error:
                logger.warning("the database was not asked for the time: %s", type(error).__name__)
