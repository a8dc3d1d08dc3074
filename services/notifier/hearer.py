"""What is done with each ledger record: decoded, and reflected in SQL, which wakes those who wait. The dead-letter guard of the stream.

A record that can't be understood is never passed over: it stops the notifier, since whoever should hear of it would not. A database
that fails is tried until it answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from referral_bus.contracts.ledger import KeyDestroyed
from referral_bus.log.port import Log, LogError, Partition, Record
from referral_bus.runtime import tracing
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.health import Health
from referral_bus.sealing.port import Keys, KeyStoreUnavailable
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from services.notifier.fold import Fold, Gap, Located

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")

PART: Final = "ledger"
"""Ready once all is heard that was there when its partitions came."""
STORE: Final = "store"
"""Ready while the database takes what is heard."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 10.0
_READ_AT_ONCE: Final = 500
_READ_SECONDS: Final = 5.0


class LedgerUnreadable(Exception):
    """The ledger holds something this notifier can't reflect. The message says where and what to do."""


class Hearer:
    """Handles ledger records, a batch at a time."""

    def __init__(
        self, *, log: Log, fold: Fold, codec: Codec, keys: Keys, clock: Clock, health: Health
    ) -> None:
        self._log = log
        self._fold = fold
        self._codec = codec
        self._keys = keys
        self._clock = clock
        self._health = health

    async def handle(self, records: Sequence[Record]) -> None:
        """Returns once the records are reflected in SQL, now or before. Raises LedgerUnreadable or UnheardOf, and LogError where
        events that are missing can't be read."""
        with tracing.tracer().reading(tracing.HEAR, records):
            await self._hear(records)

    async def _hear(self, records: Sequence[Record]) -> None:
        batch: list[Located] = []
        for record in records:
            try:
                batch.append(self._located(record))
            except LedgerUnreadable:
                await self._reflect(batch, record.topic)
                raise
        await self._reflect(batch, records[0].topic)

    def _located(self, record: Record) -> Located:
        try:
            return Located(self._codec.decode_entry(record.value), record.partition, record.offset)
        except WireError as error:
            raise LedgerUnreadable(
                f"{record.topic}/{record.partition}/{record.offset} can't be read: {error}. Nobody hears of anything after it "
                "until this is mended: is a newer version of matching running than of the notifier?"
            ) from error

    async def _reflect(self, batch: Sequence[Located], topic: str) -> None:
        for gap in await self._applied(batch):
            await self._caught_up(gap, batch, topic)

    async def _caught_up(self, gap: Gap, batch: Sequence[Located], topic: str) -> None:
        """Reflect what a region misses, and what of it stands in the batch behind that. It misses events more than once where the stream
        lost some at each of several rebalances."""
        region = [one for one in batch if one.entry.meta.region == gap.region]
        while True:
            await self._close(gap, topic)
            # With the event that showed it: where that can't go on still, what it misses is not on the ledger.
            found = gap.found.offset
            gaps = await self._applied([one for one in region if one.offset >= found])
            if not gaps:
                return
            [gap] = gaps
            if gap.found.offset <= found:
                raise LedgerUnreadable(
                    f"{topic}/{gap.found.partition} lacks events of region {gap.region} before offset {found}: run 'refbus verify'"
                )

    async def _applied(self, batch: Sequence[Located]) -> list[Gap]:
        """Reflect the events."""
        gone = {one.entry.event.subject for one in batch if isinstance(one.entry.event, KeyDestroyed)}
        if gone:
            # Intake does it too, but where it ended before that, nobody else would until a service starts anew.
            await self._done(lambda: self._keys.destroy(gone))
        return await self._done(lambda: self._fold.apply(batch, self._clock.now()))

    async def _done(self, work: Callable[[], Awaitable[_Found]]) -> _Found:
        """Do it, however long the database takes to come back."""
        pause = _FIRST_PAUSE
        while True:
            try:
                found = await work()
            except (OperationalError, InterfaceError, PoolTimeout, OSError, KeyStoreUnavailable) as error:
                self._health.starting(STORE, "the database does not answer")
                logger.warning("the ledger waits for the database: %s", type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
            else:
                self._health.ready(STORE)
                return found

    async def _close(self, gap: Gap, topic: str) -> None:
        """Read what a region misses from the ledger itself, up to the event that showed it."""
        found = gap.found
        logger.warning(
            "%s/%d: events of region %s before offset %d are missing and are read from offset %d on",
            topic,
            found.partition,
            gap.region,
            found.offset,
            gap.next_offset,
        )
        reader = await self._log.reader(Partition(topic, found.partition))
        start = gap.next_offset
        try:
            while start <= found.offset:
                records = await reader.read(start, _READ_AT_ONCE, _READ_SECONDS)
                missed = [
                    one
                    for one in map(self._located, records)
                    if one.entry.meta.region == gap.region and one.offset <= found.offset
                ]
                if missed and await self._applied(missed):
                    raise LedgerUnreadable(
                        f"{topic}/{found.partition} lacks events of region {gap.region} between offsets {start} and "
                        f"{found.offset}: run 'refbus verify'"
                    )
                if not records and reader.position() <= start:
                    raise LogError(
                        f"{topic}/{found.partition} gave nothing from offset {start}: is the broker up?"
                    )
                start = reader.position()
        finally:
            await reader.close()
