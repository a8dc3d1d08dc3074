"""Time without progress, reckoned from a history: how long, after each fault, the slowest lane stood still.

A lane is what must go on by itself: the decisions of each partition of the ledger, the acknowledgements of each client, the views and what
is told of each partition. It stands still from one mark of progress to the next; of that only what lies between the fault and the next
fault counts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from referral_bus.log.topics import ledger
from tests.chaos.cluster.history import History


def lanes(history: History) -> dict[str, list[float]]:
    """When there was progress, by lane, in order."""
    found: dict[str, list[float]] = {}
    for record in history.records[ledger(history.run["bus"])]:
        found.setdefault(f"decisions {record.partition}", []).append(history.monotonic(record.timestamp))
    for client, lines in history.lines.items():
        found[f"acknowledgements {client}"] = [line["at"] for line in lines if line["what"] == "acknowledged"]
    for what in ("views", "told"):
        before: Mapping[str, int] = {}
        for line in history.positions:
            for number, position in line[what].items():
                if position > before.get(number, 0):
                    found.setdefault(f"{what} {number}", []).append(line["at"])
            before = line[what]
    return {name: sorted(marks) for name, marks in found.items()}


def longest(marks: Sequence[float], start: float, end: float) -> float:
    """The longest time between two marks, of what lies between ``start`` and ``end``."""
    within = marks[bisect_left(marks, start) : bisect_right(marks, end)]
    edges = [start, *within, end]
    return max(after - before for before, after in pairwise(edges))


def standstills(history: History) -> list[tuple[float, str]]:
    """Of each fault: the longest standstill after it, in seconds, and the lane that stood still."""
    all_lanes = lanes(history)
    starts = [fault["at"] for fault in history.faults]
    last = max(
        (marks[-1] for name, marks in all_lanes.items() if name.startswith("acknow") and marks), default=0.0
    )
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
