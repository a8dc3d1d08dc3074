"""A database with a role for each service, brought back on another server: who owned what does so again, and with the statements that the
page names each role can do again what it must."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from deploy.prepare import DATABASE, prepare
from referral_bus.backup.cluster import cluster
from referral_bus.backup.folder import Folder
from referral_bus.embedded.bus import SERVICES
from referral_bus.embedded.postgres import EmbeddedPostgres
from referral_bus.log import topics
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.store.port import StoreUnavailable
from tests.support.backups import lost
from tests.support.commands import in_process, write_addresses

PAGE: Final = Path(__file__).parents[3] / "docs" / "how-to" / "back-up-and-restore.md"
READER: Final = """\
create role reporting login;
grant connect on database refbus to reporting;
alter default privileges for role projections grant usage on schemas to reporting;
alter default privileges for role projections grant select on tables to reporting;
"""
"""Somebody who reads the views."""
MEMBER: Final = """\
create role restorer login in role intake, notifier;
grant create on database refbus to restorer;
"""

KEY: Final = "insert into sealing.subject_keys (subject, section, key_version, wrapped_key) values (:subject, 'facts', 1, 'k')"


@contextmanager
def _server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder, durable=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _of(database: str, role: str) -> str:
    return make_url(database).set(username=role).render_as_string(hide_password=False)


def _do(database: str, statements: str) -> None:
    plain = make_url(database).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statements.encode())


@asynccontextmanager
async def _as(database: str, role: str) -> AsyncIterator[AsyncConnection]:
    engine = new_engine(_of(database, role))
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def _started(database: str) -> None:
    """Each service brings up to date what it does at its start."""
    for role in SERVICES:
        engine = new_engine(_of(database, role))
        try:
            await migrate(engine, "sealing", "referral_bus.sealing.migrations")
            if role != "matching":
                await migrate(engine, role, f"services.{role}.migrations")
        finally:
            await engine.dispose()


async def _each_does_what_it_must(database: str) -> None:
    await _started(database)
    for role in SERVICES:
        async with _as(database, role) as as_it:
            await as_it.execute(text(KEY), {"subject": f"sj-{role}"})
            await as_it.execute(
                text("update sealing.subject_keys set wrapped_key = null, destroyed_at = now()")
            )
    async with _as(database, "intake") as intake:
        await intake.execute(text("create table sealing.next_version as select 1 as one"))
    async with _as(database, "matching") as matching:
        await matching.execute(text("select one from sealing.next_version"))
    for owner, row in {"intake": "intake.relayed", "notifier": "notifier.streams"}.items():
        async with _as(database, owner) as as_it:
            await as_it.execute(text(f"alter table {row} add column next_version int"))
    async with _as(database, "projections") as projections:
        await projections.execute(text("create schema projections_next"))
    async with _as(database, "reporting") as reporting:
        await reporting.execute(text("select * from projections.referrals"))
        with pytest.raises(ProgrammingError, match="permission denied"):
            await reporting.execute(text("select * from sealing.subject_keys"))


async def test_each_role_does_what_it_must_on_a_database_that_was_brought_back(
    kafka: str, tmp_path: Path
) -> None:
    home, backup, bus = tmp_path / "home", tmp_path / "backup", f"b{uuid4().hex[:8]}"
    home.mkdir()
    prepare(tmp_path / "secrets", bus)
    made = (tmp_path / "secrets" / "roles.sql").read_text() + READER

    async def run(database: str, role: str, *words: str) -> str:
        write_addresses(home, bus=bus, kafka=kafka, database=_of(database, role))
        command, *more = words
        return await asyncio.to_thread(in_process, command, backup, *more, "--home", home)

    async with cluster(kafka) as there:
        await there.log.ensure(topics.topics(bus, 1, 1))
        with _server(tmp_path / "first") as server:
            database = server.url(DATABASE)
            _do(database, made)
            await _started(database)
            await run(database, "postgres", "backup")
        await lost(there, Folder(backup).checked())

    # Another server has the roles, and an empty database.
    with _server(tmp_path / "second") as server:
        roles = "".join(re.findall(r"create role .*;", made))
        _do(server.url("postgres"), roles)
        database = server.url(DATABASE)
        [named] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
        _do(database, named)
        assert "DATABASE" not in await run(database, "postgres", "restore")
        await _each_does_what_it_must(database)

        # Without those statements it is told which are missing. A member of the owners may bring it back too.
        _do(server.url("postgres"), f"drop database {DATABASE}")
        database = server.url(DATABASE)
        _do(database, MEMBER)
        said = await run(database, "restorer", "restore", "--database-alone")
        with pytest.raises(StoreUnavailable, match="may this user create schemas there"):
            await _started(database)
        for statement in re.findall(r"^  (.* DATABASE .*|alter default privileges .*);$", said, re.M):
            _do(database, statement.replace("DATABASE", DATABASE))
        await _each_does_what_it_must(database)
