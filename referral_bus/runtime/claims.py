"""What a member of a group was given, each partition handled beside the others: one that can't go on, or rests, holds up no other.

More of a partition is polled once what was polled of it is handled, and only what was fetched under the claim that holds is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from referral_bus.log.port import GroupMember, Partition, Record
from referral_bus.runtime.by_partition import UnderWay


@dataclass(slots=True, eq=False)
class Claim:
    """One ownership of one partition, and how far it is. A new one is a new object, by which what was polled under a former one is
    recognised."""

    handled: int
    """The offset up to which all is handled."""
    read: int
    """The offset up to which it was polled."""


Held = TypeVar("Held", bound=Claim)


class Claims(Generic[Held]):
    """The partitions of a member. ``take`` finds from where one is to go on. ``handle`` returns once more of it may be polled; how far it
    is handled it notes in the claim itself."""

    def __init__(
        self,
        take: Callable[[GroupMember, Partition], Awaitable[Held]],
        handle: Callable[[GroupMember, Partition, Held, Sequence[Record]], Awaitable[None]],
    ) -> None:
        self._take = take
        self._handle = handle
        self._held: dict[Partition, Held] = {}
        self._under_way = UnderWay()

    @property
    def held(self) -> Mapping[Partition, Held]:
        """The claim of each partition that was taken; until it is taken again, the former one."""
        return self._held

    def begin(self, member: GroupMember, partitions: Iterable[Partition]) -> None:
        """The member was given these."""
        for partition in partitions:
            self._under_way.start(partition, self.take(member, partition))

    def end(self, partitions: Iterable[Partition]) -> None:
        """The member has lost these: what is under way for them is given up."""
        for partition in partitions:
            self._held.pop(partition, None)
            self._under_way.cancel(partition)

    async def take(self, member: GroupMember, partition: Partition) -> None:
        """Claim the partition, and let it deliver from where it is to go on. ``handle`` does so for what it could not handle."""
        claim = await self._take(member, partition)
        self._held[partition] = claim
        member.seek({partition: claim.handled})
        member.resume([partition])

    async def poll(self, member: GroupMember, limit: int, wait: float) -> None:
        """Poll once, and begin to handle what came. Raises what a ``take`` or ``handle`` ended by."""
        before = dict(self._held)
        for partition, records in (await member.poll(limit, wait)).items():
            claim = self._held.get(partition)
            if claim is None:
                continue
            if claim is not before.get(partition):
                # It may have been fetched before this claim sought its position.
                member.seek({partition: claim.handled})
            elif fresh := [record for record in records if record.offset >= claim.read]:
                claim.read = fresh[-1].offset + 1
                member.pause([partition])
                self._under_way.start(partition, self._go_on(member, partition, claim, fresh))
        self._under_way.raise_failures()

    async def give_up(self) -> None:
        """End all that is under way, and hold nothing."""
        self._held.clear()
        await self._under_way.give_up()

    async def _go_on(
        self, member: GroupMember, partition: Partition, claim: Held, records: Sequence[Record]
    ) -> None:
        await self._handle(member, partition, claim, records)
        member.resume([partition])
