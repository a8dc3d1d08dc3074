"""The region's services, ready to be judged, and the index from needs to those that meet them."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from referral_bus.contracts.facts import Need
from referral_bus.contracts.services import ANY, ServiceDefinition

ALL: Final = frozenset({ANY})
"""The areas or languages of a service that takes all: just this object."""


class Profile(NamedTuple):
    """What a service is judged by. ``None`` for ages, areas or languages: nobody said; :data:`ALL`: every one."""

    service: str
    provider: str
    needs: frozenset[str]
    ages: tuple[int, int] | None
    areas: frozenset[str] | None
    languages: frozenset[str] | None
    screens: bool
    units: tuple[str, ...]


def need_key(need: Need) -> str:
    """A need as the index knows it."""
    return f"{need.vocabulary} {need.code}"


class Catalogue:
    """Active services by id and by need. Candidates come from the index; nothing scans all services."""

    __slots__ = (
        "_ages",
        "_areas",
        "_by_need",
        "_profiles",
        "alike",
        "alike_size",
        "definitions",
        "judgements",
    )

    def __init__(self) -> None:
        self.definitions: dict[str, ServiceDefinition] = {}
        """Every published service, active or not."""
        self._profiles: dict[str, Profile] = {}
        self._by_need: dict[str, list[str]] = {}
        self._ages: list[int] = []
        self._areas: set[str] = set()
        self.judgements: dict[Any, Any] = {}
        """What :mod:`match` remembers of each service; forgotten with each change of the catalogue."""
        self.alike: dict[Any, Any] = {}
        """Which of that it remembers to hold for people who are alike; forgotten with it."""
        self.alike_size = 0
        """How many references to judgements that is."""

    def __len__(self) -> int:
        """How many services are active."""
        return len(self._profiles)

    def put(self, definition: ServiceDefinition) -> None:
        """Take a service as it is from now on."""
        former = self._profiles.pop(definition.service, None)
        if former is not None:
            for need in former.needs:
                self._by_need[need].remove(definition.service)
        self.definitions[definition.service] = definition
        self.judgements.clear()
        self.forget_alike()
        if definition.active:
            profile = self._profiles[definition.service] = profile_of(definition)
            for need in sorted(profile.needs):
                insort(self._by_need.setdefault(need, []), definition.service)
            if profile.ages is not None:
                for bound in (profile.ages[0], profile.ages[1] + 1):
                    if bound not in self._ages:
                        insort(self._ages, bound)
            self._areas.update(profile.areas or ())

    def forget_alike(self) -> None:
        """Start anew with remembering who is alike."""
        self.alike.clear()
        self.alike_size = 0

    def age_class(self, age: int | None) -> int | None:
        """Ages of the same class are alike to every service: no bound of any lies between them."""
        return None if age is None else bisect_right(self._ages, age)

    def area_class(self, area: str | None) -> str | None:
        """Areas that no service ever named are alike to every service."""
        return area if area is None or area in self._areas else ""

    def meeting(self, needs: Iterable[str]) -> Iterator[Profile]:
        """The active services that meet any of the needs, each once, in the order of their ids."""
        lists = [found for need in needs if (found := self._by_need.get(need))]
        services = lists[0] if len(lists) == 1 else sorted({service for found in lists for service in found})
        return (self._profiles[service] for service in services)

    def active(self, service: str) -> bool:
        return service in self._profiles


def profile_of(definition: ServiceDefinition) -> Profile:
    """A definition, ready to be judged."""
    ages = definition.ages
    return Profile(
        service=definition.service,
        provider=definition.organisation,
        needs=frozenset(need_key(term) for term in definition.terms),
        ages=None if ages is None else (ages.minimum, ages.maximum),
        areas=_served(definition.areas),
        languages=None
        if definition.languages is None
        else _served([language.lower() for language in definition.languages]),
        screens=definition.screens,
        units=tuple(dict.fromkeys(unit.unit for unit in definition.units)),
    )


def _served(named: Sequence[str] | None) -> frozenset[str] | None:
    if named is None:
        return None
    return ALL if ANY in named else frozenset(named)
