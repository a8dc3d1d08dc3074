"""Latency: from the broker's append of a submission to the moment at which a reader of committed data has the offer.

The reader and the sender are this process; ours is the real matching service, and each peer a process of its own, on the same broker. The
broker's append time has whole milliseconds, cut off, so a figure is up to a millisecond too high.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer

from benchmarks.matched import BARE, FAUST, QUIX, Backlog, Contender, contender
from benchmarks.outside import ANSWERS, Reading, append, markers, reading
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from referral_bus.log.port import Appender, Outgoing

PER_SECOND: Final = 50
WARM_UP: Final = 100
_PATIENCE_SECONDS: Final = 30.0

MEASURES: Final = (
    Measure("p50", "ms", "less", 40),
    Measure("p99", "ms", "less", 200),
    Measure("longest", "ms"),
    Measure("lost", "", "less", 0),
    Measure("twice", "", "less", 0),
    Measure("transaction markers", ""),
    Measure("CPU to start", "s"),
    Measure("CPU", "s"),
    Measure("peak memory", "MB"),
)


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours and the peers, in turn, ``runs`` times."""
    count = scale.of(30, 5) * PER_SECOND
    figure = Figure(
        "latency",
        f"Submission on the inbox to offer visible (read_committed), {PER_SECOND}/s",
        MEASURES,
        {
            OURS: "the matching service: opens the facts, decides, writes three chained events, one of them with its certificate",
            BARE: "a consume-transform-produce loop on aiokafka with the same transaction settings; passes on the bytes it got",
            FAUST: "the job of the throughput figure in Faust, set to exactly_once. No marker: its answers are outside its transactions "
            "(faust-streaming issue 177), so readers need not wait for a commit, and it is not exactly once",
            QUIX: "the job of the throughput figure in Quix Streams, exactly-once, committing every message",
        },
    )
    figure.setting = f"{count} submissions a run, {scale.runs} runs of each in turn, one broker"
    backlog = await Backlog.make(stage, count + WARM_UP, places=20)
    for _ in range(scale.runs):
        for name in (OURS, BARE, FAUST, QUIX):
            figure.add(name, await taken(stage, backlog, name))
    return figure


async def taken(stage: Stage, backlog: Backlog, name: str) -> dict[str, float]:
    """One run of a contender: the backlog's referrals, sent at a steady pace."""
    under_test = await contender(stage, backlog, name, at_once=True)
    await append(stage.log, backlog.beginning(under_test))
    await under_test.program.start()
    try:
        async with reading(stage.bootstrap, under_test.output) as consumer:
            arrivals = Arrivals()
            hearing = asyncio.create_task(arrivals.hear(consumer))
            try:
                measures = await _sent(stage, backlog, under_test, arrivals)
            finally:
                hearing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await hearing
    finally:
        await under_test.program.stop()
    return {**measures, "transaction markers": await markers(stage.bootstrap, under_test.output)}


async def _sent(
    stage: Stage, backlog: Backlog, under_test: Contender, arrivals: Arrivals
) -> dict[str, float]:
    appender = await stage.log.appender()
    try:
        records = backlog.records(under_test)
        referrals = backlog.referrals
        # Whoever has answered these has joined its group, loaded its state and made its connections.
        await _paced(appender, records[:WARM_UP])
        await arrivals.all_of(referrals[:WARM_UP])
        cpu = under_test.program.usage().cpu
        appended = await _paced(appender, records[WARM_UP:])
        await arrivals.all_of(referrals[WARM_UP:])
        used = under_test.program.usage()
    finally:
        await appender.close()
    measured = list(zip(referrals[WARM_UP:], appended, strict=True))
    took = sorted(arrivals.at[referral] * 1000 - at for referral, at in measured if referral in arrivals.at)
    return {
        "p50": took[len(took) // 2],
        "p99": took[len(took) * 99 // 100],
        "longest": took[-1],
        "lost": len(measured) - len(took),
        "twice": sum(arrivals.times[referral] - 1 for referral, _ in measured if referral in arrivals.at),
        "CPU to start": cpu,
        "CPU": used.cpu - cpu,
        "peak memory": used.peak,
    }


async def _paced(appender: Appender, records: Sequence[Outgoing]) -> list[int]:
    """Send each at its time, whatever became of the one before; returns the broker's append times."""
    began = time.perf_counter()
    waiting = []
    for number, record in enumerate(records):
        await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.perf_counter()))
        waiting.append(asyncio.create_task(appender.append([record])))
    return [position.timestamp for [position] in await asyncio.gather(*waiting)]


class Arrivals:
    """When each referral's answer was first there for a committed reader (seconds since the epoch), and how often it came."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self.times: Counter[str] = Counter()
        self._reading = Reading()
        self._heard = asyncio.Event()

    async def hear(self, consumer: AIOKafkaConsumer) -> None:
        """Until cancelled."""
        while True:
            found = await consumer.getmany(timeout_ms=500)
            now = time.time()
            for messages in found.values():
                for message in messages:
                    datum = self._reading.datum(message.value)
                    if datum.name in ANSWERS or datum.name == "SubmitReferral":
                        referral = datum.fields.get("referral") or datum.fields.get("about") or ""
                        self.at.setdefault(referral, now)
                        self.times[referral] += 1
            self._heard.set()

    async def all_of(self, referrals: Sequence[str]) -> None:
        """Wait for them, for so long as patience lasts from one to the next."""
        wanted = set(referrals)
        left, since = len(wanted), time.monotonic()
        while left and time.monotonic() < since + _PATIENCE_SECONDS:
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), 1.0)
            still = len(wanted - self.at.keys())
            if still != left:
                left, since = still, time.monotonic()
