"""What is done to the cluster: the kinds of faults, and the choice among them, which a seed decides and so can be made again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tests.chaos.cluster.parts import Kind

How = Literal[
    "killed", "killed in turn", "paused", "hung", "cut off", "set apart", "disk filled", "clock set wrong"
]

NEEDS_NAMESPACES: Final[frozenset[How]] = frozenset({"cut off", "set apart", "disk filled"})
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Fault:
    """``seconds`` is how long it lasts, for each victim; ``skew`` in milliseconds is of a clock that is set wrong."""

    how: How
    victims: tuple[str, ...]
    seconds: float
    skew: int = 0

    @property
    def kind(self) -> Kind:
        """Of the first victim."""
        name = self.victims[0]
        return "broker" if name.startswith("kafka") else name.rpartition("-")[0] or "database"  # type: ignore[return-value]


_ROUND: Final[tuple[tuple[How, str, int], ...]] = (
    ("killed", "kafka", 4),
    ("killed in turn", "kafka", 2),
    ("killed", "database", 2),
    ("killed", "intake", 1),
    ("killed", "matching", 2),
    ("killed", "both matching", 1),
    ("killed", "notifier", 1),
    ("killed", "projections", 1),
    ("paused", "kafka", 3),
    ("paused", "database", 1),
    ("paused", "intake", 1),
    ("paused", "matching", 2),
    ("paused", "notifier", 1),
    ("paused", "projections", 1),
    ("hung", "kafka", 1),
    ("cut off", "kafka", 3),
    ("cut off", "database", 1),
    ("cut off", "matching", 1),
    ("set apart", "two kafka", 2),
    ("set apart", "matching and kafka", 1),
    ("set apart", "projections and database", 1),
    ("disk filled", "kafka", 1),
    ("disk filled", "database", 1),
    ("disk filled", "matching", 1),
    ("clock set wrong", "matching", 2),
    ("clock set wrong", "intake", 1),
    ("clock set wrong", "notifier", 1),
)
_HUNG_SECONDS: Final = 45.0
"""Longer than a client of Kafka waits for an answer by its own settings (40 s)."""
ROUND: Final = sum(times for _, _, times in _ROUND)
"""So many are a round: with fewer some blow may not be struck."""
_SKEWS: Final = (
    -120 * _MINUTE_MS,
    -10 * _MINUTE_MS,
    -2 * _MINUTE_MS,
    2 * _MINUTE_MS,
    10 * _MINUTE_MS,
    45 * _MINUTE_MS,
)


def chosen(seed: str, count: int, *, namespaces: bool) -> list[Fault]:
    """``count`` faults, round after round of all kinds there are, each round in an order of its own. Where there are no namespaces,
    those that need them are left out."""
    return [fault for fault, _ in zip(_rounds(random.Random(seed), namespaces), range(count), strict=False)]


def _rounds(chance: random.Random, namespaces: bool) -> Iterator[Fault]:
    while True:
        deck = [
            (how, whom)
            for how, whom, times in _ROUND
            for _ in range(times)
            if namespaces or how not in NEEDS_NAMESPACES
        ]
        chance.shuffle(deck)
        for how, whom in deck:
            yield _fault(chance, how, whom)


def _fault(chance: random.Random, how: How, whom: str) -> Fault:
    victims: list[str] = []
    words = whom.split(" ")
    if words[0] in ("both", "two"):
        victims = sorted(chance.sample(_all(words[1]), 2))
    else:
        victims = [chance.choice(_all(word)) for word in words if word != "and"]
    if how == "killed in turn":
        victims = chance.sample(_all("kafka"), 3)
    longest = {"killed": 3.0, "killed in turn": 1.0, "clock set wrong": 12.0}.get(how, 10.0)
    seconds = _HUNG_SECONDS if how == "hung" else round(chance.uniform(longest / 3, longest), 1)
    skew = chance.choice(_SKEWS) if how == "clock set wrong" else 0
    return Fault(how, tuple(victims), seconds, skew)


def _all(kind: str) -> list[str]:
    if kind == "database":
        return ["database"]
    return [f"{kind}-{number}" for number in ((1, 2, 3) if kind == "kafka" else (1, 2))]
