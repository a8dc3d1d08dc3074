"""What deciding, remembering and storing cost as a process has ten and a hundred times as much to do with.

Four things grow, one at a time: the services of a region, the referrals that wait for an answer, the regions a process decides for, and the
history that lies behind. Each point is taken in a fresh process, so that its memory is its own. The real core decides, chains and encodes;
no broker is needed. Where what grows costs nothing, the times beside the first size are one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Final, NamedTuple

from aiokafka.codec import zstd_encode

from benchmarks.ledgers import Author, Batch
from benchmarks.processes import collect_as_services_do, usage_of
from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from benchmarks.world import World, wide, worlds
from referral_bus.log.port import Outgoing
from referral_bus.wire.codec import Codec
from services.matching.snapshots import Snapshot, Snapshots, capture

TIMES: Final = {OURS: 1, f"{OURS}, ten times as much": 10, f"{OURS}, a hundred times as much": 100}
_NOW: Final = 1_800_000_000_000
_PACE_MS: Final = 1_000
_REGION: Final = "region1"
_LOOKS: Final = 100
_PLACES: Final = 400
"""Times the places of the county's units: a hundred thousand referrals are offered, and none goes without."""


class _Grows(NamedTuple):
    """What grows, from which size on, and how much is lived before a look is taken."""

    what: str
    size: int
    quick: int
    made: Callable[[int], list[World]]
    open_each: Callable[[int], int]
    """How many referrals wait in each region, by size; nobody waits where it is whole lives that are lived."""
    events: Callable[[int], int]


GROWS: Final = (
    _Grows("services of a region", 200, 20, lambda n: [wide(_REGION, n, 40)], lambda _: 1_000, lambda _: 0),
    _Grows("open referrals", 1_000, 20, lambda _: worlds(1, _PLACES), lambda n: n, lambda _: 0),
    _Grows("regions in a process", 1, 1, lambda n: worlds(n, 40), lambda _: 100, lambda _: 0),
    _Grows("events behind", 10_000, 300, lambda _: worlds(1, 2), lambda _: 0, lambda n: n),
)


_OF: Final = {
    "decided": "/s",
    "memory": "MB",
    "copied for a snapshot": "ms",
    "snapshot": "MB",
    "look for what is due": "ms",
    "inbox and ledger, a submission": "bytes",
    "the same, compressed": "bytes",
}


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Each size of each thing, in a process of its own."""
    figure = Figure(
        "scale",
        "What ten and a hundred times as much costs matching",
        [
            Measure(f"{grows.what}: {of}", unit, "more" if of == "decided" else "less")
            for grows in GROWS
            for of, unit in _OF.items()
        ],
        {name: "the real core and codec, one thread" for name in TIMES},
    )
    decided = scale.of(2_000, 50)
    first = ", ".join(f"{scale.of(grows.size, grows.quick):,} {grows.what}" for grows in GROWS)
    figure.setting = (
        f"at first {first}; {decided:,} submissions are timed, by the processor's time; {scale.runs} runs"
    )
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for _ in range(scale.runs):
            for name, times in TIMES.items():
                for number, grows in enumerate(GROWS):
                    size = times * scale.of(grows.size, grows.quick)
                    taken = pool.submit(_point, number, size, decided).result()
                    figure.add(name, {f"{grows.what}: {of}": value for of, value in taken.items()})
    return figure


def _point(number: int, size: int, decided: int) -> dict[str, float]:
    """One size of what grows. Runs in a process of its own."""
    grows = GROWS[number]
    collect_as_services_do()
    codec = Codec.load()
    authors = [Author(world, "bench", codec, _NOW, _PACE_MS) for world in grows.made(size)]
    before = usage_of(os.getpid()).rss
    for author in authors:
        author.beginning()
        _live(author.waiting(grows.open_each(size)))
        _live(author.lives(grows.events(size)))
    gc.collect()
    memory = usage_of(os.getpid()).rss - before
    copied, saved = _snapshot(authors)
    look = _looked(authors)
    each = max(1, decided // len(authors))
    began = process_time()
    batches = [batch for author in authors for batch in _more(author, each, grows.events(size) > 0)]
    took = process_time() - began
    submissions = sum(len(batch.inbox) for batch in batches)
    stored, packed = _bytes(batches)
    taken = (
        submissions / took,
        memory,
        copied * 1e3,
        saved / 1e6,
        look * 1e3,
        stored / submissions,
        packed / submissions,
    )
    return dict(zip(_OF, taken, strict=True))


def _live(batches: Iterable[Batch]) -> None:
    for _ in batches:
        pass


def _more(author: Author, submissions: int, lives: bool) -> Iterator[Batch]:
    """About so many submissions more, as those before."""
    if lives:
        return author.lives(author.written + 2 * submissions)
    return author.waiting(len(author.chain.state.referrals) + submissions)


def _snapshot(authors: Sequence[Author]) -> tuple[float, int]:
    """Seconds for which deciding stands still, and the bytes that are written beside it afterwards."""
    chains = {author.world.region: author.chain for author in authors}
    began = process_time()
    captured = capture(Snapshot(0, 0, chains))
    copied = process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(Snapshots(Path(folder), "bench").save(captured))
        return copied, sum(file.stat().st_size for file in Path(folder).iterdir())


def _looked(authors: Sequence[Author]) -> float:
    """Seconds to ask every region what falls due next, which is done twenty times a second."""
    began = process_time()
    for _ in range(_LOOKS):
        for author in authors:
            author.chain.state.next_due()
    return (process_time() - began) / _LOOKS


def _bytes(batches: Sequence[Batch]) -> tuple[int, int]:
    """All records with their headers, and the same compressed batch by batch, as a producer does."""
    stored = packed = 0
    for records in (records for batch in batches for records in batch):
        content = b"".join(part for record in records for part in _parts(record))
        stored += len(content)
        packed += len(zstd_encode(content))
    return stored, packed


def _parts(record: Outgoing) -> Iterator[bytes]:
    for name, value in record.headers:
        yield name.encode()
        yield value
    yield record.key or b""
    yield record.value or b""
