"""All who do matching's job, ours and the peers, in turn on one broker: a backlog, a steady pace, and kill -9.

Each measure is taken as in the figures throughput and latency, and in :mod:`benchmarks.killed`. What takes a million is the whole life of a
process less its start, which the run at a steady pace shows: a backlog of seconds is no measure of a start that is paid once.
"""

from __future__ import annotations

from typing import Final

from benchmarks import killed, latency, throughput
from benchmarks.matched import FASTSTREAM, FAUST, QUIX, RECIPE, STREAMS, Backlog
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage

_MILLION: Final = 1_000_000
_CONTENDERS: Final = {
    OURS: "the matching service: opens the facts, judges every service that meets a need, ranks, writes three chained events with a "
    "certificate, recognises repeats. Exactly once",
    STREAMS: "the peers' job in Java: a processor on a RocksDB store with a changelog, exactly_once_v2, one stream thread "
    "(garbage and compilation have threads of their own), heap of 512 MB. Exactly once",
    QUIX: "the peers' job on librdkafka, on a RocksDB store with a changelog. Exactly once; in its own time it commits every 5 s, which "
    "the rate does not count against it",
    RECIPE: "the peers' job on aiokafka: state in memory with a changelog, one transaction a batch with events, changelog and offsets. "
    "Exactly once, in one process only",
    FASTSTREAM: "the peers' job as a batch subscriber, state and changelog as in bare aiokafka. At least once: it can't put the "
    "offsets of what it read into a transaction",
    FAUST: "the peers' job as an agent with a table in memory, set to exactly_once. Not exactly once: its answers are outside its "
    "transactions (faust-streaming issue 177)",
}


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Everybody in turn, ``runs`` times."""
    count, paced, shot = (
        scale.of(24_000, 4_000),
        scale.of(10, 3) * latency.PER_SECOND,
        scale.of(8_000, 4_000),
    )
    figure = Figure(
        "beside", "The peers: the same backlog, pace and kills for everybody", MEASURES, _CONTENDERS
    )
    figure.setting = (
        f"backlog of {count:,} new referrals in {PARTITIONS} regions on {PARTITIONS} partitions, one process; "
        f"{paced} referrals at {latency.PER_SECOND}/s; a backlog of {shot:,} with a kill in its midst; "
        f"{scale.runs} runs of each in turn, the broker on the same cores"
    )
    backlog = await Backlog.make(stage, count, places=20)
    steady, struck = backlog.first(paced + latency.WARM_UP), backlog.first(shot)
    for _ in range(scale.runs):
        for name in _CONTENDERS:
            at_pace = await latency.taken(stage, steady, name)
            full = await throughput.taken(stage, backlog, name)
            under_fire = await killed.taken(stage, struck, name)
            figure.add(name, measures(count, at_pace, full, under_fire))
    return figure


MEASURES: Final = (
    Measure("decided", "/s", "more", 3000),
    Measure("p50", "ms", "less", 40),
    Measure("p99", "ms", "less", 200),
    Measure("CPU to start", "s"),
    Measure("CPU a million", "s"),
    Measure("broker's CPU a million", "s"),
    Measure("peak memory", "MB"),
    Measure("memory a million", "GB·s"),
    Measure("transaction markers", ""),
    *killed.MEASURES,
)


def measures(
    count: int, at_pace: dict[str, float], full: dict[str, float], under_fire: dict[str, float]
) -> dict[str, float]:
    """One row of :data:`MEASURES` from the three runs of a contender; ``count`` is the backlog's size.

    Memory a million is the peak for as long as a million take at this rate: what has to be rented.
    """
    start, rate, peak = at_pace["CPU to start"], full["decided"], full["peak memory"]
    return {
        "decided": rate,
        "p50": at_pace["p50"],
        "p99": at_pace["p99"],
        "CPU to start": start,
        "CPU a million": (full["CPU a thousand"] * count / 1000 - start) * _MILLION / count,
        "broker's CPU a million": full["broker's CPU a thousand"] * 1000,
        "peak memory": peak,
        "memory a million": peak / 1000 * _MILLION / rate if rate else 0.0,
        "transaction markers": full["transaction markers"],
        **under_fire,
    }
