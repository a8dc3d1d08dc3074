"""The time of day, injected, so that tests can set it and nothing reads it by itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> int:
        """Epoch milliseconds, UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that stands still until it is moved, forwards or backwards."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def advance(self, millis: int) -> None:
        self._now += millis

    def set(self, now: int) -> None:
        self._now = now
