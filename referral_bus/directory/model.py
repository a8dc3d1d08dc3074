"""What comes of reading a directory: services and organisations for the bus, and an account of every row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from referral_bus.contracts.facts import Need
from referral_bus.contracts.ids import Region
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabularies import Taxonomy
from referral_bus.directory.zones import offsets

BUS_SCHEME: Final = "org.referralbus.organisation"
"""The ``identifier_scheme`` of an HSDS ``organization_identifier`` that holds an organisation's id on the
bus."""


class DirectoryError(Exception):
    """A directory can't be read at all. The message says what was found, where, and what to do."""


class Assumptions(BaseModel):
    """What is taken for granted where a directory is silent; the report says how often each was used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: Region
    """The region all services of the directory belong to."""
    places_per_service: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """Places of a service whose capacity is not stated, all of them available."""
    terms: Annotated[tuple[Need, ...], Field(max_length=50)] = ()
    """What a service with no taxonomy term is taken to help with. Without any, such a service is never
    offered a referral."""
    zone: str | None = None
    """The IANA time zone that the directory's opening hours are told in, as ``America/Chicago``. Without one it is unknown
    whether a service is open at a moment."""
    today: date | None = None
    """The day of the import: what ended before it is left out, and the zone's clock is given from its year on. Without it nothing
    has ended, and there is no clock."""

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, zone: str | None) -> str | None:
        if zone is not None:
            offsets(zone, 2000, 2000)
        return zone


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of a directory that could not be used.

    ``row`` counts as a spreadsheet does, the header being row 1; a run of rows is written ``2-983``; in a
    JSON file it is the place (``/contents/3/schedules/0``). It is empty where the whole file is meant.
    ``used`` says whether the rest of the row was used.
    """

    file: str
    row: str
    reason: str
    used: bool = False


@dataclass(frozen=True, slots=True)
class FileCount:
    """The account of a file: each of its rows was used or is left out by a problem, so ``rows == used +
    left_out``."""

    file: str
    rows: int
    used: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Import:
    """What a directory gives the bus. ``assumed``: how many services each assumption was used for, by what
    was assumed. ``taxonomies``: the vocabularies of its own that services are coded by, where they have a hierarchy."""

    region: str
    services: list[ServiceDefinition]
    organisations: list[Organisation]
    problems: list[Problem]
    files: list[FileCount]
    assumed: dict[str, int]
    taxonomies: list[Taxonomy] = field(default_factory=list)
