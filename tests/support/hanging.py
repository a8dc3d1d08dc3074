"""A member of a group whose next poll never comes back."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from referral_bus.log.memory import MemoryMember


async def hung(member: MemoryMember) -> None:
    """Returns once its loop hangs in the poll."""
    hangs = asyncio.Event()

    async def hang(*_: object) -> NoReturn:
        hangs.set()
        await asyncio.Future()
        raise AssertionError

    member.poll = hang  # type: ignore[method-assign]
    await asyncio.wait_for(hangs.wait(), 5)
