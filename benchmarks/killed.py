"""What a contender's topics hold after kill -9: it is killed in the midst of a backlog, started again at once, and drained.

The kill strikes by what has been appended, committed or not, so that it finds work under way; how much was left undone is reported, for a
kill after the end would prove nothing. Afterwards committed data alone is read, once no transaction stands open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from aiokafka import AIOKafkaConsumer

from benchmarks.matched import Backlog, contender
from benchmarks.outside import (
    Progress,
    Stalled,
    append,
    appended,
    count_answers,
    reading,
    settled,
    worked_through,
)
from benchmarks.processes import Program
from benchmarks.report import Measure
from benchmarks.stage import PARTITIONS, Stage

logger = logging.getLogger(__name__)

MEASURES: Final = (
    Measure("undone at the kill", ""),
    Measure("still after the kill", "s"),
    Measure("lost", "", "less", 0),
    Measure("twice", "", "less", 0),
    Measure("oversold", "", "less", 0),
)

_KILLED_AT: Final = 0.45
"""Of what it will have appended at its end. Not a half: batches of thousands would end just there, with nothing under way."""
_EVENTS_A_REFERRAL: Final = 3
_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 90.0
_MARKERS_AT_MOST: Final = 8 * PARTITIONS
"""What settling the transaction of whoever was killed may append, in changelog and output; more than that is work."""


async def taken(stage: Stage, backlog: Backlog, name: str) -> dict[str, float]:
    """One run of a contender over the whole backlog."""
    under_test = await contender(stage, backlog, name, at_once=False)
    program, records = under_test.program, backlog.records(under_test)
    beginning = backlog.beginning(under_test)
    await append(stage.log, beginning + records)
    undone, still = 0, _PATIENCE_SECONDS
    async with (
        reading(stage.bootstrap, under_test.output, "read_uncommitted") as output,
        Progress.of(stage.bootstrap, under_test.group, under_test.input) as progress,
    ):
        await program.start()
        try:
            midst = len(beginning) + int(_KILLED_AT * len(records) * _EVENTS_A_REFERRAL)
            await _reached(output, midst, program)
            await program.kill()
            at, since = await appended(output), time.monotonic()
            await program.start()
            # It has hardly begun to start, and can't have committed anything.
            undone = await progress.left()
            await _reached(output, at + _MARKERS_AT_MOST, program)
            still = time.monotonic() - since
            await worked_through(stage.bootstrap, under_test.group, under_test.input, program)
            await settled(stage.bootstrap, under_test.output, _PATIENCE_SECONDS)
        except Stalled as error:
            # What it left undone shows as lost.
            logger.warning("%s", error)
        finally:
            await program.stop()
    counted = await count_answers(stage.bootstrap, under_test.output, backlog.referrals, backlog.places)
    return {
        "undone at the kill": undone,
        "still after the kill": still,
        "lost": counted.lost,
        "twice": counted.twice,
        "oversold": counted.oversold,
    }


async def _reached(output: AIOKafkaConsumer, offsets: int, program: Program) -> None:
    """Wait until so many offsets are taken. Raises Stalled, and EmbeddedError where the program ended."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while await appended(output) < offsets:
        if not program.running:
            raise program.failed()
        if time.monotonic() > until:
            raise Stalled(f"{program.name} did not append {offsets} within {_PATIENCE_SECONDS:.0f} s")
        await asyncio.sleep(_LOOK_SECONDS)
