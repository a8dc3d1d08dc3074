"""Whatever a file holds, the importer answers with a report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.directory.build import build
from referral_bus.directory.json_documents import read_documents
from referral_bus.directory.model import Assumptions, Import
from referral_bus.directory.reader import read
from referral_bus.directory.rows import Rows
from referral_bus.directory.tables import read_table

NORTH = Assumptions(region="north")
TABLES = [
    "organizations",
    "services",
    "service_areas",
    "schedules",
    "regular_schedules",
    "languages",
    "units",
    "service_capacity",
    "attributes",
    "services_taxonomy",
    "taxonomy_terms",
    "taxonomy",
    "taxonomies",
    "locations",
    "service_at_locations",
    "organization_identifiers",
    "phones",
]
COLUMNS = [
    "id",
    "name",
    "organization_id",
    "service_id",
    "location_id",
    "service_at_location_id",
    "link_id",
    "link_entity",
    "taxonomy_term_id",
    "taxonomy_id",
    "code",
    "taxonomy",
    "unit_id",
    "available",
    "maximum",
    "minimum_age",
    "maximum_age",
    "status",
    "freq",
    "byday",
    "weekday",
    "opens_at",
    "closes_at",
    "valid_to",
    "interval",
    "language",
    "identifier",
    "identifier_scheme",
]
VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "a",
            "b",
            "1",
            "-1",
            "1e999",
            "nan",
            "MO,XX",
            "WEEKLY",
            "25:99",
            "09:00",
            "active",
            "es",
            "a b",
            "\ud800",
        ]
    ),
    st.text(max_size=12),
)
FIELDS = [
    *COLUMNS,
    "organization",
    "services",
    "schedules",
    "service_areas",
    "languages",
    "capacities",
    "unit",
    "attributes",
    "taxonomy_term",
    "taxonomy_detail",
    "service_at_locations",
    "location",
    "service",
    "contents",
]


@st.composite
def directories(draw: st.DrawFn) -> dict[str, str]:
    files = {}
    for name in draw(st.lists(st.sampled_from(TABLES), max_size=5, unique=True)):
        columns = draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=8))
        rows = draw(st.lists(st.lists(VALUES, max_size=len(columns) + 1), max_size=6))
        stream = io.StringIO()
        csv.writer(stream).writerows([columns, *rows])
        files[name] = stream.getvalue()
    return files


def documents() -> st.SearchStrategy[object]:
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), VALUES)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6)
        ),
        max_leaves=25,
    )


def check(found: Import, names: Iterable[str]) -> None:
    assert [file.file for file in found.files] == list(names)
    assert all(file.rows == file.used + file.left_out for file in found.files)
    for file in found.files:
        reported = {
            problem.row for problem in found.problems if problem.file == file.file and not problem.used
        }
        assert bool(file.left_out) <= bool(reported)
    organisations = {one.organisation for one in found.organisations}
    assert len(organisations) == len(found.organisations)
    assert {service.organisation for service in found.services} <= organisations
    units = [unit.unit for service in found.services for unit in service.units]
    assert len(units) == len(set(units))
    services = [service.service for service in found.services]
    assert len(services) == len(set(services))


@given(files=directories())
@settings(max_examples=200)
def test_garbage_tables_never_crash_the_importer_and_each_row_is_accounted_for(files: dict[str, str]) -> None:
    rows = Rows()
    for name, text in files.items():
        read_table(rows, f"{name}.csv", name, text)
    check(build(rows, NORTH), [f"{name}.csv" for name in files])


@given(document=documents())
@settings(max_examples=200)
def test_garbage_documents_never_crash_the_importer_and_each_row_is_accounted_for(document: object) -> None:
    rows = Rows()
    read_documents(rows, "d", document)
    check(build(rows, NORTH), ["d"])


@given(data=st.binary(max_size=300), name=st.sampled_from(["services.csv", "services.json", "services.txt"]))
@settings(max_examples=200)
def test_garbage_bytes_never_crash_the_importer(data: bytes, name: str) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        check(read(file, NORTH), [name])


@given(document=documents())
@settings(max_examples=100)
def test_a_garbage_data_package_leaves_the_tables_to_their_names(document: object) -> None:
    with TemporaryDirectory() as folder:
        (Path(folder) / "datapackage.json").write_text(json.dumps(document))
        (Path(folder) / "services.csv").write_text("id,organization_id,name\n7,o,Advice\n")
        assert len(read(Path(folder), NORTH).services) == 1
