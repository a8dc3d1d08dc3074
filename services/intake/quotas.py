"""How much one organisation may send, so that it can't stop the rest: a token bucket for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Quotas:
    """``per_second`` submissions for long, ``burst`` at once. Of one process: several take so many times as much."""

    def __init__(
        self, per_second: float, burst: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._monotonic = monotonic
        self._buckets: dict[str, _Bucket] = {}

    def take(self, organisation: str, count: int) -> float:
        """0.0 where so many may be sent now, and then they are counted; else the seconds after which they may."""
        bucket = self._filled(organisation)
        if count <= bucket.left:
            bucket.left -= count
            return 0.0
        return (count - bucket.left) / self._per_second

    def owe(self, organisation: str, count: int) -> float:
        """Count so many that came already; the seconds until the organisation owes nothing any more."""
        bucket = self._filled(organisation)
        bucket.left -= count
        return max(0.0, -bucket.left / self._per_second)

    def _filled(self, organisation: str) -> _Bucket:
        now = self._monotonic()
        bucket = self._buckets.setdefault(organisation, _Bucket(self._burst, now))
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._per_second)
        bucket.at = now
        return bucket
