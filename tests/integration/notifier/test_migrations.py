"""A database that an earlier version left is brought up to date with what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import services.notifier.migrations
from referral_bus.contracts.ledger import OutcomeReported
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from services.notifier import tables

FOLDER = str(Path(services.notifier.migrations.__file__).parent)
OUTCOME = OutcomeReported.event_type()


def _only(connection: Connection, revision: str) -> None:
    """The schema as it was at a revision."""
    connection.execute(text("create schema notifier"))
    scripts = ScriptDirectory(FOLDER)
    context = MigrationContext.configure(connection, opts={"version_table_schema": "notifier"})
    with Operations.context(context):
        for script in reversed(list(scripts.iterate_revisions(revision, "base"))):
            script.module.upgrade()
            context.stamp(scripts, script.revision)


async def test_an_outcome_that_nobody_was_told_yet_and_the_parties_are_taken_over(postgres: str) -> None:
    engine = new_engine(postgres)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_only, "0001")
            await connection.execute(
                text(
                    "insert into notifier.organisations values ('hospital', 1, 'hospital', null),"
                    " ('shelter', 1, 'provider', null), ('operations', 1, 'operations', null)"
                )
            )
            await connection.execute(
                text(
                    "insert into notifier.standings (referral, subject, agency, purpose, offers, outcome, sealed_note)"
                    " values ('rf-1', 'sj-1', 'hospital', 'emergency', '{}', 'need_met', 'note')"
                )
            )
            await connection.execute(
                text(
                    "insert into notifier.notices (organisation, number, region, sequence, role, type, at, referral)"
                    " values ('hospital', 1, 'north', 7, 'agency', :type, 5, 'rf-1'),"
                    " ('shelter', 1, 'north', 7, 'provider', :type, 5, 'rf-1')"
                ),
                {"type": OUTCOME},
            )
        await migrate(engine, tables.SCHEMA, "services.notifier.migrations")
        async with engine.connect() as connection:
            reports: list[Any] = [tuple(row) for row in await connection.execute(tables.reports.select())]
            roles = {
                row.organisation: row.roles for row in await connection.execute(tables.organisations.select())
            }
            standings = [row._asdict() for row in await connection.execute(tables.standings.select())]
    finally:
        async with engine.begin() as connection:
            await connection.execute(text("drop schema if exists notifier cascade"))
        await engine.dispose()
    assert reports == [("north", 7, "sj-1", 5, {"outcome": "need_met"}, b"note")]
    assert roles == {"hospital": ["agency"], "shelter": ["provider"], "operations": ["operations"]}
    assert [(one["referral"], one["part_of"]) for one in standings] == [("rf-1", None)]
