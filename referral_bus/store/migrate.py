"""Each owner's schema, brought up to date at the start of its service: Alembic, one version table a schema, one at a time."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.store.port import StoreError, StoreUnavailable


async def migrate(engine: AsyncEngine, schema: str, package: str) -> None:
    """Apply what is missing of ``package``'s ``versions`` folder to ``schema``, in one transaction under an advisory lock, so
    that several processes can start at once. Raises StoreUnavailable, or StoreError where the schema is newer than the code."""
    try:
        async with engine.begin() as connection:
            await connection.execute(text("set local statement_timeout = 0"))
            await connection.run_sync(_migrate, schema, package)
    except DBAPIError as error:
        raise StoreUnavailable(
            f"the schema {schema} could not be brought up to date ({type(error.orig).__name__}): is the database of "
            "REFBUS_DATABASE_URL reachable, and may this user create schemas there?"
        ) from error


def _migrate(connection: Connection, schema: str, package: str) -> None:
    lock = int.from_bytes(
        hashlib.sha256(f"refbus-migrate-{schema}".encode()).digest()[:8], "big", signed=True
    )
    connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": lock})
    # PostgreSQL refuses even "if not exists" to who may not create schemas, and a service's role need not.
    if not inspect(connection).has_schema(schema):
        connection.execute(text(f'create schema "{schema}"'))
    folder = Path(str(files(package)))
    scripts = ScriptDirectory(str(folder))
    context = MigrationContext.configure(connection, opts={"version_table_schema": schema})
    there = context.get_current_heads()
    known = {script.revision for script in scripts.walk_revisions()}
    if any(revision not in known for revision in there):
        raise StoreError(
            f"the schema {schema} is newer than this version of the bus: start the newer version"
        )
    with Operations.context(context):
        for script in reversed(list(scripts.iterate_revisions("heads", there or "base"))):
            script.module.upgrade()
            context.stamp(scripts, script.revision)
