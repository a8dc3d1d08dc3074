"""The relay of reference data: what is published once is put to every region's inbox, in the order of the reference topic, but for what
others name: that goes before all that may name it.

One process relays at a time: it holds an advisory lock on the very connection it writes its positions with, so who loses the one loses
the other. Where two relay nonetheless, regions recognise the repeat by the submission's id.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from referral_bus.contracts.inbox import AdoptReference
from referral_bus.log.port import Appender, Outgoing
from referral_bus.runtime import metrics
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.health import Health
from referral_bus.sealing.digest import body_digest
from referral_bus.sealing.secrets import Secrets
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record
from services.intake.outages import OUTAGES
from services.intake.reference import NAMED, Publication, ReferenceView, adoption, identity

logger = logging.getLogger(__name__)

_AT_ONCE: Final = 500
_LOOK_SECONDS: Final = 5.0
"""How often the one that relays makes sure of its lock, and the others try for it."""
_RETRY_SECONDS: Final = 1.0
_BEAT_SECONDS: Final = 120.0

_LOCK = text("SELECT pg_try_advisory_lock(:key)")
_POSITIONS = text("SELECT region, next_offset FROM intake.relayed")
_MOVE = text("""
INSERT INTO intake.relayed AS r (region, next_offset) VALUES (:region, :next)
ON CONFLICT (region) DO UPDATE SET next_offset = excluded.next_offset
""")


class Relay:
    """Follows ``view``. ``topic`` is the inbox."""

    def __init__(
        self,
        *,
        view: ReferenceView,
        appender: Appender,
        engine: AsyncEngine,
        codec: Codec,
        secrets: Secrets,
        clock: Clock,
        health: Health,
        bus: str,
        topic: str,
    ) -> None:
        self._view = view
        self._appender = appender
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._codec = codec
        self._secrets = secrets
        self._clock = clock
        self._health = health
        self._topic = topic
        digest = hashlib.sha256(f"refbus-relay-{bus}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    async def run(self) -> None:
        """Until cancelled; outages are waited out."""
        await self._view.caught_up()
        try:
            while True:
                self._health.beat("relay", _BEAT_SECONDS)
                try:
                    async with self._alone() as connection:
                        if connection is None:
                            await asyncio.sleep(_LOOK_SECONDS)
                        else:
                            await self._relay(connection)
                except OUTAGES as error:
                    logger.warning("reference data is not relayed now: %s", type(error).__name__)
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._health.silent("relay")

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[AsyncConnection | None]:
        """A connection that holds the lock; None where another process does."""
        async with self._engine.connect() as connection:
            if not await connection.scalar(_LOCK, {"key": self._key}):
                yield None
                return
            try:
                yield connection
            finally:
                # Closed rather than given back to the pool: the lock goes with it.
                await connection.invalidate()

    async def _relay(self, connection: AsyncConnection) -> None:
        while True:
            self._health.beat("relay", _BEAT_SECONDS)
            seen = self._view.next
            rows = await connection.execute(_POSITIONS)
            positions = {region: int(next) for region, next in rows}
            for region, partition in sorted(self._view.reference.regions.items()):
                await self._put(connection, region, partition, positions.get(region, 0), seen)
            await self._view.beyond(seen, _LOOK_SECONDS)

    async def _put(
        self, connection: AsyncConnection, region: str, partition: int, position: int, seen: int
    ) -> None:
        if position == seen:
            return
        # A position beyond the topic's end is of another log: the region is put everything.
        start = position if position < seen else 0
        # What is named may have a later version than what names it, and would come too late to a region that is put everything. Nothing
        # but what can be named goes ahead: among protocols the one adopted last counts.
        due = sorted(
            (one for one in self._view.reference.current.values() if start <= one.offset < seen), key=_turn
        )
        records = [record for one in due if (record := self._record(one, region, partition)) is not None]
        for at in range(0, len(records), _AT_ONCE):
            await self._appender.append(records[at : at + _AT_ONCE])
        for one in due:
            metrics.RELAYED.labels(kind=identity(one.message)[0]).inc()
        await connection.execute(_MOVE, {"region": region, "next": seen})

    def _record(self, publication: Publication, region: str, partition: int) -> Outgoing | None:
        body = adoption(publication.message)
        if body is None:
            return None
        return submission_record(
            body,
            codec=self._codec,
            topic=self._topic,
            partition=partition,
            region=region,
            id=_id(body),
            organisation=publication.publisher,
            # When it is put to the region: one that is new would refuse what was published long ago as too old.
            sent_at=self._clock.now(),
            digest=body_digest(self._secrets.digest_key, body.event_type(), body),
            about=body.reference,
        )


def _turn(publication: Publication) -> tuple[int, int]:
    """What is named comes before all that may name it."""
    named = (turn for turn, kind in enumerate(NAMED) if isinstance(publication.message, kind))
    return next(named, len(NAMED)), publication.offset


def _id(body: AdoptReference) -> str:
    return f"{body.kind}.{body.reference}.v{body.version}"
