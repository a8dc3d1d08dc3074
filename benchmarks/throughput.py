"""Throughput of matching: a backlog of new referrals, decided by one process, with the broker on the same cores.

The clock is the broker's: from its append of the first answer to that of the last, read from the topic afterwards, so that looking costs
the contender nothing. That favours whoever commits seldom: an answer counts when it is appended, not when it can be read, and what was
decided before the first append took no time; the seconds from the program's start to the last answer have it all. Lost, twice and
oversold are counted by the same reading, of committed data only. CPU is a process's whole life, its start included.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from benchmarks.matched import FAUST, QUIX, Backlog, contender
from benchmarks.outside import Stalled, append, count_answers, markers, worked_through
from benchmarks.processes import usage_of
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage

logger = logging.getLogger(__name__)

MEASURES: Final = (
    Measure("decided", "/s", "more", 3000),
    Measure("from start to the last answer", "s"),
    Measure("lost", "", "less", 0),
    Measure("twice", "", "less", 0),
    Measure("oversold", "", "less", 0),
    Measure("transaction markers", ""),
    Measure("CPU a thousand", "s"),
    Measure("broker's CPU a thousand", "s"),
    Measure("peak memory", "MB"),
)


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours and the peers, in turn, ``runs`` times."""
    count = scale.of(40_000, 4_000)
    figure = Figure(
        "throughput",
        "Decided submissions, one process, 200 services a region, certificates on",
        MEASURES,
        {
            OURS: "the matching service: opens the facts, judges every service that meets a need, ranks, writes three chained "
            "events with a certificate",
            FAUST: "an agent with a Table, set to exactly_once: decodes, takes the first free place that meets the need, writes three "
            "events (no sealing, ranking, certificate, chain or repeats). No marker: it writes to a topic it does not itself read "
            "outside its transactions (faust-streaming issue 177), so it is not exactly once",
            QUIX: "the same with Quix Streams' state, exactly-once; answers can be read after its next checkpoint, up to 5 s later, "
            "which the rate does not count against it",
        },
    )
    figure.setting = (
        f"backlog of {count:,} new referrals in {PARTITIONS} regions on {PARTITIONS} partitions, {scale.runs} runs of each in turn, "
        "the broker on the same cores"
    )
    backlog = await Backlog.make(stage, count, places=20)
    for _ in range(scale.runs):
        for name in (OURS, FAUST, QUIX):
            figure.add(name, await taken(stage, backlog, name))
    return figure


async def taken(stage: Stage, backlog: Backlog, name: str, **settings: str | int | float) -> dict[str, float]:
    """One run of a contender over the whole backlog; ``settings`` are ours."""
    under_test = await contender(stage, backlog, name, at_once=False, **settings)
    program, broker = under_test.program, stage.kafka.pid
    await append(stage.log, backlog.beginning(under_test) + backlog.records(under_test))
    brokers, started = usage_of(broker).cpu, time.time()
    await program.start()
    try:
        try:
            await worked_through(stage.bootstrap, under_test.group, under_test.input, program)
        except Stalled as error:
            # What it left undone shows as lost.
            logger.warning("%s", error)
        used, broker_used = program.usage(), usage_of(broker)
    finally:
        await program.stop()
    counted = await count_answers(stage.bootstrap, under_test.output, backlog.referrals, backlog.places)
    thousands = len(backlog.referrals) / 1000
    return {
        "decided": counted.per_second,
        "from start to the last answer": counted.last / 1000 - started,
        "lost": counted.lost,
        "twice": counted.twice,
        "oversold": counted.oversold,
        "transaction markers": await markers(stage.bootstrap, under_test.output),
        "CPU a thousand": used.cpu / thousands,
        "broker's CPU a thousand": (broker_used.cpu - brokers) / thousands,
        "peak memory": used.peak,
    }
