"""Throughput of matching: a backlog of new referrals, decided by one process, with the broker on the same cores.

The clock is the broker's: from its append of the first answer to that of the last, read from the topic afterwards, so that looking costs
the contender nothing. Lost and twice are counted by the same reading, of committed data only.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from benchmarks.matched import FAUST, QUIX, Backlog, contender
from benchmarks.outside import Stalled, append, count_answers, worked_through
from benchmarks.processes import usage_of
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage

logger = logging.getLogger(__name__)

MEASURES: Final = (
    Measure("decided", "/s", "more", 3000),
    Measure("lost", "", "less", 0),
    Measure("twice", "", "less", 0),
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
            FAUST: "an agent with a Table, exactly_once: decodes, takes the first free place that meets the need, writes three "
            "events (no sealing, ranking, certificate, chain or repeats)",
            QUIX: "the same with Quix Streams' state, exactly-once",
        },
    )
    figure.setting = (
        f"backlog of {count:,} new referrals in {PARTITIONS} regions on {PARTITIONS} partitions, {scale.runs} runs of each in turn, "
        "the broker on the same cores"
    )
    backlog = await Backlog.make(stage, count, places=20)
    for _ in range(scale.runs):
        for name in (OURS, FAUST, QUIX):
            figure.add(name, await _taken(stage, backlog, name))
    return figure


async def _taken(stage: Stage, backlog: Backlog, name: str) -> dict[str, float]:
    under_test = await contender(stage, backlog, name, at_once=False)
    program, broker = under_test.program, stage.kafka.pid
    records = backlog.beginning(under_test) + backlog.records(under_test)
    await append(stage.log, records)
    began: list[_Began] = []
    await program.start()
    try:
        try:
            await worked_through(
                stage.bootstrap,
                under_test.group,
                under_test.input,
                program,
                lambda through: began.append(_Began(through, program.usage().cpu, usage_of(broker).cpu)),
            )
        except Stalled as error:
            # What it left undone shows as lost.
            logger.warning("%s", error)
        used, broker_used = program.usage(), usage_of(broker)
    finally:
        await program.stop()
    counted = await count_answers(stage.bootstrap, under_test.output, backlog.referrals)
    taken = {
        "decided": counted.per_second,
        "lost": counted.lost,
        "twice": counted.twice,
        "peak memory": used.peak,
    }
    thousands = (len(records) - began[0].through) / 1000 if began else 0
    if thousands > 0:
        taken["CPU a thousand"] = (used.cpu - began[0].cpu) / thousands
        taken["broker's CPU a thousand"] = (broker_used.cpu - began[0].broker_cpu) / thousands
    return taken


class _Began(NamedTuple):
    """When something was first committed: how much, and the CPU seconds used by then."""

    through: int
    cpu: float
    broker_cpu: float
