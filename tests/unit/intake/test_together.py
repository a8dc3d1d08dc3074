from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from referral_bus.runtime.logs import correlated, correlation
from services.intake.together import Crowded, Together


class Away(Exception):
    """All of a round fails."""


def is_away(fault: Exception) -> bool:
    return isinstance(fault, Away)


class Work:
    """Work that is done when the test says so."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.go = asyncio.Event()
        self.fails: Exception | None = None

    async def __call__(self, items: list[int]) -> list[int]:
        self.rounds.append(items)
        await self.go.wait()
        if self.fails is not None:
            raise self.fails
        return [item * 10 for item in items]


async def calling(together: Together[int, int], *brought: list[int]) -> list[asyncio.Task[Sequence[int]]]:
    """Callers that have come one after the other, each served as far as may be before the next."""
    callers = []
    for items in brought:
        callers.append(asyncio.create_task(together.do(items)))
        await settled()
    return callers


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nobody_waits_when_idle_and_what_waits_goes_together() -> None:
    work = Work()
    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    callers = await calling(together, [1], [2, 3], [4])
    assert work.rounds == [[1]]
    work.go.set()
    assert [list(await caller) for caller in callers] == [[10], [20, 30], [40]]
    assert work.rounds == [[1], [2, 3, 4]]


async def test_a_round_is_bounded_but_what_one_caller_brings_stays_together() -> None:
    work = Work()
    work.go.set()
    together = Together(work, most=3, rounds=1, waiting=100, away=is_away)
    results = await asyncio.gather(*(together.do(items) for items in ([1], [2, 3], [4, 5], [6, 7, 8, 9])))
    assert [list(result) for result in results] == [[10], [20, 30], [40, 50], [60, 70, 80, 90]]
    assert work.rounds == [[1, 2, 3], [4, 5], [6, 7, 8, 9]]


async def test_several_rounds_are_under_way_at_once_and_no_more() -> None:
    work = Work()
    together = Together(work, most=1, rounds=2, waiting=100, away=is_away)
    callers = await calling(together, [0], [1], [2], [3])
    assert work.rounds == [[0], [1]]
    work.go.set()
    await asyncio.gather(*callers)
    assert work.rounds == [[0], [1], [2], [3]]


async def test_a_failed_round_fails_its_own_callers_only() -> None:
    work = Work()
    work.fails = OSError("away")
    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    [first] = await calling(together, [1])
    work.go.set()
    with pytest.raises(OSError, match="away"):
        await first
    work.fails = None
    assert list(await together.do([2])) == [20]


async def test_what_is_too_much_is_not_taken_and_takes_nothing_else_along() -> None:
    work = Work()
    together = Together(work, most=10, rounds=1, waiting=3, away=is_away)
    callers = await calling(together, [1], [2, 3], [4])
    with pytest.raises(Crowded):
        await together.do([5])
    work.go.set()
    assert [list(await caller) for caller in callers] == [[10], [20, 30], [40]]
    assert list(await together.do([5])) == [50]


async def test_a_caller_that_went_away_does_not_disturb_the_others() -> None:
    work = Work()
    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    first, gone, other = await calling(together, [1], [2], [3])
    gone.cancel()
    await settled()
    work.go.set()
    assert list(await first) == [10]
    assert list(await other) == [30]
    await together.close()


async def test_a_fault_that_one_caller_hits_is_told_to_that_one_only() -> None:
    async def work(items: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return [10 // item for item in items]

    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    results = await asyncio.gather(
        *(together.do(items) for items in ([1], [2], [5, 0], [10])), return_exceptions=True
    )
    assert [results[0], results[1], results[3]] == [[10], [5], [1]]
    assert isinstance(results[2], ZeroDivisionError)


async def test_what_is_away_is_told_to_all_of_a_round_at_once_and_asked_for_once() -> None:
    work = Work()
    together = Together(work, most=500, rounds=1, waiting=1000, away=is_away)
    first, *others = await calling(together, [0], *([n] for n in range(1, 300)))
    work.fails = Away()
    work.go.set()
    answers = await asyncio.gather(first, *others, return_exceptions=True)
    assert answers == [work.fails] * 300
    assert work.rounds == [[0], list(range(1, 300))]


async def test_what_goes_away_while_callers_are_worked_on_alone_is_told_to_the_rest_at_once() -> None:
    rounds: list[list[int]] = []

    async def work(items: list[int]) -> list[int]:
        rounds.append(items)
        await asyncio.sleep(0)
        if items == [3]:
            raise Away
        return [10 // item for item in items]

    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    brought = ([1], [0], [2], [3], [4], [5])
    answers = await asyncio.gather(*(together.do(items) for items in brought), return_exceptions=True)
    assert (answers[0], answers[2]) == ([10], [5])
    assert [type(answer) for answer in answers[1::2]] == [ZeroDivisionError, Away, Away]
    assert type(answers[4]) is Away
    assert rounds == [[1, 0, 2, 3, 4, 5], [1], [0], [2], [3]]


async def test_what_a_caller_brought_that_has_gone_is_not_worked_on() -> None:
    work = Work()
    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    first, gone, other, later = await calling(together, [1], [2], [3], [4])
    gone.cancel()
    await settled()
    gate, work.go = work.go, asyncio.Event()
    gate.set()
    assert list(await first) == [10]
    await settled()
    assert work.rounds == [[1], [3, 4]]
    other.cancel()
    await settled()
    work.fails = ValueError("of one of them")
    work.go.set()
    with pytest.raises(ValueError, match="of one of them"):
        await later
    assert work.rounds == [[1], [3, 4], [4]]
    await together.close()


async def test_where_a_round_is_cancelled_nobody_of_it_waits_for_ever() -> None:
    started = asyncio.Event()

    async def work(items: list[int]) -> list[int]:
        if len(items) > 1:
            await asyncio.sleep(0)
            raise ValueError("of one of them")
        started.set()
        return await asyncio.get_running_loop().create_future()

    together = Together(work, most=10, rounds=1, waiting=100, away=is_away)
    callers = [asyncio.create_task(together.do([item])) for item in (1, 2, 3)]
    await started.wait()
    [round_] = [task for task in asyncio.all_tasks() if task.get_name() == "round"]
    round_.cancel()
    async with asyncio.timeout(5):
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3


async def test_a_round_is_of_all_its_callers_and_goes_by_the_correlation_of_none() -> None:
    heard: list[str | None] = []

    async def work(items: list[str]) -> list[str]:
        heard.append(correlation())
        await asyncio.sleep(0)
        return items

    async def caller(about: str) -> tuple[Sequence[str], str | None]:
        with correlated(about):
            return await together.do([about]), correlation()

    together = Together(work, most=2, rounds=1, waiting=100, away=is_away)
    answers = await asyncio.gather(*(caller(about) for about in "abcd"))
    assert [(list(items), about) for items, about in answers] == [([about], about) for about in "abcd"]
    assert heard == [None, None]
