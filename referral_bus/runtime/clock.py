"""The time of day, injected, so that tests can set it and nothing reads it by itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> int:
        """Epoch milliseconds, UTC. It can be set, forwards or backwards."""

    def elapsed(self) -> int:
        """Milliseconds since some moment before. Nobody sets it."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000

    def elapsed(self) -> int:
        return time.monotonic_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until time passes, or it is set, forwards or backwards."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._elapsed = 0

    def now(self) -> int:
        return self._now

    def elapsed(self) -> int:
        return self._elapsed

    def advance(self, millis: int) -> None:
        """That much time passes."""
        self._now += millis
        self._elapsed += millis

    def set(self, now: int) -> None:
        """It is set, and no time passes."""
        self._now = now
