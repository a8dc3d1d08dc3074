"""Whether services take a person: yes, no or unknown for each criterion. Unknown is never silently yes or no.

A criterion nobody stated on the service's side is unknown for everybody; a fact that is unknown or not said makes a criterion unknown
unless the service takes all. All services that meet a need are judged at once, as sets (see :mod:`bitmaps`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts, Need
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.vocabularies import SURE
from referral_bus.contracts.vocabulary import Urgency
from services.matching.core.judging.bitmaps import made_of, members, tally, without
from services.matching.core.judging.catalogue import Answer, Catalogue
from services.matching.core.judging.criteria import circumstances_of
from services.matching.core.judging.reach import (
    FARTHEST_M,
    WAYS,
    Travelling,
    distance,
    limits,
    straight,
    straight_of,
    travelling,
)
from services.matching.core.judging.vocabularies import Vocabularies

MINUTE_MS: Final = 60_000

_NOBODY: Final = Answer(0, 0)


class Person(NamedTuple):
    """The facts, ready to judge by; None where a fact is not stated."""

    needs: tuple[Need, ...]
    area: str | None
    age: int | None
    languages: tuple[str, ...] | None
    urgency: Urgency
    facts: Facts


class Way(NamedTuple):
    """Services that meet a need as surely as each other: by this mapping (``name@version``) between vocabularies, or None by their own
    codes; ``confidence`` in thousandths."""

    confidence: int
    mapping: str | None
    services: int


class Distances:
    """How far it is from the person to services. Each is reckoned once, when it is asked for."""

    __slots__ = ("_catalogue", "_facts", "_lines", "_person", "_reckoned")

    def __init__(self, catalogue: Catalogue, facts: Facts) -> None:
        self._catalogue = catalogue
        self._facts = facts
        self._person: Travelling | None = None
        self._lines: dict[int, int] = {}
        self._reckoned = 0

    @property
    def person(self) -> Travelling:
        if self._person is None:
            self._person = travelling(self._facts)
        return self._person

    def known(self, among: int) -> int:
        """Those of which it is known how far away they are."""
        remote = among & self._catalogue.remote
        return remote if self.person.point is None else remote | among & self._catalogue.placed

    def lines(self, among: int) -> dict[int, int]:
        """The square of the straight line to the nearest place of each, which all have places; none where the person's is not known."""
        at, lines = self.person.point, self._lines
        if at is None:
            return {}
        new = without(among, self._reckoned)
        self._reckoned |= new
        reached = self._catalogue.reached
        x, y, z = at
        for slot in members(new):
            points = reached[slot].points
            # As :func:`straight` does, without the call: there are some sixty to a match.
            a, b, c = points[0]
            a, b, c = a - x, b - y, c - z
            line = a * a + b * b + c * c
            if len(points) > 1:
                line = min([line, *[straight(at, other) for other in points[1:]]])
            lines[slot] = line
        return lines if among == self._reckoned else {slot: lines[slot] for slot in members(among)}

    def to(self, slot: int) -> int | None:
        """Metres; None where that is not known."""
        return distance(self.person, self._catalogue.reached[slot])


class Judgement(NamedTuple):
    """All services that meet a need, and how they are judged but for their places."""

    met: int
    ways: tuple[tuple[Way, ...], ...]
    """For each need, the surest first; no service is in two."""
    by_mapping: bool
    """Whether any of these was found by a mapping between vocabularies."""
    answers: tuple[Answer, ...]
    """For each of :data:`~referral_bus.contracts.certificates.JUDGED`."""
    unknowns: Sequence[int]
    """How many of those are unknown, as planes."""
    distances: Distances


def person_of(facts: Facts, urgency: Urgency = "routine") -> Person:
    """What of the facts is judged by, and how urgent it is."""
    needs = facts.needs
    return Person(
        needs=tuple(needs) if len(needs) == 1 else _each_once(needs),
        area=facts.area.value,
        age=facts.age.value,
        languages=tuple([language.lower() for language in facts.languages.values]) or None,
        urgency=urgency,
        facts=facts,
    )


def judge(
    catalogue: Catalogue,
    vocabularies: Vocabularies,
    policy: Policy,
    person: Person,
    now: int,
    among: int,
) -> Judgement:
    """Judge those among these services that meet one of the needs."""
    ways = tuple([_ways(catalogue, vocabularies, need, among) for need in person.needs])
    met, by_mapping = 0, False
    for of_need in ways:
        for way in of_need:
            met |= way.services
            by_mapping = by_mapping or way.mapping is not None
    facts, distances = person.facts, Distances(catalogue, person.facts)
    answers = (
        catalogue.on_area(met, person.area, facts.place.latitude, facts.place.longitude),
        catalogue.on_age(met, person.age),
        catalogue.on_languages(met, person.languages),
        catalogue.on_criteria(met, circumstances_of(facts)) if met & catalogue.asking else _NOBODY,
        _on_reach(catalogue, policy, distances, person.urgency, met) if policy.reach else _NOBODY,
        _on_hours(catalogue, policy, person.urgency, now, met)
        if policy.opens_within is not None
        else _NOBODY,
    )
    unknowns = tally([answer.unknown for answer in answers])
    return Judgement(met, ways, by_mapping, answers, unknowns, distances)


def minute_of(now: int) -> int:
    """The beginning of the minute: hours are judged from there, so that all that is decided in it is judged alike."""
    return now - now % MINUTE_MS


def _each_once(needs: Iterable[Need]) -> tuple[Need, ...]:
    return tuple({(need.vocabulary, need.code): need for need in needs}.values())


def _ways(catalogue: Catalogue, vocabularies: Vocabularies, need: Need, among: int) -> tuple[Way, ...]:
    found = vocabularies.finds(need.vocabulary, need.code)
    if len(found) == 1:
        return (Way(SURE, None, catalogue.coded(found[0].term) & among),)
    by_mapping: dict[tuple[int, str | None], int] = {}
    for term, mapping, confidence in found:
        coded = catalogue.coded(term) & among
        if coded:
            by_mapping[confidence, mapping] = by_mapping.get((confidence, mapping), 0) | coded
    ways: list[Way] = []
    left = among
    for confidence, mapping in sorted(by_mapping, key=lambda way: (-way[0], way[1] or "")):
        services = by_mapping[confidence, mapping] & left
        left ^= services
        ways.append(Way(confidence, mapping, services))
    return tuple(ways)


def _on_reach(
    catalogue: Catalogue, policy: Policy, distances: Distances, urgency: Urgency, among: int
) -> Answer:
    furthest = limits(policy.reach, urgency)
    if not furthest:
        return _NOBODY
    travel = distances.person.travel
    known = distances.known(among)
    unknown = without(among, known)
    far = without(known, catalogue.remote)
    ways = WAYS if travel is None else (travel,)
    surely = [furthest[way] for way in ways if way in furthest]
    if not surely:
        # Who goes any distance gets there, wherever the two are.
        return _NOBODY
    # Who travels how nobody knows goes as far as the least of these for sure, and perhaps as far as the most.
    least = straight_of(min(surely))
    most = straight_of(max(surely)) if len(surely) == len(ways) else None
    no: list[int] = []
    perhaps: list[int] = []
    for slot, line in [one for one in distances.lines(far).items() if one[1] > least]:
        comes = catalogue.reached[slot].comes
        if comes is None or (comes < FARTHEST_M and line > straight_of(comes)):
            (perhaps if most is None or line <= most else no).append(slot)
    return Answer(made_of(no), unknown | made_of(perhaps))


def _on_hours(catalogue: Catalogue, policy: Policy, urgency: Urgency, now: int, among: int) -> Answer:
    minute = minute_of(now)
    until = minute + getattr(policy.opens_within, urgency)
    late = 0
    for services, opens in catalogue.opens(among, minute):
        if opens is None or opens > until:
            late |= services
    return Answer(late, without(among, catalogue.telling))
