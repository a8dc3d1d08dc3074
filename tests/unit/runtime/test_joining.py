"""How a part comes into its group: it waits for a log that is away, and keeps nothing of a join that failed."""

from __future__ import annotations

from typing import Any

import pytest

from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import GroupMember, LogError, LogUnavailable, Partition, TopicSpec
from referral_bus.runtime import joining
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import BEAT_SECONDS, joined

TOPIC = "refbus.main.ledger"


class Unsteady(MemoryLog):
    """Lets a member in, and then fails with each of these in turn."""

    def __init__(self, *errors: LogError) -> None:
        super().__init__()
        self.errors = list(errors)

    async def join(self, *group: Any, **told: Any) -> MemoryMember:
        member = await super().join(*group, **told)
        if self.errors:
            await member.close()
            raise self.errors.pop(0)
        return member


class Part:
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.now = 0.0
        self.health = Health(lambda: self.now)

    async def assigned(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self.told.append(("assigned", len(partitions)))

    async def revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        if partitions:
            self.told.append(("revoked", len(partitions)))

    async def join(self, log: MemoryLog) -> GroupMember:
        await log.ensure([TopicSpec(TOPIC, 2)])
        return await joined(
            log,
            "group",
            TOPIC,
            assigned=self.assigned,
            revoked=self.revoked,
            health=self.health,
            part="part",
        )

    def is_watched(self) -> bool:
        self.now += BEAT_SECONDS + 1
        return self.health.stuck() == ["part"]


async def test_what_was_assigned_by_a_join_that_failed_is_revoked_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "REST_SECONDS", 0.01)
    part = Part()
    await part.join(Unsteady(LogUnavailable("away")))
    assert part.told == [("assigned", 2), ("revoked", 2), ("assigned", 2)]
    assert part.is_watched()


async def test_where_waiting_does_not_help_it_ends_and_beats_no_more() -> None:
    part = Part()
    with pytest.raises(LogError, match="no such group"):
        await part.join(Unsteady(LogError("no such group")))
    assert part.told == [("assigned", 2), ("revoked", 2)]
    assert not part.is_watched()
