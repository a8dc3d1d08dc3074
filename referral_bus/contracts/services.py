"""A service as a provider publishes it: HSDS 3.1 cut to what the bus decides by."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from referral_bus.contracts.facts import Need
from referral_bus.contracts.ids import OrganisationId, ServiceId, UnitId
from referral_bus.contracts.message import Code, Part, Text

ANY = "*"
"""In a list of areas or languages: all of them are served. An absent list means that nobody said."""


class AgeRange(Part):
    """Ages served, in whole years, both ends included (HSDS ``minimum_age``, ``maximum_age``)."""

    minimum: Annotated[int, Field(ge=0, le=150)] = 0
    maximum: Annotated[int, Field(ge=0, le=150)] = 150

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("minimum age is above maximum age")
        return self


class OpeningHours(Part):
    """When the doors are open on some days of the week (``MO`` ... ``SU``), local time, minutes after midnight."""

    days: Annotated[
        list[Literal["MO", "TU", "WE", "TH", "FR", "SA", "SU"]], Field(min_length=1, max_length=7)
    ]
    opens: Annotated[int, Field(ge=0, le=1440)]
    closes: Annotated[int, Field(ge=0, le=1440)]


class Unit(Part):
    """A kind of place and how many there are (HSDS ``unit`` with ``service_capacity``)."""

    unit: UnitId
    name: Text
    total: Annotated[int, Field(ge=0, le=1_000_000)]
    available: Annotated[int, Field(ge=0, le=1_000_000)]
    overbook: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @model_validator(mode="after")
    def _within_total(self) -> Self:
        if self.available > self.total:
            raise ValueError("more places available than there are")
        return self


class ServiceDefinition(Part):
    """What a provider offers and for whom. ``None`` for ages, areas or languages: nobody said, so a match on it is unknown."""

    service: ServiceId
    organisation: OrganisationId
    name: Text
    active: bool = True
    terms: Annotated[list[Need], Field(max_length=50)]
    ages: AgeRange | None = None
    areas: Annotated[list[Code | Literal["*"]], Field(max_length=500)] | None = None
    languages: Annotated[list[Code | Literal["*"]], Field(max_length=100)] | None = None
    hours: Annotated[list[OpeningHours], Field(max_length=50)] | None = None
    units: Annotated[list[Unit], Field(min_length=1, max_length=20)]
    screens: bool = True
    """Whether the provider screens people itself; one that does not is offered nothing that is uncertain."""
