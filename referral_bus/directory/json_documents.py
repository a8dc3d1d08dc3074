"""HSDS 3.x as JSON: documents of one entity, arrays of them, pages of the HSDS API, and tables in one object.

Nested documents become rows of the tables they would stand in, so that JSON and CSV are understood by the
same code.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from referral_bus.directory.rows import Row, Rows, Values, clean
from referral_bus.directory.tables import table_of

MAXIMUM_DEPTH: Final = 12
"""How deep documents may be nested within each other; HSDS needs six."""


@dataclass(frozen=True, slots=True)
class _Nested:
    table: str
    child_names_parent: str = ""
    """The child's column that holds the parent's id."""
    parent_names_child: str = ""
    """The parent's column that holds the child's id."""


_NESTED: Final[dict[str, dict[str, _Nested]]] = {
    "services": {
        "organization": _Nested("organizations", parent_names_child="organization_id"),
        "schedules": _Nested("schedules", "service_id"),
        "service_areas": _Nested("service_areas", "service_id"),
        "languages": _Nested("languages", "service_id"),
        "capacities": _Nested("service_capacities", "service_id"),
        "attributes": _Nested("attributes", "link_id"),
        "cost_options": _Nested("cost_options", "service_id"),
        "required_documents": _Nested("required_documents", "service_id"),
        "program": _Nested("programs", parent_names_child="program_id"),
        "service_at_locations": _Nested("service_at_locations", "service_id"),
    },
    "organizations": {
        "services": _Nested("services", "organization_id"),
        "locations": _Nested("locations", "organization_id"),
        "programs": _Nested("programs", "organization_id"),
        "attributes": _Nested("attributes", "link_id"),
        "organization_identifiers": _Nested("organization_identifiers", "organization_id"),
    },
    "service_at_locations": {
        "service": _Nested("services", parent_names_child="service_id"),
        "location": _Nested("locations", parent_names_child="location_id"),
        "schedules": _Nested("schedules", "service_at_location_id"),
        "service_areas": _Nested("service_areas", "service_at_location_id"),
    },
    "locations": {
        "schedules": _Nested("schedules", "location_id"),
        "languages": _Nested("languages", "location_id"),
    },
    "programs": {"attributes": _Nested("attributes", "link_id")},
    "service_capacities": {"unit": _Nested("units", parent_names_child="unit_id")},
    "attributes": {"taxonomy_term": _Nested("taxonomy_terms", parent_names_child="taxonomy_term_id")},
    "taxonomy_terms": {"taxonomy_detail": _Nested("taxonomies", parent_names_child="taxonomy_id")},
}
_ONLY_ORGANIZATIONS_HAVE: Final = frozenset(
    {"services", "website", "legal_status", "organization_identifiers", "year_incorporated", "tax_status"}
)
_NOT_HSDS: Final = (
    "the JSON is not HSDS: expected a service, an organization, an array of them, or a page of the HSDS API"
)


def read_json(rows: Rows, file: str, text: str) -> None:
    """Read a JSON file into ``rows``. Never raises for what the text holds: what can't be read is said."""
    rows.open(file)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        rows.unread(file, f"{error.lineno}:{error.colno}", 1, f"the file is not JSON: {error.msg}")
        return
    except (RecursionError, ValueError):
        rows.unread(file, "", 1, "the JSON is nested too deep or holds a number too long to be read")
        return
    read_documents(rows, file, document)


def read_documents(rows: Rows, file: str, document: object) -> None:
    """Take parsed JSON into ``rows``."""
    rows.open(file)
    reader = _Reader(rows, file)
    if isinstance(document, list):
        reader.take_all(document, "")
    elif isinstance(document, dict) and isinstance(document.get("contents"), list):
        reader.take_all(document["contents"], "/contents")
    elif isinstance(document, dict) and document and all(isinstance(one, list) for one in document.values()):
        for name, found in document.items():
            table = table_of(str(name).removesuffix(".csv"))
            if table is not None:
                reader.take_all(found, f"/{name}", table)
            elif found:
                rows.unread(
                    file, f"/{name}", len(found), f"the bus decides nothing by the table {name[:60]!r}"
                )
    else:
        reader.take_one(document, "/")
    reader.report_unread()


def _entity(document: dict[str, Any]) -> str | None:
    """The table of a top-level document, by the fields only it has."""
    has = document.keys()
    if "id" not in has:
        return None
    if "location" in has and "service" in has:
        return "service_at_locations"
    if "location_type" in has or "latitude" in has:
        return "locations"
    if "taxonomy_detail" in has or "term_uri" in has or "taxonomy" in has:
        return "taxonomy_terms"
    if "status" in has or "organization" in has or "service_at_locations" in has:
        return "services"
    if has & _ONLY_ORGANIZATIONS_HAVE:
        return "organizations"
    if "version" in has and "uri" in has:
        return "taxonomies"
    return "organizations" if "name" in has and "description" in has and "uri" not in has else None


class _Reader:
    def __init__(self, rows: Rows, file: str) -> None:
        self._rows = rows
        self._file = file
        self._seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
        self._unread: Counter[str] = Counter()

    def take_all(self, documents: list[object], at: str, table: str | None = None) -> None:
        """Documents one after the other; of which entity each is, is seen from its fields where ``table``
        does not say it."""
        for number, document in enumerate(documents):
            self.take_one(document, f"{at}/{number}", table)

    def take_one(self, document: object, at: str, table: str | None = None) -> None:
        """One document that stands by itself."""
        if not isinstance(document, dict):
            self._rows.unread(self._file, at, 1, "expected an object here")
        elif (entity := table or _entity(document)) is None:
            self._rows.unread(self._file, at, 1, _NOT_HSDS)
        else:
            self._take(entity, document, at, {}, 0)

    def report_unread(self) -> None:
        """Say of which kinds nested documents were passed over, and how many."""
        for name, count in self._unread.items():
            self._rows.unread(
                self._file, f"*/{name}", count, f"the bus decides nothing by {name!r} within a document"
            )

    def _take(self, table: str, document: dict[str, Any], at: str, link: Values, depth: int) -> None:
        """Add a document and those within it. ``link`` holds the columns that tie it to its parent."""
        nested = _NESTED.get(table, {})
        values: Values = {}
        for name, value in document.items():
            if name in nested:
                continue
            if isinstance(value, dict | list):
                self._unread[name[:60]] += len(value) if isinstance(value, list) else 1
            elif text := _text(value):
                values[name] = text
        own_id = values.get("id", "")
        values.update(link)
        below: list[tuple[str, dict[str, Any], str, Values]] = []
        for name, kind in nested.items():
            for place, child in self._children(document.get(name), f"{at.rstrip('/')}/{name}", depth):
                if kind.parent_names_child and (child_id := _text(child.get("id"))):
                    values[kind.parent_names_child] = child_id
                child_link = {kind.child_names_parent: own_id} if kind.child_names_parent else {}
                below.append((kind.table, child, place, child_link))
        self._add(table, Row(self._file, at, {name: value for name, value in values.items() if value}))
        for child_table, child, place, child_link in below:
            self._take(child_table, child, place, child_link, depth + 1)

    def _children(self, value: object, at: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
        if value is None:
            return
        found = (
            [(f"{at}/{number}", one) for number, one in enumerate(value)]
            if isinstance(value, list)
            else [(at, value)]
        )
        for place, child in found:
            if not isinstance(child, dict):
                self._rows.unread(self._file, place, 1, "expected an object here")
            elif depth >= MAXIMUM_DEPTH:
                reason = f"documents are read {MAXIMUM_DEPTH} deep within each other, and no further"
                self._rows.unread(self._file, place, 1, reason)
            else:
                yield place, child

    def _add(self, table: str, row: Row) -> None:
        """A document told twice in the same words, as an organisation is in its services, is one row."""
        key = (table, frozenset(row.values.items()))
        if "id" in row.values and key in self._seen:
            return
        self._seen.add(key)
        self._rows.add(table, row)


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, dict | list):
        return ""
    return clean(str(value))
