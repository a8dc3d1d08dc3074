"""From rows of HSDS to services and organisations of the bus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Final

from pydantic import ValidationError

from referral_bus.contracts.criteria import Criterion, Document, Eligibility, Expression, holds
from referral_bus.contracts.facts import Need
from referral_bus.contracts.ids import service_id, unit_id
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.places import MICRO, MOST_POINTS, Place, Polygon
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import AgeRange, Cost, OpeningHours, Schedule, ServiceDefinition, Unit
from referral_bus.contracts.vocabularies import Taxonomy, TaxonomyTerm
from referral_bus.directory.geojson import polygons
from referral_bus.directory.hours import NotOpen, Span, another_clock, hours_of, opening_hours
from referral_bus.directory.languages import code_tags, language_tags
from referral_bus.directory.links import Links
from referral_bus.directory.model import Assumptions, Import
from referral_bus.directory.requirements import cost, documents
from referral_bus.directory.rows import Row, Rows
from referral_bus.directory.taxonomy import OPEN_ELIGIBILITY, codes_by_name, terms, trait_of
from referral_bus.directory.values import (
    Unusable,
    area_name,
    digest,
    is_code,
    local_id,
    moment,
    name_code,
    number,
    organisation_id,
    shown,
    whole_number,
)
from referral_bus.directory.zones import offsets

ASSUMED_PLACES: Final = "places"
ASSUMED_TERMS: Final = "terms"
PLACE: Final = "place"
"""The name of a unit whose kind of place is not stated."""

UNNAMED: Final = "unnamed"
"""The vocabulary of a term that says none."""

LONG_AGO: Final = 0
"""When places were counted that nobody is known to have counted."""

_IN_PART: Final = (
    "another row of the service's {what} can't be used, so they are taken as not stated as a whole"
)
_NOT_STATED: Final = "the {what} are taken as not stated, since a row of them can't be used: what it says is unknown, and not a no"
_NO_ROOM: Final = "the service has as many of these as one can have"
_LONGEST_NAME: Final = 512
_OLDEST: Final = 150
_MOST_TERMS: Final = 50
_MOST_AREAS: Final = 500
_MOST_LANGUAGES: Final = 100
_MOST_HOURS: Final = 50
_MOST_SCHEDULES: Final = 50
_MOST_UNITS: Final = 20
_MOST_PLACES_OF: Final = 50
_MOST_COSTS: Final = 20
_MOST_POLYGONS: Final = 100
_YEARS_OF_CLOCK: Final = 10
"""For how many years a service's wall clock is told."""
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
        self._offsets: list[UtcOffset] = []
        if assumptions.zone is not None and assumptions.today is not None:
            first = assumptions.today.year
            self._offsets = offsets(assumptions.zone, first, first + _YEARS_OF_CLOCK)
        self._eligible: dict[str, Expression | None] = {}
        self._eligible_in_part: set[str] = set()
        """What says of whom it is for in words of which not all can be used."""

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
        costs, required = self._links.of_service("cost_options"), self._links.of_service("required_documents")
        self._eligible = {id_: self._who(id_, found) for id_, found in self._links.eligibility().items()}
        services: list[ServiceDefinition] = []
        for id_, row in self._links.services.items():
            names, borders = self._areas(row, areas.get(id_, ()))
            hours, others = self._hours(row, schedules.get(id_, ()))
            services.append(
                ServiceDefinition(
                    service=service_id(self._assumptions.region, local_id(id_)),
                    organisation=self._provider(row).organisation,
                    name=self._name(row),
                    active=self._active(row),
                    terms=self._terms(attributes.get(id_, ())),
                    ages=self._ages(row),
                    areas=names,
                    languages=self._languages(row, languages.get(id_, ())),
                    hours=hours,
                    units=self._units_of(id_, capacities.get(id_, ())),
                    eligibility=self._eligibility(id_, row),
                    documents=self._documents(required.get(id_, ())),
                    costs=self._costs(costs.get(id_, ())),
                    program=self._program(row),
                    places=self._places(self._links.locations_of.get(id_, ())),
                    remote=self._is_remote(self._links.locations_of.get(id_, ())),
                    polygons=borders,
                    schedules=others,
                    offsets=self._offsets if hours or others else [],
                )
            )
        taxonomies = self._taxonomies(services)
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
            taxonomies=taxonomies,
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

    def _areas(self, service: Row, found: Sequence[Row]) -> tuple[list[str] | None, list[Polygon]]:
        """The areas served by name and those served by their borders."""
        areas: list[str] = []
        borders: list[Polygon] = []
        read: list[tuple[Row, list[str]]] = []
        for row in found:
            unusable: list[str] = []
            named: str | None = None
            drawn: list[Polygon] = []
            if row["name"] or not row["extent"]:
                try:
                    named = area_name(row["name"])
                except Unusable as why:
                    unusable.append(f"the area's name {why}")
            if row["extent"]:
                try:
                    drawn = self._borders(row, borders)
                except Unusable as why:
                    unusable.append(str(why))
            if named is None and not drawn:
                self._rows.leave_out(row, "; ".join(unusable))
                continue
            if named is not None and named not in areas:
                if len(areas) >= _MOST_AREAS and not drawn:
                    self._rows.leave_out(row, _NO_ROOM)
                    continue
                areas += [named] if len(areas) < _MOST_AREAS else []
            borders += drawn
            read.append((row, unusable))
        if not self._is_whole(service, found, [row for row, _ in read], "areas"):
            return None, []
        for row, unusable in read:
            for reason in unusable:
                self._rows.note(row, reason)
        return areas or None, borders

    def _is_whole(self, service: Row, found: Sequence[Row], read: Sequence[Row], what: str) -> bool:
        """Whether all that is said of a kind of thing can be used; then its rows are. Part of it would be a no to all that the rest says,
        which nobody has said."""
        whole = len(read) == len(found)
        self._used_if(whole, read, what)
        if read and not whole:
            self._rows.note(service, _NOT_STATED.format(what=what))
        return whole

    def _used_if(self, whole: bool, read: Iterable[Row], what: str) -> None:
        for row in read:
            if whole:
                self._rows.use(row)
            else:
                self._rows.pass_over(row, _IN_PART.format(what=what))

    def _borders(self, row: Row, taken: Sequence[Polygon]) -> list[Polygon]:
        kind = row["extent_type"].casefold()
        if kind not in ("", "geojson"):
            raise Unusable(f"the extent is of type {shown(kind)}; the bus reads geojson")
        drawn = polygons(row["extent"])
        points = sum(len(ring.points) // 2 for one in (*taken, *drawn) for ring in one.rings)
        if len(taken) + len(drawn) > _MOST_POLYGONS or points > MOST_POINTS:
            raise Unusable(
                f"the service's extents have more than {_MOST_POLYGONS} polygons or {MOST_POINTS} points; simplify them"
            )
        return drawn

    def _languages(self, service: Row, found: Sequence[Row]) -> list[str] | None:
        languages: list[str] = []
        read: list[Row] = []
        for row in found:
            tags, unknown = code_tags(row["code"]), list[str]()
            if not tags:
                tags, unknown = language_tags(row["name"])
            if unknown or not tags:
                text = unknown[0] if unknown else row["name"] or row["code"]
                self._rows.leave_out(
                    row, f"{shown(text)} names no language that is known; write its BCP 47 code"
                )
            elif len(languages) > _MOST_LANGUAGES - len(tags):
                self._rows.leave_out(row, _NO_ROOM)
            else:
                languages += [tag for tag in tags if tag not in languages]
                read.append(row)
        return (languages or None) if self._is_whole(service, found, read, "languages") else None

    def _hours(self, service: Row, found: Sequence[Row]) -> tuple[list[OpeningHours] | None, list[Schedule]]:
        """The hours of a plain week, and those that are none."""
        week: list[Span] = []
        others: list[Schedule] = []
        telling: list[Row] = []
        read: list[tuple[Row, str | None]] = []
        clock = frozenset(offset.minutes for offset in self._offsets)
        for row in found:
            try:
                told = hours_of(row, self._assumptions.today, clock)
                said = another_clock(row, clock)
            except NotOpen as why:
                self._rows.leave_out(row, str(why))
                continue
            except Unusable as why:
                self._rows.leave_out(row, str(why))
                telling.append(row)
                continue
            telling.append(row)
            if isinstance(told, list):
                week += told
            elif told not in others:
                if len(others) >= _MOST_SCHEDULES:
                    self._rows.leave_out(row, _NO_ROOM)
                    continue
                others.append(told)
            read.append((row, said))
        hours = opening_hours(week)
        if len(hours) > _MOST_HOURS:
            last = read.pop()[0]
            self._rows.leave_out(last, f"the service has more than {_MOST_HOURS} different hours")
        if not self._is_whole(service, telling, [row for row, _ in read], "opening hours"):
            return None, []
        for row, said in read:
            if said is not None:
                self._rows.note(row, said)
        return hours or None, others

    def _places(self, found: Sequence[Row]) -> list[Place]:
        places: list[Place] = []
        for row in found:
            if not row["latitude"] and not row["longitude"]:
                continue
            try:
                place = Place(
                    latitude=round(number(row["latitude"], -90, 90) * MICRO),
                    longitude=round(number(row["longitude"], -180, 180) * MICRO),
                )
            except Unusable as why:
                self._rows.note(row, f"latitude, longitude: {why}; where it is, is taken as not stated")
                continue
            if place not in places and len(places) < _MOST_PLACES_OF:
                places.append(place)
        return places

    @staticmethod
    def _is_remote(found: Sequence[Row]) -> bool:
        return any(row["location_type"].casefold() == "virtual" for row in found)

    def _costs(self, found: Sequence[Row]) -> list[Cost]:
        costs: list[Cost] = []
        for row in found:
            today = self._assumptions.today
            if today is not None and row["valid_to"] and row["valid_to"][:10] < today.isoformat():
                self._rows.leave_out(row, f"the price was valid to {shown(row['valid_to'])}")
                continue
            if today is not None and row["valid_from"][:10] > today.isoformat():
                self._rows.leave_out(row, f"the price is valid from {shown(row['valid_from'])} only")
                continue
            try:
                told = cost(row)
            except Unusable as why:
                self._rows.leave_out(row, str(why))
                continue
            if told in costs:
                self._rows.use(row)
            elif self._room(row, costs, _MOST_COSTS):
                costs.append(told)
        return costs

    def _documents(self, found: Sequence[Row]) -> list[Document]:
        needed: list[Document] = []
        for row in found:
            if not row["document"]:
                self._rows.leave_out(row, "the row names no document")
                continue
            told, said = documents(row["document"])
            self._rows.use(row)
            needed += [document for document in told if document not in needed]
            if said is not None:
                self._rows.note(row, said)
        return needed

    def _program(self, service: Row) -> str | None:
        program = self._links.programs.get(service["program_id"])
        if program is None:
            if service["program_id"]:
                self._rows.note(
                    service, f"program_id {shown(service['program_id'])} is not among the programs"
                )
            return None
        self._rows.use(program)
        return local_id(program["id"])

    def _eligibility(self, id_: str, service: Row) -> Eligibility | None:
        """Who is eligible, at the three levels the directory says it at. What a narrower level says counts for more than what a wider one
        does: where it can't be told, neither can be whether the wider one counts."""
        levels: list[Expression | None] = []
        for level in (id_, service["program_id"], service["organization_id"]):
            if level in self._eligible_in_part:
                self._rows.note(service, _NOT_STATED.format(what="people it is for"))
                break
            levels.append(self._eligible.get(level))
        levels += [None] * (3 - len(levels))
        if levels == [None, None, None]:
            return None
        return Eligibility(service=levels[0], program=levels[1], organisation=levels[2])

    def _who(self, described: str, found: Sequence[Row]) -> Expression | None:
        """Attributes that say who is eligible, as one criterion: any of their traits is enough. One that can't be used may be what makes
        a person eligible, so the others alone are no criterion."""
        traits: list[str] = []
        read: list[tuple[Row, list[Row]]] = []
        for row, need, used in self._named(found):
            trait = trait_of(need.code) if need.vocabulary == OPEN_ELIGIBILITY else None
            if trait is None:
                self._rows.leave_out(
                    row, f"the term {shown(need.code)} says of nobody what the bus places people by"
                )
                continue
            read.append((row, used))
            if trait not in traits:
                traits.append(trait)
        whole = len(read) == len(found)
        self._used_if(whole, (one for row, used in read for one in (row, *used)), "people it is for")
        if not whole:
            self._eligible_in_part.add(described)
            return None
        return holds(Criterion(kind="trait", one_of=traits)) if traits else None

    def _terms(self, found: Sequence[Row]) -> list[Need]:
        needs: list[Need] = []
        for row, need, used in self._named(found):
            for one in used:
                self._rows.use(one)
            if need in needs:
                self._rows.use(row)
            elif self._room(row, needs, _MOST_TERMS):
                needs.append(need)
        if not needs and self._assumptions.terms:
            self._assumed[ASSUMED_TERMS] += 1
            return list(self._assumptions.terms)
        return needs

    def _named(self, attributes: Sequence[Row]) -> Iterator[tuple[Row, Need, list[Row]]]:
        """The attributes that name a term, each with the term and the rows it stands in; the others are left out."""
        for row in attributes:
            try:
                need, used = self._need(row)
            except Unusable as why:
                self._rows.leave_out(row, str(why))
            else:
                yield row, need, used

    def _need(self, attribute: Row) -> tuple[Need, list[Row]]:
        """The term an attribute names, and the rows it stands in."""
        term = self._links.terms.get(attribute["taxonomy_term_id"])
        if term is None:
            raise Unusable(
                f"taxonomy_term_id {shown(attribute['taxonomy_term_id'])} is not among the taxonomy terms"
            )
        taxonomy = self._links.taxonomies.get(term["taxonomy_id"])
        return self._need_of(term), [term] if taxonomy is None else [term, taxonomy]

    def _need_of(self, term: Row) -> Need:
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
            return Need(vocabulary=OPEN_ELIGIBILITY, code=known)
        if is_code(code):
            return Need(vocabulary=name_code(vocabulary or UNNAMED), code=code)
        raise Unusable(f"the term's code {shown(code)} is no code: letters, digits and . _ : / - only")

    def _taxonomies(self, services: Iterable[ServiceDefinition]) -> list[Taxonomy]:
        """The directory's own vocabularies, as far as its services are coded by them: those terms and all that is above them. One without
        a hierarchy says no more than its codes do."""
        used = {(term.vocabulary, term.code) for service in services for term in service.terms}
        found: dict[str, dict[str, TaxonomyTerm]] = {}
        for row in self._links.terms.values():
            below = self._coded(row)
            if below is None or below not in used or below[0] == OPEN_ELIGIBILITY:
                continue
            self._climb(row, below, found.setdefault(below[0], {}))
        taxonomies: list[Taxonomy] = []
        for vocabulary, terms_of in sorted(found.items()):
            if not any(term.parent for term in terms_of.values()):
                continue
            try:
                taxonomies.append(
                    Taxonomy(taxonomy=vocabulary, terms=[terms_of[code] for code in sorted(terms_of)])
                )
            except ValidationError as error:
                self._rows.about(
                    next(iter(self._links.terms.values())).file,
                    f"the hierarchy of {shown(vocabulary)} can't be used: {error.errors()[0]['msg']}",
                )
        return taxonomies

    def _climb(self, row: Row, term: tuple[str, str], found: dict[str, TaxonomyTerm]) -> None:
        """Take a term and those above it."""
        vocabulary, code = term
        while code not in found:
            above = self._links.terms.get(row["parent_id"])
            parent = None if above is None else self._coded(above)
            if row["parent_id"] and (parent is None or parent[0] != vocabulary):
                self._rows.note(row, f"parent_id {shown(row['parent_id'])} is no term of its taxonomy")
                parent = None
            found[code] = TaxonomyTerm(
                code=code, parent=parent[1] if parent else None, name=self._name(row) or None
            )
            self._rows.use(row)
            if above is None or parent is None:
                return
            row, code = above, parent[1]

    def _coded(self, term: Row) -> tuple[str, str] | None:
        """Vocabulary and code of a term of the directory; None for one that has none the bus can carry."""
        try:
            need = self._need_of(term)
        except Unusable:
            return None
        return need.vocabulary, need.code

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
        counted_at = self._counted_at(row)
        kind = self._links.units.get(row["unit_id"])
        if kind is None or not kind["name"]:
            self._rows.note(
                row,
                f"unit_id {shown(row['unit_id'])} is not among the units with a name; it is called {PLACE!r}",
            )
            name = PLACE
        else:
            self._rows.use(kind)
            name = self._name(kind)
        return Unit(unit=id_, name=name, total=total, available=min(available, total), counted_at=counted_at)

    def _counted_at(self, row: Row) -> int:
        """When the places were counted. The bus believes a count by its age, so one that tells none must not pass for today's."""
        try:
            if not row["updated"]:
                raise Unusable("the row does not say it")
            return moment(row["updated"])
        except Unusable as why:
            self._rows.note(row, f"when the places were counted (updated): {why}; the count is trusted least")
            return LONG_AGO

    def _assumed_places(self, service: str) -> Unit:
        self._assumed[ASSUMED_PLACES] += 1
        id_ = unit_id(self._assumptions.region, local_id(service))
        if id_ in self._units:
            id_ = unit_id(self._assumptions.region, digest(f"places of {service}"))
        self._units.add(id_)
        places = self._assumptions.places_per_service
        return Unit(unit=id_, name=PLACE, total=places, available=places, counted_at=LONG_AGO)

    def _room(self, row: Row, taken: Sized, most: int) -> bool:
        """Whether a service can have one more of these. The row is used, or left out."""
        if len(taken) >= most:
            self._rows.leave_out(row, _NO_ROOM)
            return False
        self._rows.use(row)
        return True
