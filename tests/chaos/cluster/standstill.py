"""Time without progress, reckoned from a history: how long, after each fault, the slowest lane stood still.

A lane is what must go on by itself: the decisions of each partition of the ledger, the acknowledgements of each client, what each puts on
its outbox and intake on the inbox, the views and what is told of each partition. It stands still from one mark of progress to the next.
A standstill is of one fault, with all its length, also beyond the next one: of the fault after which it began, or, where it had lasted
for hardly any time when the next one struck, of that one, from then on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from referral_bus.log.port import Record
from referral_bus.log.topics import inbox, ledger
from referral_bus.wire.envelope import source_of
from tests.chaos.cluster.history import History
from tests.support.checking import Line

_STANDS_STILL_SECONDS: Final = 5.0
"""Of less nobody can say that it was not the next fault's doing: matching is stopped before that strikes, and a client puts something on
its outbox every 1.5 s."""


def lanes(history: History) -> dict[str, list[float]]:
    """When there was progress, by lane, in order."""
    found: dict[str, list[float]] = {}
    for record in history.records[ledger(history.run["bus"])]:
        found.setdefault(f"decisions {record.partition}", []).append(history.monotonic(record.timestamp))
    admitted = [
        (_of_record(record), history.monotonic(record.timestamp))
        for record in history.records[inbox(history.run["bus"])]
    ]
    for client, lines in history.lines.items():
        acknowledged = [line for line in lines if line["what"] == "acknowledged"]
        # Of what is on an outbox its own append is acknowledged, which is not intake's doing.
        sealed = {of_line(line) for line in acknowledged if line.get("door") == "outbox"}
        found[f"acknowledgements {client}"] = [
            line["at"] for line in acknowledged if of_line(line) not in sealed
        ]
        if sealed:
            found[f"outboxes {client}"] = [at for one, at in admitted if one in sealed]
    for what in ("views", "told"):
        before: Mapping[str, int] = {}
        for line in history.positions:
            for number, position in line[what].items():
                if position > before.get(number, 0):
                    found.setdefault(f"{what} {number}", []).append(line["at"])
            before = line[what]
    return {name: sorted(marks) for name, marks in found.items()}


def of_line(line: Line) -> tuple[str, str]:
    """What a submission that was acknowledged is known by: its source and id."""
    return source_of(line["organisation"]), line["id"]


def _of_record(record: Record) -> tuple[str, str]:
    headers = dict(record.headers)
    return headers["ce_source"].decode(), headers["ce_id"].decode()


def longest(marks: Sequence[float], starts: Sequence[float], end: float) -> list[float]:
    """Of each of the faults that began at ``starts``: the longest time between two marks that is its. What comes after ``end`` is
    nobody's."""
    found = [0.0] * len(starts)
    within = marks[bisect_left(marks, starts[0]) : bisect_right(marks, end)]
    for before, after in pairwise([starts[0], *within, max(starts[0], end)]):
        fault = bisect_right(starts, before) - 1
        following = starts[fault + 1] if fault + 1 < len(starts) else after
        own = after if following - before >= _STANDS_STILL_SECONDS else min(following, after)
        found[fault] = max(found[fault], own - before)
        if own < after:
            found[fault + 1] = max(found[fault + 1], after - own)
    return found


def standstills(history: History) -> list[tuple[float, str]]:
    """Of each fault: the longest standstill after it, in seconds, and the lane that stood still."""
    all_lanes = lanes(history)
    starts = [fault["at"] for fault in history.faults]
    if not starts:
        return []
    marks = [marks[-1] for name, marks in all_lanes.items() if name.startswith("acknow") and marks]
    # Whoever has said all goes on being answered, but puts nothing on its outbox.
    last = history.settling or min(
        (line["at"] for line in history.noted("finished")), default=max(marks, default=0.0)
    )
    stood = {name: longest(marks, starts, last) for name, marks in all_lanes.items()}
    return [
        max(((seconds[fault], name) for name, seconds in stood.items()), default=(0.0, ""))
        for fault in range(len(starts))
    ]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed; 0.0 where there are none."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, max(0, -(-int(share * 100) * len(ordered) // 100) - 1))]
        if ordered
        else 0.0
    )
