"""What is asked for while others are served is done together in the next round, in one transaction perhaps; nobody waits when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathered(Generic[Item, Result]):
    """Runs ``work`` on the items its callers bring, a round at a time, in the task of one of them. ``work`` returns a result for each item,
    in order. What is ``away`` is so for all of a round; any other fault is that of one item, so each of them is worked on alone then:
    ``work`` must bear being repeated."""

    def __init__(
        self, work: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], away: tuple[type[Exception], ...]
    ) -> None:
        self._work = work
        self._away = away
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._round = asyncio.Lock()

    async def do(self, item: Item) -> Result:
        """The item's result. Raises what the work raises."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        try:
            async with self._round:
                if not done.done():
                    taken, self._waiting = self._waiting, []
                    await self._settle(taken)
        except asyncio.CancelledError:
            done.cancel()
            raise
        return await done

    async def _settle(self, taken: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        taken = [(item, done) for item, done in taken if not done.done()]
        try:
            results = await self._work([item for item, _ in taken])
        except asyncio.CancelledError:
            for _, done in taken:
                done.cancel()
            raise
        except Exception as error:
            if len(taken) > 1 and not isinstance(error, self._away):
                for one in taken:
                    await self._settle([one])
                return
            for _, done in taken:
                if not done.done():
                    done.set_exception(error)
        else:
            for (_, done), result in zip(taken, results, strict=True):
                if not done.done():
                    done.set_result(result)
