"""Directories that others wrote: Illinois legal aid as it is, and the examples of HSDS 3.1."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from referral_bus.directory.model import Assumptions, Import
from referral_bus.directory.reader import read

NORTH = Assumptions(region="north")


@pytest.fixture
def illinois(reference: Path) -> Path:
    return reference / "hsds-directories/spec/fixtures/custom/ilao/output"


@pytest.fixture
def imported(illinois: Path) -> Import:
    return read(illinois, NORTH)


def test_all_of_illinois_that_can_be_used_is_used(imported: Import) -> None:
    assert len(imported.services) == 429
    assert len(imported.organisations) == 158
    assert imported.assumed == {"places": 429}
    counts = {file.file: (file.rows, file.used, file.left_out) for file in imported.files}
    assert counts == {
        "locations.csv": (520, 69, 451),
        "organizations.csv": (33, 33, 0),
        "phones.csv": (982, 0, 982),
        "postal_addresses.csv": (33, 0, 33),
        "regular_schedules.csv": (2492, 0, 2492),
        "services.csv": (430, 429, 1),
    }


def test_each_row_of_illinois_is_used_or_reported(illinois: Path, imported: Import) -> None:
    left_out: Counter[str] = Counter()
    for problem in imported.problems:
        if not problem.used:
            first, _, last = problem.row.partition("-")
            left_out[problem.file] += int(last or first) - int(first) + 1
    for file in imported.files:
        with (illinois / file.file).open(encoding="utf-8", newline="") as stream:
            rows = sum(1 for _ in csv.DictReader(stream))
        assert (file.file, file.rows) == (file.file, rows)
        assert (file.file, file.used + left_out[file.file]) == (file.file, rows)


def test_no_row_of_illinois_is_left_out_twice(imported: Import) -> None:
    rows = Counter((problem.file, problem.row) for problem in imported.problems if not problem.used)
    assert [row for row, times in rows.items() if times > 1] == []


def test_the_one_service_of_illinois_that_can_not_be_used_is_named(illinois: Path, imported: Import) -> None:
    (problem,) = [one for one in imported.problems if one.file == "services.csv" and not one.used]
    with (illinois / "services.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert problem.reason == "the row has no id and no name"
    assert rows[int(problem.row) - 2]["id"] == ""


def test_services_of_illinois_point_to_organisations_of_the_import(imported: Import) -> None:
    organisations = {one.organisation for one in imported.organisations}
    assert {service.organisation for service in imported.services} == organisations & {
        service.organisation for service in imported.services
    }
    assert len({service.service for service in imported.services}) == 429


@pytest.mark.parametrize(
    "name",
    [
        "service_full.json",
        "service_list.json",
        "organization_full.json",
        "service_at_location_full.json",
        "tabular.json",
        "csv",
        ".",
    ],
)
def test_the_examples_of_hsds_import(reference: Path, name: str) -> None:
    found = read(reference / "hsds-3.1/examples" / name, NORTH)
    (service,) = found.services
    assert service.service == "sv-north-ac148810-d857-441c-9679-408f346de14b"
    assert service.name == "Community Counselling"
    assert service.organisation in {one.organisation for one in found.organisations}
    assert all(file.rows == file.used + file.left_out for file in found.files)


def test_the_full_example_gives_ages_languages_and_places(reference: Path) -> None:
    (service,) = read(reference / "hsds-3.1/examples/service_full.json", NORTH).services
    assert service.ages is not None
    assert (service.ages.minimum, service.ages.maximum) == (12, 100)
    assert service.languages == ["ur"]
    assert [(unit.name, unit.total, unit.available) for unit in service.units] == [("Kilogram", 10, 10)]
    assert [(need.vocabulary, need.code) for need in service.terms] == [("taxonomy", "code")]


@pytest.mark.parametrize(
    "name",
    [
        "organization_list.json",
        "location.json",
        "taxonomy.json",
        "taxonomy_list.json",
        "taxonomy_term.json",
        "base.json",
    ],
)
def test_examples_without_a_service_are_read_and_accounted_for(reference: Path, name: str) -> None:
    found = read(reference / "hsds-3.1/examples" / name, NORTH)
    assert found.services == []
    assert all(file.rows == file.used + file.left_out for file in found.files)
    assert found.organisations or found.problems
