"""A service as a provider publishes it: HSDS 3.1 cut to what the bus decides by."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from referral_bus.contracts.criteria import Document, Eligibility
from referral_bus.contracts.facts import Need
from referral_bus.contracts.ids import OrganisationId, Region, ServiceId, UnitId
from referral_bus.contracts.localtime import Day, LocalDate, UtcOffset
from referral_bus.contracts.message import Code, Millis, Part, Text
from referral_bus.contracts.places import MOST_POINTS, Metres, Place, Polygon

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

    days: Annotated[list[Day], Field(min_length=1, max_length=7)]
    opens: Annotated[int, Field(ge=0, le=1440)]
    closes: Annotated[int, Field(ge=0, le=1440)]


class Schedule(Part):
    """When the doors are open where it is no plain week: what HSDS says by RRULE (RFC 5545). Local time, minutes after midnight; where
    ``closes`` is not after ``opens``, the doors close on the day after.

    Every ``every``-th week or month, counted from the one of ``starts``; in a month the ``nth`` of the ``days`` (-1: the last), or the
    ``month_days`` (-1: the last day). No day before ``starts``, and none after ``ends``.
    """

    frequency: Literal["weekly", "monthly"]
    opens: Annotated[int, Field(ge=0, le=1440)]
    closes: Annotated[int, Field(ge=0, le=1440)]
    days: Annotated[list[Day], Field(max_length=7)] = Field(default_factory=list)
    nth: Annotated[list[Annotated[int, Field(ge=-5, le=5)]], Field(max_length=10)] = Field(
        default_factory=list
    )
    month_days: Annotated[list[Annotated[int, Field(ge=-31, le=31)]], Field(max_length=62)] = Field(
        default_factory=list
    )
    every: Annotated[int, Field(ge=1, le=60)] = 1
    starts: LocalDate | None = None
    ends: LocalDate | None = None

    @model_validator(mode="after")
    def _names_days(self) -> Self:
        if bool(self.days) == bool(self.month_days):
            raise ValueError("a schedule names days of the week or days of the month, and not both")
        if self.frequency == "weekly" and (self.nth or self.month_days):
            raise ValueError("days are counted within a month only where the frequency is monthly")
        if self.nth and not self.days:
            raise ValueError("nth counts days of the week: name them")
        if 0 in self.nth or 0 in self.month_days:
            raise ValueError("days of a month are counted from 1, or from -1 for the last")
        if self.every > 1 and self.starts is None:
            raise ValueError("weeks or months that are skipped are counted from one: say which, by starts")
        if self.starts is not None and self.ends is not None and self.starts > self.ends:
            raise ValueError("the schedule ends before it starts")
        return self


class Cost(Part):
    """What the service costs (HSDS ``cost_option``), in the currency's smallest unit; 0 is free. ``condition``: for whom or when only."""

    amount: Annotated[int, Field(ge=0, le=1_000_000_000)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    condition: Text | None = None
    per: Text | None = None


class Unit(Part):
    """A kind of place and how many there are (HSDS ``unit`` with ``service_capacity``)."""

    unit: UnitId
    name: Text
    total: Annotated[int, Field(ge=0, le=1_000_000)]
    available: Annotated[int, Field(ge=0, le=1_000_000)]
    overbook: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Places the provider allows to be filled beyond the total, as for no-shows."""
    counted_at: Millis | None = None
    """When these places were counted, if not as the service is published (HSDS ``updated``); 0: nobody knows, so that the count is trusted
    least. Of a unit that is published again its last count stays."""

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
    eligibility: Eligibility | None = None
    """Who it is for, beyond ages, areas and languages; None: nobody in particular."""
    documents: Annotated[list[Document], Field(max_length=20)] = Field(default_factory=list)
    """Papers a person must bring, all of them (HSDS ``required_document``)."""
    costs: Annotated[list[Cost], Field(max_length=20)] = Field(default_factory=list)
    """What it costs; one of these applies. None listed: cost keeps nobody away."""
    program: Code | None = None
    """The program it is part of (HSDS ``program``), as the organisation calls it."""
    places: Annotated[list[Place], Field(max_length=50)] = Field(default_factory=list)
    """Where it is; the nearest counts."""
    remote: bool = False
    """Given by telephone or video, so that distance does not matter."""
    reach_m: Metres | None = None
    """How far the provider comes to people from its places; None: people come to it."""
    polygons: Annotated[list[Polygon], Field(max_length=100)] = Field(default_factory=list)
    """Areas served by their borders, besides those served by name."""
    schedules: Annotated[list[Schedule], Field(max_length=50)] = Field(default_factory=list)
    """When it is open besides ``hours``."""
    offsets: Annotated[list[UtcOffset], Field(max_length=100)] = Field(default_factory=list)
    """The wall clock its hours are told by; none: nobody said, so whether it is open is unknown. The first holds for the time before it
    too, and the last for ever."""
    regions: Annotated[list[Region], Field(max_length=100)] = Field(default_factory=list)
    """Other regions whose referrals it takes besides its own region's."""

    @model_validator(mode="after")
    def _is_bounded_and_ordered(self) -> Self:
        points = sum(len(ring.points) for polygon in self.polygons for ring in polygon.rings) // 2
        if points > MOST_POINTS:
            raise ValueError(f"the polygons have {points} points; {MOST_POINTS} is the most")
        if any(former.since >= later.since for former, later in pairwise(self.offsets)):
            raise ValueError("offsets are not in the order of their moments, or two begin at one moment")
        return self
