"""What lies between the simulated processes and what they ask, on an ordinary loop, while nothing goes wrong."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from referral_bus.log.memory import MemoryLog
from referral_bus.store.memory import MemoryViews
from tests.simulation.loop import Node
from tests.simulation.network import Broker, Database, Weather, Wire, WireViews


class _Ordinary:
    """The running loop, as the simulator's parts see theirs."""

    def __init__(self) -> None:
        self.draw = random.Random(1)
        self.nodes: list[Node] = []
        self.outside = self.create_task = asyncio.get_running_loop().create_task
        self.time = asyncio.get_running_loop().time


def wire_to(log: MemoryLog) -> Wire:
    """A process's way to the log."""
    loop: Any = _Ordinary()
    return Broker(log, Weather(loop), lambda _: None).reach(Node(loop, "one"))


def wire_to_views(views: MemoryViews) -> WireViews:
    """A process's way to the views."""
    loop: Any = _Ordinary()
    return WireViews(Database(Node(loop, "one"), Weather(loop), lambda: False), views)
