"""Which row belongs to which: rows by their ids, and the rows that say something of a service, directly or by
its places.

A row that names in vain what it belongs to is left out here, with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from referral_bus.directory.model import BUS_SCHEME
from referral_bus.directory.rows import Row, Rows
from referral_bus.directory.values import Unusable, is_organisation_id, shown


class Links:
    """The rows of a directory by what they refer to."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.organisations = self._by_id("organizations", "name")
        self.services = self._by_id("services", "name", "organization_id")
        self.locations = self._by_id("locations")
        self.units = self._by_id("units")
        self.terms = self._by_id("taxonomy_terms")
        self.taxonomies = self._by_id("taxonomies")
        self.programs = self._by_id("programs", "name")
        self.ids_on_the_bus = self._ids_on_the_bus()
        """The ids on the bus that organisations of the directory were given, by their ids in the
        directory."""
        self.places_of: dict[str, list[Row]] = defaultdict(list)
        """Named locations by the id of their organisation."""
        for place in self.locations.values():
            if place["name"]:
                self.places_of[place["organization_id"]].append(place)
        self._service_at: dict[str, str] = {}
        self._services_at_location: dict[str, dict[str, None]] = defaultdict(dict)
        self.locations_of: dict[str, list[Row]] = defaultdict(list)
        """The locations of a service."""
        self._link_services_with_locations()

    def areas(self) -> dict[str, list[Row]]:
        """The service areas by service."""
        return self._belonging("service_areas", self._by_service_or_place)

    def capacities(self) -> dict[str, list[Row]]:
        """The service capacities by service."""
        return self.of_service("service_capacities")

    def of_service(self, table: str) -> dict[str, list[Row]]:
        """The rows of a table that name a service, by service."""
        return self._belonging(table, lambda row: [self._known(row["service_id"])])

    def attributes(self) -> dict[str, list[Row]]:
        """The attributes by the service they describe; those that say who is eligible are not among them."""
        return self._belonging("attributes", self._by_description)

    def eligibility(self) -> dict[str, list[Row]]:
        """The attributes that say who is eligible, by the service, program or organisation they describe."""
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows.readable("attributes"):
            if says_who_is_eligible(row) and self._is_described(row["link_id"]):
                found[row["link_id"]].append(row)
        return found

    def nearest(self, table: str) -> dict[str, list[Row]]:
        """Of the rows of a table, by service, those about the service itself; where there are none, those of
        its places."""
        nearest: dict[str, list[Row]] = {}
        farther: list[Row] = []
        for service, found in self._belonging(table, self._by_service_or_place).items():
            own = [row for row in found if row["service_id"]]
            own = own or [row for row in found if row["service_at_location_id"]] or found
            nearest[service] = own
            farther += [row for row in found if row not in own]
        taken = {row for found in nearest.values() for row in found}
        for row in farther:
            if row not in taken:
                self._rows.leave_out(row, "the service says it itself; what its location says is passed over")
        return nearest

    def _by_id(self, table: str, *required: str) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for row in self._rows.readable(table):
            lacking = [column for column in ("id", *required) if not row[column]]
            first = found.get(row["id"])
            if lacking:
                self._rows.leave_out(row, f"the row has no {' and no '.join(lacking)}")
            elif first is not None:
                place = f"{first.file}, row {first.at}"
                self._rows.leave_out(
                    row, f"id {shown(row['id'])} stands already in {place}; the first is used"
                )
            else:
                found[row["id"]] = row
        return found

    def _ids_on_the_bus(self) -> dict[str, str]:
        found: dict[str, str] = {}
        given: set[str] = set()
        for row in self._rows.readable("organization_identifiers"):
            owner, identifier = row["organization_id"], row["identifier"]
            if row["identifier_scheme"] != BUS_SCHEME:
                reason = f"the bus uses identifiers of the scheme {BUS_SCHEME} only"
            elif owner not in self.organisations:
                reason = f"organization_id {shown(owner)} is not among the organizations"
            elif not is_organisation_id(identifier):
                reason = (
                    f"{shown(identifier)} is no organisation id: lower case, digits and dashes, 48 at most"
                )
            elif identifier in given or owner in found:
                reason = (
                    "a row before gave the organisation its id on the bus, or the id away; the first is used"
                )
            else:
                found[owner] = identifier
                given.add(identifier)
                self._rows.use(row)
                continue
            self._rows.leave_out(row, reason)
        return found

    def _link_services_with_locations(self) -> None:
        for row in self._rows.readable("service_at_locations"):
            service, location = row["service_id"], row["location_id"]
            if service not in self.services:
                self._rows.leave_out(
                    row, f"service_id {shown(service)} is not among the services that can be used"
                )
                continue
            if row["id"] in self._service_at:
                self._rows.leave_out(row, f"id {shown(row['id'])} stands in a row before; the first is used")
                continue
            self._rows.use(row)
            if row["id"]:
                self._service_at[row["id"]] = service
            if location:
                self._services_at_location[location][service] = None
            if location in self.locations:
                self._rows.use(self.locations[location])
                if self.locations[location] not in self.locations_of[service]:
                    self.locations_of[service].append(self.locations[location])
            elif location:
                self._rows.note(row, f"location_id {shown(location)} is not among the locations")

    def _belonging(self, table: str, services_of: Callable[[Row], list[str]]) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows.readable(table):
            try:
                services = services_of(row)
            except Unusable as why:
                self._rows.leave_out(row, str(why))
                continue
            for service in services:
                found[service].append(row)
        return found

    def _known(self, service: str) -> str:
        if service not in self.services:
            raise Unusable(f"service_id {shown(service)} is not among the services that can be used")
        return service

    def _by_service_or_place(self, row: Row) -> list[str]:
        """The service a row names, or else those at the place it names."""
        if row["service_id"]:
            return [self._known(row["service_id"])]
        if link := row["service_at_location_id"]:
            if link not in self._service_at:
                raise Unusable(f"service_at_location_id {shown(link)} is not among those that can be used")
            return [self._service_at[link]]
        if location := row["location_id"]:
            if location not in self._services_at_location:
                raise Unusable(f"the directory does not say which service is at location {shown(location)}")
            return list(self._services_at_location[location])
        if row["phone_id"]:
            raise Unusable("it is about a telephone line, and the bus decides nothing by telephones")
        raise Unusable("the row names no service (service_id)")

    def _is_described(self, id_: str) -> bool:
        return id_ in self.services or id_ in self.programs or id_ in self.organisations

    def _by_description(self, row: Row) -> list[str]:
        described, entity = row["link_id"], row["link_entity"]
        if says_who_is_eligible(row) and self._is_described(described):
            return []
        if described in self.services:
            return [described]
        if entity in ("organization", "location", "service_at_location"):
            raise Unusable(f"it describes a {entity}; the bus uses what describes services")
        raise Unusable(f"link_id {shown(described)} is not among the services that can be used")


def says_who_is_eligible(attribute: Row) -> bool:
    """Whether an attribute's term names who a service is for, and not what it helps with."""
    return "eligib" in attribute["link_type"].casefold()
