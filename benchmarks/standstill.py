"""How long work stands still when the brokers of a cluster of three are struck in turn: killed, and hung (SIGSTOP).

What stands still is a partition: the longest time between two appends to it, by the brokers' clocks. Beside the output stands the input,
since nobody can answer what has not arrived. Under test is the bare loop alone, which is all settings and no work: with aiokafka's own
settings, and with the bus's; each on brokers that wait for one another as long as Kafka's do by themselves, and as short as a local bus's
do. What the bus itself does on such a cluster is what ``make chaos`` reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.brokers import BROKERS, cluster
from benchmarks.outside import every_record
from benchmarks.peers.bare_loop import OWN
from benchmarks.processes import Program
from benchmarks.report import Figure, Measure
from benchmarks.stage import PARTITIONS, ROOT, Scale, Stage
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogError, Outgoing, TopicSpec

PER_SECOND: Final = 80
_BUS: Final = "the bus's"


class _Patient(EmbeddedKafka):
    """A broker that waits as long for another as Kafka's do by themselves."""

    more = "request.timeout.ms=30000\n"


BROKERS_WAIT: Final[dict[str, type[EmbeddedKafka]]] = {"30 s": _Patient, "5 s": EmbeddedKafka}
"""Their ``request.timeout.ms``, and the broker that has it."""
SETTINGS: Final = {
    f"{settings}, brokers wait {wait}": f"{what}; request.timeout.ms of the brokers is {wait}"
    for wait in BROKERS_WAIT
    for settings, what in (
        (OWN, "the bare loop with aiokafka's own settings, started anew at once when it ends"),
        (_BUS, "the same with the settings of referral_bus.log.kafka"),
    )
}
_KILLED_SECONDS: Final = 10.0
_HUNG_SECONDS: Final = 45.0
_RECOVERY_SECONDS: Final = 25.0
_LOOK_SECONDS: Final = 0.2

MEASURES: Final = (
    Measure("killed: output stood still", "s"),
    Measure("killed: input stood still", "s"),
    Measure("hung: output stood still", "s"),
    Measure("hung: input stood still", "s"),
)

Strike = Callable[[EmbeddedKafka], Awaitable[None]]


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Each setting in turn, on a cluster of its own, ``runs`` times."""
    struck = scale.of(BROKERS, 1)
    figure = Figure(
        "standstill", "The longest time without progress as brokers are struck in turn", MEASURES, SETTINGS
    )
    figure.setting = (
        f"{BROKERS} brokers, replication 3, min.insync 2, {PARTITIONS} partitions, {PER_SECOND} records/s; {struck} of them killed for "
        f"{_KILLED_SECONDS:.0f} s, then {struck} hung for {_HUNG_SECONDS:.0f} s, {_RECOVERY_SECONDS:.0f} s after each"
    )
    for _run in range(scale.runs):
        for settings in SETTINGS:
            figure.add(settings, await _taken(*settings.split(", brokers wait "), struck))
    return figure


async def _taken(settings: str, wait: str, struck: int) -> dict[str, float]:
    async with cluster(BROKERS_WAIT[wait]) as (folder, brokers):
        bootstrap = ",".join(broker.bootstrap for broker in brokers)
        found: dict[str, float] = {}
        for name, strike in {"killed": _kill, "hung": _hang}.items():
            source, target = f"{name}.in", f"{name}.out"
            async with _running(folder, bootstrap, name, settings, source, target):
                await asyncio.sleep(_RECOVERY_SECONDS)
                for broker in brokers[:struck]:
                    await strike(broker)
                    await asyncio.sleep(_RECOVERY_SECONDS)
                ended = int(time.time() * 1000)
            found[f"{name}: output stood still"] = await _stood_still(bootstrap, target, ended)
            found[f"{name}: input stood still"] = await _stood_still(bootstrap, source, ended)
        return found


@asynccontextmanager
async def _running(
    folder: Path, bootstrap: str, name: str, settings: str, source: str, target: str
) -> AsyncIterator[None]:
    """The loop at work and kept up, and records that come at a steady pace."""
    words = [bootstrap, name, source, target, settings]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers.bare_loop", *words]
    program = Program(name, command, {"PYTHONPATH": str(ROOT)}, folder / f"{name}.log")
    log = KafkaLog(bootstrap)
    await log.ensure(
        TopicSpec(topic, PARTITIONS, append_time=True, replication=BROKERS) for topic in (source, target)
    )
    await program.start()
    beside = [asyncio.create_task(_kept_up(program)), asyncio.create_task(_load(log, source))]
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await program.stop()
        await log.close()


async def _kept_up(program: Program) -> None:
    """Start it anew whenever it has ended, as a supervisor would, until cancelled."""
    while True:
        if not program.running:
            await program.start()
        await asyncio.sleep(_LOOK_SECONDS)


async def _load(log: KafkaLog, topic: str) -> None:
    """A record every so often to each partition in turn, whatever became of those before, until cancelled."""
    appender = await log.appender()
    sent: set[asyncio.Task[None]] = set()

    async def append(number: int) -> None:
        # Who could not be reached is reached by the next one: what is asked is when, not how many.
        with contextlib.suppress(LogError):
            await appender.append([Outgoing(topic, number % PARTITIONS, b"key", b"value")])

    try:
        for number in itertools.count():
            task = asyncio.create_task(append(number))
            sent.add(task)
            task.add_done_callback(sent.discard)
            await asyncio.sleep(1 / PER_SECOND)
    finally:
        for task in sent:
            task.cancel()
        await appender.close()


async def _kill(broker: EmbeddedKafka) -> None:
    await asyncio.to_thread(broker.kill)
    await asyncio.sleep(_KILLED_SECONDS)
    await asyncio.to_thread(broker.start)


async def _hang(broker: EmbeddedKafka) -> None:
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(_HUNG_SECONDS)
    finally:
        os.kill(broker.pid, signal.SIGCONT)


async def _stood_still(bootstrap: str, topic: str, ended: int) -> float:
    """The longest time without a committed record, until ``ended`` (epoch milliseconds), of the partition that stood still the longest,
    in seconds."""
    times: dict[int, list[int]] = {}
    async for message in every_record(bootstrap, topic):
        times.setdefault(message.partition, []).append(message.timestamp)
    gaps = (
        after - before
        for of_one in times.values()
        for before, after in itertools.pairwise(sorted([*of_one, ended]))
    )
    return max(gaps) / 1000
