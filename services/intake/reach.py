"""Whether Kafka and PostgreSQL answer, asked all the time, so that a door says 503 at once instead of after a time limit."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.log.port import Log, LogError, Partition, Reader
from referral_bus.runtime.health import Health
from services.intake.outages import OUTAGES

logger = logging.getLogger(__name__)

LOG: Final = "kafka"
DATABASE: Final = "database"

_EVERY_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.0
"""A broker or database that only is slow must not be taken for one that is away."""
_BEAT_SECONDS: Final = 60.0


class Reach:
    """Asks both in :meth:`run` and reports to ``health``; ``partition`` is what the log is asked for."""

    def __init__(self, log: Log, partition: Partition, engine: AsyncEngine, health: Health) -> None:
        self._log = log
        self._partition = partition
        self._engine = engine
        self._health = health
        self._away: dict[str, str] = {}
        self._reader: Reader | None = None

    def away(self) -> str | None:
        """A sentence on what does not answer; None where both do."""
        return next(iter(self._away.values()), None)

    async def run(self) -> None:
        """Until cancelled."""
        self._health.starting(LOG, "was not asked yet")
        self._health.starting(DATABASE, "was not asked yet")
        try:
            while True:
                self._health.beat("reach", _BEAT_SECONDS)
                await asyncio.gather(self._ask_log(), self._ask_database())
                await asyncio.sleep(_EVERY_SECONDS)
        finally:
            self._health.silent("reach")
            if self._reader is not None:
                await self._reader.close()

    async def _ask_log(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                if self._reader is None:
                    self._reader = await self._log.reader(self._partition)
                await self._reader.end()
        except (LogError, TimeoutError):
            self._say(LOG, "Kafka does not answer.")
        else:
            self._say(LOG, None)

    async def _ask_database(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._engine.connect() as connection:
                await connection.execute(text("select 1"))
        except OUTAGES:
            self._say(DATABASE, "The database does not answer.")
        else:
            self._say(DATABASE, None)

    def _say(self, part: str, trouble: str | None) -> None:
        if (self._away.get(part) is None) != (trouble is None):
            logger.log(
                logging.WARNING if trouble else logging.INFO, "%s", trouble or f"the {part} answers again"
            )
        if trouble is None:
            self._away.pop(part, None)
            self._health.ready(part)
        else:
            self._away[part] = trouble
            self._health.starting(part, trouble)
