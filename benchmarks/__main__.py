"""``python -m benchmarks [figure ...] [--quick] [--runs N]``."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.report import Figure
from benchmarks.stage import Scale, Stage, staged

FIGURES: Final = (
    "latency",
    "throughput",
    "batches",
    "beside",
    "intake",
    "projections",
    "notifier",
    "rebuild",
    "memory",
    "assignment",
    "windows",
    "certificates",
    "scale",
    "standstill",
    "stored",
    "backup",
)
"""Each a module with a ``measure``."""

UNSTAGED: Final = frozenset({"assignment", "windows", "certificates", "scale", "standstill", "stored"})
"""Those that measure the core alone, or bring up their own brokers."""

WIDTH: Final = 110
"""Columns the tables need, also where nothing says how wide the terminal is."""

Measuring = Callable[[Stage | None, Scale], Awaitable[Figure]]


async def run(names: list[str], scale: Scale, console: Console) -> None:
    for name in names:
        measuring: Measuring = importlib.import_module(f"benchmarks.{name}").measure
        # A broker for each figure: what one has left on the disk and in the page cache does not weigh on the next.
        async with nullcontext() if name in UNSTAGED else staged() as stage:
            figure = await measuring(stage, scale)
        figure.show(console)
        console.print(f"[dim]{figure.save()}[/dim]\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Figures, each beside a peer.")
    parser.add_argument("figures", nargs="*", metavar="figure", help=", ".join(FIGURES) + " (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    parser.add_argument("--runs", type=int, default=None, help="runs of each contender (3, quick: 1)")
    given = parser.parse_args()
    unknown = sorted(set(given.figures) - set(FIGURES))
    if unknown:
        parser.error(f"there is no figure {unknown[0]!r}: choose among {', '.join(FIGURES)}")
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("benchmarks").setLevel(logging.INFO)
    # It warns of each retry while a topic that was just made finds its leader.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    runs = given.runs or (1 if given.quick else 3)
    console = Console(highlight=False)
    console.width = max(console.width, WIDTH)
    load = os.getloadavg()[0]
    if load > (os.cpu_count() or 1) / 4:
        console.print(
            f"The machine is busy (load {load:.1f}): absolute figures will be low, and ratios uncertain."
        )
    uvloop.run(run(given.figures or list(FIGURES), Scale(given.quick, runs), console))


if __name__ == "__main__":
    main()
