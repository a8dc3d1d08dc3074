"""What waits goes together: items of concurrent callers are worked on in one round, and nobody waits when idle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from referral_bus.runtime.logs import correlated

Item = TypeVar("Item")
Result = TypeVar("Result")

_Caller = tuple[list[Item], asyncio.Future[Sequence[Result]]]
"""What a caller brought, and where it waits for the results."""


class Crowded(Exception):
    """So much waits already that no more is taken now."""


class Together(Generic[Item, Result]):
    """Runs ``work`` on all that waits, at most ``most`` items a round (more only where one caller brings more) and ``rounds`` rounds at
    once; ``waiting`` bounds what waits. What a caller brings stays together and in order, and is worked on only while the caller waits for
    it. ``work`` returns a result for each item. What is ``away`` is so for all of a round, who hear it at once. Any other fault may be
    that of one caller: what each brought is worked on alone then, and it is told to that one only. ``work`` must bear being repeated."""

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        most: int,
        rounds: int,
        waiting: int,
        away: Callable[[Exception], bool],
    ) -> None:
        self._work = work
        self._away = away
        self._most = most
        self._rounds = rounds
        self._longest = waiting
        self._waiting: deque[_Caller[Item, Result]] = deque()
        self._items = 0
        self._running: set[asyncio.Task[None]] = set()

    async def do(self, items: list[Item]) -> Sequence[Result]:
        """The items' results, in order. Raises Crowded, and what the work raises."""
        if not items:
            return []
        if self._items and self._items + len(items) > self._longest:
            raise Crowded
        done: asyncio.Future[Sequence[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, done))
        self._items += len(items)
        self._start()
        return await done

    async def close(self) -> None:
        """Wait for what is under way or waits."""
        while self._running:
            await asyncio.gather(*self._running)

    def _start(self) -> None:
        if self._waiting and len(self._running) < self._rounds:
            # Of several callers: what is logged there is not to be taken for what the one says that happens to start it.
            with correlated(None):
                task = asyncio.create_task(self._round(), name="round")
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _round(self) -> None:
        callers = [caller for caller in self._taken() if not caller[1].done()]
        try:
            fault = await self._tried(callers)
            alone = len(callers) > 1 and fault is not None
            for caller in callers:
                if alone and (fault is None or not self._away(fault)):
                    fault = await self._tried([caller])
                if fault is not None and not caller[1].done():
                    caller[1].set_exception(fault)
        except asyncio.CancelledError:
            for _, done in callers:
                done.cancel()
            raise

    async def _tried(self, callers: Sequence[_Caller[Item, Result]]) -> Exception | None:
        """Work on what these brought and give them the results, where they still wait; what the work failed with."""
        waiting = [caller for caller in callers if not caller[1].done()]
        if not waiting:
            return None
        try:
            results = await self._work([item for brought, _ in waiting for item in brought])
        except Exception as error:
            return error
        start = 0
        for brought, done in waiting:
            if not done.done():
                done.set_result(results[start : start + len(brought)])
            start += len(brought)
        return None

    def _taken(self) -> list[_Caller[Item, Result]]:
        callers = []
        count = 0
        while self._waiting and (not count or count + len(self._waiting[0][0]) <= self._most):
            caller = self._waiting.popleft()
            count += len(caller[0])
            callers.append(caller)
        self._items -= count
        return callers
