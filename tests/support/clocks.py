"""The time of day as a test says it is."""

from __future__ import annotations


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
