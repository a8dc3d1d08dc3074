"""HSDS as CSV tables: 3.x, and the 1.x and 2.x that most directories are, under the names of 3.1."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from referral_bus.directory.rows import Row, Rows, Values, clean

MAXIMUM_ROWS: Final = 1_000_000
"""Rows read of one file; those beyond are reported."""

_TABLES: Final = {
    "organization": "organizations",
    "service": "services",
    "service_area": "service_areas",
    "schedule": "schedules",
    "regular_schedule": "schedules",
    "language": "languages",
    "unit": "units",
    "service_capacity": "service_capacities",
    "service_capacitie": "service_capacities",
    "attribute": "attributes",
    "service_taxonomy": "attributes",
    "services_taxonomy": "attributes",
    "service_taxonomie": "attributes",
    "taxonomy_term": "taxonomy_terms",
    "taxonomy": "taxonomies",
    "taxonomie": "taxonomies",
    "location": "locations",
    "service_at_location": "service_at_locations",
    "services_at_location": "service_at_locations",
    "organization_identifier": "organization_identifiers",
    "cost_option": "cost_options",
    "required_document": "required_documents",
    "program": "programs",
}
_OLD_COLUMNS: Final = {
    "service_areas": {"service_area": "name"},
    "languages": {"language": "name"},
    "schedules": {"weekday": "byday"},
    "attributes": {"service_id": "link_id", "taxonomy_id": "taxonomy_term_id"},
    "taxonomy_terms": {"vocabulary": "taxonomy", "term": "name"},
}


def table_of(name: str) -> str | None:
    """The table that a file or resource of this name holds; ``None`` for one the bus decides nothing by."""
    plain = name.lower().strip().replace("-", "_")
    return _TABLES.get(plain.removesuffix("s")) or _TABLES.get(plain)


def read_table(rows: Rows, file: str, name: str, text: str) -> None:
    """Read a CSV file into ``rows``. Never raises for what the text holds: what can't be read is reported."""
    rows.open(file)
    records = _records(rows, file, text)
    header = next(records, None)
    if header is None:
        rows.about(file, "the file is empty: expected a header row with the names of the columns")
        return
    columns = [cell.strip().lower() for cell in header[1]]
    doubled = sorted({column for column in columns if column and columns.count(column) > 1})
    if doubled:
        reason = f"the header has column {doubled[0][:60]!r} twice, so cells can't be told apart"
        _unread(rows, file, records, reason)
        return
    table = table_of(name)
    if table is None:
        _unread(rows, file, records, f"the bus decides nothing by the table {name[:60]!r}")
        return
    if table == "taxonomies" and {"vocabulary", "parent_id", "parent_name"}.intersection(columns):
        table = "taxonomy_terms"
    renamed = [_OLD_COLUMNS.get(table, {}).get(column, column) for column in columns]
    for at, cells in records:
        row = Row(file, str(at), _values(renamed, cells))
        rows.add(table, row)
        mismatch = f"the row has {len(cells)} cells where the header has {len(columns)}"
        if len(cells) > len(columns):
            rows.leave_out(row, f"{mismatch}: is a comma unquoted?")
        elif len(cells) < len(columns):
            rows.note(row, f"{mismatch}; the missing ones are taken as empty")


def _records(rows: Rows, file: str, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    at = 0
    while True:
        at += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rows.unread(file, str(at), 1, f"the row is not CSV ({error}); is a quote left open?")
            continue
        if at > MAXIMUM_ROWS:
            rows.unread(
                file, f"{at}-", 1, f"a file is read up to row {MAXIMUM_ROWS}, and no further; split it"
            )
            return
        if not cells:
            continue
        yield at, cells


def _unread(rows: Rows, file: str, records: Iterator[tuple[int, list[str]]], reason: str) -> None:
    numbers = [at for at, _ in records]
    if numbers:
        at = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
        rows.unread(file, at, len(numbers), reason)


def _values(columns: list[str], cells: list[str]) -> Values:
    cleaned = zip(columns, map(clean, cells), strict=False)
    return {column: cell for column, cell in cleaned if column and cell}
