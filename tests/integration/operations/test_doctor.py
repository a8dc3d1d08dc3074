"""What doctor sees of a real database, by the role it is given."""

from __future__ import annotations

from pathlib import Path

import psycopg
from sqlalchemy import make_url

from referral_bus.cli import doctor


async def test_a_role_that_sees_no_sessions_but_its_own_is_told_so(
    postgres: str, role: str, tmp_path: Path
) -> None:
    async def about(url: str) -> dict[str, bool]:
        found = await doctor.database(doctor.SetUp(tmp_path, "main", None, url))
        return {finding.about: finding.looked for finding in found}

    sessions = "sessions of the database"
    assert (await about(role))[sessions] is False
    assert sessions not in await about(postgres)
    address = make_url(postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as owner:
        owner.execute(f"grant pg_read_all_stats to {make_url(role).username}")  # type: ignore[call-overload]
    assert sessions not in await about(role)
