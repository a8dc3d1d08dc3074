from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from referral_bus.cli import calendars, doctor
from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.services import OpeningHours
from referral_bus.directory.zones import offsets
from referral_bus.embedded.secrets import Secrets
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.log.topics import reference, topics
from referral_bus.wire.codec import Codec


def set_up(home: Path, kafka: str | None = None, database: str | None = None) -> doctor.SetUp:
    return doctor.SetUp(home=home, bus="main", kafka=kafka, database=database)


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
        monkeypatch.setattr(doctor, "_PORTS", 1)
        [finding] = await doctor.ports(set_up(tmp_path))
    assert str(port) in finding.found and "--first-port" in finding.advice


async def test_a_database_that_does_not_answer_is_said_without_its_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://refbus:secret@127.0.0.1:9/refbus"
    [finding] = await doctor.database(set_up(tmp_path, database=url))
    assert "can't be reached" in finding.found
    assert "secret" not in finding.found + finding.advice


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
    monkeypatch.setattr("referral_bus.cli.doctor.time.time_ns", lambda: after * 1_000_000)
    assert (doctor._clock("clock", before, theirs).advice == "") is well


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
    [finding] = doctor._calendars([calendar], on)
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
