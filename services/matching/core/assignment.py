"""Referrals that are decided together: who gets which service, so that as many as can be are served, and at the least cost.

The best assignment is found by shortest augmenting paths (Hungarian method). It comes with its proof: a price for each service's next
place, at which nobody would rather be placed elsewhere (the dual of the linear program). :func:`is_optimal` checks the proof by looking at
each choice once and solves nothing, so that a recorded assignment can be checked by anyone, whoever found it and how.

All numbers are whole and of any size. A sum of ranks whose parts weigh as :func:`weights` says needs some 150 bits: a solver that
calculates in 64 bits, or in floating point, would have to round them. Nothing depends on the order of a dict or a set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import Final, NamedTuple

Costs = Mapping[str, int]
"""The services one referral may be offered to, with what each would cost, zero or more."""
Places = Mapping[str, Sequence[int]]
"""What each service's free places cost, first to last, beside the referral's own cost: zero or more, and none less than the one before.
A service that is as good when it is nearly full has zeros."""


class Assignment(NamedTuple):
    """``chosen``: the service of each referral, None where it is left without; ``prices``: the proof, of those that are not zero."""

    chosen: tuple[str | None, ...]
    prices: Mapping[str, int]


def weights(highest: Sequence[int], referrals: int) -> tuple[int, ...]:
    """What one step of each part of a rank weighs, so that totals over so many referrals compare as the ranks do: by the first part, then
    by the second, and so on. ``highest`` is the most that each part can be for one referral."""
    weighing = [1]
    for most in reversed(highest[1:]):
        weighing.append(weighing[-1] * (referrals * most + 1))
    return tuple(reversed(weighing)) if highest else ()


def assign(costs: Sequence[Costs], places: Places, left_out: Sequence[int] = ()) -> Assignment:
    """The assignment that leaves the fewest referrals without a service, and of those the one with the least total cost.

    ``left_out`` is what it costs to leave each referral without one (zero where nothing is said). It decides who that is, never how many.
    The same input in the same order gives the same assignment, whatever the machine; where several are best, the order of the referrals
    and the services' ids decide which is found. Raises ValueError for a cost below zero, for places that get cheaper, for a referral that
    names a service without places, and where ``left_out`` is not said for each referral.
    """
    return _Search(costs, places, _without(costs, places, left_out)).found()


def is_optimal(
    assignment: Assignment, costs: Sequence[Costs], places: Places, left_out: Sequence[int] = ()
) -> bool:
    """Whether the assignment keeps to the costs and places it is said to be of, and its prices prove that none is better.

    False where it is worse than it could be, and where the prices prove nothing. Raises as :func:`assign` does.
    """
    chosen, prices = assignment
    without = _without(costs, places, left_out)
    if len(chosen) != len(costs) or not prices.keys() <= places.keys():
        return False
    taken = Counter(service for service in chosen if service is not None)
    return all(
        _clears(taken[service], own, prices.get(service, 0)) for service, own in places.items()
    ) and all(
        _content(service, own, prices, leaving)
        for service, own, leaving in zip(chosen, costs, without, strict=True)
    )


def _clears(taken: int, own: Sequence[int], price: int) -> bool:
    """Whether just the places that are worth the price are taken."""
    if taken > len(own):
        return False
    return (not taken or own[taken - 1] <= price) and (taken == len(own) or price <= own[taken])


def _content(service: str | None, own: Costs, prices: Mapping[str, int], leaving: int) -> bool:
    """Whether at these prices the referral could have nothing cheaper than what it has."""
    if service is None:
        spent = leaving
    elif service in own:
        spent = own[service] + prices.get(service, 0)
    else:
        return False
    return spent <= leaving and all(spent <= cost + prices.get(other, 0) for other, cost in own.items())


def _without(costs: Sequence[Costs], places: Places, left_out: Sequence[int]) -> list[int]:
    """What it costs to leave each referral without a service: more than anything that could be saved by it, and what is said."""
    if left_out and len(left_out) != len(costs):
        raise ValueError(f"left_out has {len(left_out)} costs for {len(costs)} referrals: say one for each")
    for service, rising in places.items():
        if any(cost > following for cost, following in pairwise(rising)):
            raise ValueError(f"the places of {service} get cheaper: put the cheapest first")
    for own in costs:
        if not own.keys() <= places.keys():
            missing = min(own.keys() - places.keys())
            raise ValueError(f"a referral names {missing}, of which no places are said: say them, or none")
    named = [cost for own in costs if own for cost in (min(own.values()), max(own.values()))]
    rises = [cost for rising in places.values() if rising for cost in (rising[0], rising[-1])]
    if min([0, *named, *rises, *left_out]) < 0:
        raise ValueError("a cost is below zero: add the same to the costs of all")
    most = max([0, *named]) + max([0, *rises]) + max([0, *left_out])
    above_all = len(costs) * most + 1
    return [above_all + cost for cost in left_out] if left_out else [above_all] * len(costs)


_NOBODY: Final = -1


class _Search:
    """Referrals are placed one after the other; each time whoever can better be elsewhere makes room, along the cheapest chain of moves.

    Between two of them, what was found is the best for those placed so far, and ``_prices`` are its proof. A price never falls.
    """

    def __init__(self, costs: Sequence[Costs], places: Places, without: Sequence[int]) -> None:
        # Cheapest first: prices being no less than zero, a look through them can stop where the costs alone are too much.
        # Of those that cost the same, the first by id.
        self._wishes = [sorted(sorted(own), key=own.__getitem__) for own in costs]
        self._costs = costs
        self._places = places
        self._without = without
        self._prices = dict.fromkeys(places, 0)
        self._placed: dict[str, dict[int, int]] = {service: {} for service in places}
        """Who is placed with each service, with the cost of it."""
        self._chosen: list[str | None] = [None] * len(costs)

    def found(self) -> Assignment:
        for referral in range(len(self._wishes)):
            self._place(referral)
        prices = {service: self._prices[service] for service in sorted(self._prices) if self._prices[service]}
        return Assignment(tuple(self._chosen), prices)

    def _place(self, newcomer: int) -> None:
        prices, places, placed, wishes = self._prices, self._places, self._placed, self._wishes
        reached: dict[str, int] = {}
        """The least that it costs so far to bring the newcomer, or whoever makes room for it, to a service, at its price."""
        comes: dict[str, int] = {}
        """Who would come to each service for that."""
        waiting: list[tuple[int, str]] = []
        settled: list[tuple[int, str]] = []
        # The cheapest way to end the chain so far: a service's next place, or a referral that is left without.
        best, last, leaves = self._without[newcomer], "", newcomer
        movers = [(newcomer, 0)]
        while True:
            for mover, before in movers:
                own_costs = self._costs[mover]
                for service in wishes[mover]:
                    distance = before + own_costs[service]
                    if distance >= best:
                        break
                    distance += prices[service]
                    if distance >= reached.get(service, best):
                        continue
                    reached[service] = distance
                    comes[service] = mover
                    heappush(waiting, (distance, service))
                    own, used = places[service], len(placed[service])
                    if used < len(own) and (ending := distance + own[used] - prices[service]) < best:
                        best, last, leaves = ending, service, _NOBODY
            # What was reached at less in the meantime is still in the heap at what it was before.
            while waiting and waiting[0][0] > reached[waiting[0][1]]:
                heappop(waiting)
            if not waiting or waiting[0][0] >= best:
                break
            distance, service = heappop(waiting)
            settled.append((distance, service))
            before = distance - prices[service]
            movers = [(referral, before - cost) for referral, cost in placed[service].items()]
            for mover, before in movers:
                if (ending := before + self._without[mover]) < best:
                    best, last, leaves = ending, "", mover
        for distance, service in settled:
            prices[service] += best - distance
        self._move(comes, last, leaves)

    def _move(self, comes: Mapping[str, int], last: str, leaves: int) -> None:
        """Let everybody move along the chain, from its end to the newcomer."""
        if leaves != _NOBODY:
            last = self._leave(leaves)
        while last:
            mover = comes[last]
            left = self._leave(mover)
            self._chosen[mover] = last
            self._placed[last][mover] = self._costs[mover][last]
            last = left

    def _leave(self, referral: int) -> str:
        """Take the referral from its service, and say which that was; nothing if it had none yet."""
        service = self._chosen[referral]
        if service is None:
            return ""
        del self._placed[service][referral]
        self._chosen[referral] = None
        return service
