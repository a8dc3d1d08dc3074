"""A service's parts, run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from referral_bus.runtime.health import Health
from referral_bus.runtime.service import Task
from tests.support.notifying import until


@asynccontextmanager
async def running(
    build: Callable[[Any, Health], AbstractAsyncContextManager[list[Task]]], settings: Any
) -> AsyncIterator[Health]:
    """Until it is cancelled as a killed one would be: at once, wherever it is. Raises what a part raised."""
    health = Health()
    async with build(settings, health) as parts:
        tasks = [asyncio.create_task(part.work, name=part.name) for part in parts]
        try:
            await until(lambda: not health.problems() or any(task.done() for task in tasks))
            yield health
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
