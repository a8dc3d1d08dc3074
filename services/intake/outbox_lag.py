"""What operations see of the Kafka door: how far behind it is, whether it gets on, and whether any one outbox does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from referral_bus.log.port import GroupMember, LogError, Partition
from referral_bus.runtime import metrics

logger = logging.getLogger(__name__)

_NAMED_SECONDS: Final = 300.0


class OutboxLag:
    """Of the outboxes this process reads. No number is of one organisation: a label for each would grow without bound. Which outbox it is
    that stands still, the log says."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waits: dict[Partition, tuple[int, float]] = {}
        """Of each outbox on which records wait: up to where it is handled, and since when."""
        self._named: set[Partition] = set()

    async def tell(
        self, member: GroupMember, under_way: Collection[Partition], resting: Collection[Partition]
    ) -> None:
        """``under_way`` are outboxes of which records were read and are not handled; ``resting`` those that wait by right."""
        now = self._monotonic()
        try:
            lags = await member.lag()
            committed = await member.committed(lags)
        except LogError as error:
            # What stood still is taken to do so still.
            logger.warning("the lag is not known: %s", error)
        else:
            metrics.LAG.labels(topic="outboxes", partition="all").set(sum(lags.values()))
            metrics.POSITION.labels(topic="outboxes", partition="all").set(sum(committed.values()))
            waiting = {partition for partition, lag in lags.items() if lag or partition in under_way}
            self._waits = {
                partition: self._since(partition, committed[partition], now)
                for partition in waiting.difference(resting)
            }
        still = {partition: now - since for partition, (_, since) in self._waits.items()}
        metrics.OUTBOX_STILL_SECONDS.set(max(still.values(), default=0.0))
        self._name({partition for partition, seconds in still.items() if seconds >= _NAMED_SECONDS})

    def _since(self, partition: Partition, handled: int, now: float) -> tuple[int, float]:
        before = self._waits.get(partition)
        return before if before is not None and before[0] == handled else (handled, now)

    def _name(self, still: set[Partition]) -> None:
        for partition in sorted(still - self._named):
            logger.warning(
                "%s has stood still for %.0f s, though records wait on it", partition.topic, _NAMED_SECONDS
            )
        self._named = still
