"""``refbus directory import`` as a person uses it, without a bus."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from referral_bus.access.tokens import new_signing_key
from referral_bus.cli import directory
from referral_bus.cli.main import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "directory"
    found.mkdir()
    (found / "organizations.csv").write_text("id,name\no,Legal Help\n")
    (found / "services.csv").write_text("id,organization_id,name\n7,o,[bold]Advice\n8,o,\n")
    return found


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["directory", "import", *map(str, arguments)], terminal_width=200)
    return result.exit_code, " ".join(result.output.split())


def test_a_dry_run_reports_every_file_and_sends_nothing(folder: Path) -> None:
    code, output = run(folder, "--region", "north", "--places-per-service", "4")
    assert code == 0
    assert "1 services of 1 organisations for region north." in output
    assert "1 services state no capacity: 4 places each are assumed, and trusted least" in output
    assert "never offered a referral" in output
    assert "the row has no name" in output
    assert "Nothing was sent to the bus" in output


def test_the_report_says_how_old_the_counts_of_places_are(folder: Path) -> None:
    (folder / "units.csv").write_text("id,name\nu,seat\n")
    (folder / "service_capacity.csv").write_text(
        "id,service_id,unit_id,available,maximum,updated\nc,7,u,4,9,2019-01-01T00:00:00Z\nd,7,u,4,9,2025-03-04\n"
    )
    code, output = run(folder, "--region", "north")
    assert code == 0
    assert "2 counts of places are of 2019-01-01 to 2025-03-04" in output


def test_problems_that_differ_only_in_values_are_shown_once(folder: Path) -> None:
    rows = "".join(f"{number},{number},o\n" for number in range(30))
    (folder / "service_areas.csv").write_text(f"id,service_id,name\n{rows}")
    code, output = run(folder, "--region", "north")
    assert code == 0
    assert output.count("service_areas.csv") == 2
    assert "--problems FILE writes each of them" in output


def test_all_problems_and_the_services_are_written_to_files(folder: Path, tmp_path: Path) -> None:
    problems, output = tmp_path / "problems.csv", tmp_path / "services.json"
    code, _ = run(folder, "--region", "north", "--problems", problems, "--output", output, "--term", "1375")
    assert code == 0
    with problems.open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"file": "services.csv", "row": "3", "used": "no", "reason": "the row has no name"}
        ]
    written = json.loads(output.read_text())
    assert [service["service"] for service in written["services"]] == ["sv-north-7"]
    assert written["services"][0]["terms"] == [{"vocabulary": "openeligibility", "code": "1375"}]


@pytest.fixture
def open_on_mondays(folder: Path) -> Path:
    """The directory with hours, of which some have ended, and a vocabulary of its own."""
    (folder / "schedules.csv").write_text(
        "id,service_id,freq,byday,opens_at,closes_at,valid_to\n"
        "1,7,WEEKLY,MO,09:00,17:00,\n2,7,WEEKLY,TU,09:00,17:00,2020-12-31\n"
    )
    (folder / "taxonomy_terms.csv").write_text(
        "id,code,name,parent_id,taxonomy\nt1,F,Food,,house words\nt2,F-1,Pantry,t1,house words\n"
    )
    (folder / "attributes.csv").write_text("id,link_id,link_entity,taxonomy_term_id\n1,7,service,t2\n")
    return folder


def test_hours_are_told_by_the_clock_of_the_zone_and_what_has_ended_is_left_out(
    open_on_mondays: Path, tmp_path: Path
) -> None:
    output, problems = tmp_path / "services.json", tmp_path / "problems.csv"
    code, said = run(
        *(open_on_mondays, "--region", "north", "--zone", "America/Chicago"),
        *("--output", output, "--problems", problems),
    )
    assert code == 0 and "--zone" not in said
    [service] = json.loads(output.read_text())["services"]
    assert [hours["days"] for hours in service["hours"]] == [["MO"]]
    assert {offset["minutes"] for offset in service["offsets"]} == {-300, -360}
    assert service["offsets"][-1]["since"] > time.time() * 1000 + 9 * 365 * 86_400_000
    assert "the schedule ended on 2020-12-31" in problems.read_text()


def test_without_a_zone_it_is_said_that_nobody_knows_when_services_are_open(
    open_on_mondays: Path, tmp_path: Path
) -> None:
    output = tmp_path / "services.json"
    code, said = run(open_on_mondays, "--region", "north", "--output", output)
    assert code == 0
    assert "1 services tell their opening hours, but not by which clock" in said and "--zone names" in said
    [service] = json.loads(output.read_text())["services"]
    assert service["offsets"] == []


def test_a_directorys_own_taxonomy_is_written_and_published(
    open_on_mondays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []

    def intake(request: httpx.Request) -> httpx.Response:
        kinds.append(json.loads(request.content).get("kind", "service"))
        if kinds[-1] == "taxonomy" and kinds.count("taxonomy") > 1:
            return httpx.Response(409, json={"code": "version_not_risen", "detail": "No."})
        return httpx.Response(202, json={"token": "north.0.1"})

    opened, output, key = httpx.AsyncClient, tmp_path / "services.json", tmp_path / "key"
    monkeypatch.setattr(
        directory.httpx, "AsyncClient", lambda **_: opened(transport=httpx.MockTransport(intake))
    )
    key.write_text(new_signing_key())
    words = (open_on_mondays, "--region", "north", "--publish", "--intake", "http://i", "--signing-key", key)
    code, said = run(*words, "--output", output)
    assert code == 0 and kinds == ["organisation", "taxonomy", "service"]
    assert "Services are coded by the directory's own house-words." in said
    assert "1 taxonomies are new, 0 were known" in said
    [taxonomy] = json.loads(output.read_text())["taxonomies"]
    assert {term["code"]: term["parent"] for term in taxonomy["terms"]} == {"F": None, "F-1": "F"}
    code, said = run(*words)
    assert code == 0 and "0 taxonomies are new, 1 were known and stay as they are" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--region", "North!"], "--region: String should match pattern"),
        (["--region", "north", "--term", "law"], "--term 'law' is no Open Eligibility code"),
        (
            ["--region", "north", "--places-per-service", "5", "--zone", "Mars/Base"],
            "--zone: there is no time zone",
        ),
        (["--region", "north", "--publish"], "--publish needs --signing-key"),
        (
            ["--region", "north", "--publish", "--signing-key", "/nowhere/key"],
            "/nowhere/key: No such file or directory",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(folder: Path, arguments: list[str], sentence: str) -> None:
    code, output = run(folder, *arguments)
    assert code == 1
    assert sentence in output


def test_a_folder_without_a_directory_is_said_in_a_sentence(tmp_path: Path) -> None:
    code, output = run(tmp_path, "--region", "north")
    assert code == 1
    assert "holds no .csv and no .json file" in output
