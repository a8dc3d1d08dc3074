"""``refbus demo`` as a newcomer runs it: a process that leaves a result, an exit code, and nothing else."""

from __future__ import annotations

import csv
import shutil
import signal
from pathlib import Path

import pytest

from tests.support.commands import Running, demo, processes_of, refbus

pytestmark = pytest.mark.timeout(400)

_SERVICES = 80


def test_a_demo_keeps_every_promise_and_leaves_nothing_but_its_result(tmp_path: Path) -> None:
    result, said = demo(tmp_path, "--referrals", "120")
    assert result["broker"] == "embedded" and result["kafka_version"].startswith("4.")
    assert result["submitted"] == result["decided"] >= 120 + 200
    assert result["offered"] >= result["accepted"] + result["declined"]
    # What was accepted ends with its outcome, unless its agency took it back.
    assert 0 < result["completed"] <= result["accepted"]
    # Two that nobody sealed, on the feed and in the dead letters each; and what agencies say wrongly.
    assert result["refused"] > 4
    assert result["completed"] + result["unmatched"] <= 120
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["seconds"] > 0
    assert "Every promise was kept" in said


def test_a_demo_of_a_real_directory_takes_its_services(tmp_path: Path, reference: Path) -> None:
    directory = _beginning(
        reference / "hsds-directories/spec/fixtures/custom/ilao/output", tmp_path / "directory"
    )
    ours = ("--directory", directory, "--zone", "America/Chicago")
    result, said = demo(tmp_path, "--referrals", "20", *ours)
    assert result["offered"] > 0
    assert f"from {directory}" in said


def _beginning(directory: Path, copy: Path) -> Path:
    """The directory with its first services alone: the contract tests read all of them, and to put each on a bus takes its time."""
    shutil.copytree(directory, copy)
    services = copy / "services.csv"
    with services.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    with services.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows[: 1 + _SERVICES])
    return copy


def test_a_demo_knows_what_a_time_zone_is(tmp_path: Path) -> None:
    refused = refbus("demo", "--directory", tmp_path, "--zone", "Illinois/Springfield", code=1)
    assert "--zone: there is no time zone 'Illinois/Springfield' here" in refused


def test_a_demo_that_is_stopped_stops_all_it_started_and_says_so_in_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    running = Running(["demo", "--home", home, "--referrals", "600"], tmp_path / "out")
    running.until_said("publishing 200 services")
    assert running.stop(signal.SIGTERM) == 1
    assert "The demo was stopped" in running.said and "Traceback" not in running.said
    assert processes_of(home) == []
    assert not home.exists()


def test_a_demo_does_not_touch_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    refused = refbus("demo", "--home", tmp_path, code=1)
    assert "not empty" in refused and "Traceback" not in refused
    assert (tmp_path / "mine").read_text() == "mine"
