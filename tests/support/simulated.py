"""An event loop whose clock goes on only when nothing is left to do: no test waits, and a seed gives the same run every time."""

from __future__ import annotations

import asyncio
import selectors


class _Leaping(selectors.DefaultSelector):
    """Instead of waiting, moves the clock to where the wait would end."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits for something that will never happen")
        if not ready and timeout is not None:
            self.now += max(0.0, timeout)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """For code in one process that talks to no other: sockets and threads have no part in this time."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self) -> float:
        return self._leaping.now
