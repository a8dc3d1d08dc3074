"""A window of a thousand referrals over five thousand places: how long the best assignment takes, and whether another solver comes to it.

The other solver calculates in floating point, which holds whole numbers up to 2^53 exactly, so both are given costs that fit. Ours is
measured as well on costs as a policy makes them, which need some 120 bits; there its own proof holds it to the optimum.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import mul
from typing import Any, Final, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from services.matching.core.assignment import Assignment, Costs, Places, assign, is_optimal, weights

OTHER: Final = "scipy"
RANKED: Final = "ours, by a policy"
DIFFERS: Final = "totals that differ from the other's"
UNPROVED: Final = "assignments not proved"
PROOF: Final = "checking the proof, slowest"
TARGET_MS: Final = 250
_COSTS: Final = 10**6
_HIGHEST: Final = (4, 3, 1000, 2160, 2**48 - 1)
"""The most of each part of a rank: unknown verdicts, unmet needs, load, hours since the count, lot."""
_FORBIDDEN: Final = float(2**50)
_TRIES: Final = 3


class Shape(NamedTuple):
    """Services, the places of each, and how many services would do for a referral. ``alike``: who could have the same services likes the
    same ones best, and nearly as much, as it is where the load decides."""

    name: str
    services: int
    capacity: int
    choice: int
    alike: bool
    target: float | None = None


SHAPES: Final = (
    Shape("500 services of 10 places, 25 would do", 500, 10, 25, True, TARGET_MS),
    Shape("5,000 services of 1 place, 250 would do", 5_000, 1, 250, False, TARGET_MS),
    Shape("100 services of 5 places, 20 would do", 100, 5, 20, True),
    Shape("500 services of 10 places, all would do", 500, 10, 500, True),
)


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Ours and the other solver on the same referrals; each run has others."""
    referrals = scale.of(1_000, 200)
    figure = Figure(
        "assignment",
        f"Assignment of {referrals:,} referrals at once",
        (
            *(Measure(shape.name, "ms", "less", shape.target) for shape in SHAPES),
            Measure(PROOF, "ms"),
            Measure(DIFFERS, "", "less", 0),
            Measure(UNPROVED, "", "less", 0),
        ),
        {
            OURS: "shortest augmenting paths in Python on whole numbers of any size; costs up to a million, as the other is given",
            RANKED: "the same with costs as a policy makes them: five parts, the last of them a lot of 48 bits",
            OTHER: "scipy.optimize.linear_sum_assignment (C++, floating point): a column for each place; the matrix is made beforehand",
        },
    )
    figure.setting = f"{scale.runs} runs; the best of {_TRIES} tries in each"
    for run in range(scale.runs):
        _measure_run(figure, referrals, run)
    return figure


def _measure_run(figure: Figure, referrals: int, run: int) -> None:
    spent: dict[str, dict[str, float]] = {OURS: {}, RANKED: {}, OTHER: {}}
    totals: dict[str, list[tuple[int, int]]] = {OURS: [], OTHER: []}
    for shape in SHAPES:
        flat, ranked, places = _made(shape, referrals, run)
        for name, costs in ((OURS, flat), (RANKED, ranked)):
            took, found = _timed(partial(assign, costs, places))
            checking, proved = _timed(partial(is_optimal, found, costs, places))
            own = spent[name]
            own[shape.name] = took
            own[PROOF] = max(own.get(PROOF, 0.0), checking)
            own[UNPROVED] = own.get(UNPROVED, 0) + (not proved)
            if name == OURS:
                totals[OURS].append(_total(found, costs))
        spent[OTHER][shape.name], total = _other(flat, places)
        totals[OTHER].append(total)
    spent[OURS][DIFFERS] = sum(map(tuple.__ne__, totals[OURS], totals[OTHER]))
    for name, taken in spent.items():
        figure.add(name, taken)


def _made(shape: Shape, referrals: int, run: int) -> tuple[list[Costs], list[Costs], Places]:
    """What each service costs each referral, below a million and as weighed ranks, and the places."""
    chance = random.Random(f"{shape.name} {run}")
    names = [f"service-{number:05d}" for number in range(shape.services)]
    liked = {name: chance.randrange(_COSTS) for name in names}
    weighing = weights(_HIGHEST, referrals)
    kinds = shape.services // shape.choice
    flat: list[Costs] = []
    ranked: list[Costs] = []
    for _ in range(referrals):
        # As needs do, kinds part the services; or any would do.
        would_do = (
            names[chance.randrange(kinds) :: kinds] if shape.alike else chance.sample(names, shape.choice)
        )
        flat.append(
            {
                name: min(liked[name] + chance.randrange(3), _COSTS - 1)
                if shape.alike
                else chance.randrange(_COSTS)
                for name in would_do
            }
        )
        ranked.append(
            {
                name: sum(map(mul, weighing, _rank(chance, liked[name] if shape.alike else None)))
                for name in would_do
            }
        )
    return flat, ranked, {name: [0] * shape.capacity for name in names}


def _rank(chance: random.Random, liked: int | None) -> tuple[int, ...]:
    unknown = chance.choices((0, 1, 2), (8, 3, 1))[0]
    load = chance.randrange(1000) if liked is None else liked // 1000
    return unknown, 0, load, chance.randrange(48), chance.getrandbits(48)


def _timed(what: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of the fastest try, and what came of the last."""
    fastest = float("inf")
    for _ in range(_TRIES):
        began = time.perf_counter()
        result = what()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest * 1000, result


def _total(found: Assignment, costs: Sequence[Costs]) -> tuple[int, int]:
    """How many are left out and what the others cost; places cost nothing here."""
    served = [own[service] for own, service in zip(costs, found.chosen, strict=True) if service is not None]
    return len(costs) - len(served), sum(served)


def _other(costs: Sequence[Costs], places: Places) -> tuple[float, tuple[int, int]]:
    """Milliseconds of the other solver, and its total. A column for each place, and behind those one for each who is left out."""
    left_out = len(costs) * _COSTS
    columns = [name for name, own in places.items() for _ in own]
    first = {name: columns.index(name) for name in places}
    matrix = np.full((len(costs), len(columns) + len(costs)), _FORBIDDEN)
    matrix[:, len(columns) :] = left_out
    for number, own in enumerate(costs):
        for name, cost in own.items():
            matrix[number, first[name] : first[name] + len(places[name])] = cost
    took, (rows, chosen) = _timed(partial(linear_sum_assignment, matrix))
    return took, divmod(int(matrix[rows, chosen].sum()), left_out)
