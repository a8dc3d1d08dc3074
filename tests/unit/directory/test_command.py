"""``refbus directory import`` as a person uses it, without a bus."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
    assert "1 services state no capacity: 4 places each are assumed" in output
    assert "never offered a referral" in output
    assert "the row has no name" in output
    assert "Nothing was sent to the bus" in output


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


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--region", "North!"], "--region: String should match pattern"),
        (["--region", "north", "--term", "law"], "--term 'law' is no Open Eligibility code"),
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
