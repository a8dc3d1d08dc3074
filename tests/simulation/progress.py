"""How far something long has come: a line every few seconds, on a terminal one that is written over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

EVERY_SECONDS: Final = 5.0
EVERY_SECONDS_ON_A_TERMINAL: Final = 0.5
_CLEARED: Final = "\r\x1b[K"


class Progress:
    """Says it on ``out``, apart from what comes of it."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._began = self._said_at = clock()
        self._live = self._out.isatty()
        self.every = EVERY_SECONDS_ON_A_TERMINAL if self._live else EVERY_SECONDS

    def say(self, text: Callable[[], str]) -> None:
        """Say it, unless something was said just before."""
        now = self._clock()
        if now - self._said_at >= self.every:
            self._said_at = now
            self._out.write(f"{_CLEARED}{text()}" if self._live else f"{text()}\n")
            self._out.flush()

    def clear(self) -> None:
        """Make room for a line of another kind, or for the end."""
        if self._live:
            self._out.write(_CLEARED)
            self._out.flush()

    def pace(self, done: int, total: int) -> str:
        """How many a second, and how long the others take."""
        rate = done / max(self._clock() - self._began, 1e-9)
        if not done:
            return "none is through yet"
        left = round((total - done) / rate)
        return f"{rate:.1f} a second, {left // 60} min {left % 60} s left"
