"""The clock of matching: when a due time has passed, a tick goes to the region's own inbox, and its append time decides.

Time is an input like any other, so that the ledger can be decided again. A tick too many does no harm: it finds nothing due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from referral_bus.contracts.inbox import Tick
from referral_bus.log import topics
from referral_bus.log.port import Appender, LogError, Outgoing, Partition
from referral_bus.runtime.clock import Clock
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record
from services.matching.partition import PartitionWork

logger = logging.getLogger(__name__)

SOURCE: Final = "matching"
LOOK_SECONDS: Final = 0.05
"""How late an expiry may be for that reason."""
REPEAT_MS: Final = 2_000
"""How long a tick is given to be decided before it is put again."""


class Ticks:
    """Puts the ticks of the partitions this process owns."""

    def __init__(self, appender: Appender, bus: str, codec: Codec, clock: Clock) -> None:
        self._appender = appender
        self._topic = topics.inbox(bus)
        self._codec = codec
        self._clock = clock
        self._again: dict[tuple[str, int], int] = {}
        """When a tick for a region's due time is put again, by the broker's clock."""
        self._heard: tuple[int, int] | None = None
        """The broker's clock as of the last tick, and what of ours cannot be set at that moment: the time of day here may be wrong."""

    async def run(self, owned: Mapping[Partition, PartitionWork]) -> None:
        """Until cancelled. While the log is away nothing falls due: what should have does when it is back."""
        while True:
            try:
                await self.put(list(owned.values()))
            except LogError as error:
                logger.warning("ticks could not be put and are tried again: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def put(self, works: list[PartitionWork]) -> None:
        """Put a tick for each region in which something is due now, and the first one to hear what time it is. Raises LogError."""
        expected = [(work.partition, region, due) for work in works for region, due in work.next_due()]
        if not expected:
            return
        now = self._now()
        if now is None:
            await self._append([min(expected, key=lambda one: one[2])])
            return
        pending = [one for one in expected if one[2] <= now]
        wanted = [one for one in pending if self._again.get(one[1:], 0) <= now]
        self._again = {one[1:]: self._again[one[1:]] for one in pending if one[1:] in self._again}
        if wanted:
            await self._append(wanted)

    def _now(self) -> int | None:
        """The broker's time, as far as it is known."""
        if self._heard is None:
            return None
        then, elapsed = self._heard
        return then + self._clock.elapsed() - elapsed

    async def _append(self, wanted: list[tuple[int, str, int]]) -> None:
        sent = self._clock.now()
        positions = await self._appender.append(
            [self._tick(partition, region, due, sent) for partition, region, due in wanted]
        )
        for (_, region, due), position in zip(wanted, positions, strict=True):
            self._heard = position.timestamp, self._clock.elapsed()
            # By the broker's clock it is not due yet where that one is behind: then it is put again as soon as it is.
            self._again[region, due] = due if position.timestamp < due else position.timestamp + REPEAT_MS

    def _tick(self, partition: int, region: str, due: int, sent: int) -> Outgoing:
        return submission_record(
            Tick(region=region, due=due),
            codec=self._codec,
            topic=self._topic,
            partition=partition,
            region=region,
            id=f"tick.{region}.{due}",
            organisation=SOURCE,
            sent_at=sent,
            digest=b"",
            about=region,
        )
