"""The clock of matching: when a due time has passed, a tick goes to the region's own inbox, and its append time decides.

Time is an input like any other, so that the ledger can be decided again. A tick too many does no harm: it finds nothing due.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

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


class _Heard(NamedTuple):
    """A broker's clock as of a tick, and what of ours cannot be set at that moment: the time of day here may be wrong."""

    then: int
    elapsed: int


class _Put(NamedTuple):
    """The last tick for a region's due time: where it is, and when it is put again, by the broker's clock."""

    offset: int
    again: int


class _Expected(NamedTuple):
    """What falls due next in a region."""

    partition: int
    region: str
    due: int
    left_over: int
    """The offset of the last tick that left something for another."""


class Ticks:
    """Puts the ticks of the partitions this process owns."""

    def __init__(self, appender: Appender, bus: str, codec: Codec, clock: Clock) -> None:
        self._appender = appender
        self._topic = topics.inbox(bus)
        self._codec = codec
        self._clock = clock
        self._put: dict[tuple[str, int], _Put] = {}
        self._heard: dict[int, _Heard] = {}
        """By partition, since each is led by a broker of its own."""

    async def run(self, owned: Mapping[Partition, PartitionWork]) -> None:
        """Until cancelled. While the log is away nothing falls due: what should have does when it is back."""
        while True:
            try:
                await self.put(list(owned.values()))
            except LogError as error:
                logger.warning("ticks could not be put and are tried again: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def put(self, works: list[PartitionWork]) -> None:
        """Put a tick for each region in which something is due now, and the first one of a partition to hear what time it is. Raises
        LogError."""
        # What is taken anew may be led by another broker since.
        self._heard = {one.partition: heard for one in works if (heard := self._heard.get(one.partition))}
        expected: dict[int, list[_Expected]] = {}
        for work in works:
            for region, due in work.next_due():
                left_over = work.left_over.get(region, -1)
                one = _Expected(work.partition, region, due, left_over)
                expected.setdefault(work.partition, []).append(one)
        wanted, pending = [], set()
        for partition, of_one in expected.items():
            now = self._now(partition)
            if now is None:
                wanted.append(min(of_one, key=lambda one: one.due))
                continue
            due_now = [one for one in of_one if one.due <= now]
            wanted += [one for one in due_now if self._is_wanted(one, now)]
            pending |= {(one.region, one.due) for one in due_now}
        self._put = {key: put for key, put in self._put.items() if key in pending}
        if wanted:
            await self._append(wanted)

    def _is_wanted(self, one: _Expected, now: int) -> bool:
        put = self._put.get((one.region, one.due))
        return put is None or put.again <= now or put.offset <= one.left_over

    def _now(self, partition: int) -> int | None:
        """The time of the partition's broker, as far as it is known."""
        heard = self._heard.get(partition)
        return None if heard is None else heard.then + self._clock.elapsed() - heard.elapsed

    async def _append(self, wanted: list[_Expected]) -> None:
        sent = self._clock.now()
        positions = await self._appender.append(
            [self._tick(one.partition, one.region, one.due, sent) for one in wanted]
        )
        for one, position in zip(wanted, positions, strict=True):
            self._heard[one.partition] = _Heard(position.timestamp, self._clock.elapsed())
            # By the broker's clock it is not due yet where that one is behind: then it is put again as soon as it is.
            again = one.due if position.timestamp < one.due else position.timestamp + REPEAT_MS
            self._put[one.region, one.due] = _Put(position.offset, again)

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
