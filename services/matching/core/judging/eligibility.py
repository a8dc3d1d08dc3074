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
from services.matching.core.judging.bitmaps import tally, without
from services.matching.core.judging.catalogue import Answer, Catalogue
from services.matching.core.judging.criteria import circumstances_of
from services.matching.core.judging.distances import Distances
from services.matching.core.judging.reach import FARTHEST_M, WAYS, limits, straight_of
from services.matching.core.judging.vocabularies import Found, Vocabularies

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
    found = [vocabularies.finds(need.vocabulary, need.code) for need in person.needs]
    ways = tuple([_ways(catalogue, codes, among) for codes in found])
    met, by_mapping = 0, False
    for of_need in ways:
        for way in of_need:
            met |= way.services
            by_mapping = by_mapping or way.mapping is not None
    facts = person.facts
    # All that are coded so, and not only those that are left: the same are asked for by everybody with the need.
    distances = Distances(catalogue.whereabouts, facts, [_coded(catalogue, codes) for codes in found])
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


def _coded(catalogue: Catalogue, found: Iterable[Found]) -> int:
    services = 0
    for code in found:
        services |= catalogue.coded(code.term)
    return services


def _ways(catalogue: Catalogue, found: Sequence[Found], among: int) -> tuple[Way, ...]:
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
    whereabouts = catalogue.whereabouts
    known = distances.known(among)
    unknown = without(among, known)
    far = without(known, whereabouts.remote)
    ways = WAYS if travel is None else (travel,)
    surely = [furthest[way] for way in ways if way in furthest]
    if not surely:
        # Who goes any distance gets there, wherever the two are.
        return _NOBODY
    # Who travels how nobody knows goes as far as the least of these for sure, and perhaps as far as the most.
    least, most = min(surely), max(surely)
    beyond = distances.beyond(far, straight_of(least))
    for slot, line in zip(*distances.lines(beyond & whereabouts.coming), strict=True):
        comes = whereabouts.reached[slot].comes
        if comes is not None and (comes >= FARTHEST_M or line <= straight_of(comes)):
            beyond ^= 1 << slot
    if len(surely) < len(ways):
        return Answer(0, unknown | beyond)
    no = beyond if most == least else distances.beyond(beyond, straight_of(most))
    return Answer(no, unknown | (beyond ^ no))


def _on_hours(catalogue: Catalogue, policy: Policy, urgency: Urgency, now: int, among: int) -> Answer:
    minute = minute_of(now)
    until = minute + getattr(policy.opens_within, urgency)
    late = 0
    for services, opens in catalogue.opens(among, minute):
        if opens is None or opens > until:
            late |= services
    return Answer(late, without(among, catalogue.telling))
