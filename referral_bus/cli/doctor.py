"""``refbus doctor``: what is wrong with a set-up, and what to do about it."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from referral_bus.cli.doctor_kafka import kafka
from referral_bus.cli.errors import Rejected
from referral_bus.cli.findings import SECONDS, Finding, SetUp, clock, no_address, not_looked_at
from referral_bus.cli.home import Home, OperationsSettings, Pid, addresses, local_settings
from referral_bus.cli.local import FIRST_PORT
from referral_bus.embedded.bus import ports_of
from referral_bus.embedded.download import cache_folder
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.kafka import java as embedded_java
from referral_bus.embedded.ports import is_free
from referral_bus.runtime.settings import SettingsError
from referral_bus.sealing.jwe import JweError, public_part
from referral_bus.sealing.secrets import read_key
from referral_bus.store.engine import new_engine, time_of

_SCHEMAS: Final = ("sealing", "intake", "notifier", "projections")
_SECRETS: Final = ("master_key", "facts_key", "intake_key", "operations_key", "token_key", "jwks")
_PYTHON: Final = (3, 11)
_LEAST_FREE_BYTES: Final = 1_000_000_000
_LAG: Final = "refbus_lag_records"
_HELD_UP: Final = text(
    """
    select holder.pid, count(*), max(extract(epoch from clock_timestamp() - waiting.query_start))::int
    from pg_stat_activity waiting
        cross join lateral unnest(pg_blocking_pids(waiting.pid)) held(pid)
        join pg_stat_activity holder on holder.pid = held.pid
    where waiting.datname = current_database() and waiting.wait_event_type = 'Lock'
        and waiting.query_start < clock_timestamp() - interval '2 seconds'
        and holder.wait_event_type is distinct from 'Lock'
    group by holder.pid order by 2 desc
    """
)
"""The sessions at the root of what has been held up for more than a moment: those that wait for nobody themselves."""
_SEES_SESSIONS: Final = text("select pg_has_role('pg_read_all_stats', 'usage')")
"""To any other role the sessions of others are silent about what they wait for."""

_NO_SERVICES: Final = (
    "no bus is up in {home}, and of no other the operations listeners are known "
    '(REFBUS_OPERATIONS, such as {{"intake-1": "http://10.0.0.5:9090"}}, or --operations intake-1=http://10.0.0.5:9090)'
)

console = Console(soft_wrap=True)


Check = Callable[[SetUp], Awaitable[list[Finding]]]


def doctor(
    home: Home = Path(".refbus"),
    kafka: Annotated[
        str | None, typer.Option(help="HOST:PORT of Kafka, in place of the setting REFBUS_KAFKA.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="Address of the database, in place of the setting REFBUS_DATABASE_URL.")
    ] = None,
    bus: Annotated[
        str | None, typer.Option(help="Id of the bus, in place of the setting REFBUS_BUS.")
    ] = None,
    operations: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=URL",
            help="Operations listener of a process of a service, besides those of the setting REFBUS_OPERATIONS; may be repeated.",
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            help="Hear the time of Kafka's clock from a record, on a topic refbus.<bus>.doctor.<random> that is deleted at once."
        ),
    ] = True,
) -> None:
    """Say what is wrong with this set-up and what to do. Exit code 1 if anything is."""
    set_up, findings = set_up_of(home, kafka, database, bus, probe, operations or [])
    findings += asyncio.run(examine(set_up))
    for finding in findings:
        console.print(f"{_mark(finding)} {finding.about}: ", end="")
        console.print(finding.found, markup=False, highlight=False)
        if finding.advice:
            console.print(f"      {finding.advice}", markup=False, highlight=False)
    wrong = sum(1 for finding in findings if finding.advice)
    unseen = [finding.about for finding in findings if not finding.looked]
    if wrong:
        said = f"{wrong} of {len(findings) - len(unseen)} checks found something wrong."
    else:
        said = "Nothing is wrong with what was looked at." if unseen else "Nothing is wrong."
    console.print(said + (f" Not looked at: {', '.join(unseen)}." if unseen else ""))
    raise typer.Exit(1 if wrong else 0)


def _mark(finding: Finding) -> str:
    if finding.advice:
        return "[red]wrong[/red]"
    return "[green]well [/green]" if finding.looked else "[yellow]?    [/yellow]"


async def examine(set_up: SetUp) -> list[Finding]:
    """Everything that was found, well or wrong, in the order of the checks."""
    findings: list[Finding] = []
    for check in CHECKS:
        findings += await check(set_up)
    return findings


async def python(_: SetUp) -> list[Finding]:
    """The interpreter."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] >= _PYTHON:
        return [Finding("Python", version)]
    return [Finding("Python", version, "Install Python 3.11 or later and make the virtual environment anew.")]


async def java(set_up: SetUp) -> list[Finding]:
    """The Java runtime, which only the embedded broker takes."""
    if not set_up.embedded:
        return []
    try:
        return [Finding("Java", str(embedded_java()))]
    except EmbeddedError as error:
        return [Finding("Java", str(error), "Or give an outside Kafka with --kafka.")]


async def disk(set_up: SetUp) -> list[Finding]:
    """The folders that a local bus writes to: the home, and the user's cache of downloads."""
    if set_up.elsewhere:
        return []
    cache = cache_folder()
    findings: list[Finding] = []
    for about, folder in (("home", set_up.home), ("cache", cache)):
        there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            findings.append(
                Finding(about, f"{folder} can't be written to", "Make it writable, or name another.")
            )
        elif free < _LEAST_FREE_BYTES:
            advice = f"Make room: {_LEAST_FREE_BYTES // 1_000_000} MB are needed."
            findings.append(Finding(about, f"{folder} has {free // 1_000_000} MB free", advice))
        else:
            findings.append(Finding(about, f"{folder}, {free // 1_000_000} MB free"))
    return findings


async def ports(set_up: SetUp) -> list[Finding]:
    """The ports ``refbus up`` takes, unless a bus has them already."""
    if set_up.up or set_up.elsewhere:
        return []
    wanted = range(FIRST_PORT, FIRST_PORT + ports_of(matching_workers=1))
    taken = [port for port in wanted if not is_free(port)]
    if not taken:
        return [Finding("ports", f"{wanted[0]} to {wanted[-1]} are free")]
    listed = ", ".join(str(port) for port in taken)
    advice = "Stop what uses them, or choose others with 'refbus up --first-port'."
    return [Finding("ports", f"taken: {listed}", advice)]


async def keys(set_up: SetUp) -> list[Finding]:
    """The secrets of a local bus: there, readable by their owner alone, and of the right form."""
    folder = set_up.home / "secrets"
    if not folder.exists():
        return []
    findings: list[Finding] = []
    for name in _SECRETS:
        path = folder / name
        try:
            content = path.read_text(encoding="utf-8")
            if name in ("master_key", "facts_key"):
                read_key(content, str(path))
            elif name in ("intake_key", "operations_key"):
                public_part(content)
            else:
                json.loads(content)
        except OSError as error:
            advice = "Give it back from the backup of the secrets: without it sealed data can't be opened."
            findings.append(Finding(f"key {name}", f"{path} can't be read ({type(error).__name__})", advice))
        except (JweError, ValueError):
            advice = "Give it back from the backup of the secrets: this content is no key."
            findings.append(Finding(f"key {name}", f"{path} is not of the right form", advice))
        else:
            if path.stat().st_mode & 0o077:
                findings.append(Finding(f"key {name}", "others can read it", f"Run: chmod 600 {path}"))
    return findings or [Finding("keys", f"{len(_SECRETS)} in {folder}")]


async def database(set_up: SetUp) -> list[Finding]:
    """The database: reachable, each owner's schema there, its clock near ours, no session that others wait for."""
    if set_up.database is None:
        return [no_address("database", "REFBUS_DATABASE_URL")]
    try:
        engine = new_engine(set_up.database)
    except (ArgumentError, ImportError):
        advice = "Write it as postgresql+psycopg://user:password@host/database."
        return [Finding("database", "the address is none", advice)]
    try:
        async with asyncio.timeout(SECONDS), engine.connect() as connection:
            before = time.time_ns() // 1_000_000
            now = await time_of(connection)
            migrated = set(
                await connection.scalars(
                    text("select schemaname from pg_tables where tablename = 'alembic_version'")
                )
            )
            sees_sessions = await connection.scalar(_SEES_SESSIONS)
            holders = list(await connection.execute(_HELD_UP))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        advice = "Start the bus with 'refbus up', or check REFBUS_DATABASE_URL, user and password."
        return [Finding("database", f"can't be reached ({type(error).__name__})", advice)]
    finally:
        await engine.dispose()
    missing = [schema for schema in _SCHEMAS if schema not in migrated]
    findings = [Finding("database", "reachable"), clock("clock of the database", before, now)]
    if missing:
        advice = "Start the services that own them: each brings its own schema up to date."
        findings.append(Finding("migrations", f"not there yet: {', '.join(missing)}", advice))
    else:
        findings.append(Finding("migrations", f"{len(_SCHEMAS)} schemas"))
    if not sees_sessions:
        why = "this role is told of its own alone; give it pg_read_all_stats to see who holds up others"
        findings.append(not_looked_at("sessions of the database", why))
    for session, others, seconds in holders:
        findings.append(
            Finding(
                f"session {session} of the database",
                f"has locked what {others} others wait for, {seconds} s already",
                f"Ask whose it is, and end it: select pg_terminate_backend({session})",
            )
        )
    return findings


async def services(set_up: SetUp) -> list[Finding]:
    """Each process of the services says that it is ready."""
    if not set_up.operations:
        return [not_looked_at("services", _NO_SERVICES.format(home=set_up.home))]
    findings: list[Finding] = []
    async with httpx.AsyncClient(timeout=3.0, trust_env=False) as http:
        for name, address in set_up.operations.items():
            own = set_up.home / "logs" / f"{name}.log"
            # A home that is down may hold the log of another process of that name.
            log = str(own) if set_up.up and own.exists() else "its log (standard output)"
            try:
                response = await http.get(f"{address}/readyz")
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                found = f"does not answer at {address} ({type(error).__name__})"
                findings.append(Finding(name, found, f"Look at the end of {log} and start it again."))
                continue
            if response.status_code == 200:
                findings.append(Finding(name, f"ready{_in_part(response)}{await _behind(http, address)}"))
            else:
                advice = f"Wait if it is rebuilding; otherwise look at {log}."
                findings.append(Finding(name, f"not ready: {response.text[:300]}", advice))
    return findings


def _in_part(response: httpx.Response) -> str:
    """What waits though the service is ready. It says so of a moment, in which a group may be dealing out what it reads: no advice."""
    try:
        waiting = response.json()["waiting"]
    except (ValueError, KeyError, TypeError):
        return ""
    return "".join(f", but {part} {why}" for part, why in waiting.items())


async def _behind(http: httpx.AsyncClient, address: str) -> str:
    """Where a service is behind, as its metrics tell it; whether it gets on shows a second look."""
    try:
        text = (await http.get(f"{address}/metrics")).text
        lags = [
            (f"{sample.labels['topic']}/{sample.labels['partition']}", int(sample.value))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == _LAG and sample.value > 0
        ]
    except (httpx.HTTPError, ValueError, KeyError):
        return ""
    return "".join(f", {records} behind on {where}" for where, records in sorted(lags))


CHECKS: Final[tuple[Check, ...]] = (python, java, disk, ports, keys, kafka, database, services)


def set_up_of(
    home: Path,
    kafka: str | None = None,
    database: str | None = None,
    bus: str | None = None,
    probe: bool = True,
    operations: Sequence[str] = (),
) -> tuple[SetUp, list[Finding]]:
    """What there is to look at, and what is wrong with the settings and addresses that say so."""
    named = dict(_named(one) for one in operations)
    options = {"bus": bus, "kafka": kafka, "database_url": database, "operations": named or None}
    try:
        known, local = addresses(home), local_settings(home)
        own = known.operations if known else {}
        if Pid.running(home) is None:
            # Where a bus was that is down, nothing has to answer.
            local, own = {name: value for name, value in local.items() if name == "bus"}, {}
        given = local | {name: value for name, value in options.items() if value is not None}
        settings = OperationsSettings.load(**given)
    except (Rejected, SettingsError) as error:
        advice = (
            "Correct it and look again: Kafka, the database and the services are not looked at until then."
        )
        wrong = [Finding("settings", line, advice) for line in str(error).splitlines()]
        return SetUp(home, bus or "main", None, None, probe=probe), wrong
    return (
        SetUp(
            home=home,
            bus=settings.bus,
            kafka=settings.kafka if "kafka" in settings.model_fields_set else None,
            database=settings.database_url.get_secret_value() if settings.database_url else None,
            operations={name: url.rstrip("/") for name, url in (settings.operations or own).items()},
            probe=probe,
            options=settings.kafka_access().options,
        ),
        [],
    )


def _named(given: str) -> tuple[str, str]:
    """NAME=URL, taken apart. What has no name is left to the settings to refuse."""
    name, _, url = given.partition("=")
    return (name, url) if name and url else (given, "")
