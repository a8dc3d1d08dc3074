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
