"""In which order eligible services are offered to: by the policy's parts, first to last, lower is better, then the lottery. A part may be
compared in bands, so that a service that lets people down is not first for being a street nearer.

Every part is a whole number, so an order is the same on every machine.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple

from referral_bus.contracts.certificates import JUDGED, NOT_IN_SIGHT, UNKNOWN
from referral_bus.contracts.reference import Policy, RankBy
from referral_bus.contracts.vocabularies import SURE
from services.matching.core.judging.bitmaps import (
    Column,
    Numbers,
    Planes,
    members,
    numbering,
    planes_of,
    tally,
    without,
)
from services.matching.core.judging.catalogue import Catalogue
from services.matching.core.judging.eligibility import MINUTE_MS, Judgement, Person, Way, minute_of
from services.matching.core.judging.places import Places, number_counted
from services.matching.core.judging.reach import straight_of

FAR_M: Final = 100
"""Metres that distances are compared in: nobody is sent elsewhere for less."""

_LANGUAGE: Final = JUDGED.index("language")
_LOTTERY_BYTES: Final = 6


class Part(NamedTuple):
    """What services are compared by: a number of each, what of it stands in the score of the one in a slot, and the numbers that decide who
    comes first, which are its bands where the policy has some."""

    numbers: Planes | Numbers
    of: Callable[[int], int]
    compared: Planes | Numbers
    starts: Sequence[int] = ()
    """Where its bands begin."""
    by_person: bool = False
    """Whether it says something of services and person that neither verdicts nor places do."""


class Ranked(NamedTuple):
    """What parts are made of."""

    catalogue: Catalogue
    places: Places
    policy: Policy
    person: Person
    judgement: Judgement
    now: int
    candidates: int


def parts(ranked: Ranked) -> list[Part]:
    """The policy's parts, in its order. What it names behind the lottery can't matter."""
    starts = starts_of(ranked.policy)
    return [_PARTS[by](ranked, starts.get(by, ())) for by in named(tuple(ranked.policy.rank_by))]


def starts_of(policy: Policy) -> dict[str, Sequence[int]]:
    """Where the bands begin of what is compared in bands."""
    return {bands.by: bands.starts for bands in policy.bands}


@lru_cache(maxsize=256)
def named(rank_by: tuple[RankBy, ...]) -> tuple[RankBy, ...]:
    """What of it comes before the lottery."""
    return rank_by[: rank_by.index("lottery")] if "lottery" in rank_by else rank_by


def lottery(seed: str, last_hash: bytes, referral: str) -> Callable[[str], int]:
    """The draw of a referral: the lot of each service, from SHA-256 over the published seed, the hash of the region's event before the
    decision, the referral and the service. Nobody knows that hash beforehand, and everybody can draw again (decision 0018)."""
    drawing = hashlib.sha256(b"%b\0%b\0%b\0" % (seed.encode(), last_hash, referral.encode()))

    def draw(service: str) -> int:
        drawn = drawing.copy()
        drawn.update(service.encode())
        return int.from_bytes(drawn.digest()[:_LOTTERY_BYTES], "big")

    return draw


def _certainty(ranked: Ranked, _: Sequence[int]) -> Part:
    """Verdicts that are unknown."""
    return _part(ranked.judgement.unknowns)


def _needs_covered(ranked: Ranked, _: Sequence[int]) -> Part:
    """Needs it does not meet."""
    ways, candidates = ranked.judgement.ways, ranked.candidates
    if len(ways) == 1:
        return _ALIKE
    return _part(tally([without(candidates, _met_by(way)) for way in ways]))


def _mapping(ranked: Ranked, _: Sequence[int]) -> Part:
    """How far the mappings are from sure by which it was found, in thousandths: the least sure counts."""
    if not ranked.judgement.by_mapping:
        return _ALIKE
    by_confidence: dict[int, int] = {}
    for of_need in ranked.judgement.ways:
        for way in of_need:
            by_confidence[way.confidence] = by_confidence.get(way.confidence, 0) | way.services
    left, numbers = ranked.candidates, []
    for confidence in sorted(by_confidence):
        services = by_confidence[confidence] & left
        left ^= services
        numbers.append((services, SURE - confidence))
    return _part(planes_of(numbers))


def _wait(ranked: Ranked, starts: Sequence[int]) -> Part:
    """Minutes until it opens."""
    catalogue, candidates, minute = ranked.catalogue, ranked.candidates, minute_of(ranked.now)
    numbers = [(without(candidates, catalogue.telling), UNKNOWN)]
    for services, opens in catalogue.opens(candidates, minute):
        numbers.append((services, NOT_IN_SIGHT if opens is None else (opens - minute) // MINUTE_MS))

    def of(slot: int) -> int:
        for services, number in numbers:
            if services >> slot & 1:
                return number
        return 0

    planes = compared = planes_of(numbers)
    if starts:
        compared = planes_of([(services, bisect_right(starts, number)) for services, number in numbers])
    return Part(planes, of, compared, starts, by_person=True)


def _reach(ranked: Ranked, starts: Sequence[int]) -> Part:
    """How far away it is, in hundreds of metres."""
    distances, candidates = ranked.judgement.distances, ranked.candidates
    known = distances.known(candidates)
    remote = known & ranked.catalogue.whereabouts.remote
    steps = _steps()
    slots, lines = distances.lines(known ^ remote)
    hundreds = [bisect_right(steps, line) for line in lines]
    if lines and max(hundreds) == len(steps):
        for place, slot in enumerate(slots):
            if hundreds[place] == len(steps):
                metres = distances.to(slot)
                hundreds[place] = UNKNOWN if metres is None else metres // FAR_M
    as_far = dict.fromkeys(members(remote), 0)
    as_far.update(zip(slots, hundreds, strict=True))
    numbers = Numbers(as_far, UNKNOWN)
    compared = numbers.in_bands(starts) if starts else numbers
    return Part(numbers, numbers.of, compared, starts, by_person=True)


@cache
def _steps() -> list[int]:
    """From which straight line on it is how many hundreds of metres, up to 50 km: comparing is a tenth of the work of reckoning."""
    return [straight_of(step * FAR_M - 1) + 1 for step in range(1, 501)]


def _language(ranked: Ranked, _: Sequence[int]) -> Part:
    """0 where it names a language of the person's, 1 where it serves one otherwise, 2 where that is unknown."""
    named_ones = ranked.catalogue.naming(ranked.person.languages or ())
    unknown = ranked.judgement.answers[_LANGUAGE].unknown
    return _part((without(ranked.candidates, named_ones | unknown), unknown), by_person=True)


def _load(ranked: Ranked, starts: Sequence[int]) -> Part:
    return _part_of(ranked.places.load, starts)


def _freshness(ranked: Ranked, _: Sequence[int]) -> Part:
    """How little its count of places is trusted, in thousandths; without a curve of trust, how many hours ago it was made."""
    places, now, trust = ranked.places, ranked.now, ranked.policy.trust
    numbers, newest = places.counted.numbers, number_counted(now)
    if trust:
        hours, by_step = [step.hours for step in trust], [0, *[SURE - step.thousandths for step in trust]]
        planes = places.distrust(trust, now)
        return Part(planes, lambda slot: by_step[bisect_right(hours, numbers[slot] - newest)], planes)
    planes = places.counted.planes
    return Part(planes, lambda slot: numbers[slot] - newest, planes)


def _reliability(ranked: Ranked, starts: Sequence[int]) -> Part:
    return _part_of(ranked.places.unreliability, starts)


def _part(planes: Planes, by_person: bool = False) -> Part:
    return Part(planes, numbering(planes), planes, (), by_person)


def _part_of(column: Column, starts: Sequence[int]) -> Part:
    compared = column.in_bands(starts) if starts else column.planes
    return Part(column.planes, column.numbers.__getitem__, compared, starts)


_ALIKE: Final = _part(())
"""Where the number of each is 0."""
_PARTS: Final[dict[RankBy, Callable[[Ranked, Sequence[int]], Part]]] = {
    "certainty": _certainty,
    "needs_covered": _needs_covered,
    "mapping": _mapping,
    "wait": _wait,
    "reach": _reach,
    "language": _language,
    "load": _load,
    "freshness": _freshness,
    "reliability": _reliability,
}


def _met_by(ways: Sequence[Way]) -> int:
    met = 0
    for way in ways:
        met |= way.services
    return met
