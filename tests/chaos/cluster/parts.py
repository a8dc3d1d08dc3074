"""The parts that are struck at: brokers, the database, services. Each can be killed and paused, and is kept up by a supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.postgres import EmbeddedPostgres
from referral_bus.embedded.process import ChildProcess
from tests.chaos.cluster.disks import Disk

Kind = Literal["broker", "database", "intake", "matching", "notifier", "projections"]

_LOOK_SECONDS: Final = 0.25


class _Process(Protocol):
    @property
    def running(self) -> bool: ...
    @property
    def pid(self) -> int: ...


@dataclass(slots=True)
class Part:
    """One process of the cluster, on a node of its name. ``held`` is a part that was killed and is not to come back yet."""

    name: str
    kind: Kind
    process: _Process
    start: Callable[[], Awaitable[None]]
    kill: Callable[[], Awaitable[None]]
    disk: Disk | None = None
    clock: Path | None = None
    held: bool = False
    killed: bool = False
    starting: bool = False
    fell: list[float] = field(default_factory=list)
    """When it was found ended though nobody had killed it, by the monotonic clock."""

    def pause(self) -> None:
        """SIGSTOP to it and all it started."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    async def down(self) -> None:
        """SIGKILL; it stays down until it is ``held`` no longer."""
        self.held = self.killed = True
        await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self.process.running:
            for pid in _family(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it, the eldest first. A database's children are in groups of their own."""
    found, at = [pid], 0
    while at < len(found):
        with suppress(OSError):
            for task in Path(f"/proc/{found[at]}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        at += 1
    return found


def broker(name: str, kafka: EmbeddedKafka, disk: Disk | None) -> Part:
    async def start() -> None:
        await asyncio.to_thread(kafka.start)

    async def kill() -> None:
        await asyncio.to_thread(kafka.kill)

    return Part(name, "broker", kafka, start, kill, disk)


def database(postgres: EmbeddedPostgres, disk: Disk | None) -> Part:
    async def start() -> None:
        await asyncio.to_thread(postgres.start)

    async def kill() -> None:
        await asyncio.to_thread(postgres.kill)

    return Part("database", "database", postgres, start, kill, disk)


def service(name: str, process: ChildProcess, disk: Disk | None, clock: Path) -> Part:
    kind: Kind = name.rpartition("-")[0]  # type: ignore[assignment]
    return Part(name, kind, process, process.start, process.kill, disk, clock)


class Supervisor:
    """Starts again whatever has ended, as an operator's supervisor would, again and again."""

    def __init__(self, parts: dict[str, Part], say: Callable[[str], None]) -> None:
        self._parts = parts
        self._say = say
        self._starting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                for part in self._parts.values():
                    if not part.held and not part.starting and not part.process.running:
                        self._again(part)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await asyncio.gather(*self._starting, return_exceptions=True)

    def _again(self, part: Part) -> None:
        part.starting = True
        if not part.killed:
            part.fell.append(time.monotonic())
        part.killed = False
        task = asyncio.create_task(self._start(part))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start(self, part: Part) -> None:
        try:
            await part.start()
        except EmbeddedError as error:
            self._say(f"{part.name} did not start: {str(error).splitlines()[0][:160]}")
            part.killed = True  # it did not run, so it did not end by itself again
            await asyncio.sleep(1)
        finally:
            part.starting = False
