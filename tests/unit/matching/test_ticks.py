"""When ticks are put: by the broker's clock, whatever the process's own says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from referral_bus.contracts.inbox import Tick
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Partition, Position
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import received
from services.matching.ticks import REPEAT_MS, Ticks
from tests.support.clocks import ManualClock
from tests.support.deciding import BUS, DAY, HOUR, MINUTE, START

INBOX = Partition(topics.inbox(BUS), 0)


class Owned:
    """A partition with one region, in which something falls due."""

    def __init__(self, partition: int = INBOX.number) -> None:
        self.partition = partition
        self.due: list[tuple[str, int]] = []
        self.left_over: dict[str, int] = {}

    def next_due(self) -> list[tuple[str, int]]:
        return self.due


class Clocks:
    """The broker's clock and the process's, and what ticks come of them."""

    def __init__(self, codec: Codec) -> None:
        self.broker, self.own = ManualClock(START), ManualClock(START)
        self.codec = codec
        self.log = MemoryLog(self.broker.now)
        self.owned = Owned()
        self.ticks: Ticks

    async def begin(self) -> None:
        await self.log.ensure(topics.topics(BUS, 1, 1))
        self.ticks = Ticks(await self.log.appender(), BUS, self.codec, self.own)

    def pass_by(self, millis: int) -> None:
        self.broker.advance(millis)
        self.own.advance(millis)

    async def put(self) -> list[int]:
        """Look once; the due times of all ticks there are by then."""
        works: Any = [self.owned]
        await self.ticks.put(works)
        reader = await self.log.reader(INBOX)
        found = [received(record, self.codec)[1].body for record in await reader.read(0, 1000)]
        return [body.due for body in found if isinstance(body, Tick)]


@pytest.fixture
async def clocks(codec: Codec) -> Clocks:
    made = Clocks(codec)
    await made.begin()
    return made


async def test_nothing_is_put_where_nothing_is_expected(clocks: Clocks) -> None:
    assert await clocks.put() == []


async def test_the_first_tick_asks_what_time_it_is_and_the_next_comes_when_it_is_due(clocks: Clocks) -> None:
    clocks.owned.due = [("north", START + MINUTE)]
    assert len(await clocks.put()) == 1
    clocks.pass_by(MINUTE - 1)
    assert len(await clocks.put()) == 1
    clocks.pass_by(1)
    assert len(await clocks.put()) == 2


@pytest.mark.parametrize("wrong", (-DAY, -HOUR, HOUR, DAY))
async def test_a_process_whose_clock_is_wrong_from_the_start_puts_its_ticks_in_time(
    clocks: Clocks, wrong: int
) -> None:
    clocks.own.set(START + wrong)
    clocks.owned.due = [("north", START + MINUTE)]
    asked = len(await clocks.put())
    clocks.pass_by(MINUTE - 1)
    assert len(await clocks.put()) == asked
    clocks.pass_by(1)
    assert len(await clocks.put()) == asked + 1


@pytest.mark.parametrize("wrong", (-DAY, -HOUR, HOUR, DAY))
async def test_a_process_whose_clock_is_set_while_it_runs_puts_its_ticks_in_time(
    clocks: Clocks, wrong: int
) -> None:
    clocks.owned.due = [("north", START)]
    assert await clocks.put() == [START]
    clocks.own.set(START + wrong)
    clocks.owned.due = [("north", START + MINUTE)]
    clocks.pass_by(MINUTE - 1)
    assert await clocks.put() == [START]
    clocks.pass_by(1)
    assert await clocks.put() == [START, START + MINUTE]


async def test_a_tick_that_is_not_decided_is_put_again_after_a_while(clocks: Clocks) -> None:
    clocks.owned.due = [("north", START)]
    assert await clocks.put() == [START]
    clocks.pass_by(REPEAT_MS - 1)
    assert await clocks.put() == [START]
    clocks.pass_by(1)
    assert await clocks.put() == [START, START]


async def test_a_broker_whose_clock_is_set_back_is_asked_again_when_it_says_it_is_time(
    clocks: Clocks,
) -> None:
    clocks.owned.due = [("north", START)]
    await clocks.put()
    clocks.broker.set(START - MINUTE)
    clocks.owned.due = [("north", START + 1)]
    clocks.pass_by(1)
    assert len(await clocks.put()) == 2
    for _ in range(20):
        clocks.pass_by(1_000)
        await clocks.put()
    assert len(await clocks.put()) == 2
    clocks.pass_by(MINUTE)
    assert len(await clocks.put()) == 3


async def test_what_a_tick_left_over_is_seen_to_by_another_at_once(clocks: Clocks) -> None:
    clocks.owned.due = [("north", START)]
    assert await clocks.put() == [START]
    clocks.owned.left_over = {"south": 7}
    assert await clocks.put() == [START]
    clocks.owned.left_over = {"north": 0}
    assert await clocks.put() == [START] * 2
    assert await clocks.put() == [START] * 2
    clocks.owned.left_over = {"north": 1}
    assert await clocks.put() == [START] * 3
    clocks.pass_by(REPEAT_MS)
    assert await clocks.put() == [START] * 4


async def test_of_a_partition_that_is_taken_anew_the_time_is_asked_anew(clocks: Clocks) -> None:
    """It may be led by another broker than before, whose clock is right."""
    clocks.broker.set(START - HOUR)
    clocks.owned.due = [("north", START + MINUTE)]
    assert len(await clocks.put()) == 1
    nothing: Any = []
    await clocks.ticks.put(nothing)
    clocks.broker.set(START)
    assert len(await clocks.put()) == 2
    clocks.pass_by(MINUTE)
    assert len(await clocks.put()) == 3


class Brokers:
    """Each leads one partition, and has a clock of its own."""

    def __init__(self, clocks: list[ManualClock]) -> None:
        self.clocks = clocks
        self.put: list[tuple[int, int]] = []

    async def append(self, records: Sequence[Outgoing]) -> list[Position]:
        self.put += [(one.partition, self.clocks[one.partition].now()) for one in records]
        return [
            Position(one.topic, one.partition, number, self.clocks[one.partition].now())
            for number, one in enumerate(records, len(self.put) - len(records))
        ]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("slow", (0, 1))
async def test_a_broker_whose_clock_is_slow_makes_nothing_late_that_another_leads(
    codec: Codec, slow: int
) -> None:
    own, clocks = ManualClock(START), [ManualClock(START), ManualClock(START)]
    clocks[slow].set(START - HOUR)
    brokers = Brokers(clocks)
    ticks = Ticks(brokers, BUS, codec, own)
    owned = [Owned(0), Owned(1)]
    for one, region in zip(owned, ("north", "south"), strict=True):
        one.due = [(region, START + MINUTE)]
    works: Any = owned
    await ticks.put(works)
    for _ in range(MINUTE // 1_000):
        for clock in (own, *clocks):
            clock.advance(1_000)
        await ticks.put(works)
    right = 1 - slow
    assert brokers.put[:2] == [(0, clocks[0].now() - MINUTE), (1, clocks[1].now() - MINUTE)]
    assert brokers.put[2:] == [(right, START + MINUTE)]
