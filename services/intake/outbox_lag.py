"""What operations see of the Kafka door: how far behind it is, whether it gets on, and whether any one outbox does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from referral_bus.log.port import Partition
from referral_bus.runtime import metrics
from referral_bus.runtime.claims import Claim

logger = logging.getLogger(__name__)

_NAMED_SECONDS: Final = 300.0


@dataclass(slots=True, eq=False)
class OutboxClaim(Claim):
    """Of one outbox. It is handled up to where all is settled, and stored to be."""

    rests: bool = False
    """Its organisation sent more than its quota, so it waits by right."""


class OutboxLag:
    """Of the outboxes this process reads. No number is of one organisation: a label for each would grow without bound. Which outbox it is
    that stands still, the log says."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._waits: dict[Partition, tuple[int, float]] = {}
        """Of each outbox on which records wait: up to where it is handled, and since when."""
        self._named: set[Partition] = set()

    def tell(self, lags: Mapping[Partition, int] | None, claims: Mapping[Partition, OutboxClaim]) -> None:
        """``lags`` are offsets from what was read to the end, or None where they are not known: what waited is taken to do so still."""
        now = self._monotonic()
        known = lags or {}
        behind = {
            partition: known.get(partition, 0) + claim.read - claim.handled
            for partition, claim in claims.items()
        }
        if not claims:
            # Others have them, and say how it stands with them.
            metrics.LAG.remove("outboxes", "all")
            metrics.POSITION.remove("outboxes", "all")
        else:
            handled = sum(claim.handled for claim in claims.values())
            metrics.POSITION.labels(topic="outboxes", partition="all").set(handled)
            if lags is not None:
                metrics.LAG.labels(topic="outboxes", partition="all").set(sum(behind.values()))
        self._waits = {
            partition: self._since(partition, claim.handled, now)
            for partition, claim in claims.items()
            if not claim.rests and (behind[partition] or (lags is None and partition in self._waits))
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
