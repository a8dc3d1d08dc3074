"""Wakes whoever waits for something new, so that nobody has to ask the database all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


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
    """Rings for those whom something new concerns. What another process does is not heard: waiting always has a limit."""

    def __init__(self) -> None:
        self._anything = asyncio.Event()
        self._of: dict[str, asyncio.Event] = {}

    def ring(self, organisations: Iterable[str] = ()) -> None:
        """Wake who listens to anything, and who listens to one of these organisations: many streams wait for few of them."""
        self._anything.set()
        self._anything = asyncio.Event()
        for organisation in organisations:
            rung = self._of.pop(organisation, None)
            if rung is not None:
                rung.set()

    def ring_all(self) -> None:
        """Wake all who listen."""
        self.ring(list(self._of))

    def listen(self, organisation: str | None = None) -> Listening:
        """Listen from now on: to what concerns one organisation, or to anything. Do it before looking for what is new."""
        if organisation is None:
            return Listening(self._anything)
        return Listening(self._of.setdefault(organisation, asyncio.Event()))
