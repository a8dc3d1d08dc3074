"""A county that does not exist, made from a seed: three regions, forty organisations, two hundred services,
as HSDS 3.1.

The bus gets its services by importing that HSDS, the way it gets those of a real county, so the importer is
part of every demo. Areas are five-digit codes beginning with 000, which no postal service has given out.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any, Final

from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import OrganisationKind, Role
from referral_bus.directory.model import BUS_SCHEME, Assumptions, Import
from referral_bus.directory.reader import from_documents
from referral_bus.directory.taxonomy import OPEN_ELIGIBILITY, terms

REGIONS: Final = ("north", "central", "south")
PROVIDERS: Final = 35
SERVICES: Final = 200
AREAS_PER_REGION: Final = 6
COUNTED_AT: Final = "2026-01-05T08:00:00Z"
"""When the county's capacities were counted unless somebody says: fixed, so that a seed always makes the same bytes."""

ZONE: Final = "UTC"
"""The county's clock: it never changes, so that no edition of the time zone database makes other bytes."""

FAMILY_SHELTER: Final = "family-shelter"
_AGENCIES: Final[tuple[tuple[str, str, OrganisationKind, tuple[Role, ...]], ...]] = (
    ("co-response-team", "Police Co-Response Team", "police", ("agency",)),
    ("hospital-ed", "County Hospital Emergency Department", "hospital", ("agency",)),
    ("school-district", "Unified School District", "school", ("agency",)),
    (FAMILY_SHELTER, "Open Door Family Shelter", "shelter", ("agency", "provider")),
    ("line-211", "211 Helpline", "helpline", ("agency",)),
)


@dataclass(frozen=True, slots=True)
class Program:
    """A kind of service that providers run: what it is called, the term it meets, what its places are, how
    many, for which ages."""

    name: str
    term: str
    place: str
    places: tuple[int, int]
    ages: tuple[int | None, int | None] = (None, None)
    round_the_clock: bool = False


PROGRAMS: Final = (
    Program("Emergency shelter", "1135", "bed", (4, 14), (18, None), True),
    Program("Family shelter", "1135", "family room", (3, 8), (0, None), True),
    Program("Youth shelter", "1135", "bed", (3, 8), (14, 24), True),
    Program("Safe house", "1125", "room", (2, 6), (18, None), True),
    Program("Crisis stabilisation", "1126", "chair", (2, 6), (18, None), True),
    Program("Mobile crisis follow-up", "1126", "visit", (4, 10), (5, None), True),
    Program("Counselling", "1220", "weekly slot", (6, 16), (12, None)),
    Program("Child and family counselling", "1220", "weekly slot", (6, 14), (3, 17)),
    Program("Mental health evaluation", "1214", "appointment", (4, 10), (6, None)),
    Program("Detox", "1180", "bed", (2, 8), (18, None), True),
    Program("Primary care clinic", "1206", "appointment", (8, 20), (0, None)),
    Program("Food pantry", "1130", "weekly box", (15, 40)),
    Program("Community meals", "1131", "seat", (20, 40)),
    Program("Diapers and formula", "1157", "monthly pack", (10, 24)),
    Program("Clothing closet", "1158", "visit", (10, 24)),
    Program("Rides to appointments", "1176", "ride", (6, 16)),
    Program("Childcare", "1280", "seat", (4, 12), (0, 12)),
    Program("Tenant legal aid", "1375", "consultation", (4, 12), (18, None)),
    Program("Job placement", "1358", "seat", (6, 16), (16, None)),
    Program("Parenting education", "1195", "seat", (8, 16), (16, None)),
)

_PEOPLE = (
    "Harbor",
    "Maple",
    "Lantern",
    "Riverbend",
    "Sunrise",
    "Cedar",
    "Bridgeway",
    "Juniper",
    "Northstar",
    "Meadow",
    "Willow",
    "Granite",
)
_WORK = (
    "House",
    "Community Services",
    "Neighbors",
    "Center",
    "Alliance",
    "Partnership",
    "Clinic",
    "Foundation",
)
_LANGUAGES = {
    "es": 0.6,
    "zh": 0.2,
    "vi": 0.2,
    "ar": 0.15,
    "so": 0.1,
    "tl": 0.1,
    "ru": 0.1,
    "uk": 0.1,
    "ht": 0.05,
}
_HOURS: Final = (
    ("MO,TU,WE,TH,FR", "09:00", "17:00"),
    ("MO,TU,WE,TH,FR", "08:30", "18:00"),
    ("MO,WE,FR", "10:00", "16:00"),
    ("TU,TH,SA", "12:00", "20:00"),
)
_EVERY_DAY: Final = ("MO,TU,WE,TH,FR,SA,SU", "00:00", "24:00")
Document = dict[str, Any]


@dataclass(frozen=True)
class County:
    """The county of a seed. ``documents``: full HSDS 3.1 ``service`` documents by region; ``areas``: the area
    codes of each region."""

    seed: int
    regions: tuple[str, ...]
    agencies: tuple[Organisation, ...]
    areas: Mapping[str, tuple[str, ...]]
    documents: Mapping[str, tuple[Document, ...]]

    @classmethod
    def make(cls, seed: int = 1, regions: Sequence[str] = REGIONS, counted_at: str = COUNTED_AT) -> County:
        """Make the county of a seed. The same seed, regions and time of the counts give the same bytes."""
        return _Maker(seed, tuple(regions), counted_at).county()

    def as_hsds(self, region: str | None = None) -> list[Document]:
        """The full HSDS 3.1 service documents, with their organisations inside, of a region or of all."""
        return [
            document for name in self.regions if region in (None, name) for document in self.documents[name]
        ]

    @cached_property
    def imports(self) -> Mapping[str, Import]:
        """What the directory importer makes of each region's HSDS."""
        return {name: from_documents(self.as_hsds(name), assumptions(name)) for name in self.regions}

    @property
    def services(self) -> list[ServiceDefinition]:
        """The services as the bus takes them, region by region."""
        return [service for found in self.imports.values() for service in found.services]

    @property
    def organisations(self) -> list[Organisation]:
        """The five agencies, then the providers. The shelter is both, and comes once."""
        known = {agency.organisation for agency in self.agencies}
        providers = [
            one
            for found in self.imports.values()
            for one in found.organisations
            if one.organisation not in known
        ]
        return [*self.agencies, *providers]


def assumptions(region: str) -> Assumptions:
    """What is said of the county's HSDS when it is imported."""
    return Assumptions(region=region, zone=ZONE, today=date.fromisoformat(COUNTED_AT[:10]))


def counted_now() -> str:
    """When the county's capacities were counted on a bus on which it is published now: a count of long ago would be believed by nobody."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Maker:
    def __init__(self, seed: int, regions: tuple[str, ...], counted_at: str) -> None:
        if not regions or len(set(regions)) != len(regions):
            raise ValueError("a county needs one or more regions, each named once")
        self._seed = seed
        self._regions = regions
        self._counted_at = counted_at
        self._random = random.Random(seed)  # noqa: S311 - a reproducible county, not a secret
        self._areas = {
            region: tuple(
                f"000{10 + at * AREAS_PER_REGION + number:02d}" for number in range(AREAS_PER_REGION)
            )
            for at, region in enumerate(regions)
        }
        self._terms = {program.term: self._taxonomy_term(program.term) for program in PROGRAMS}

    def county(self) -> County:
        agencies = tuple(
            Organisation(
                organisation=id_,
                name=name,
                kind=kind,
                roles=list(roles),
                home_region=self._regions[at % len(self._regions)],
            )
            for at, (id_, name, kind, roles) in enumerate(_AGENCIES)
        )
        homes = {region: self._providers(at) for at, region in enumerate(self._regions)}
        for agency in agencies:
            if "provider" in agency.roles:
                homes[agency.home_region].append(self._organization(agency.name, agency.organisation))
        documents: dict[str, list[Document]] = {region: [] for region in self._regions}
        for number in range(SERVICES):
            region = self._regions[number % len(self._regions)]
            turn = number // len(self._regions)
            # Each region goes through all programs in turn, so that it has several services for every need.
            # The shift with each round keeps a provider from running one program twice.
            provider = homes[region][(turn + turn // len(PROGRAMS)) % len(homes[region])]
            documents[region].append(self._service(PROGRAMS[turn % len(PROGRAMS)], provider, region))
        return County(
            self._seed,
            self._regions,
            agencies,
            self._areas,
            {name: tuple(found) for name, found in documents.items()},
        )

    def _providers(self, region: int) -> list[Document]:
        numbers = range(region, PROVIDERS, len(self._regions))
        names = [
            f"{_PEOPLE[n % len(_PEOPLE)]} {_WORK[(n // len(_PEOPLE) + n) % len(_WORK)]}" for n in numbers
        ]
        return [
            self._organization(name, f"provider-{number + 1:02d}")
            for number, name in zip(numbers, names, strict=True)
        ]

    def _organization(self, name: str, on_the_bus: str) -> Document:
        identifier = {
            "id": self._id(),
            "identifier_scheme": BUS_SCHEME,
            "identifier_type": BUS_SCHEME,
            "identifier": on_the_bus,
        }
        description = f"{name} is a made-up organisation of a made-up county."
        return {
            "id": self._id(),
            "name": name,
            "description": description,
            "organization_identifiers": [identifier],
        }

    def _service(self, program: Program, provider: Document, region: str) -> Document:
        document: Document = {
            "id": self._id(),
            "name": f"{provider['name']}: {program.name}",
            "status": "active",
            "organization": provider,
            "attributes": [
                {"id": self._id(), "link_entity": "service", "taxonomy_term": self._terms[program.term]},
            ],
            "capacities": [self._capacity(program)],
            "schedules": [self._schedule(program)],
        }
        minimum, maximum = program.ages
        if minimum is not None:
            document["minimum_age"] = minimum
        if maximum is not None:
            document["maximum_age"] = maximum
        # A tenth of the services leave areas or languages unsaid, as real directories do; the bus then takes
        # them as unknown.
        if self._random.random() < 0.9:
            document["service_areas"] = [{"id": self._id(), "name": area} for area in self._served(region)]
        if self._random.random() < 0.9:
            spoken = ["en", *(code for code, share in _LANGUAGES.items() if self._random.random() < share)]
            document["languages"] = [{"id": self._id(), "code": code} for code in spoken]
        return document

    def _served(self, region: str) -> list[str]:
        areas = self._areas[region]
        if self._random.random() < 0.65:
            return list(areas)
        return sorted(self._random.sample(areas, self._random.randint(2, len(areas) - 1)))

    def _capacity(self, program: Program) -> Document:
        maximum = self._random.randint(*program.places)
        unit = {"id": self._id(), "name": program.place}
        available = maximum - self._random.randint(0, maximum // 4)
        return {
            "id": self._id(),
            "unit": unit,
            "available": available,
            "maximum": maximum,
            "updated": self._counted_at,
        }

    def _schedule(self, program: Program) -> Document:
        days, opens, closes = _EVERY_DAY if program.round_the_clock else self._random.choice(_HOURS)
        return {
            "id": self._id(),
            "freq": "WEEKLY",
            "wkst": "MO",
            "byday": days,
            "opens_at": opens,
            "closes_at": closes,
        }

    def _taxonomy_term(self, code: str) -> Document:
        name = terms()[code].name
        return {
            "id": self._id(),
            "code": code,
            "name": name,
            "description": name,
            "taxonomy": OPEN_ELIGIBILITY,
        }

    def _id(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
