"""Whoever leaves a group of the log in memory has left it, whatever the group believed of it."""

from __future__ import annotations

from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import GroupMember, Partition, TopicSpec

TOPIC, GROUP = "some", "readers"


async def nothing(_: GroupMember, __: frozenset[Partition]) -> None:
    return None


async def test_who_leaves_while_it_is_taken_for_dead_is_not_given_anything_when_it_is_heard_of_again() -> (
    None
):
    log = MemoryLog()
    await log.ensure([TopicSpec(TOPIC, 2)])
    gone, left = [await log.join(GROUP, [TOPIC], assigned=nothing, revoked=nothing) for _ in range(2)]
    await log.expel(gone)
    await gone.close()
    # As when its last heartbeat is late.
    gone.expelled = False
    gone.group.members.append(gone)
    await log.rebalance(GROUP)
    assert gone.group.members == [left]
    assert left._mine == {Partition(TOPIC, 0), Partition(TOPIC, 1)}
