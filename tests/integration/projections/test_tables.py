"""The migrations make just the tables the code knows, in whatever schema they are told."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from referral_bus.store.migrate import migrate
from services.projections.rebuild import MIGRATIONS
from services.projections.tables import NEXT_SCHEMA, SCHEMA, ViewTables
from tests.support.served_views import World


@pytest.mark.parametrize("schema", [SCHEMA, NEXT_SCHEMA])
async def test_the_migrations_make_the_tables_the_views_are_written_to(world: World, schema: str) -> None:
    await migrate(world.engine, schema, MIGRATIONS)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == schema,
                "version_table_schema": schema,
            },
        )
        return list(compare_metadata(context, ViewTables(schema).metadata))

    async with world.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
