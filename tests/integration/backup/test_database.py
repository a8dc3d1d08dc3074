"""Schemas out to SQL and back, by PostgreSQL's own programs: all of it or nothing, and nothing of a row in an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.embedded.postgres import programs_folder

NAME = "Wilhelmina Ashgrove-Tester"


async def test_a_schema_comes_back_from_its_file(postgres: str, tmp_path: Path) -> None:
    database, made = Database(postgres, programs_folder()), tmp_path / "made.sql"
    made.write_text(
        f"create schema one; create table one.rows (name text); insert into one.rows values ('{NAME}')"
    )
    await database.load([made])
    await database.dump("one", tmp_path / "one.sql")
    made.write_text("drop schema one cascade")
    await database.load([made, tmp_path / "one.sql"])
    assert await database.ask("select name from one.rows") == [NAME]


async def test_what_fails_changes_nothing_and_quotes_no_row(postgres: str, tmp_path: Path) -> None:
    database, made = Database(postgres, programs_folder()), tmp_path / "made.sql"
    made.write_text(
        f"create schema two; create table two.rows (name text unique);\n"
        f"insert into two.rows values ('{NAME}'), ('{NAME}');"
    )
    with pytest.raises(BackupError, match=r"psql ended with 3: .*made\.sql:2: ERROR") as failed:
        await database.load([made])
    assert NAME not in str(failed.value)
    assert await database.ask("select nspname from pg_namespace where nspname = 'two'") == []


async def test_programs_that_are_not_there_are_named_and_no_password_is(tmp_path: Path) -> None:
    database = Database("postgresql+psycopg://refbus:secret@localhost/refbus", tmp_path)
    with pytest.raises(
        BackupError, match="there is no pg_dump: install PostgreSQL's client programs"
    ) as failed:
        await database.dump("one", tmp_path / "one.sql")
    assert "secret" not in str(failed.value)
