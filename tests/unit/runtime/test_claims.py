"""The claims of a member: partitions go on beside each other, and each record is handled once, under the claim that holds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import pytest

from referral_bus.log.memory import MemoryLog, MemoryMember
from referral_bus.log.port import GroupMember, LogError, Outgoing, Partition, Record, TopicSpec
from referral_bus.runtime.claims import Claim, Claims

TOPIC, GROUP = "refbus.main.ledger", "readers"
ZERO, ONE = Partition(TOPIC, 0), Partition(TOPIC, 1)


class Reader:
    """A member that stores what it handled. Nothing is handled of a partition that is not ``open``; the next to be handled ``fails``."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.claims = Claims(self.take, self.handle)
        self.handled: dict[Partition, list[int]] = defaultdict(list)
        self.begun: list[Partition] = []
        self.given_up: list[Partition] = []
        self.open = {ZERO: asyncio.Event(), ONE: asyncio.Event()}
        for gate in self.open.values():
            gate.set()
        self.fails: Exception | None = None
        self.is_mended = True
        """Whether what failed is taken again."""

    async def join(self) -> MemoryMember:
        await self.log.ensure([TopicSpec(TOPIC, 2)])
        self.member = await self.log.join(GROUP, [TOPIC], assigned=self.assigned, revoked=self.revoked)
        return self.member

    async def assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        self.claims.begin(member, partitions)

    async def revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self.claims.end(partitions)

    async def take(self, member: GroupMember, partition: Partition) -> Claim:
        position = (await member.committed([partition]))[partition]
        return Claim(position, position)

    async def handle(
        self, member: GroupMember, partition: Partition, claim: Claim, records: Sequence[Record]
    ) -> None:
        self.begun.append(partition)
        try:
            await self.open[partition].wait()
        except asyncio.CancelledError:
            self.given_up.append(partition)
            raise
        if self.fails is not None:
            error, self.fails = self.fails, None
            if not self.is_mended:
                raise error
            await self.claims.take(member, partition)
            return
        self.handled[partition] += [record.offset for record in records]
        await member.commit({partition: claim.read})
        claim.handled = claim.read

    def write(self, partition: Partition, count: int = 1) -> None:
        for _ in range(count):
            self.log.write(Outgoing(TOPIC, partition.number, None, b"v"), None)

    async def poll(self, times: int = 3) -> None:
        for _ in range(times):
            await self.claims.poll(self.member, 100, 0.0)
            await asyncio.sleep(0.001)


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    reader = Reader()
    await reader.join()
    yield reader
    await reader.claims.give_up()


async def test_a_partition_that_can_not_go_on_holds_up_no_other_and_no_more_is_polled_of_it(
    reader: Reader,
) -> None:
    reader.open[ZERO].clear()
    for _ in range(3):
        reader.write(ZERO)
        reader.write(ONE)
        await reader.poll()
    assert (reader.handled[ZERO], reader.handled[ONE]) == ([], [0, 1, 2])
    assert reader.begun.count(ZERO) == 1
    held = reader.claims.held
    assert (held[ZERO].handled, held[ZERO].read) == (0, 1)
    assert (held[ONE].handled, held[ONE].read) == (3, 3)
    reader.open[ZERO].set()
    await reader.poll()
    assert reader.handled[ZERO] == [0, 1, 2]
    assert (held[ZERO].handled, held[ZERO].read) == (3, 3)


async def test_it_goes_on_from_where_it_is_to(reader: Reader) -> None:
    reader.write(ZERO, 5)
    reader.log.store(GROUP, {ZERO: 3})
    await reader.log.rebalance(GROUP)
    await reader.poll()
    assert reader.handled[ZERO] == [3, 4]


async def test_what_was_fetched_under_a_former_claim_is_not_handled_and_nothing_is_passed_over(
    reader: Reader,
) -> None:
    await reader.poll()
    reader.write(ZERO, 4)
    polling = asyncio.create_task(reader.claims.poll(reader.member, 100, 0.0))
    former = reader.claims.held[ZERO]
    right = reader.member.poll

    async def poll(*limits: float) -> dict[Partition, list[Record]]:
        """It fetches, and before what it fetched is there the group deals out anew."""
        found = reader.log.visible(ZERO, 2, 2)
        await reader.log.rebalance(GROUP)
        while reader.claims.held.get(ZERO) in (None, former):
            await asyncio.sleep(0)
        reader.member.poll = right  # type: ignore[method-assign]
        reader.member.seek({ZERO: 4})  # as the position moves with what is fetched
        return {ZERO: found}

    reader.member.poll = poll  # type: ignore[assignment, method-assign]
    await polling
    assert reader.begun == []
    await reader.poll()
    assert reader.handled[ZERO] == [0, 1, 2, 3]


async def test_what_is_delivered_twice_is_handled_once(reader: Reader) -> None:
    reader.write(ZERO, 2)
    await reader.poll()
    reader.log.redeliver(reader.member, ZERO, 0, 2)
    await reader.poll()
    reader.log.redeliver(reader.member, ZERO, 1, 2)
    reader.write(ZERO)
    await reader.poll()
    assert reader.handled[ZERO] == [0, 1, 2]


async def test_what_is_delivered_again_while_it_is_handled_is_not_begun_beside_it(reader: Reader) -> None:
    reader.open[ZERO].clear()
    reader.write(ZERO, 2)
    await reader.poll()
    reader.log.redeliver(reader.member, ZERO, 0, 2)
    await reader.poll()
    assert reader.begun == [ZERO]
    reader.open[ZERO].set()
    await reader.poll()
    assert reader.handled[ZERO] == [0, 1]


async def test_what_is_under_way_for_a_partition_is_given_up_with_it(reader: Reader) -> None:
    reader.open[ZERO].clear()
    reader.write(ZERO)
    reader.write(ONE)
    await reader.poll()
    await reader.member.lose()
    await asyncio.sleep(0)
    assert reader.given_up == [ZERO]
    assert dict(reader.claims.held) == {}
    reader.open[ZERO].set()
    await reader.log.rebalance(GROUP)
    await reader.poll()
    assert (reader.handled[ZERO], reader.handled[ONE]) == ([0], [0])


async def test_what_could_not_be_handled_is_taken_again_from_what_is_stored(reader: Reader) -> None:
    reader.write(ZERO, 2)
    await reader.poll()
    former = reader.claims.held[ZERO]
    reader.fails = LogError("refused")
    reader.write(ZERO, 2)
    await reader.poll()
    assert reader.handled[ZERO] == [0, 1, 2, 3]
    assert reader.claims.held[ZERO] is not former


async def test_until_a_partition_is_taken_again_its_former_claim_says_how_far_it_is(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = asyncio.Event()
    right = MemoryMember.committed

    async def committed(self: MemoryMember, partitions: Sequence[Partition]) -> dict[Partition, int]:
        await answers.wait()
        return await right(self, partitions)

    await reader.poll()
    monkeypatch.setattr(MemoryMember, "committed", committed)
    reader.fails = LogError("refused")
    reader.write(ZERO, 2)
    await reader.poll()
    assert (reader.claims.held[ZERO].handled, reader.claims.held[ZERO].read) == (0, 2)
    reader.log.redeliver(reader.member, ZERO, 0, 2)
    await reader.poll()
    assert reader.handled[ZERO] == []
    answers.set()
    await reader.poll()
    assert reader.handled[ZERO] == [0, 1]


async def test_what_ends_by_an_error_is_raised(reader: Reader) -> None:
    reader.fails, reader.is_mended = LogError("refused for good"), False
    reader.write(ZERO)
    with pytest.raises(LogError, match="for good"):
        await reader.poll()


async def test_given_up_it_holds_nothing_and_nothing_is_under_way(reader: Reader) -> None:
    reader.open[ZERO].clear()
    reader.write(ZERO)
    await reader.poll()
    await reader.claims.give_up()
    assert reader.given_up == [ZERO]
    assert dict(reader.claims.held) == {}
