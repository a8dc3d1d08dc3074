"""A member of a group whose client gets no answers any more, while others do."""

from __future__ import annotations

from typing import Any

import pytest

from referral_bus.log.memory import MemoryMember
from referral_bus.log.port import LogUnavailable


def deafen_the_first(monkeypatch: pytest.MonkeyPatch, call: str) -> list[MemoryMember]:
    """The first member to make this call never gets an answer to it. It is in the list that is returned, once it made it."""
    deaf: list[MemoryMember] = []
    answered = getattr(MemoryMember, call)

    async def asked(member: MemoryMember, *about: Any) -> Any:
        if not deaf:
            deaf.append(member)
        if member is deaf[0]:
            raise LogUnavailable("no answer")
        return await answered(member, *about)

    monkeypatch.setattr(MemoryMember, call, asked)
    return deaf
