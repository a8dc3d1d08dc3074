"""In which order eligible services are offered to: by the policy's parts, first to last, lower is better, then the lottery. A part may be
compared in bands, so that a service that lets people down is not first for being a street nearer.

Every part is a whole number, so an order is the same on every machine.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
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
    """What services are compared by: a number of each, and what of it stands in the score of the one in a slot."""

    numbers: Planes | Numbers
    of: Callable[[int], int]
    by_person: bool = False
    """Whether it says something of services and person that neither verdicts nor places do."""
    banded: Callable[[Sequence[int]], Planes | Numbers] | None = None
    """Each number's band, by where the bands begin, of what can be compared in bands."""
    bands: Planes | Numbers | None = None
    """The same, where it is compared in bands."""
    starts: Sequence[int] = ()
    """Where its bands begin."""

    @property
    def compared(self) -> Planes | Numbers:
        """The numbers that decide who comes first."""
        return self.numbers if self.bands is None else self.bands

    def rank(self, number: int) -> int:
        """The number by which the one whose score has this number is compared."""
        return number if self.bands is None else bisect_right(self.starts, number)


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
    return [_in_bands(_PARTS[by](ranked), starts.get(by)) for by in named(tuple(ranked.policy.rank_by))]


def _in_bands(part: Part, starts: Sequence[int] | None) -> Part:
    if starts is None or part.banded is None:
        return part
    return part._replace(bands=part.banded(starts), starts=starts)


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


def _certainty(ranked: Ranked) -> Part:
    """Verdicts that are unknown."""
    return _part(ranked.judgement.unknowns)


def _needs_covered(ranked: Ranked) -> Part:
    """Needs it does not meet."""
    ways, candidates = ranked.judgement.ways, ranked.candidates
    if len(ways) == 1:
        return _part(())
    return _part(tally([without(candidates, _met_by(way)) for way in ways]))


def _mapping(ranked: Ranked) -> Part:
    """How far the mappings are from sure by which it was found, in thousandths: the least sure counts."""
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


def _wait(ranked: Ranked) -> Part:
    """Minutes until it opens."""
    catalogue, candidates, minute = ranked.catalogue, ranked.candidates, minute_of(ranked.now)
    numbers = [(without(candidates, catalogue.telling), UNKNOWN)]
    for services, opens in catalogue.opens(candidates, minute):
        numbers.append((services, NOT_IN_SIGHT if opens is None else (opens - minute) // MINUTE_MS))

    def of(slot: int) -> int:
        return next((number for services, number in numbers if services >> slot & 1), 0)

    return Part(planes_of(numbers), of, by_person=True, banded=partial(_banded, numbers))


def _reach(ranked: Ranked) -> Part:
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
    return Part(numbers, numbers.of, by_person=True, banded=numbers.in_bands)


@cache
def _steps() -> list[int]:
    """From which straight line on it is how many hundreds of metres, up to 50 km: comparing is a tenth of the work of reckoning."""
    return [straight_of(step * FAR_M - 1) + 1 for step in range(1, 501)]


def _language(ranked: Ranked) -> Part:
    """0 where it names a language of the person's, 1 where it serves one otherwise, 2 where that is unknown."""
    named_ones = ranked.catalogue.naming(ranked.person.languages or ())
    unknown = ranked.judgement.answers[_LANGUAGE].unknown
    return _part((without(ranked.candidates, named_ones | unknown), unknown), by_person=True)


def _load(ranked: Ranked) -> Part:
    return _part_of(ranked.places.load)


def _freshness(ranked: Ranked) -> Part:
    """How little its count of places is trusted, in thousandths; without a curve of trust, how many hours ago it was made."""
    places, now = ranked.places, ranked.now
    if ranked.policy.trust:
        return _part(places.distrust(ranked.policy.trust, now))
    numbers, newest = places.counted.numbers, number_counted(now)
    return Part(places.counted.planes, lambda slot: numbers[slot] - newest)


def _reliability(ranked: Ranked) -> Part:
    return _part_of(ranked.places.unreliability)


def _part(planes: Planes, by_person: bool = False) -> Part:
    return Part(planes, numbering(planes), by_person=by_person)


def _part_of(column: Column) -> Part:
    return Part(column.planes, column.numbers.__getitem__, banded=column.in_bands)


def _banded(numbers: Sequence[tuple[int, int]], starts: Sequence[int]) -> Planes:
    return planes_of([(services, bisect_right(starts, number)) for services, number in numbers])


_PARTS: Final[dict[RankBy, Callable[[Ranked], Part]]] = {
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
