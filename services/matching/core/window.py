"""The referrals of a window as an assignment: what each service would cost each of them.

The policy that ranks the services for one referral says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from operator import mul
from typing import NamedTuple

from referral_bus.contracts.reference import Policy
from services.matching.core.assignment import Costs, Places, weights
from services.matching.core.judging.catalogue import Profile
from services.matching.core.judging.match import Row
from services.matching.core.judging.places import load
from services.matching.core.judging.ranking import lottery, named, starts_of
from services.matching.core.state import Unit


class Waiting(NamedTuple):
    """A referral of the window: its rows of the table of services, and how long it has waited (in whole numbers of any one unit)."""

    referral: str
    rows: Sequence[Row]
    waited: int


class Problem(NamedTuple):
    """What :func:`~services.matching.core.assignment.assign` is asked."""

    costs: list[Costs]
    places: Places
    left_out: list[int]


def problem(
    window: Sequence[Waiting], policy: Policy, units: Mapping[str, Unit], last_hash: bytes
) -> Problem:
    """The window's assignment: the fewest are left out; then they have waited the least; then the sums of the policy's parts count, one
    after the other, and last the sum of the lots.

    A service's load is what a referral finds there: each place that is taken in the window makes the next one worse. A service's places
    are those of all its units; an offer takes the freest.
    """
    ranks = [_ranks(one, policy, last_hash) for one in window]
    loaded, starts = _part_of_load(policy), starts_of(policy).get("load")
    profiles = {
        row.profile.service: row.profile for one in window for row in one.rows if row.unit is not None
    }
    rising = {service: _rising(profile, units, starts) for service, profile in sorted(profiles.items())}
    highest = _highest(rank for own in ranks for rank in own.values())
    if loaded is not None and highest:
        highest[loaded] += max(steps[-1] for steps in rising.values())
    weigh_wait, *weigh = weights([max((one.waited for one in window), default=0), *highest], len(window))
    step = 0 if loaded is None or not weigh else weigh[loaded]
    return Problem(
        costs=[{service: sum(map(mul, weigh, rank)) for service, rank in own.items()} for own in ranks],
        places={service: [step * by for by in steps] for service, steps in rising.items()},
        left_out=[weigh_wait * one.waited for one in window],
    )


def _ranks(one: Waiting, policy: Policy, last_hash: bytes) -> dict[str, tuple[int, ...]]:
    """The rank of each candidate, ending with its lot."""
    draw = lottery(policy.seed, last_hash, one.referral)
    return {
        row.profile.service: (*row.rank, draw(row.profile.service))
        for row in one.rows
        if row.unit is not None
    }


def _part_of_load(policy: Policy) -> int | None:
    """Which part of a rank is the load; None where it doesn't count."""
    parts = named(tuple(policy.rank_by))
    return parts.index("load") if "load" in parts else None


def _rising(profile: Profile, units: Mapping[str, Unit], starts: Sequence[int] | None) -> list[int]:
    """By how much the load, or its band, has risen when each of the service's free places comes to be taken."""
    own = [units[unit] for unit in profile.units]
    total, used = sum(unit.total for unit in own), sum(unit.used for unit in own)
    free = sum(max(0, unit.free) for unit in own)
    loads = [load(used + taken, total) for taken in range(free)]
    compared = loads if starts is None else [bisect_right(starts, one) for one in loads]
    return [one - compared[0] for one in compared]


def _highest(ranks: Iterable[Sequence[int]]) -> list[int]:
    return [max(part) for part in zip(*ranks, strict=True)]
