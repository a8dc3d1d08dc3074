"""A service's life: start, serve, say how it is, stop. One process is one service.

A part that ends or fails takes the process down with exit code 1: the supervisor starts it anew, from a state that is known. SIGTERM
and SIGINT stop it gracefully, within ``stop_seconds``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NamedTuple, TypeVar

import uvloop

from referral_bus.runtime import logs, tracing
from referral_bus.runtime.expiry import tell_certificates
from referral_bus.runtime.health import Health
from referral_bus.runtime.settings import Settings, SettingsError
from referral_bus.web.operations import operations_app
from referral_bus.web.server import serve

logger = logging.getLogger(__name__)

Given = TypeVar("Given", bound=Settings)

COLLECTING: Final = (50_000, 20, 50)
"""How many new objects, and collections of the younger generation, lead to a collection of garbage in cycles. A service makes hundreds of
small objects a message and hardly a cycle, and some hold a large state: at Python's own 700, 10 and 10, looking for garbage took up to a
quarter of matching's time."""


class Task(NamedTuple):
    """A part of a service that runs until it is cancelled."""

    name: str
    work: Coroutine[Any, Any, None]


Build = Callable[[Given, Health], AbstractAsyncContextManager[list[Task]]]
"""Makes the service's parts from its settings, and takes them apart again."""


def run(settings: Given, build: Build[Given]) -> None:
    """Run the service until a signal stops it. Exits with 1 where a part failed or stopping took too long."""
    logs.configure(settings.service, settings.log_level)
    gc.set_threshold(*COLLECTING)
    # What was imported stays until the end: no collection looks at it again, the last ones as Python ends included.
    gc.freeze()
    try:
        tracing.configure(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    try:
        code = uvloop.run(_run(settings, build))
    finally:
        tracing.tracer().close()
    if code:
        raise SystemExit(code)


async def _run(settings: Given, build: Build[Given]) -> int:
    stopped, built = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    health = Health()
    tell_certificates(settings.certificates)
    operations = asyncio.create_task(
        serve(operations_app(health, settings.service), settings.host, settings.operations_port),
        name="operations",
    )
    life = asyncio.create_task(_live(settings, build, health, stopped, built), name="life")

    def stop() -> None:
        loop.call_later(settings.stop_seconds, _give_up, settings.stop_seconds)
        stopped.set()
        if not built.is_set():
            # Whatever the start waits for, a broker that is away perhaps, need not come first.
            life.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.wait((life, operations), return_when=asyncio.FIRST_COMPLETED)
    if not life.done():
        logger.error("the operations listener ended: is port %d taken?", settings.operations_port)
        life.cancel()
    operations.cancel()
    await asyncio.wait((life, operations), timeout=settings.stop_seconds)
    if not life.done():
        return 1
    if life.cancelled():
        return 0 if stopped.is_set() else 1
    return life.result()


async def _live(
    settings: Given, build: Build[Given], health: Health, stopped: asyncio.Event, built: asyncio.Event
) -> int:
    failed = False
    try:
        async with build(settings, health) as parts:
            built.set()
            running = {asyncio.create_task(part.work, name=part.name) for part in parts}
            logger.info("%s runs", settings.service)
            waiting = asyncio.create_task(stopped.wait())
            try:
                await asyncio.wait((waiting, *running), return_when=asyncio.FIRST_COMPLETED)
                failed = _report(running)
            finally:
                asyncio.get_running_loop().call_later(settings.stop_seconds, _give_up, settings.stop_seconds)
                health.starting("service", "is stopping")
                logger.info("%s stops", settings.service)
                for task in (waiting, *running):
                    task.cancel()
                await asyncio.gather(waiting, *running, return_exceptions=True)
    except Exception as error:
        logger.error("%s failed: %s", settings.service, logs.told(error), exc_info=error)
        return 1
    return 1 if failed else 0


def _report(running: set[asyncio.Task[None]]) -> bool:
    ended = [task for task in running if task.done()]
    for task in ended:
        error = task.exception() if not task.cancelled() else None
        why = "nothing was raised" if error is None else logs.told(error)
        logger.error("%s ended by itself: %s", task.get_name(), why, exc_info=error)
    return bool(ended)


def _give_up(seconds: float) -> None:
    logger.error("stopping took more than %s s: exiting without", seconds)
    os._exit(1)
