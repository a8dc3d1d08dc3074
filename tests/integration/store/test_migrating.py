"""A service brings its own schema up to date with no more rights than docs/how-to/run-for-real.md gives its role."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url, text

from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.store.port import StoreError, StoreUnavailable

SCHEMA, PACKAGE = "sealing", "referral_bus.sealing.migrations"


def granted(postgres: str, role: str) -> None:
    address = make_url(postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as owner:
        owner.execute(
            sql.SQL("create schema {} authorization {}").format(
                sql.Identifier(SCHEMA), sql.Identifier(str(make_url(role).username))
            )
        )


async def test_a_role_that_may_not_create_schemas_brings_its_own_up_to_date(postgres: str, role: str) -> None:
    granted(postgres, role)
    engine = new_engine(role)
    await migrate(engine, SCHEMA, PACKAGE)
    await migrate(engine, SCHEMA, PACKAGE)
    async with engine.connect() as connection:
        tables = await connection.scalar(
            text("select count(*) from information_schema.tables where table_schema = :schema"),
            {"schema": SCHEMA},
        )
    await engine.dispose()
    assert tables > 1


async def test_a_role_without_a_schema_is_told_what_it_lacks(postgres: str, role: str) -> None:
    engine = new_engine(role)
    with pytest.raises(StoreUnavailable, match="may this user create schemas there"):
        await migrate(engine, "absent", PACKAGE)
    await engine.dispose()


async def test_code_that_is_older_than_the_schema_says_so_and_changes_nothing(postgres: str) -> None:
    engine = new_engine(postgres)
    await migrate(engine, SCHEMA, PACKAGE)
    async with engine.begin() as connection:
        await connection.execute(text(f"update {SCHEMA}.alembic_version set version_num = '9999'"))
    with pytest.raises(StoreError, match="schema sealing is newer than this version of the bus"):
        await migrate(engine, SCHEMA, PACKAGE)
    async with engine.connect() as connection:
        assert await connection.scalar(text(f"select version_num from {SCHEMA}.alembic_version")) == "9999"
        await connection.execute(text(f"drop schema {SCHEMA} cascade"))
        await connection.commit()
    await engine.dispose()
