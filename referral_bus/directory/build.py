"""From rows of HSDS to services and organisations of the bus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence, Sized
from typing import Final

from referral_bus.contracts.facts import Need
from referral_bus.contracts.ids import service_id, unit_id
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import AgeRange, OpeningHours, ServiceDefinition, Unit
from referral_bus.directory.hours import Span, opening_hours, spans
from referral_bus.directory.languages import language_tags
from referral_bus.directory.links import Links
from referral_bus.directory.model import Assumptions, Import
from referral_bus.directory.rows import Row, Rows
from referral_bus.directory.taxonomy import OPEN_ELIGIBILITY, codes_by_name, terms
from referral_bus.directory.values import (
    Unusable,
    digest,
    is_code,
    local_id,
    name_code,
    organisation_id,
    shown,
    whole_number,
)

ASSUMED_PLACES: Final = "places"
ASSUMED_TERMS: Final = "terms"
PLACE: Final = "place"
"""The name of a unit whose kind of place is not stated."""

UNNAMED: Final = "unnamed"
"""The vocabulary of a term that says none."""

_LONGEST_NAME: Final = 512
_OLDEST: Final = 150
_MOST_TERMS: Final = 50
_MOST_AREAS: Final = 500
_MOST_LANGUAGES: Final = 100
_MOST_HOURS: Final = 50
_MOST_UNITS: Final = 20
_MOST_PLACES: Final = 1_000_000
_ACTIVE: Final = ("", "active")
_NOT_ACTIVE: Final = ("inactive", "defunct", "temporarily closed")


def build(rows: Rows, assumptions: Assumptions) -> Import:
    """Make all that can be made of the rows, and account for each of them."""
    return _Builder(rows, assumptions).result()


class _Builder:
    def __init__(self, rows: Rows, assumptions: Assumptions) -> None:
        self._rows = rows
        self._links = Links(rows)
        self._assumptions = assumptions
        self._assumed: Counter[str] = Counter()
        self._organisations: dict[str, Organisation] = {}
        self._organisation_ids = set(self._links.ids_on_the_bus.values())
        self._units: set[str] = set()

    def result(self) -> Import:
        for id_, row in self._links.organisations.items():
            self._rows.use(row)
            self._add_organisation(id_, self._name(row))
        areas, capacities, attributes = (
            self._links.areas(),
            self._links.capacities(),
            self._links.attributes(),
        )
        schedules, languages = self._links.nearest("schedules"), self._links.nearest("languages")
        services = [
            ServiceDefinition(
                service=service_id(self._assumptions.region, local_id(id_)),
                organisation=self._provider(row).organisation,
                name=self._name(row),
                active=self._active(row),
                terms=self._terms(attributes.get(id_, ())),
                ages=self._ages(row),
                areas=self._areas(areas.get(id_, ())),
                languages=self._languages(languages.get(id_, ())),
                hours=self._hours(row, schedules.get(id_, ())),
                units=self._units_of(id_, capacities.get(id_, ())),
            )
            for id_, row in self._links.services.items()
        ]
        for row in self._links.services.values():
            self._rows.use(row)
        files = self._rows.close()
        return Import(
            region=self._assumptions.region,
            services=services,
            organisations=list(self._organisations.values()),
            problems=self._rows.problems,
            files=files,
            assumed=dict(self._assumed),
        )

    def _add_organisation(self, id_: str, name: str) -> Organisation:
        on_the_bus = self._links.ids_on_the_bus.get(id_)
        if on_the_bus is None:
            on_the_bus = organisation_id(id_)
            if on_the_bus in self._organisation_ids:
                on_the_bus = digest(id_)
            self._organisation_ids.add(on_the_bus)
        self._organisations[id_] = Organisation(
            organisation=on_the_bus,
            name=name,
            kind="provider",
            roles=["provider"],
            home_region=self._assumptions.region,
        )
        return self._organisations[id_]

    def _provider(self, service: Row) -> Organisation:
        """The organisation of a service. One that the directory lacks is made of its id: the service is there
        all the same."""
        id_ = service["organization_id"]
        if id_ not in self._links.organisations:
            places = self._links.places_of.get(id_, [])
            name = places[0]["name"][:_LONGEST_NAME] if len(places) == 1 else f"Organisation {id_[:100]}"
            if len(places) == 1:
                self._rows.use(places[0])
            lacking = f"organization_id {shown(id_)} is not among the organizations"
            self._rows.note(service, f"{lacking}; one is made of the id, named {shown(name)}")
            return self._organisations.get(id_) or self._add_organisation(id_, name)
        return self._organisations[id_]

    def _name(self, row: Row) -> str:
        name = " ".join(row["name"].split())
        if len(name) > _LONGEST_NAME:
            self._rows.note(row, f"the name is cut to {_LONGEST_NAME} characters")
        return name[:_LONGEST_NAME]

    def _active(self, row: Row) -> bool:
        status = row["status"].casefold()
        if status not in (*_ACTIVE, *_NOT_ACTIVE):
            self._rows.note(
                row, f"status {shown(status)} is not one of HSDS; the service is taken as not active"
            )
        return status in _ACTIVE

    def _ages(self, row: Row) -> AgeRange | None:
        if not row["minimum_age"] and not row["maximum_age"]:
            return None
        try:
            minimum = whole_number(row["minimum_age"] or "0", _OLDEST)
            maximum = whole_number(row["maximum_age"] or str(_OLDEST), _OLDEST)
            if minimum > maximum:
                raise Unusable(f"{minimum} is above {maximum}")
        except Unusable as why:
            self._rows.note(row, f"minimum_age, maximum_age: {why}; the ages are taken as not stated")
            return None
        return AgeRange(minimum=minimum, maximum=maximum)

    def _areas(self, found: Sequence[Row]) -> list[str] | None:
        areas: list[str] = []
        for row in found:
            try:
                area = name_code(row["name"])
            except Unusable as why:
                self._rows.leave_out(row, f"the area's name {why}")
                continue
            if area in areas:
                self._rows.use(row)
            elif self._room(row, areas, _MOST_AREAS):
                areas.append(area)
        return areas or None

    def _languages(self, found: Sequence[Row]) -> list[str] | None:
        languages: list[str] = []
        for row in found:
            tags, unknown = language_tags(row["code"])
            if not tags:
                tags, unknown = language_tags(row["name"])
            if not tags:
                text = row["name"] or row["code"]
                self._rows.leave_out(
                    row, f"{shown(text)} names no language that is known; write its BCP 47 code"
                )
            elif self._room(row, languages, _MOST_LANGUAGES - len(tags) + 1):
                languages += [tag for tag in tags if tag not in languages]
                if unknown:
                    self._rows.note(
                        row, f"{shown(unknown[0])} names no language that is known; the others are used"
                    )
        return languages or None

    def _hours(self, service: Row, found: Sequence[Row]) -> list[OpeningHours] | None:
        week: list[Span] = []
        for row in found:
            try:
                week += spans(row)
            except Unusable as why:
                self._rows.leave_out(row, str(why))
            else:
                self._rows.use(row)
        hours = opening_hours(week)
        if len(hours) > _MOST_HOURS:
            self._rows.note(
                service, f"the service has more than {_MOST_HOURS} different hours; the first are used"
            )
        return hours[:_MOST_HOURS] or None

    def _terms(self, found: Sequence[Row]) -> list[Need]:
        needs: list[Need] = []
        for row in found:
            try:
                need = self._need(row)
            except Unusable as why:
                self._rows.leave_out(row, str(why))
                continue
            if need in needs:
                self._rows.use(row)
            elif self._room(row, needs, _MOST_TERMS):
                needs.append(need)
        if not needs and self._assumptions.terms:
            self._assumed[ASSUMED_TERMS] += 1
            return list(self._assumptions.terms)
        return needs

    def _need(self, attribute: Row) -> Need:
        term = self._links.terms.get(attribute["taxonomy_term_id"])
        if term is None:
            raise Unusable(
                f"taxonomy_term_id {shown(attribute['taxonomy_term_id'])} is not among the taxonomy terms"
            )
        taxonomy = self._links.taxonomies.get(term["taxonomy_id"])
        vocabulary = term["taxonomy"] or (taxonomy["name"] if taxonomy is not None else "")
        code = term["code"] or term["id"]
        if re.sub(r"[^a-z]", "", vocabulary.casefold()).startswith(OPEN_ELIGIBILITY):
            known = code if code in terms() else codes_by_name().get(term["name"].casefold())
            if known is None:
                raise Unusable(
                    f"Open Eligibility has no term {shown(code)}, and not just one named "
                    f"{shown(term['name'])}"
                )
            need = Need(vocabulary=OPEN_ELIGIBILITY, code=known)
        elif is_code(code):
            need = Need(vocabulary=name_code(vocabulary or UNNAMED), code=code)
        else:
            raise Unusable(f"the term's code {shown(code)} is no code: letters, digits and . _ : / - only")
        self._rows.use(term)
        if taxonomy is not None:
            self._rows.use(taxonomy)
        return need

    def _units_of(self, service: str, found: Sequence[Row]) -> list[Unit]:
        units: list[Unit] = []
        for row in found:
            id_ = unit_id(
                self._assumptions.region,
                local_id(row["id"]) if row["id"] else digest(f"{service} {row['unit_id']}"),
            )
            if id_ in self._units:
                self._rows.leave_out(row, "a row before counts the same places; the first is used")
                continue
            try:
                unit = self._unit(row, id_)
            except Unusable as why:
                self._rows.leave_out(row, f"available, maximum: {why}")
                continue
            if self._room(row, units, _MOST_UNITS):
                self._units.add(id_)
                units.append(unit)
        return units or [self._assumed_places(service)]

    def _unit(self, row: Row, id_: str) -> Unit:
        total = whole_number(row["maximum"] or row["available"], _MOST_PLACES)
        available = whole_number(row["available"] or row["maximum"], _MOST_PLACES)
        if available > total:
            self._rows.note(row, f"{available} places are available of {total} at most; {total} is taken")
        kind = self._links.units.get(row["unit_id"])
        if kind is None or not kind["name"]:
            self._rows.note(
                row,
                f"unit_id {shown(row['unit_id'])} is not among the units with a name; it is called {PLACE!r}",
            )
            return Unit(unit=id_, name=PLACE, total=total, available=min(available, total))
        self._rows.use(kind)
        return Unit(unit=id_, name=self._name(kind), total=total, available=min(available, total))

    def _assumed_places(self, service: str) -> Unit:
        self._assumed[ASSUMED_PLACES] += 1
        id_ = unit_id(self._assumptions.region, local_id(service))
        if id_ in self._units:
            id_ = unit_id(self._assumptions.region, digest(f"places of {service}"))
        self._units.add(id_)
        places = self._assumptions.places_per_service
        return Unit(unit=id_, name=PLACE, total=places, available=places)

    def _room(self, row: Row, taken: Sized, most: int) -> bool:
        """Whether a service can have one more of these. The row is used, or left out."""
        if len(taken) >= most:
            self._rows.leave_out(row, "the service has as many of these as one can have")
            return False
        self._rows.use(row)
        return True
