"""How a part comes into its group and whether it is in: it waits for a log that is away, and keeps nothing of a join that failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import GroupMember, LogError, LogUnavailable, Partition, TopicSpec
from referral_bus.runtime import joining
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import BEAT_SECONDS, Membership, Unanswered

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
    def __init__(self, log: MemoryLog) -> None:
        self.told: list[tuple[str, int]] = []
        self.now = 0.0
        self.health = Health(lambda: self.now)
        self.log = log
        self.place = Membership(log, "group", TOPIC, assigned=self.assigned, revoked=self.revoked)

    async def assigned(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self.told.append(("assigned", len(partitions)))

    async def revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        if partitions:
            self.told.append(("revoked", len(partitions)))

    async def join(self) -> GroupMember:
        await self.log.ensure([TopicSpec(TOPIC, 2)])
        return await self.place.join([TOPIC], self.health, "part")

    async def try_to_join(self) -> GroupMember:
        await self.log.ensure([TopicSpec(TOPIC, 2)])
        return await self.place.try_to_join([TOPIC])

    def is_watched(self) -> bool:
        self.now += BEAT_SECONDS + 1
        return self.health.stuck() == ["part"]


async def test_what_was_assigned_by_a_join_that_failed_is_revoked_before_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "REST_SECONDS", 0.01)
    part = Part(Unsteady(LogUnavailable("away")))
    await part.join()
    assert part.told == [("assigned", 2), ("revoked", 2), ("assigned", 2)]
    assert part.is_watched()


async def test_where_waiting_does_not_help_it_ends_and_beats_no_more() -> None:
    part = Part(Unsteady(LogError("no such group")))
    with pytest.raises(LogError, match="no such group"):
        await part.join()
    assert part.told == [("assigned", 2), ("revoked", 2)]
    assert not part.is_watched()


async def test_one_try_waits_for_nothing_and_keeps_nothing_of_a_former_membership() -> None:
    part = Part(Unsteady(LogUnavailable("away"), LogError("no such group")))
    with pytest.raises(LogUnavailable):
        await part.try_to_join()
    assert part.told == [("assigned", 2), ("revoked", 2)]
    part.told.clear()
    with pytest.raises(LogError, match="no such group"):
        await part.try_to_join()
    assert part.told == [("assigned", 2), ("revoked", 2)]
    part.told.clear()
    await part.place.leave(await part.try_to_join())
    assert not part.place.is_held
    part.log.away = True
    with pytest.raises(LogUnavailable):
        await part.try_to_join()
    assert part.told == [("assigned", 2)]


async def test_the_place_is_held_from_when_the_group_says_what_is_its_own_until_that_is_taken_back() -> None:
    part = Part(Unsteady(LogError("no such group")))
    assert not part.place.is_held
    with pytest.raises(LogError):
        await part.join()
    assert not part.place.is_held
    await part.join()
    other = Part(part.log)
    third = Part(part.log)
    for one in (other, third):
        await one.join()
    assert [one.told[-1] for one in (part, other, third)] == [
        ("assigned", 1),
        ("assigned", 1),
        ("assigned", 0),
    ]
    assert all(one.place.is_held for one in (part, other, third)), "who is given nothing is in the group too"
    for member in part.log._group("group").members:
        await member.lose()
    assert not any(one.place.is_held for one in (part, other, third))
    await part.log.rebalance("group")
    assert all(one.place.is_held for one in (part, other, third))
    assert part.place.waits == f"waits for its share of {TOPIC}"


async def test_a_member_is_left_to_wait_for_an_answer_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the first question without one, and anew after each answer to the same."""
    monkeypatch.setattr(joining, "UNANSWERED_SECONDS", 0.1)
    part = Part(MemoryLog())
    member = await part.join()

    async def no_answer() -> None:
        raise LogUnavailable("no answer")

    async def asked() -> None:
        with pytest.raises(LogUnavailable):
            await part.place.answered("one", no_answer())

    await asked()
    await part.place.answered("one", member.committed([Partition(TOPIC, 0)]))
    await asyncio.sleep(0.11)
    await asked()
    await part.place.answered("another", member.committed([Partition(TOPIC, 0)]))
    await asked()
    await asyncio.sleep(0.11)
    with pytest.raises(Unanswered, match="no answer"):
        await part.place.answered("one", no_answer())
    await part.place.leave(member)
    await asked()


async def test_what_the_log_refuses_to_answer_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "UNANSWERED_SECONDS", 0.0)

    async def refused() -> None:
        raise LogError("refused")

    part = Part(MemoryLog())
    await part.join()
    for _ in range(3):
        with pytest.raises(LogError, match="refused"):
            await part.place.answered("one", refused())
