"""What many ask for at once is done together, and each hears what became of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.notifier.gathered import Gathered


class Away(Exception):
    """All of a round fails."""


class Work:
    """Doubles numbers once it is open, and remembers its rounds. ``wrong`` is the one it can't; ``fails`` is what it raises for all."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.rounds: list[list[int]] = []
        self.wrong: int | None = None
        self.fails: Exception | None = None

    async def do(self, items: Sequence[int]) -> list[int]:
        self.rounds.append(list(items))
        await self.open.wait()
        if self.fails is not None:
            raise self.fails
        if self.wrong in items:
            raise ValueError(self.wrong)
        return [2 * item for item in items]


async def begun(gathered: Gathered[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Each item asked for by a task of its own."""
    tasks = [asyncio.create_task(gathered.do(item)) for item in items]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def results(tasks: list[asyncio.Task[int]]) -> list[object]:
    async with asyncio.timeout(5):
        return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_what_comes_during_a_round_makes_the_next_one() -> None:
    work = Work()
    tasks = await begun(Gathered(work.do, (Away,)), 1, 2, 3, 4)
    assert work.rounds == [[1]]
    work.open.set()
    assert await results(tasks) == [2, 4, 6, 8]
    assert work.rounds == [[1], [2, 3, 4]]


async def test_where_all_is_away_each_of_the_round_is_told_and_none_is_tried_again() -> None:
    work = Work()
    tasks = await begun(Gathered(work.do, (Away,)), 1, 2, 3)
    work.fails = Away()
    work.open.set()
    assert await results(tasks) == [work.fails] * 3
    assert work.rounds == [[1], [2, 3]]


async def test_the_fault_of_one_is_told_to_that_one_alone() -> None:
    work = Work()
    tasks = await begun(Gathered(work.do, (Away,)), 1, 2, 3, 4)
    work.wrong = 3
    work.open.set()
    first, second, third, fourth = await results(tasks)
    assert (first, second, fourth) == (2, 4, 8)
    assert isinstance(third, ValueError)


async def test_who_is_cancelled_while_it_waits_is_not_worked_for_and_holds_up_nobody() -> None:
    work = Work()
    gathered = Gathered(work.do, (Away,))
    tasks = await begun(gathered, 1, 2, 3)
    tasks[1].cancel()
    work.open.set()
    first, second, third = await results(tasks)
    assert (first, third) == (2, 6)
    assert isinstance(second, asyncio.CancelledError)
    assert work.rounds == [[1], [3]]


async def test_where_the_round_itself_is_cancelled_nobody_waits_for_it_for_ever() -> None:
    work = Work()
    gathered = Gathered(work.do, (Away,))
    first = await begun(gathered, 1)
    others = await begun(gathered, 2, 3)
    gate, work.open = work.open, asyncio.Event()
    gate.set()
    assert await results(first) == [2]
    await asyncio.sleep(0)
    assert work.rounds[-1] == [2, 3]
    others[0].cancel()
    assert [type(one) for one in await results(others)] == [asyncio.CancelledError] * 2
    work.open.set()
    assert await results(await begun(gathered, 4)) == [8]


@pytest.mark.parametrize("item", [1, 5])
async def test_one_alone_is_served_at_once(item: int) -> None:
    work = Work()
    work.open.set()
    assert await Gathered(work.do, (Away,)).do(item) == 2 * item
    assert work.rounds == [[item]]
