"""What was admitted, kept in PostgreSQL so that any intake process recognises a repeat and answers it like the first.

A submission is reserved here before it is appended to the inbox, and its position is stored after. Where the process dies in between, a
repeat finds no position and appends again; matching recognises that. The first position stored is the one everybody is answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine


@dataclass(frozen=True, slots=True)
class Reservation:
    """A submission about to be appended. ``subject`` is set where it opens a referral, with ``referral``."""

    source: str
    id: str
    digest: bytes
    region: str
    referral: str | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands under (source, id): the first body's digest, and where it is on the inbox, if that is known."""

    digest: bytes
    region: str
    partition: int | None
    offset: int | None
    referral: str | None


_RESERVE = text("""
WITH given AS (
    SELECT * FROM unnest(
        CAST(:sources AS text[]), CAST(:ids AS text[]), CAST(:digests AS bytea[]), CAST(:regions AS text[]),
        CAST(:referrals AS text[]), CAST(:subjects AS text[])
    ) AS t(source, id, digest, region, referral, subject)
), fresh AS (
    SELECT * FROM given WHERE subject IS NULL
    OR NOT EXISTS (SELECT FROM intake.referrals AS r WHERE r.referral = given.referral)
    OR EXISTS (SELECT FROM intake.admissions AS a WHERE a.source = given.source AND a.id = given.id)
), opened AS (
    INSERT INTO intake.referrals (referral, subject)
    SELECT referral, subject FROM fresh WHERE subject IS NOT NULL ORDER BY referral
    ON CONFLICT (referral) DO NOTHING
)
INSERT INTO intake.admissions AS a (source, id, digest, region, referral, admitted_at)
SELECT source, id, digest, region, referral, now() FROM fresh ORDER BY source, id
ON CONFLICT (source, id) DO UPDATE SET times = a.times + 1
RETURNING a.source, a.id, a.digest, a.region, a.partition, a."offset", a.referral
""")

_PLACE = text("""
UPDATE intake.admissions AS a
SET partition = coalesce(a.partition, given.partition), "offset" = coalesce(a."offset", given.position)
FROM (
    SELECT * FROM unnest(
        CAST(:sources AS text[]), CAST(:ids AS text[]), CAST(:partitions AS integer[]), CAST(:offsets AS bigint[])
    ) AS t(source, id, partition, position) ORDER BY source, id
) AS given
WHERE a.source = given.source AND a.id = given.id
RETURNING a.source, a.id, a.partition, a."offset"
""")

_FIND = text("""
SELECT a.source, a.id, a.digest, a.region, a.partition, a."offset", a.referral
FROM intake.admissions AS a JOIN unnest(CAST(:sources AS text[]), CAST(:ids AS text[])) AS t(source, id)
ON a.source = t.source AND a.id = t.id
""")

_SUBJECTS = text(
    "SELECT referral, subject FROM intake.referrals WHERE referral = ANY(CAST(:referrals AS text[]))"
)

_REMEMBER = text("""
INSERT INTO intake.referrals (referral, subject)
SELECT referral, subject FROM unnest(CAST(:referrals AS text[]), CAST(:subjects AS text[])) AS t(referral, subject)
ORDER BY referral
ON CONFLICT (referral) DO NOTHING
""")

_PRUNE = text(
    "DELETE FROM intake.admissions WHERE admitted_at < now() - CAST(:days AS integer) * INTERVAL '1 day'"
)


class Admissions:
    """The tables ``intake.admissions`` and ``intake.referrals``. Every method is one statement and one round trip."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def reserve(self, reservations: Sequence[Reservation]) -> dict[tuple[str, str], Standing]:
        """Reserve each (source, id), which must differ from one another, and return what stands under it: its own reservation,
        or that of the first. Nothing stands under an id that opened a referral so long ago that only the referral is known: it
        would open the same one again."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                _RESERVE,
                {
                    "sources": [r.source for r in reservations],
                    "ids": [r.id for r in reservations],
                    "digests": [r.digest for r in reservations],
                    "regions": [r.region for r in reservations],
                    "referrals": [r.referral for r in reservations],
                    "subjects": [r.subject for r in reservations],
                },
            )
            return {(row[0], row[1]): _standing(row) for row in rows}

    async def find(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Standing]:
        """What stands under each (source, id), where anything does. Reserves nothing."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                _FIND, {"sources": [source for source, _ in keys], "ids": [id for _, id in keys]}
            )
            return {(row[0], row[1]): _standing(row) for row in rows}

    async def place(
        self, positions: Sequence[tuple[str, str, int, int]]
    ) -> dict[tuple[str, str], tuple[int, int]]:
        """Store (source, id, partition, offset) where none is stored yet; returns partition and offset that stand."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                _PLACE,
                {
                    "sources": [p[0] for p in positions],
                    "ids": [p[1] for p in positions],
                    "partitions": [p[2] for p in positions],
                    "offsets": [p[3] for p in positions],
                },
            )
            return {(row[0], row[1]): (row[2], row[3]) for row in rows}

    async def subjects_of(self, referrals: Sequence[str]) -> dict[str, str]:
        """The subject of each referral that was admitted here."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(_SUBJECTS, {"referrals": list(referrals)})
            return {row[0]: row[1] for row in rows}

    async def remember(self, subjects: Mapping[str, str]) -> None:
        """Keep whose the referrals are that another is split into."""
        async with self._engine.connect() as connection:
            await connection.execute(
                _REMEMBER, {"referrals": list(subjects), "subjects": list(subjects.values())}
            )

    async def prune(self, days: int) -> int:
        """Delete what is older than the horizon of repeats; returns how many rows."""
        async with self._engine.connect() as connection:
            return int((await connection.execute(_PRUNE, {"days": days})).rowcount)


def _standing(row: Sequence[Any]) -> Standing:
    return Standing(bytes(row[2]), row[3], row[4], row[5], row[6])
