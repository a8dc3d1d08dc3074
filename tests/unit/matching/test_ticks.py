"""When ticks are put: by the broker's clock, whatever the process's own says."""

from __future__ import annotations

from typing import Any

import pytest

from referral_bus.contracts.inbox import Tick
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Partition
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import received
from services.matching.ticks import REPEAT_MS, Ticks
from tests.support.clocks import ManualClock
from tests.support.deciding import BUS, DAY, HOUR, MINUTE, START

INBOX = Partition(topics.inbox(BUS), 0)


class Owned:
    """A partition with one region, in which something falls due."""

    partition = INBOX.number

    def __init__(self) -> None:
        self.due: list[tuple[str, int]] = []

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
