"""Schemas of the database out to SQL files and back, by PostgreSQL's own programs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from psycopg.conninfo import conninfo_to_dict

from referral_bus.backup.errors import BackupError

_VARIABLES: Final = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}

# To the owner and to everybody they are given from the beginning.
_RIGHTS: Final = """
select format('grant %s on database DATABASE to %I', lower(privilege_type), pg_get_userbyid(grantee))
from pg_database, aclexplode(datacl) where datname = current_database() and grantee not in (0, datdba)
union select 'revoke all on database DATABASE from public'
from pg_database where datname = current_database() and not exists (
    select from aclexplode(coalesce(datacl, acldefault('d', datdba))) where grantee = 0)
union select format(
    'alter default privileges for role %I grant %s on %s to %I', pg_get_userbyid(defaclrole), lower(privilege_type),
    case defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types'
        when 'n' then 'schemas' else 'large objects' end,
    pg_get_userbyid(grantee))
from pg_default_acl, aclexplode(defaclacl) where defaclnamespace = 0 and grantee not in (0, defaclrole)
order by 1 desc"""


class Database:
    """The database at a ``postgresql+psycopg://`` address. ``programs``: the folder of ``pg_dump`` and ``psql``; otherwise those on the
    path are used."""

    def __init__(self, url: str, programs: Path | None = None) -> None:
        # In the environment rather than on the command line, where every process of the machine could read the password.
        plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._address = {
            _VARIABLES[name]: str(value)
            for name, value in conninfo_to_dict(plain).items()
            if name in _VARIABLES and value is not None
        }
        self._programs = programs

    async def dump(self, schema: str, path: Path) -> None:
        """Write a schema to a file, as of one moment. Raises BackupError."""
        await self._run("pg_dump", f"--schema={schema}", "--strict-names", f"--file={path}")

    async def rights(self) -> list[str]:
        """Statements that give what is given on the database itself, called DATABASE in them, and on what roles will make in any schema of
        it: no schema holds that. Raises BackupError."""
        return await self.ask(_RIGHTS)

    async def load(self, files: Iterable[Path]) -> None:
        """Run SQL files in one transaction: all of it or nothing. Raises BackupError."""
        await self._psql(
            "--set=ON_ERROR_STOP=1",
            "--single-transaction",
            "--output=/dev/null",
            *(f"--file={f}" for f in files),
        )

    async def ask(self, statement: str) -> list[str]:
        """The first column of what a statement finds. Raises BackupError."""
        return (await self._psql("--tuples-only", "--no-align", f"--command={statement}")).splitlines()

    async def _psql(self, *words: str) -> str:
        return await self._run("psql", "--no-psqlrc", "--quiet", *words)

    async def _run(self, program: str, *words: str) -> str:
        path = shutil.which(program, path=self._programs)
        if path is None:
            raise BackupError(
                f"there is no {program}: install PostgreSQL's client programs, or name their folder with --programs"
            )
        process = await asyncio.create_subprocess_exec(
            path,
            *words,
            env={**os.environ, **self._address, "PGCONNECT_TIMEOUT": "10"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, wrong = await process.communicate()
        if process.returncode:
            raise BackupError(f"{program} ended with {process.returncode}: {_first_line(wrong)}")
        return said.decode()


def _first_line(wrong: bytes) -> str:
    """The first line alone: what follows may quote a row."""
    lines: Sequence[str] = wrong.decode(errors="replace").splitlines()
    return lines[0][:300] if lines else "it gave no reason"
