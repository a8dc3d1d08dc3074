"""The region's services, ready to be judged: an index of sets, so that what is asked of all of them is asked at once.

A service has its slot from its first publication on, the first one slot 0; it keeps it whatever becomes of it. Each set below is of slots
(see :mod:`bitmaps`), and of active services only.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from referral_bus.contracts.facts import Need
from referral_bus.contracts.services import ANY, ServiceDefinition
from services.matching.core.judging.areas import Border, borders, either, judge_borders
from services.matching.core.judging.bitmaps import made_of, members, without
from services.matching.core.judging.criteria import Circumstances, Program, Tested, evaluate, prepared, tested
from services.matching.core.judging.distances import Whereabouts
from services.matching.core.judging.letters import Letter, is_variety
from services.matching.core.judging.opening import Opening, opening, opens_at
from services.matching.core.judging.reach import Reaching, reaching

T = TypeVar("T", bound=Hashable)

ALL: Final = frozenset({ANY})
"""The areas or languages of a service that takes all: just this object."""
OLDEST: Final = 150
"""The highest age a service can name."""
_REMEMBERED: Final = 1000
"""Languages, and circumstances, whose answers are remembered: they are what anyone writes, and must not fill the memory."""


class Profile(NamedTuple):
    """What a service is judged by. ``None`` for ages, areas or languages: nobody said; :data:`ALL`: every one. ``criteria`` is None
    where it asks nothing more, and ``opening`` where its hours are not known."""

    service: str
    provider: str
    slot: int
    needs: frozenset[str]
    ages: tuple[int, int] | None
    areas: frozenset[str] | None
    languages: frozenset[str] | None
    screens: bool
    units: tuple[str, ...]
    borders: tuple[Border, ...]
    criteria: Program | None
    reaching: Reaching
    opening: Opening | None


def need_key(need: Need) -> str:
    """A need as the index knows it."""
    return f"{need.vocabulary} {need.code}"


class Answer(NamedTuple):
    """What is answered of all services at once: of which ones no, and of which ones nobody knows. Of the others it is yes."""

    no: int
    unknown: int


class Catalogue:
    """All services by id, and the active ones by what they are asked for. Nothing scans all services."""

    __slots__ = (
        "_ages",
        "_areas",
        "_bordered",
        "_criteria",
        "_every_age",
        "_every_area",
        "_every_language",
        "_hours",
        "_languages",
        "_needs",
        "_opens",
        "_opens_from",
        "_profiles",
        "_silent_on_age",
        "_silent_on_area",
        "_silent_on_language",
        "_slots",
        "_spoken",
        "_tested",
        "active",
        "asking",
        "definitions",
        "renewed",
        "screening",
        "services",
        "telling",
        "whereabouts",
    )

    def __init__(self) -> None:
        self.definitions: dict[str, ServiceDefinition] = {}
        """Every published service, active or not."""
        self.services: list[str] = []
        """The service in each slot."""
        self.renewed: set[str] = set()
        """Services that were published since somebody last looked (and emptied it)."""
        self.active = 0
        self.screening = 0
        """Those that screen people themselves."""
        self.whereabouts = Whereabouts()
        self.telling = 0
        """Those whose hours are known."""
        self._slots: dict[str, int] = {}
        self._profiles: dict[str, Profile] = {}
        self._needs: dict[str, int] = {}
        self._ages = [0] * (OLDEST + 1)
        self._every_age = self._silent_on_age = 0
        self._areas: dict[str, int] = {}
        self._every_area = self._silent_on_area = 0
        self._languages: dict[str, int] = {}
        self._every_language = self._silent_on_language = 0
        self._spoken: dict[str, int] = {}
        self._bordered = 0
        """Those that serve what lies within borders."""
        self.asking = 0
        """Those that ask more of a person than ages, areas and languages."""
        self._tested = Tested()
        """What any of those has ever asked for."""
        self._criteria: dict[Circumstances, tuple[int, Answer]] = {}
        """Who was asked about whom, and what they answered."""
        self._hours: dict[Opening, int] = {}
        """Those that keep the same hours: mostly there are few."""
        self._opens: dict[Opening, int | None] = {}
        """When hours begin next, as far as that was asked in the minute that began at ``_opens_from``."""
        self._opens_from = 0

    def __len__(self) -> int:
        """How many services are active."""
        return len(self._profiles)

    def put(self, definition: ServiceDefinition) -> None:
        """Take a service as it is from now on."""
        service = definition.service
        slot = self._slots.get(service)
        if slot is None:
            slot = self._slots[service] = len(self.services)
            self.services.append(service)
        former = self._profiles.pop(service, None)
        if former is not None:
            self._turn(former)
        self.definitions[service] = definition
        self.renewed.add(service)
        self._spoken.clear()
        self._criteria.clear()
        if definition.active:
            profile = self._profiles[service] = profile_of(definition, slot)
            self._turn(profile)
            self._tested = self._tested.joined(tested(definition))
        self.whereabouts.put(slot, self._profiles[service].reaching if definition.active else None)

    def _turn(self, profile: Profile) -> None:
        """Put the service into each set it belongs to, or take it out."""
        bit = 1 << profile.slot
        self.active ^= bit
        self.screening ^= bit if profile.screens else 0
        self.asking ^= bit if profile.criteria is not None else 0
        self._bordered ^= bit if profile.borders else 0
        if profile.opening is not None:
            self.telling ^= bit
            _turn_each(self._hours, [profile.opening], bit)
        _turn_each(self._needs, profile.needs, bit)
        if profile.ages is None:
            self._silent_on_age ^= bit
        else:
            youngest, oldest = profile.ages
            for age in range(youngest, oldest + 1):
                self._ages[age] ^= bit
            if youngest == 0 and oldest == OLDEST:
                self._every_age ^= bit
        if profile.areas is None:
            self._silent_on_area ^= bit
        elif profile.areas is ALL:
            self._every_area ^= bit
        else:
            _turn_each(self._areas, profile.areas, bit)
        if profile.languages is None:
            self._silent_on_language ^= bit
        elif profile.languages is ALL:
            self._every_language ^= bit
        else:
            _turn_each(self._languages, profile.languages, bit)

    def is_active(self, service: str) -> bool:
        return service in self._profiles

    def slot(self, service: str) -> int:
        """A published service's slot. Raises KeyError."""
        return self._slots[service]

    def profile(self, slot: int) -> Profile:
        """The active service in a slot. Raises KeyError for one that is not active."""
        return self._profiles[self.services[slot]]

    def set_of(self, services: Iterable[str]) -> int:
        """Those of the services that are active."""
        found = 0
        for service in services:
            if service in self._profiles:
                found |= 1 << self._slots[service]
        return found

    def coded(self, term: str) -> int:
        """Those that are coded with a term (:func:`need_key`)."""
        return self._needs.get(term, 0)

    def on_area(
        self, among: int, area: str | None, latitude: int | None = None, longitude: int | None = None
    ) -> Answer:
        """Whether they serve an area by its name, or a place within their borders. Where borders are all a service names, they decide."""
        if area is None:
            named = Answer(0, without(among, self._every_area))
        else:
            served = self._every_area | self._areas.get(area, 0)
            named = _answer(among, served, self._silent_on_area)
        asked = self._bordered & (named.no | named.unknown)
        if not asked:
            return named
        silent = self._silent_on_area
        letters: dict[int, Letter] = {}
        for slot in members(asked):
            letter = judge_borders(self.profile(slot).borders, latitude, longitude)
            if not silent >> slot & 1:
                letter = either(letter, "n" if named.no >> slot & 1 else "u")
            letters[slot] = letter
        bordered = of_letters(letters)
        return Answer(
            without(named.no, asked) | bordered.no, without(named.unknown, asked) | bordered.unknown
        )

    def on_age(self, among: int, age: int | None) -> Answer:
        """Whether they serve an age."""
        if age is None:
            return Answer(0, without(among, self._every_age))
        return _answer(among, self._ages[age] if age <= OLDEST else 0, self._silent_on_age)

    def on_languages(self, among: int, languages: Sequence[str] | None) -> Answer:
        """Whether they serve one of the languages; one is enough. A language serves its varieties and the other way round."""
        if languages is None:
            return Answer(0, without(among, self._every_language))
        served = self._every_language
        for language in languages:
            served |= self._serving(language)
        return _answer(among, served, self._silent_on_language)

    def naming(self, languages: Iterable[str]) -> int:
        """Those that name one of the languages itself, and no variety of it."""
        found = 0
        for language in languages:
            found |= self._languages.get(language, 0)
        return found

    def on_criteria(self, among: int, person: Circumstances) -> Answer:
        """Whether a person meets what they ask beyond that."""
        asked = among & self.asking
        person = self._tested.of(person)
        before, known = self._criteria.get(person, (0, Answer(0, 0)))
        new = without(asked, before)
        if new:
            found = of_letters({slot: evaluate(self._program(slot), person).letter for slot in members(new)})
            known = Answer(known.no | found.no, known.unknown | found.unknown)
            if len(self._criteria) >= _REMEMBERED:
                self._criteria.clear()
            self._criteria[person] = before | new, known
        return Answer(known.no & asked, known.unknown & asked)

    def because(self, slot: int, person: Circumstances) -> tuple[str, ...]:
        """The kinds of fact for which what it asks comes out as it does."""
        return evaluate(self._program(slot), person).kinds

    def opens(self, among: int, minute: int) -> Iterator[tuple[int, int | None]]:
        """When those whose hours are known are open, from the minute on that begins at ``minute`` (epoch milliseconds), each with whom it
        has the same hours: that moment for those that are open then; None for those that are not within sight."""
        if minute != self._opens_from:
            self._opens.clear()
            self._opens_from = minute
        for hours, keeping in self._hours.items():
            services = keeping & among
            if services:
                if hours not in self._opens:
                    self._opens[hours] = opens_at(hours, minute)
                yield services, self._opens[hours]

    def _program(self, slot: int) -> Program:
        program = self.profile(slot).criteria
        if program is None:
            raise LookupError(f"the service in slot {slot} asks nothing")
        return program

    def _serving(self, language: str) -> int:
        known = self._spoken.get(language)
        if known is None:
            known = self._languages.get(language, 0)
            for other, services in self._languages.items():
                if is_variety(language, other):
                    known |= services
            if len(self._spoken) >= _REMEMBERED:
                self._spoken.clear()
            self._spoken[language] = known
        return known


def profile_of(definition: ServiceDefinition, slot: int = 0) -> Profile:
    """A definition, ready to be judged."""
    ages = definition.ages
    return Profile(
        service=definition.service,
        provider=definition.organisation,
        slot=slot,
        needs=frozenset(need_key(term) for term in definition.terms),
        ages=None if ages is None else (ages.minimum, ages.maximum),
        areas=_served(definition.areas),
        languages=None
        if definition.languages is None
        else _served([language.lower() for language in definition.languages]),
        screens=definition.screens,
        units=tuple(dict.fromkeys(unit.unit for unit in definition.units)),
        borders=borders(definition.polygons),
        criteria=prepared(definition),
        reaching=reaching(definition),
        opening=opening(definition),
    )


def _served(named: Sequence[str] | None) -> frozenset[str] | None:
    if named is None:
        return None
    return ALL if ANY in named else frozenset(named)


def _turn_each(index: dict[T, int], names: Iterable[T], bit: int) -> None:
    for name in names:
        left = index.get(name, 0) ^ bit
        if left:
            index[name] = left
        else:
            del index[name]


def _answer(among: int, served: int, silent: int) -> Answer:
    asked = without(among, served)
    unknown = asked & silent
    return Answer(asked ^ unknown, unknown)


def of_letters(letters: Mapping[int, Letter]) -> Answer:
    """The answer of those in these slots."""
    return Answer(
        made_of([slot for slot, letter in letters.items() if letter == "n"]),
        made_of([slot for slot, letter in letters.items() if letter == "u"]),
    )
