"""Killing services while they have work before them, and measuring how much that was.

A victim is stopped first (SIGSTOP), so that what it leaves undone can be counted calmly, and killed (SIGKILL) before it ran again; one
that happens to have nothing to do is let go on, and stopped again a moment later.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from tests.chaos.town import Town

_LOOK_SECONDS: Final = 0.05
_BUSY_SECONDS: Final = 30.0
"""For a victim to be found with work before it."""
_GOES_ON_SECONDS: Final = 60.0
_LEAST: Final = {"intake": 3, "matching": 1, "projections": 1, "notifier": 1}
"""So much must be left undone at a strike. Of requests a few more: the answer to one of them may be on its way already."""
_OTHERS_GO_ON_SECONDS: Final = 1.0
"""Time for the worker that was not stopped to show, by going on, which partitions are its own. Well within the session."""

Undone = Callable[[Sequence[str]], Awaitable[dict[str, int]]]
"""What the stopped processes left undone, by kind; the first kind is what must not be nothing."""


@dataclass(slots=True)
class Strike:
    """A kill, or a pause. ``at`` is seconds of the monotonic clock; ``standstill`` how long after it what was left undone went on, in
    seconds."""

    victims: tuple[str, ...]
    backlog: dict[str, int]
    at: float
    how: Literal["paused", "killed"] = "killed"
    standstill: float | None = None

    @property
    def undone(self) -> int:
        return next(iter(self.backlog.values()))


@dataclass(slots=True)
class Striker:
    """Strikes at a town; ``burst`` referrals are submitted at once before each strike."""

    town: Town
    burst: int
    strikes: list[Strike] = field(default_factory=list)
    unwanted: list[str] = field(default_factory=list)
    """Processes that were found ended before anybody struck at them."""
    _stuck: dict[int, int] = field(default_factory=dict)

    async def kill(self, *victims: str) -> Strike:
        """Kill the victims while they have something to do, and return without starting them again."""
        service = victims[0].rpartition("-")[0]
        strike = await self._busy(victims, service)
        self.town.down.update(victims)
        await asyncio.gather(*(self.town.bus.processes[name].kill() for name in victims))
        strike.at = time.monotonic()
        self.strikes.append(strike)
        return strike

    async def kill_and_restart(self, *victims: str) -> None:
        """Kill the victims, start them again as a supervisor would, and wait until they are ready and went on where they were."""
        strike = await self.kill(*victims)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch(strike))
            for name in victims:
                group.create_task(self.town.restart(name))

    async def watch(self, strike: Strike) -> None:
        """Measure how long it takes until what the victims left undone goes on."""
        service = strike.victims[0].rpartition("-")[0]
        went_on = await self._goes_on(service, strike)
        async with asyncio.timeout(_GOES_ON_SECONDS):
            while not await went_on():
                await asyncio.sleep(_LOOK_SECONDS)
        strike.standstill = time.monotonic() - strike.at

    async def pause(self, *victims: str) -> Strike:
        """Stop the victims while they have something to do, and leave them so."""
        strike = await self._busy(victims, victims[0].rpartition("-")[0])
        strike.how = "paused"
        self.strikes.append(strike)
        return strike

    def go_on(self, *victims: str) -> None:
        """Let stopped processes run on."""
        self._signal(victims, signal.SIGCONT)

    async def stuck_moves(self) -> bool:
        """Whether each partition that was the stopped workers' goes on."""
        committed = await self.town.backlogs.committed()
        return all(committed.get(number, 0) > before for number, before in self._stuck.items())

    async def _busy(self, victims: Sequence[str], service: str) -> Strike:
        """Stop the victims at a moment when they leave something undone."""
        undone = self._undone(service)
        self.unwanted += self.town.ended_by_themselves()
        async with asyncio.timeout(_BUSY_SECONDS):
            while True:
                await self.town.client.burst(self.burst)
                for _ in range(int(1 / _LOOK_SECONDS)):
                    await asyncio.sleep(_LOOK_SECONDS)
                    self._signal(victims, signal.SIGSTOP)
                    left = await undone(victims)
                    if next(iter(left.values())) >= _LEAST[service]:
                        return Strike(tuple(victims), left, time.monotonic())
                    self._signal(victims, signal.SIGCONT)

    def _signal(self, victims: Sequence[str], number: signal.Signals) -> None:
        for name in victims:
            os.killpg(self.town.bus.processes[name].pid, number)

    def _undone(self, service: str) -> Undone:
        return {
            "intake": self._requests,
            "matching": self._submissions,
            "projections": self._unprojected,
            "notifier": self._untold,
        }[service]

    async def _requests(self, _: Sequence[str]) -> dict[str, int]:
        # What a stopped intake had answered is on its way to the client; what is still open after a moment was open for intake.
        await asyncio.sleep(_LOOK_SECONDS)
        return {"requests in flight": len(self.town.client.in_flight)}

    async def _submissions(self, victims: Sequence[str]) -> dict[str, int]:
        """What lies before the victims: undecided, in partitions that nobody goes on with."""
        before = await self.town.backlogs.committed()
        left = await self.town.backlogs.undecided()
        workers = {name for name in self.town.bus.processes if name.startswith("matching-")}
        if any(left.values()) and set(victims) != workers:
            await asyncio.sleep(_OTHERS_GO_ON_SECONDS)
            left = await self.town.backlogs.undecided()
        after = await self.town.backlogs.committed()
        stuck = {
            number: count
            for number, count in left.items()
            if count > 0 and after.get(number, 0) == before.get(number, 0)
        }
        self._stuck = {number: after.get(number, 0) for number in stuck}
        return {"submissions on the inbox": sum(stuck.values())}

    async def _unprojected(self, _: Sequence[str]) -> dict[str, int]:
        return {
            "events not in the views": await self.town.backlogs.behind(await self.town.backlogs.projected())
        }

    async def _untold(self, _: Sequence[str]) -> dict[str, int]:
        return {
            "events not heard": await self.town.backlogs.behind(await self.town.backlogs.told()),
            "deliveries under way": await self.town.backlogs.undelivered(),
        }

    async def _goes_on(self, service: str, strike: Strike) -> Callable[[], Awaitable[bool]]:
        match service:
            case "matching":
                return self.stuck_moves
            case "intake":
                return lambda: self._acknowledges(strike.at)
            case "projections":
                projected = await self.town.backlogs.projected()
                return lambda: self._moved(self.town.backlogs.projected, projected)
            case _:
                told = await self.town.backlogs.told()
                return lambda: self._moved(self.town.backlogs.told, told)

    async def _acknowledges(self, since: float) -> bool:
        answers = self.town.client.noted("answered")
        return any(line["status"] < 300 and line["at"] > since for line in reversed(answers))

    async def _moved(
        self, positions: Callable[[], Awaitable[dict[int, int]]], before: dict[int, int]
    ) -> bool:
        now = await positions()
        return any(now[number] > at for number, at in before.items())
