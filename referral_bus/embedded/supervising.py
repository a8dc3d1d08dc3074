"""A service that ends is started anew, until that is no use: what ``refbus up`` is to its services, as a supervisor is elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.process import ChildProcess

PAUSES: Final = (0.0, 1.0, 2.0, 4.0)
"""Seconds before each new start in one minute. The end that comes after the last of them is final: what fails at every start must not
go round for ever, and what fails for a moment, while the database starts again perhaps, has some ten seconds."""
WITHIN_SECONDS: Final = 60.0
BAD_SETTINGS: Final = 2
"""The exit code of a service that can't use its settings; a new start would be given the same."""


class Say(Protocol):
    """Where a sentence goes that somebody should see."""

    def __call__(self, said: str, /) -> object: ...


async def kept_up(process: ChildProcess, say: Say) -> EmbeddedError:
    """Start a process anew each time it ends, by a signal or with any exit code but that of bad settings. Returns what to say once that is
    no use."""
    ends: list[float] = []
    while True:
        if await process.wait() == BAD_SETTINGS:
            return process.failed("its settings are wrong, so a new start would not mend it")
        now = time.monotonic()
        ends = [end for end in ends if end > now - WITHIN_SECONDS] + [now]
        if len(ends) > len(PAUSES):
            return process.failed(f"for the {len(ends)}th time within a minute, so it is not started again")
        say(f"{process.name} {process.ended} and is started anew. Its log is {process.log}.")
        await asyncio.sleep(PAUSES[len(ends) - 1])
        await process.start()
