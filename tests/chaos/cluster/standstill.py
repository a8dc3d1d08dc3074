"""Time without progress, reckoned from a history: how long, after each fault, the slowest lane stood still.

A lane is what must go on by itself: the decisions of each partition of the ledger, the acknowledgements of each client, what each puts on
its outbox and intake on the inbox, the views and what is told of each partition. It stands still from one mark of progress to the next;
of that only what lies between the fault and the next fault counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from referral_bus.log.port import Record
from referral_bus.log.topics import inbox, ledger
from referral_bus.wire.envelope import source_of
from tests.chaos.cluster.history import History
from tests.support.checking import Line


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
        sealed = {_of_line(line) for line in acknowledged if line.get("door") == "outbox"}
        found[f"acknowledgements {client}"] = [
            line["at"] for line in acknowledged if _of_line(line) not in sealed
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


def _of_line(line: Line) -> tuple[str, str]:
    return source_of(line["organisation"]), line["id"]


def _of_record(record: Record) -> tuple[str, str]:
    headers = dict(record.headers)
    return headers["ce_source"].decode(), headers["ce_id"].decode()


def longest(marks: Sequence[float], start: float, end: float) -> float:
    """The longest time between two marks, of what lies between ``start`` and ``end``."""
    within = marks[bisect_left(marks, start) : bisect_right(marks, end)]
    edges = [start, *within, end]
    return max(after - before for before, after in pairwise(edges))


def standstills(history: History) -> list[tuple[float, str]]:
    """Of each fault: the longest standstill after it, in seconds, and the lane that stood still."""
    all_lanes = lanes(history)
    starts = [fault["at"] for fault in history.faults]
    marks = [marks[-1] for name, marks in all_lanes.items() if name.startswith("acknow") and marks]
    # Whoever has said all goes on being answered, but puts nothing on its outbox.
    last = min((line["at"] for line in history.noted("finished")), default=max(marks, default=0.0))
    ends = [*starts[1:], last]
    return [
        max(
            ((longest(marks, start, max(start, end)), name) for name, marks in all_lanes.items()),
            default=(0.0, ""),
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed; 0.0 where there are none."""
    ordered = sorted(values)
    return (
        ordered[min(len(ordered) - 1, max(0, -(-int(share * 100) * len(ordered) // 100) - 1))]
        if ordered
        else 0.0
    )
