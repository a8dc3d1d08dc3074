"""Rebuilding matching's state: a fresh process loads a ledger of whole lives, without snapshots and with them.

The snapshots are made when a hundredth of the ledger is still to come, so that whoever loads them goes on to read that.
"""

from __future__ import annotations

import time
from typing import Any, Final

from benchmarks.ledgers import Author, write
from benchmarks.processes import Program
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage
from benchmarks.world import worlds
from referral_bus.log import topics
from referral_bus.wire.codec import Codec

SNAPSHOT: Final = "ours, snapshot"
READING: Final = "reading alone"
_DAYS_AGO: Final = 5 * 86_400_000
_PACE_MS: Final = 3_000


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours and the peer, in turn, ``runs`` times, on one ledger."""
    count = scale.of(1_000_000, 40_000)
    figure = Figure(
        "rebuild",
        f"Rebuilding matching's state from {count:,} ledger events",
        (
            Measure("without a snapshot", "s", "less", 60),
            Measure("with a snapshot", "s", "less", 5),
            Measure("events taken", ""),
            Measure("CPU", "s"),
            Measure("peak memory", "MB"),
        ),
        {
            OURS: "the worker's load of all partitions in one process: decode, validate, check the chain of hashes, fold",
            SNAPSHOT: "the same from snapshots that lack the last hundredth of the ledger",
            READING: "aiokafka and fastavro alone: every record is read, decoded and dropped",
        },
    )
    bus, folder = await stage.bus(), stage.folder / "snapshots"

    def load(snapshots: str) -> Program:
        return stage.program("load", stage.bootstrap, bus, folder, snapshots)

    codec, now = Codec.load(), int(time.time() * 1000) - _DAYS_AGO
    authors = [Author(world, bus, codec, now, _PACE_MS) for world in worlds(PARTITIONS, places=2)]
    for author in authors:
        await write(stage.log, author, [author.beginning()], inbox=False)
        await write(stage.log, author, author.lives(count * 99 // 100 // PARTITIONS), inbox=False)
    await _run(load("make"))
    for author in authors:
        await write(stage.log, author, author.lives(count // PARTITIONS), inbox=False)
    for _ in range(scale.runs):
        whole = await _run(load("none"))
        figure.add(OURS, _taken("without a snapshot", whole))
        figure.add(SNAPSHOT, _taken("with a snapshot", await _run(load("use"))))
        reader = stage.program("peers.ledger_reader", stage.bootstrap, topics.ledger(bus), "drop")
        figure.add(READING, _taken("without a snapshot", await _run(reader)))
    figure.setting = (
        f"{whole['events']:,} events in {PARTITIONS} partitions, {whole['open']:,} referrals open at the end; "
        f"{scale.runs} runs of each in turn"
    )
    return figure


def _taken(measure: str, said: dict[str, Any]) -> dict[str, float]:
    return {
        measure: said["seconds"],
        "events taken": said["events"],
        "CPU": said["cpu"],
        "peak memory": said["peak"],
    }


async def _run(program: Program) -> dict[str, Any]:
    await program.start()
    try:
        return await program.result()
    finally:
        await program.stop()
