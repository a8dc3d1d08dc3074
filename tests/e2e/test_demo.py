"""``refbus demo`` as a newcomer runs it: a process that leaves a result, an exit code, and nothing else."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from tests.support.commands import Running, processes_of, refbus

pytestmark = pytest.mark.timeout(400)

KEYS = {
    "kafka_version",
    "broker",
    "submitted",
    "decided",
    "offered",
    "accepted",
    "declined",
    "expired",
    "completed",
    "unmatched",
    "refused",
    "lost",
    "duplicated",
    "oversold",
    "views_equal_ledger",
    "p50_ms",
    "p99_ms",
    "seconds",
}


def _demo(result: Path, home: Path, *words: str | Path) -> tuple[dict[str, Any], str]:
    """Run a demo in a folder that it removes again; its result, and what it printed."""
    said = refbus("demo", "--json", result, "--home", home, *words, within=380.0)
    assert processes_of(home) == []
    assert not home.exists()
    found: dict[str, Any] = json.loads(result.read_text())
    return found, said


def test_a_demo_keeps_every_promise_and_leaves_nothing_but_its_result(tmp_path: Path) -> None:
    result, said = _demo(tmp_path / "result.json", tmp_path / "home", "--referrals", "120")
    assert result.keys() == KEYS
    assert (result["lost"], result["duplicated"], result["oversold"]) == (0, 0, 0)
    assert result["views_equal_ledger"] is True
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


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[str]:
    """A broker that somebody else runs, with a topic of theirs. The tests' own may have outboxes of the same names."""
    broker = EmbeddedKafka(tmp_path / "kafka", free_ports(1)[0])
    address = broker.start()
    admin = AdminClient({"bootstrap.servers": address})
    for made in admin.create_topics([NewTopic("somebodys", 1, 1)]).values():
        made.result(30)
    yield address
    broker.stop()


def test_a_demo_on_anothers_kafka_and_database_keeps_every_promise_and_leaves_both_as_they_were(
    tmp_path: Path, outside: str, postgres: str
) -> None:
    elsewhere = ("--kafka", outside, "--database", postgres)
    result, said = _demo(tmp_path / "result.json", tmp_path / "home", "--referrals", "20", *elsewhere)
    assert result.keys() == KEYS
    assert (result["lost"], result["duplicated"], result["oversold"]) == (0, 0, 0)
    assert result["views_equal_ledger"] is True
    assert (result["broker"], result["kafka_version"]) == ("external", None)
    assert result["submitted"] == result["decided"] >= 20
    assert "Every promise was kept" in said
    there = AdminClient({"bootstrap.servers": outside}).list_topics(timeout=30).topics
    assert {name for name in there if not name.startswith("__")} == {"somebodys"}
    with psycopg.connect(postgres.replace("+psycopg", "", 1)) as connection:
        schemas = connection.execute("select nspname from pg_namespace where nspname !~ '^pg_'").fetchall()
    assert {name for (name,) in schemas} == {"information_schema", "public"}


def test_a_demo_does_not_touch_a_kafka_that_holds_a_bus(tmp_path: Path, outside: str) -> None:
    admin = AdminClient({"bootstrap.servers": outside})
    for made in admin.create_topics([NewTopic("refbus.demo.inbox", 1, 1)]).values():
        made.result(30)
    refused = refbus("demo", "--kafka", outside, "--home", tmp_path / "home", code=1)
    assert "has topics of a bus already, such as refbus.demo.inbox" in refused and "Traceback" not in refused
    assert {"somebodys", "refbus.demo.inbox"} <= set(admin.list_topics(timeout=30).topics)


def test_a_demo_of_a_real_directory_takes_its_services(tmp_path: Path, reference: Path) -> None:
    directory = reference / "hsds-directories/spec/fixtures/custom/ilao/output"
    ours = ("--directory", directory, "--zone", "America/Chicago")
    result, said = _demo(tmp_path / "result.json", tmp_path / "home", "--referrals", "20", *ours)
    assert (result["lost"], result["duplicated"], result["oversold"]) == (0, 0, 0)
    assert result["views_equal_ledger"] is True
    assert result["offered"] > 0
    assert f"from {directory}" in said


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
