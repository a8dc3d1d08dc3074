"""A crash at every await: the first time that a service waits somewhere, its process is killed there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import services
from tests.simulation.loop import Node
from tests.simulation.world import World

_ROOT: Final = Path(services.__path__[0]).parent
_OURS: Final = tuple(str(_ROOT / package) for package in ("referral_bus", "services"))


class Await(NamedTuple):
    """A place in the code of the bus at which a task waits: a file, from the project's folder on, and a line."""

    file: str
    line: int


class Awaits:
    """Kills processes at places at which none was killed before, from one seed to the next."""

    def __init__(self) -> None:
        self.struck: set[Await] = set()

    def watch(self, world: World) -> None:
        """Strike in this run."""

        def step(node: Node, handle: asyncio.Handle) -> None:
            at = _at(handle)
            if at is not None and at not in self.struck and world.up.get(node.name) is node:
                self.struck.add(at)
                world.told(f"{node.name} is struck at {at.file}:{at.line}")
                world.crash(node.name, 1)

        world.loop.before = step


def _at(handle: asyncio.Handle) -> Await | None:
    """Where the task waits that the callback lets go on: the innermost place that is the bus's own."""
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    if not isinstance(task, asyncio.Task):
        return None
    own = [frame for frame in _frames(task.get_coro()) if frame.f_code.co_filename.startswith(_OURS)]
    if not own:
        return None
    return Await(str(Path(own[-1].f_code.co_filename).relative_to(_ROOT)), own[-1].f_lineno)


def _frames(waits: Any) -> Iterator[FrameType]:
    """From the outermost coroutine inwards."""
    while waits is not None:
        for kind in ("cr", "gi", "ag"):
            if (frame := getattr(waits, f"{kind}_frame", None)) is not None:
                yield frame
                waits = getattr(waits, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            return
