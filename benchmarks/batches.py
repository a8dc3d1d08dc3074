"""What the size of a batch and the number of partitions are worth to matching's throughput: the same backlog by each, in turn."""

from __future__ import annotations

from typing import Final

from benchmarks.matched import Backlog
from benchmarks.report import OURS, Figure
from benchmarks.stage import PARTITIONS, Scale, Stage
from benchmarks.throughput import MEASURES, taken

BATCHES: Final = (50, 500, 2_000, 10_000)
"""Submissions decided in one transaction, at most: ours has 500."""
MANY: Final = 3 * PARTITIONS


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Each in turn, ``runs`` times."""
    count = scale.of(40_000, 4_000)
    among = {(PARTITIONS, batch): f"{batch:,} at once" for batch in BATCHES}
    among |= {(MANY, batch): f"{MANY} partitions, {batch:,} at once" for batch in BATCHES[1:3]}
    figure = Figure(
        "batches",
        "Decided submissions by the size of a batch and the number of partitions, one process",
        MEASURES,
        {name: f"matching with REFBUS_BATCH_RECORDS={batch}" for (_, batch), name in among.items()},
    )
    figure.setting = (
        f"backlog of {count:,} new referrals on {PARTITIONS} partitions or {MANY}, a region each, {scale.runs} runs of each in turn, "
        "the broker on the same cores"
    )
    backlogs = {
        partitions: await Backlog.make(stage, count, places=20, partitions=partitions)
        for partitions in (PARTITIONS, MANY)
    }
    for _ in range(scale.runs):
        for (partitions, batch), name in among.items():
            figure.add(name, await taken(stage, backlogs[partitions], OURS, batch_records=batch))
    return figure
