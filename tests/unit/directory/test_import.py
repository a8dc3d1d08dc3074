"""What the importer makes of tables and documents, written here in small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from referral_bus.contracts.facts import Need
from referral_bus.contracts.services import AgeRange, OpeningHours
from referral_bus.directory import reader, tables
from referral_bus.directory.model import Assumptions, DirectoryError, Import
from referral_bus.directory.reader import from_documents, read

NORTH = Assumptions(region="north")
ORGANIZATIONS = "id,name,description\nlegal-help,Legal Help,\n"
SERVICES = "id,organization_id,name,status\n7,legal-help,Advice,active\n"


def directory(folder: Path, **files: str | bytes) -> Import:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / f"{name}.csv").write_bytes(data)
    return read(folder, NORTH)


def reasons(found: Import, file: str) -> list[tuple[str, str, bool]]:
    return [(problem.row, problem.reason, problem.used) for problem in found.problems if problem.file == file]


def accounted(found: Import) -> bool:
    return all(file.rows == file.used + file.left_out for file in found.files)


def test_a_service_comes_with_its_organisation_and_the_assumed_places(tmp_path: Path) -> None:
    found = directory(tmp_path, organizations=ORGANIZATIONS, services=SERVICES)
    (service,) = found.services
    (organisation,) = found.organisations
    assert (service.service, service.organisation, service.name) == ("sv-north-7", "legal-help", "Advice")
    assert (organisation.organisation, organisation.name, organisation.home_region) == (
        "legal-help",
        "Legal Help",
        "north",
    )
    assert [(unit.unit, unit.total, unit.available) for unit in service.units] == [("un-north-7", 10, 10)]
    assert service.ages is service.areas is service.languages is service.hours is None
    assert found.assumed == {"places": 1}
    assert found.problems == []


def test_places_and_terms_that_are_not_stated_come_from_the_assumptions(tmp_path: Path) -> None:
    directory(tmp_path, organizations=ORGANIZATIONS, services=SERVICES)
    legal = Need(code="1375")
    found = read(tmp_path, Assumptions(region="south", places_per_service=3, terms=(legal,)))
    assert found.services[0].units[0].total == 3
    assert found.services[0].terms == [legal]
    assert found.assumed == {"places": 1, "terms": 1}


def test_tables_of_version_3_give_all_that_the_bus_decides_by(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services="id,organization_id,name,status,minimum_age,maximum_age\n7,legal-help,Advice,active,12,25\n",
        service_areas="id,service_id,name\na,7,60601\nb,7,Cook County\n",
        languages="id,service_id,name,code\nl,7,Spanish,\nm,7,,vie\n",
        schedules='id,service_id,freq,byday,opens_at,closes_at\ns,7,WEEKLY,"MO,TU",09:00,17:30:00\n',
        units="id,name\nu,seat\n",
        service_capacity="id,service_id,unit_id,available,maximum,updated\nc,7,u,4,9,2026-01-31\n",
        taxonomy_terms="id,code,name,taxonomy\nt,1375,Legal Aid,Open Eligibility\nx,FT-3000,Legal,AIRS\n",
        attributes="id,link_id,taxonomy_term_id,link_entity\n1,7,t,service\n2,7,x,service\n",
    )
    (service,) = found.services
    assert service.ages == AgeRange(minimum=12, maximum=25)
    assert service.areas == ["60601", "cook-county"]
    assert service.languages == ["es", "vi"]
    assert service.hours == [OpeningHours(days=["MO", "TU"], opens=540, closes=1050)]
    assert [(u.unit, u.name, u.total, u.available) for u in service.units] == [("un-north-c", "seat", 9, 4)]
    assert service.terms == [Need(code="1375"), Need(vocabulary="AIRS", code="FT-3000")]
    assert found.problems == []
    assert found.assumed == {}
    assert accounted(found)


@pytest.mark.parametrize(
    ("updated", "counted_at"),
    [
        ("2019-01-01T00:00:00Z", 1_546_300_800_000),
        ("2019-01-01T02:00:00.25+02:00", 1_546_300_800_250),
        ("2019-01-01 00:00:00", 1_546_300_800_000),
        ("2019-01-01", 1_546_300_800_000),
        ("1954-01-01", 0),
        ("0001-01-01T00:00:00+14:00", 0),
    ],
)
def test_places_are_as_old_as_the_directory_says(tmp_path: Path, updated: str, counted_at: int) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=SERVICES,
        units="id,name\nu,seat\n",
        service_capacity=f"id,service_id,unit_id,available,maximum,updated\nc,7,u,4,9,{updated}\n",
    )
    [unit] = found.services[0].units
    assert unit.counted_at == counted_at
    assert found.problems == []


@pytest.mark.parametrize("updated", ["", "last spring", "2026-02-30"])
def test_places_counted_nobody_knows_when_are_trusted_least(tmp_path: Path, updated: str) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=SERVICES,
        units="id,name\nu,seat\n",
        service_capacity=f"id,service_id,unit_id,available,maximum,updated\nc,7,u,4,9,{updated}\n",
    )
    assert found.services[0].units[0].counted_at == 0
    [(_, reason, used)] = reasons(found, "service_capacity.csv")
    assert "updated" in reason
    assert "trusted least" in reason
    assert used


def test_places_that_are_assumed_are_trusted_least(tmp_path: Path) -> None:
    found = directory(tmp_path, organizations=ORGANIZATIONS, services=SERVICES)
    assert found.services[0].units[0].counted_at == 0


def test_tables_of_version_1_give_the_same(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=SERVICES,
        service_areas="id,service_id,service_area\na,7,Cook County\n",
        languages="id,service_id,language\nl,7,Spanish; Polish\n",
        regular_schedules=(
            "id,service_id,weekday,opens_at,closes_at\n1,7,1,09:00,17:00\n2,7,Tuesday,9 AM,5 PM\n"
        ),
        taxonomy="id,name,parent_id,vocabulary\n1375,Advocacy & Legal Aid,,openeligibility\n",
        services_taxonomy="id,service_id,taxonomy_id\n1,7,1375\n",
    )
    (service,) = found.services
    assert service.areas == ["cook-county"]
    assert service.languages == ["es", "pl"]
    assert service.hours == [OpeningHours(days=["MO", "TU"], opens=540, closes=1020)]
    assert service.terms == [Need(code="1375")]
    assert found.problems == []


def test_a_data_package_says_which_table_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "datapackage.json").write_text(
        json.dumps(
            {"resources": [{"name": "organizations", "path": "o.csv"}, {"name": "services", "path": "s.csv"}]}
        )
    )
    found = directory(tmp_path, o=ORGANIZATIONS, s=SERVICES)
    assert [service.service for service in found.services] == ["sv-north-7"]


def test_ids_the_bus_can_not_carry_become_the_same_digest_each_time(tmp_path: Path) -> None:
    organizations = "id,name\nÄrzte & Co,Clinic\n"
    services = "id,organization_id,name\n one / two ,Ärzte & Co,Advice\n"
    first = directory(tmp_path, organizations=organizations, services=services)
    second = read(tmp_path, NORTH)
    assert first.services == second.services
    assert first.services[0].service.startswith("sv-north-")
    assert first.services[0].organisation == first.organisations[0].organisation


def test_a_service_of_an_unlisted_organisation_is_used_and_reported(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        services="id,organization_id,name\n7,91,Advice\n8,92,Clinic\n",
        locations="id,organization_id,name\n1,91,Town Library\n",
    )
    assert [(one.organisation, one.name) for one in found.organisations] == [
        ("91", "Town Library"),
        ("92", "Organisation 92"),
    ]
    assert len(found.services) == 2
    assert [(row, used) for row, _, used in reasons(found, "services.csv")] == [("2", True), ("3", True)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",legal-help,Advice,active", "the row has no id"),
        ("8,legal-help,,active", "the row has no name"),
        ("8,,Advice,active", "the row has no organization_id"),
        (",,,", "the row has no id and no name and no organization_id"),
        ("7,legal-help,Other,active", "id '7' stands already in services.csv, row 2; the first is used"),
        (
            "8,legal-help,Advice,active,what",
            "the row has 5 cells where the header has 4: is a comma unquoted?",
        ),
    ],
)
def test_a_row_that_can_not_be_used_is_reported_with_its_reason(
    tmp_path: Path, row: str, reason: str
) -> None:
    found = directory(tmp_path, organizations=ORGANIZATIONS, services=f"{SERVICES}{row}\n")
    assert [service.name for service in found.services] == ["Advice"]
    assert reasons(found, "services.csv") == [("3", reason, False)]
    assert accounted(found)


def test_a_row_with_missing_cells_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services="id,organization_id,name,status\n7,legal-help,Advice\n",
    )
    assert len(found.services) == 1
    assert [(row, used) for row, _, used in reasons(found, "services.csv")] == [("2", True)]


@pytest.mark.parametrize(
    ("table", "content", "part"),
    [
        ("service_areas", "id,service_id,name\na,9,60601\n", "service_id '9' is not among the services"),
        (
            "service_areas",
            f"id,service_id,name\na,7,{'all over the place ' * 9}\n",
            "not a name of 64 characters",
        ),
        ("languages", "id,service_id,language\na,7,Klingonish\n", "'Klingonish' names no language"),
        ("languages", "id,phone_id,language\na,7,Spanish\n", "about a telephone line"),
        (
            "schedules",
            "id,service_id,freq,byday,opens_at,closes_at\na,7,YEARLY,1MO,09:00,10:00\n",
            "knows days, weeks and months",
        ),
        (
            "schedules",
            "id,service_id,freq,byday,opens_at,closes_at\na,7,WEEKLY,MO,9 o'clock,10:00\n",
            "is not a time of day",
        ),
        (
            "schedules",
            "id,service_id,freq,byday,opens_at,closes_at\na,7,WEEKLY,XX,09:00,10:00\n",
            "not a day of the week",
        ),
        (
            "schedules",
            "id,service_id,freq,byday,opens_at,closes_at\na,7,WEEKLY,MO,,\n",
            "no opening and closing time",
        ),
        (
            "schedules",
            "id,location_id,weekday,opens_at,closes_at\na,5,1,09:00,10:00\n",
            "which service is at location '5'",
        ),
        (
            "schedules",
            "id,service_id,byday,opens_at,closes_at,count\na,7,MO,09:00,10:00,3\n",
            "says count, and not from which day on",
        ),
        (
            "service_capacity",
            "id,service_id,unit_id,available\na,7,u,minus one\n",
            "available, maximum: 'minus one' is not a number",
        ),
        ("service_capacity", "id,service_id,unit_id,available\na,7,u,-1\n", "is not between 0 and 1000000"),
        ("service_capacity", "id,service_id,unit_id,available\na,7,u,nan\n", "is not between 0 and 1000000"),
        (
            "attributes",
            "id,link_id,taxonomy_term_id\na,7,t\n",
            "taxonomy_term_id 't' is not among the taxonomy terms",
        ),
        (
            "attributes",
            "id,link_id,link_entity,taxonomy_term_id\na,7x,location,t\n",
            "it describes a location",
        ),
        ("units", "id,name\nu,bed\n", "no service or organisation that was read refers to it"),
        ("phones", "id,number\nu,1\n", "the bus decides nothing by the table 'phones'"),
    ],
)
def test_what_belongs_to_a_service_and_can_not_be_used_is_reported(
    tmp_path: Path, table: str, content: str, part: str
) -> None:
    found = directory(tmp_path, organizations=ORGANIZATIONS, services=SERVICES, **{table: content})
    ((row, reason, used),) = reasons(found, f"{table}.csv")
    assert (row, used) == ("2", False)
    assert part in reason
    assert len(found.services) == 1
    assert accounted(found)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ("18,", (18, 150)),
        (",17", (0, 17)),
        ("0.5,3.9", (0, 3)),
        ("30,20", None),
        ("young,20", None),
        ("1,900", None),
    ],
)
def test_ages_are_whole_years_or_not_stated(
    tmp_path: Path, ages: str, expected: tuple[int, int] | None
) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=f"id,organization_id,name,minimum_age,maximum_age\n7,legal-help,Advice,{ages}\n",
    )
    served = found.services[0].ages
    assert (served and (served.minimum, served.maximum)) == expected
    assert bool(found.problems) == (expected is None)


@pytest.mark.parametrize(
    ("status", "active"),
    [("", True), ("Active", True), ("inactive", False), ("defunct", False), ("temporarily closed", False)],
)
def test_only_active_services_are_active(tmp_path: Path, status: str, active: bool) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=f"id,organization_id,name,status\n7,legal-help,A,{status}\n",
    )
    assert found.services[0].active is active
    assert found.problems == []


def test_more_places_available_than_there_are_is_reported_and_cut(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=SERVICES,
        units="id,name\nu,bed\n",
        service_capacity="id,service_id,unit_id,available,maximum,updated\nc,7,u,12,10,2026-01-31\n",
    )
    assert [(unit.total, unit.available) for unit in found.services[0].units] == [(10, 10)]
    assert reasons(found, "service_capacity.csv") == [
        ("2", "12 places are available of 10 at most; 10 is taken", True)
    ]


def test_hours_over_midnight_belong_to_two_days(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=SERVICES,
        schedules="id,service_id,byday,opens_at,closes_at\na,7,SU,22:00,06:00\n",
    )
    assert found.services[0].hours == [
        OpeningHours(days=["MO"], opens=0, closes=360),
        OpeningHours(days=["SU"], opens=1320, closes=1440),
    ]


def test_hours_of_the_service_pass_over_those_of_its_place(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations=ORGANIZATIONS,
        services=f"{SERVICES}8,legal-help,Clinic,active\n",
        locations="id,name\np,Town Hall\n",
        service_at_location="id,service_id,location_id\nx,7,p\ny,8,p\n",
        schedules="id,service_id,location_id,byday,opens_at,closes_at\na,7,,MO,09:00,10:00\nb,,p,TU,11:00,12:00\n",
    )
    assert [service.hours for service in found.services] == [
        [OpeningHours(days=["MO"], opens=540, closes=600)],
        [OpeningHours(days=["TU"], opens=660, closes=720)],
    ]
    assert found.problems == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_with_and_without_a_byte_order_mark_is_read(tmp_path: Path, encoding: str) -> None:
    found = directory(
        tmp_path, organizations="id,name\nlegal-help,Société\n".encode(encoding), services=SERVICES
    )
    assert found.organisations[0].name == "Société"
    assert found.problems == []


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    found = directory(
        tmp_path, organizations="id,name\nlegal-help,Société\n".encode("latin-1"), services=SERVICES
    )
    assert found.organisations[0].name == "Société"
    ((row, reason, used),) = reasons(found, "organizations.csv")
    assert (row, used) == ("", True)
    assert "not UTF-8 (byte 23)" in reason


def test_a_file_beyond_the_size_limit_is_not_read_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAXIMUM_BYTES", 64)
    found = directory(
        tmp_path, organizations=ORGANIZATIONS, services=SERVICES + "8,legal-help,Clinic,active\n" * 9
    )
    assert found.services == []
    assert [(row, used) for row, _, used in reasons(found, "services.csv")] == [("", False)]


def test_rows_beyond_the_limit_are_not_read_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAXIMUM_ROWS", 2)
    found = directory(
        tmp_path, organizations=ORGANIZATIONS, services=f"{SERVICES}8,legal-help,Clinic,active\n"
    )
    assert [service.service for service in found.services] == ["sv-north-7"]
    assert [(row, used) for row, _, used in reasons(found, "services.csv")] == [("3-", False)]


def test_a_header_with_a_doubled_column_is_not_guessed_at(tmp_path: Path) -> None:
    found = directory(tmp_path, services="id,id,name\n1,2,Advice\n3,4,Clinic\n")
    assert found.services == []
    ((row, reason, used),) = reasons(found, "services.csv")
    assert (row, used) == ("2-3", False)
    assert "column 'id' twice" in reason


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[1]", "expected an object"),
        ('{"version": "3.0"}', "not HSDS"),
        ('{"phones.csv": [{"id": "1"}]}', "the bus decides nothing by the table"),
    ],
)
def test_json_that_is_no_directory_is_reported(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "d.json").write_text(text)
    found = read(tmp_path / "d.json", NORTH)
    assert found.services == []
    assert [part in problem.reason for problem in found.problems] == [True]
    assert accounted(found)


def test_an_organisation_told_again_in_the_same_words_is_no_problem() -> None:
    told = {"id": "o", "name": "Legal Help", "description": "x"}
    documents = [
        {"id": str(n), "name": f"Advice {n}", "status": "active", "organization": told} for n in range(3)
    ]
    found = from_documents(documents, NORTH)
    assert len(found.services) == 3
    assert len(found.organisations) == 1
    assert found.problems == []


def test_an_organisation_told_again_in_other_words_is_reported() -> None:
    documents = [
        {"id": str(n), "name": "Advice", "status": "active", "organization": {"id": "o", "name": f"Name {n}"}}
        for n in range(2)
    ]
    found = from_documents(documents, NORTH)
    assert [one.name for one in found.organisations] == ["Name 0"]
    assert [problem.row for problem in found.problems] == ["/1/organization"]


def test_nested_documents_the_bus_decides_nothing_by_are_counted_and_reported() -> None:
    documents = [
        {
            "id": str(n),
            "name": "Advice",
            "status": "active",
            "organization_id": "o",
            "phones": [{"id": "p"}] * 2,
        }
        for n in range(2)
    ]
    found = from_documents(documents, NORTH)
    assert [(file.rows, file.used, file.left_out) for file in found.files] == [(6, 2, 4)]
    assert [one.row for one in found.problems if not one.used] == ["*/phones"]


def test_a_page_of_the_hsds_api_is_read(tmp_path: Path) -> None:
    document = {"id": "7", "name": "Advice", "status": "active", "organization_id": "o"}
    (tmp_path / "page.json").write_text(json.dumps({"total_items": 1, "contents": [document]}))
    assert [service.service for service in read(tmp_path, NORTH).services] == ["sv-north-7"]


def test_what_no_database_can_hold_is_taken_out_of_texts() -> None:
    organization = {"id": "o", "name": "Legal\ud800 \0Help"}
    document = {"id": "\ud800", "name": "Ad\ud800vice", "status": "active", "organization": organization}
    found = from_documents([document], NORTH)
    assert [one.name for one in found.organisations] == ["Legal? Help"]
    assert [service.name for service in found.services] == ["Ad?vice"]


def test_two_organisations_never_get_the_same_id_on_the_bus(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        organizations="id,name\na,First\nb,Second\n",
        organization_identifiers=(
            "id,organization_id,identifier_scheme,identifier\n1,a,org.referralbus.organisation,b\n"
        ),
    )
    first, second = found.organisations
    assert (first.organisation, first.name) == ("b", "First")
    assert second.organisation not in ("a", "b")


def test_a_path_with_nothing_to_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="does not exist"):
        read(tmp_path / "nowhere", NORTH)
    with pytest.raises(DirectoryError, match=r"no \.csv and no \.json"):
        read(tmp_path, NORTH)
