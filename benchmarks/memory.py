"""Memory of matching: the real service, freshly started on a ledger whose referrals all wait for an answer.

It is looked at when it is ready and its own gauge says that it holds every one of them: readiness alone is no proof that anything was
loaded. An offered referral is the largest a region remembers: its facts stay sealed in memory for the next match.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from benchmarks.ledgers import Author, write
from benchmarks.matched import DATABASE
from benchmarks.processes import Usage
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import PARTITIONS, Scale, Stage
from benchmarks.world import worlds
from referral_bus.log import topics
from referral_bus.wire.codec import Codec

EMPTY: Final = "empty service"
KEEPING: Final = "events kept"
_HOUR_AGO: Final = 3_600_000
_PACE_MS: Final = 100
_PLACES: Final = 40
_HELD: Final = "refbus_matching_referrals_active"
_LOOK_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 600.0


async def measure(stage: Stage, scale: Scale) -> Figure:
    """Ours, ours with nothing to remember, and the peer, in turn, ``runs`` times."""
    count = scale.of(100_000, 8_000)
    figure = Figure(
        "memory",
        f"Memory of matching at {count:,} open referrals",
        (
            Measure("resident", "MB", "less", 500),
            Measure("peak", "MB"),
            Measure("referrals it holds", ""),
        ),
        {
            OURS: "the matching service: every referral with its facts, its task, its unit's places, and what recognises a repeat of it",
            EMPTY: "the same service on an empty ledger: what the interpreter and the libraries take",
            KEEPING: "a dictionary with the decoded events of each open referral (fastavro, no models)",
        },
    )
    full, empty = await stage.bus(), await stage.bus()
    open_ = await _written(stage, full, count)
    figure.setting = (
        f"{open_:,} referrals with an open offer in {PARTITIONS} regions; {scale.runs} runs of each"
    )
    for _ in range(scale.runs):
        for name, bus, held in ((OURS, full, open_), (EMPTY, empty, 0)):
            used = await _holding(stage, bus, held)
            figure.add(name, {"resident": used.rss, "peak": used.peak, "referrals it holds": held})
        keeper = stage.program("peers.ledger_reader", stage.bootstrap, topics.ledger(full), "keep")
        await keeper.start()
        said = await keeper.result()
        figure.add(
            KEEPING, {"resident": said["rss"], "peak": said["peak"], "referrals it holds": said["open"]}
        )
    return figure


async def _written(stage: Stage, bus: str, count: int) -> int:
    codec, now = Codec.load(), int(time.time() * 1000) - _HOUR_AGO
    found = 0
    for world in worlds(PARTITIONS, _PLACES):
        author = Author(world, bus, codec, now, _PACE_MS)
        await write(stage.log, author, [author.beginning()], inbox=True)
        await write(stage.log, author, author.waiting(count // PARTITIONS), inbox=True)
        found += len(author.chain.state.referrals)
    return found


async def _holding(stage: Stage, bus: str, referrals: int) -> Usage:
    """What the service uses once it holds so many referrals. Raises TimeoutError where it never does."""
    # Without a snapshot of the run before: the ledger is read from its beginning each time.
    service = stage.service("matching", bus, await stage.database(DATABASE), snapshot_events=10**9)
    await service.program.start()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                await service.ready()
                if await service.gauge(_HELD) == (referrals, PARTITIONS):
                    return service.program.usage()
                await asyncio.sleep(_LOOK_SECONDS)
    finally:
        await service.program.stop()
