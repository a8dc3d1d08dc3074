"""What of HSDS says who a service is for, where it is, when it is open and what it asks for."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from referral_bus.contracts.criteria import Criterion, Eligibility, holds
from referral_bus.contracts.places import Place
from referral_bus.contracts.services import Cost, OpeningHours, Schedule
from referral_bus.directory.model import Assumptions, Import
from referral_bus.directory.reader import from_documents, read
from referral_bus.directory.requirements import documents

NORTH = Assumptions(region="north")
IN_2026 = Assumptions(region="north", zone="America/Chicago", today=date(2026, 6, 1))
ORGANIZATIONS = "id,name\no,Legal Help\n"
SERVICES = "id,organization_id,program_id,name\n7,o,p,Advice\n"
EXTENT = '{"type":"Polygon","coordinates":[[[0,0],[2,0],[2,1],[0,0]]]}'


def directory(folder: Path, assumptions: Assumptions = NORTH, **files: str) -> Import:
    tables = {
        "organizations": ORGANIZATIONS,
        "services": SERVICES,
        "programs": "id,name\np,Justice\n",
    } | files
    for name, content in tables.items():
        (folder / f"{name}.csv").write_text(content)
    return read(folder, assumptions)


def reasons(found: Import, file: str) -> list[tuple[str, bool]]:
    return [(problem.reason, problem.used) for problem in found.problems if problem.file == f"{file}.csv"]


def accounted(found: Import) -> bool:
    return all(file.rows == file.used + file.left_out for file in found.files)


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def test_a_service_area_is_served_by_its_name_and_by_its_border(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        service_areas=f"id,service_id,name,extent,extent_type\na,7,Cook County,{quoted(EXTENT)},geojson\n",
    )
    (service,) = found.services
    assert service.areas == ["cook-county"]
    assert [ring.points for ring in service.polygons[0].rings] == [[0, 0, 0, 2_000_000, 1_000_000, 2_000_000]]
    assert found.problems == []


def test_a_border_makes_up_for_a_name_that_is_a_text_and_the_other_way_round(tmp_path: Path) -> None:
    long = "wherever you are " * 9
    found = directory(
        tmp_path,
        service_areas=(
            "id,service_id,name,extent,extent_type\n"
            f"a,7,{long},{quoted(EXTENT)},GeoJSON\nb,7,here,<kml/>,kml\n"
        ),
    )
    (service,) = found.services
    assert service.areas == ["here"]
    assert len(service.polygons) == 1
    assert [used for _, used in reasons(found, "service_areas")] == [True, True]
    assert accounted(found)


def test_locations_say_where_a_service_is(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        locations=(
            "id,location_type,latitude,longitude\nx,physical,41.8781136,-87.6297982\n"
            "y,physical,100,101\nz,virtual,,\n"
        ),
        service_at_location="id,service_id,location_id\n1,7,x\n2,7,y\n3,7,z\n",
    )
    (service,) = found.services
    assert service.places == [Place(latitude=41_878_114, longitude=-87_629_798)]
    assert service.remote
    ((reason, used),) = reasons(found, "locations")
    assert used
    assert "latitude, longitude: '100' is not between -90 and 90" in reason


def test_rules_of_recurrence_that_are_no_plain_week_become_schedules(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        IN_2026,
        schedules=(
            "id,service_id,freq,interval,byday,bymonthday,dtstart,valid_from,valid_to,until,opens_at,closes_at\n"
            'a,7,MONTHLY,,"1MO,3MO",,,,,,09:00,10:00\n'
            "b,7,MONTHLY,,,-1,,,,,09:00,10:00\n"
            "c,7,WEEKLY,2,TU,,2026-01-06,,,20270101T000000Z,22:00,02:00\n"
            "d,7,WEEKLY,1,WE,,2026-01-07,2026-01-01,,,09:00,10:00\n"
            "e,7,WEEKLY,1,TH,,,2026-09-01,2026-12-01,,09:00,10:00\n"
            "f,7,DAILY,,,,,,,,07:00,08:00\n"
            "g,7,WEEKLY,1,FR,,,,2026-05-31,,09:00,10:00\n"
        ),
    )
    (service,) = found.services
    nine_to_ten = {"opens": 540, "closes": 600}
    assert service.schedules == [
        Schedule(frequency="monthly", days=["MO"], nth=[1, 3], **nine_to_ten),
        Schedule(frequency="monthly", month_days=[-1], **nine_to_ten),
        Schedule(
            frequency="weekly",
            days=["TU"],
            every=2,
            starts="2026-01-06",
            ends="2027-01-01",
            opens=1320,
            closes=120,
        ),
        Schedule(frequency="weekly", days=["TH"], starts="2026-09-01", ends="2026-12-01", **nine_to_ten),
    ]
    assert service.hours == [
        OpeningHours(days=["MO", "TU", "WE", "TH", "FR", "SA", "SU"], opens=420, closes=480),
        OpeningHours(days=["WE"], opens=540, closes=600),
    ]
    assert [offset.minutes for offset in service.offsets[:3]] == [-360, -300, -360]
    assert reasons(found, "schedules") == [("the schedule ended on 2026-05-31", False)]
    assert accounted(found)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("freq,byday,byweekno|WEEKLY,MO,41", "says byweekno"),
        ("freq,byday,byyearday|WEEKLY,MO,1", "says byyearday"),
        ("freq,interval|DAILY,2", "skips days"),
        ("freq,interval,byday|WEEKLY,2,MO", "counted from one"),
        ("freq,interval,byday|WEEKLY,many,MO", "interval 'many' is not a whole number"),
        ("freq,interval,byday|WEEKLY,-1,MO", "interval -1 is out of range"),
        ("freq,bymonthday|MONTHLY,40", "can't be used"),
        ("freq,bymonthday|WEEKLY,4", "only where the frequency is monthly"),
        ("freq,byday|MONTHLY,", "names no day"),
        ('freq,byday|MONTHLY,"1MO,2TU"', "counts its days differently"),
        ("freq,byday|MONTHLY,12", "is no day of a month"),
        ("freq,byday,valid_to|WEEKLY,MO,soon", "valid_to 'soon' is not a date"),
        ("freq,byday,until,valid_from|WEEKLY,MO,2030-01-01,2031-01-01", "ends before it starts"),
    ],
)
def test_a_rule_the_bus_does_not_know_is_left_out_with_its_reason(
    tmp_path: Path, columns: str, reason: str
) -> None:
    names, values = columns.split("|")
    found = directory(
        tmp_path, schedules=f"id,service_id,opens_at,closes_at,{names}\na,7,09:00,10:00,{values}\n"
    )
    ((said, used),) = reasons(found, "schedules")
    assert reason in said
    assert not used
    assert found.services[0].hours is None
    assert accounted(found)


def test_costs_are_in_the_smallest_unit_of_their_currency(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        IN_2026,
        cost_options=(
            "id,service_id,option,currency,amount,amount_description,valid_to,valid_from\n"
            "a,7,Under 18s,gbp,0,,,\nb,7,,gbp,35.5,per hour,2026-06-01,2026-06-01\nc,7,,jpy,500,,,\n"
            "d,7,,gbp,,,,\ne,7,,pounds,1,,,\nf,7,,gbp,-1,,,\ng,7,,gbp,9,,2026-05-31,\nh,8,,gbp,9,,,\n"
            "i,7,,gbp,0,,,2026-06-02\n"
        ),
    )
    assert found.services[0].costs == [
        Cost(amount=0, currency="GBP", condition="Under 18s"),
        Cost(amount=3550, currency="GBP", per="per hour"),
        Cost(amount=500, currency="JPY"),
    ]
    said = " ".join(reason for reason, _ in reasons(found, "cost_options"))
    for part in (
        "(empty) is not a number",
        "no code of three letters",
        "'-1' is not between",
        "was valid to",
        "is valid from '2026-06-02' only",
        "'8'",
    ):
        assert part in said
    assert accounted(found)


@pytest.mark.parametrize(
    ("text", "expected", "is_said"),
    [
        ("Photo ID", ["photo_id"], False),
        ("A valid driver\N{RIGHT SINGLE QUOTATION MARK}s license", ["photo_id"], False),
        ("Proof of current address", ["proof_of_address"], False),
        ("Identification and proof of income", ["photo_id", "proof_of_income"], True),
        ("Passport or birth certificate", ["other"], True),
        ("Letter from your parole officer", ["other"], True),
        ("None.", [], False),
        ("DD-214", ["discharge_papers"], False),
    ],
)
def test_documents_are_read_from_free_text_and_doubt_is_said(
    text: str, expected: list[str], is_said: bool
) -> None:
    found, said = documents(text)
    assert found == expected
    assert (said is not None) is is_said


def test_required_documents_stand_with_the_service(tmp_path: Path) -> None:
    found = directory(
        tmp_path, required_documents="id,service_id,document\na,7,Photo ID\nb,7,A note\nc,7,\nd,9,Lease\n"
    )
    assert found.services[0].documents == ["photo_id", "other"]
    assert [used for _, used in reasons(found, "required_documents")] == [False, True, False]
    assert accounted(found)


TERMS = "id,code,name,taxonomy\nv,20010,Veterans,Open Eligibility\nh,20058,Homeless,Open Eligibility\nf,1102,Food,Open Eligibility\n"


def test_who_is_eligible_is_said_of_service_program_and_organisation(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        taxonomy_terms=TERMS,
        attributes=(
            "id,link_id,taxonomy_term_id,link_type,link_entity\n"
            "1,7,f,,service\n2,7,v,service_eligibility,service\n3,7,h,eligibility,service\n"
            "4,p,h,eligibility,program\n5,o,v,eligibility,organization\n"
        ),
    )
    (service,) = found.services
    assert [term.code for term in service.terms] == ["1102"]
    assert service.program == "p"
    assert service.eligibility == Eligibility(
        service=holds(Criterion(kind="trait", one_of=["veteran", "homeless"])),
        program=holds(Criterion(kind="trait", one_of=["homeless"])),
        organisation=holds(Criterion(kind="trait", one_of=["veteran"])),
    )
    assert found.problems == []


IN_PART = "can't be used"
"""What the report says of rows that others of their kind take along."""

CHILDREN = TERMS + "c,20005,Children,Open Eligibility\n"


def test_whom_a_service_is_for_is_not_stated_where_a_row_of_it_can_not_be_used(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        taxonomy_terms=CHILDREN,
        attributes=(
            "id,link_id,taxonomy_term_id,link_type,link_entity\n"
            "1,7,f,,service\n2,7,v,eligibility,service\n3,7,c,eligibility,service\n"
        ),
    )
    assert found.services[0].eligibility is None
    (children, children_used), (veterans, veterans_used) = reasons(found, "attributes")
    assert "'20005' says of nobody" in children
    assert IN_PART in veterans
    assert not children_used
    assert not veterans_used
    ((said, used),) = reasons(found, "services")
    assert "the people it is for are taken as not stated" in said
    assert used
    assert accounted(found)


def test_a_wider_level_counts_for_nothing_where_a_narrower_one_can_not_be_used(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        taxonomy_terms=CHILDREN,
        attributes=(
            "id,link_id,taxonomy_term_id,link_type,link_entity\n"
            "1,7,v,eligibility,service\n2,p,c,eligibility,program\n3,o,h,eligibility,organization\n"
        ),
    )
    assert found.services[0].eligibility == Eligibility(
        service=holds(Criterion(kind="trait", one_of=["veteran"]))
    )
    assert accounted(found)


@pytest.mark.parametrize(
    "second", [f"b,7,{'wherever you are ' * 9},,", "b,7,,,", "b,7,,extent,geojson", "b,7,,<kml/>,kml"]
)
def test_areas_are_not_stated_where_a_row_of_them_can_not_be_used(tmp_path: Path, second: str) -> None:
    found = directory(
        tmp_path,
        service_areas=f"id,service_id,name,extent,extent_type\na,7,60601,{quoted(EXTENT)},geojson\n{second}\n",
    )
    assert found.services[0].areas is None
    assert found.services[0].polygons == []
    assert [used for _, used in reasons(found, "service_areas")] == [False, False]
    ((said, used),) = reasons(found, "services")
    assert "the areas are taken as not stated" in said
    assert used
    assert accounted(found)


def test_areas_are_not_stated_where_there_are_more_than_a_service_can_have(tmp_path: Path) -> None:
    rows = "".join(f"{number},7,{number:05}\n" for number in range(501))
    found = directory(tmp_path, service_areas=f"id,service_id,name\n{rows}")
    assert found.services[0].areas is None
    assert accounted(found)


@pytest.mark.parametrize("second", ["b,7,Klingonish", 'b,7,"Spanish, Klingonish"'])
def test_languages_are_not_stated_where_a_row_of_them_can_not_be_used(tmp_path: Path, second: str) -> None:
    found = directory(tmp_path, languages=f"id,service_id,name\na,7,Spanish\n{second}\n")
    assert found.services[0].languages is None
    (klingon, klingon_used), (spanish, spanish_used) = reasons(found, "languages")
    assert "'Klingonish' names no language" in klingon
    assert IN_PART in spanish
    assert not klingon_used
    assert not spanish_used
    ((said, used),) = reasons(found, "services")
    assert "the languages are taken as not stated" in said
    assert used
    assert accounted(found)


SCHEDULES = "id,service_id,byday,bymonth,valid_to,opens_at,closes_at,description\na,7,MO,,,09:00,10:00,\n"


@pytest.mark.parametrize(
    "second", ["TU,3,,09:00,10:00,", "TU,,,nine,ten,", "TU,,,09:00,,", "TU,,,,,By appointment"]
)
def test_opening_hours_are_not_stated_where_a_row_of_them_can_not_be_used(
    tmp_path: Path, second: str
) -> None:
    monthly = "c,7,WE,,2099-01-01,09:00,10:00,\n"
    found = directory(tmp_path, IN_2026, schedules=f"{SCHEDULES}b,7,{second}\n{monthly}")
    (service,) = found.services
    assert service.hours is None
    assert service.schedules == []
    assert [used for _, used in reasons(found, "schedules")] == [False, False, False]
    ((said, used),) = reasons(found, "services")
    assert "the opening hours are taken as not stated" in said
    assert used
    assert accounted(found)


@pytest.mark.parametrize("second", ["TU,3,2026-05-31,09:00,10:00,", "TU,,,,,"])
def test_opening_hours_stand_beside_what_has_ended_and_days_that_are_closed(
    tmp_path: Path, second: str
) -> None:
    found = directory(tmp_path, IN_2026, schedules=f"{SCHEDULES}b,7,{second}\n")
    assert found.services[0].hours == [OpeningHours(days=["MO"], opens=540, closes=600)]
    assert [used for _, used in reasons(found, "schedules")] == [False]
    assert reasons(found, "services") == []
    assert accounted(found)


def test_a_row_of_a_place_is_left_out_of_the_services_it_is_no_use_to_alone(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        services=f"{SERVICES}8,o,p,Clinic\n",
        locations="id,name\nx,Town Hall\ny,Library\n",
        service_at_location="id,service_id,location_id\n1,7,x\n2,7,y\n3,8,x\n",
        schedules=(
            "id,location_id,byday,bymonth,opens_at,closes_at\na,x,MO,,09:00,10:00\nb,y,TU,3,09:00,10:00\n"
        ),
    )
    assert [service.hours for service in found.services] == [
        None,
        [OpeningHours(days=["MO"], opens=540, closes=600)],
    ]
    assert [used for _, used in reasons(found, "schedules")] == [False]
    assert accounted(found)


def test_a_zone_there_is_not_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValidationError, match="no time zone 'Mars/Olympus'"):
        Assumptions(region="north", zone="Mars/Olympus")


def test_a_program_that_is_not_there_is_said(tmp_path: Path) -> None:
    found = directory(tmp_path, programs="id,name\nq,Other\n")
    assert found.services[0].program is None
    assert reasons(found, "services") == [("program_id 'p' is not among the programs", True)]
    assert accounted(found)


def test_the_hierarchy_of_the_directorys_own_terms_comes_along(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        taxonomy_terms=(
            "id,code,name,taxonomy,parent_id\n1,N,Needs,Local 211,\n2,N-F,Food,Local 211,1\n"
            "3,N-F-P,Pantry,Local 211,2\n4,N-H,Housing,Local 211,1\n5,X,Alone,Plain,9\n"
        ),
        attributes="id,link_id,taxonomy_term_id,link_entity\na,7,3,service\nb,7,5,service\n",
    )
    (taxonomy,) = found.taxonomies
    assert taxonomy.taxonomy == "local-211"
    assert [(term.code, term.parent, term.name) for term in taxonomy.terms] == [
        ("N", None, "Needs"),
        ("N-F", "N", "Food"),
        ("N-F-P", "N-F", "Pantry"),
    ]
    assert reasons(found, "taxonomy_terms") == [
        ("parent_id '9' is no term of its taxonomy", True),
        ("no service or organisation that was read refers to it", False),
    ]
    assert accounted(found)


def test_a_hierarchy_that_goes_round_in_a_circle_is_said_and_not_taken(tmp_path: Path) -> None:
    found = directory(
        tmp_path,
        taxonomy_terms="id,code,name,taxonomy,parent_id\n1,A,A,Ours,2\n2,B,B,Ours,1\n",
        attributes="id,link_id,taxonomy_term_id,link_entity\na,7,1,service\n",
    )
    assert found.taxonomies == []
    ((reason, used),) = reasons(found, "taxonomy_terms")
    assert used
    assert "round in a circle" in reason
    assert accounted(found)


def test_documents_say_the_same_as_tables() -> None:
    term = {"id": "v", "code": "20010", "name": "Veterans", "taxonomy": "Open Eligibility"}
    found = from_documents(
        [
            {
                "id": "7",
                "name": "Advice",
                "status": "active",
                "organization": {"id": "o", "name": "Legal Help", "description": "x"},
                "program": {
                    "id": "p",
                    "name": "Justice",
                    "attributes": [
                        {
                            "id": "1",
                            "link_type": "eligibility",
                            "link_entity": "program",
                            "taxonomy_term": term,
                        }
                    ],
                },
                "cost_options": [{"id": "c", "amount": 0}],
                "required_documents": [{"id": "d", "document": "Lease"}],
                "service_areas": [{"id": "s", "name": "here", "extent": EXTENT, "extent_type": "geojson"}],
                "service_at_locations": [
                    {
                        "id": "x",
                        "location": {
                            "id": "l",
                            "location_type": "physical",
                            "latitude": 1.5,
                            "longitude": -2,
                        },
                    }
                ],
            }
        ],
        NORTH,
    )
    (service,) = found.services
    assert found.problems == []
    assert (service.program, service.documents, service.costs) == ("p", ["lease"], [Cost(amount=0)])
    assert service.places == [Place(latitude=1_500_000, longitude=-2_000_000)]
    assert len(service.polygons) == 1
    assert service.eligibility == Eligibility(program=holds(Criterion(kind="trait", one_of=["veteran"])))
    assert json.loads(service.model_dump_json())["eligibility"]["service"] is None
