"""An event loop in which one seed decides everything: which of the callbacks that are ready runs next, and what time it is.

Time goes on only when nothing is left to do. Every task belongs to a :class:`Node`, one process of the bus, or to the world around. What a
node's tasks do can be stopped between any two awaits: for good, as kill -9 does, or for a while, as SIGSTOP does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from heapq import heappop
from typing import Any, TypeVar
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.simulation.raised import told_of

T = TypeVar("T")

MOST_STEPS = 1_500_000
"""A run that takes more goes round in circles."""

_NODE: ContextVar[Node | None] = ContextVar("node", default=None)


class Stuck(Exception):
    """The run does not come to an end."""


class Node:
    """One process: alive, paused or dead."""

    def __init__(self, loop: SeededLoop, name: str) -> None:
        self.name = name
        self.dead = self.paused = self.cut = False
        """``cut``: it runs, and reaches nobody."""
        self.stopped_at = 0.0
        """When it was asked to stop."""
        self.fuse = 0
        """After so many steps of its own it blows: :attr:`blown` is called. 0: it has none."""
        self.blown: Callable[[], None] = lambda: None
        self.held: list[asyncio.Handle] = []
        self._loop = loop
        self._context = copy_context()
        self._context.run(_NODE.set, self)
        loop.nodes.append(self)

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run it as a part of this process."""
        return self._loop.create_task(work, name=name, context=self._context)

    def kill(self) -> None:
        """Nothing of it ever runs again, not even its ``finally``, until the run is over."""
        self.dead = True

    def resume(self) -> None:
        """Go on after a pause, as if nothing had been."""
        self.paused = False
        if not self.dead:
            self._loop.again(self.held)
            self.held.clear()


class SeededLoop(asyncio.BaseEventLoop):
    """No sockets, no threads, no wall clock."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.steps = 0
        self.nodes: list[Node] = []
        self.before: Callable[[Node, asyncio.Handle], None] = lambda *_: None
        """Is called before each step of a node."""
        self._ready: list[asyncio.Handle] = []
        self._now = 0.0
        self._outside = copy_context()
        self._kept: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._keep)
        self.failed: list[str] = []
        """What broke off, and nobody waits for."""
        self.set_exception_handler(self._not_handled)

    def time(self) -> float:
        return self._now

    def outside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it outside of all nodes, where nothing crashes: in the broker, in the database, at a party."""
        return self.create_task(work, context=self._outside)

    def unattended(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run it outside of all nodes, with nobody who waits for it: where it broke off in silence, less would happen, and all be well."""

        async def run() -> None:
            try:
                await work
            except asyncio.CancelledError as error:
                # As the run ends all are cancelled, but then nobody looks at what failed any more.
                self._breaks_off(name, error)
                raise
            except Exception as error:
                self._breaks_off(name, error)

        # No callback: it would be one more step, and give each seed another history.
        self.outside(run())

    def again(self, handles: list[asyncio.Handle]) -> None:
        self._ready.extend(handles)

    def end(self) -> None:
        """Let everything that is left end in its own way, and forget it; nobody looks at what it does any more."""
        self.before = lambda *_: None
        for node in self.nodes:
            node.dead = node.cut = False
            node.fuse = 0
            node.resume()
        self.steps = 0
        while left := [task for task in self._kept if not task.done()]:
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left, timeout=60))
        self._kept.clear()
        self.close()

    def _breaks_off(self, name: str, error: BaseException) -> None:
        self.failed.append(f"{name} breaks off: {told_of(error)}")

    def _not_handled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Who a broken connection was of, or what a task came to that nobody waited for any more, is not worth a word here."""
        if "handle" in context:
            self._breaks_off("a callback", context["exception"])

    def _keep(
        self, loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Tasks of the dead are kept: collected as garbage they would run their ``finally`` after all."""
        if len(self._kept) > 4_000:
            self._kept = [task for task in self._kept if not task.done()]
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, context=context)
        self._kept.append(task)
        return task

    def _run_once(self) -> None:
        """One callback, any that is ready."""
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready:
            if not scheduled:
                raise Stuck("everything waits for something that will never happen")
            self._now = max(self._now, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._now:
            timer = heappop(scheduled)
            timer._scheduled = False
            self._ready.append(timer)
        place = int(self.draw.random() * len(self._ready)) if len(self._ready) > 1 else 0
        handle = self._ready[place]
        self._ready[place] = self._ready[-1]
        self._ready.pop()
        if handle.cancelled():
            return
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Stuck(f"after {MOST_STEPS} steps it still goes on")
        node = handle._context.get(_NODE)  # type: ignore[attr-defined]
        if node is not None:
            if node.dead or node.paused:
                node.held.append(handle)
                return
            self.before(node, handle)
            if node.fuse:
                node.fuse -= 1
                if node.fuse == 0:
                    node.blown()
                    self._ready.append(handle)
                    return
        handle._run()

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else has to be woken."""


@contextmanager
def seeded(seed: int) -> Iterator[SeededLoop]:
    """A loop, and a process that knows no other time and no other chance than the loop's, nor that of collecting garbage."""
    loop = SeededLoop(seed)
    chance = random.Random(seed + 1)
    real = (time.monotonic, time.perf_counter, time.time, time.time_ns, os.urandom, secrets.token_bytes)
    time.monotonic = time.perf_counter = time.time = loop.time
    time.time_ns = lambda: int(loop.time() * 1e9)
    os.urandom = chance.randbytes
    secrets.token_bytes = lambda count=32: chance.randbytes(count or 32)  # type: ignore[assignment]
    asyncio.set_event_loop(loop)
    gc.disable()
    try:
        with ExitStack() as keys:
            for kind in (X25519PrivateKey, Ed25519PrivateKey):
                keys.enter_context(patch.object(kind, "generate", partial(_key_of, kind, chance)))
            yield loop
    finally:
        try:
            loop.end()
        finally:
            gc.enable()
            asyncio.set_event_loop(None)
            (time.monotonic, time.perf_counter, time.time, time.time_ns, os.urandom, secrets.token_bytes) = (
                real
            )


def _key_of(kind: Any, chance: random.Random) -> Any:
    return kind.from_private_bytes(chance.randbytes(32))
