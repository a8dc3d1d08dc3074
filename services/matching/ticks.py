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
from referral_bus.runtime import metrics
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
        self._ahead = 0
        """How far the broker's clock is ahead of ours, as of the last tick."""

    async def run(self, owned: Mapping[Partition, PartitionWork]) -> None:
        """Until cancelled. While the log is away nothing falls due: what should have does when it is back."""
        while True:
            try:
                await self.put(list(owned.values()))
            except LogError as error:
                logger.warning("ticks could not be put and are tried again: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def put(self, works: list[PartitionWork]) -> None:
        """Put a tick for each region in which something is due now. Raises LogError."""
        now = self._clock.now() + self._ahead
        pending = [
            (work.partition, region, due) for work in works for region, due in work.next_due() if due <= now
        ]
        wanted = [one for one in pending if self._again.get(one[1:], 0) <= now]
        self._again = {one[1:]: self._again[one[1:]] for one in pending if one[1:] in self._again}
        if not wanted:
            return
        sent = self._clock.now()
        positions = await self._appender.append(
            [self._tick(partition, region, due, sent) for partition, region, due in wanted]
        )
        metrics.TICKS.inc(len(positions))
        for (_, region, due), position in zip(wanted, positions, strict=True):
            self._ahead = position.timestamp - self._clock.now()
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
