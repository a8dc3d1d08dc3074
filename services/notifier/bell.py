"""Wakes whoever waits for something new, so that nobody has to ask the database all the time."""

from __future__ import annotations

import asyncio


class Listening:
    """Hears the bell from the moment it was made on, so nothing that rings while its owner looks is missed."""

    def __init__(self, rung: asyncio.Event) -> None:
        self._rung = rung

    async def wait(self, seconds: float) -> None:
        """Return once the bell has rung, or after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return


class Bell:
    """Rings for all who listen. What another process does is not heard: waiting always has a limit."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all who listen."""
        self._rung.set()
        self._rung = asyncio.Event()

    def listen(self) -> Listening:
        """Listen from now on. Do it before looking for what is new."""
        return Listening(self._rung)
