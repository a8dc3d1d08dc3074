"""The tables of the schema ``intake`` in memory. ``tests/contract/intake`` holds them to those in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from services.intake import relay
from services.intake.repeats import Reservation, Standing
from tests.support.memory_database import Database, away

Key = tuple[str, str]
T = TypeVar("T")


@dataclass
class IntakeTables:
    """``intake.admissions``, ``intake.referrals``, ``intake.relayed``, and which connection holds the relay's lock."""

    admissions: dict[Key, Standing] = field(default_factory=dict)
    referrals: dict[str, str] = field(default_factory=dict)
    relayed: dict[str, int] = field(default_factory=dict)
    relays: RelayConnection | None = None


class MemoryAdmissions:
    """As :class:`services.intake.repeats.Admissions`, which never forgets."""

    def __init__(self, database: Database, tables: IntakeTables) -> None:
        self._database, self.tables = database, tables

    async def reserve(self, reservations: Sequence[Reservation]) -> dict[Key, Standing]:
        def there() -> dict[Key, Standing]:
            admissions, referrals = self.tables.admissions, self.tables.referrals
            asked = {(one.source, one.id): one for one in reservations}
            if len(asked) < len(reservations):
                raise ValueError("one statement can't touch a row twice")
            # All are looked at before any is written, as one statement does.
            fresh = {
                key: one
                for key, one in asked.items()
                if one.subject is None or one.referral not in referrals or key in admissions
            }
            for key, one in fresh.items():
                if one.subject is not None and one.referral is not None:
                    referrals.setdefault(one.referral, one.subject)
                admissions.setdefault(key, Standing(one.digest, one.region, None, None, one.referral))
            return {key: admissions[key] for key in fresh}

        return await self._ask("reserve", there)

    async def find(self, keys: Sequence[Key]) -> dict[Key, Standing]:
        known = self.tables.admissions
        return await self._ask("find", lambda: {key: known[key] for key in keys if key in known})

    async def place(self, positions: Sequence[tuple[str, str, int, int]]) -> dict[Key, tuple[int, int]]:
        def there() -> dict[Key, tuple[int, int]]:
            found: dict[Key, tuple[int, int]] = {}
            for source, id, partition, offset in positions:
                stands = self.tables.admissions.get((source, id))
                if stands is None:
                    continue
                if stands.partition is None or stands.offset is None:
                    stands = replace(stands, partition=partition, offset=offset)
                    self.tables.admissions[source, id] = stands
                found[source, id] = stands.partition or 0, stands.offset or 0
            return found

        return await self._ask("place", there)

    async def subjects_of(self, referrals: Sequence[str]) -> dict[str, str]:
        known = self.tables.referrals
        return await self._ask("subjects_of", lambda: {one: known[one] for one in referrals if one in known})

    async def remember(self, subjects: Mapping[str, str]) -> None:
        def there() -> None:
            for one in subjects.items():
                self.tables.referrals.setdefault(*one)

        await self._ask("remember", there)

    async def _ask(self, step: str, there: Callable[[], T]) -> T:
        """``step``: for who has one fail."""
        return await self._database.ask(there, away)


class Process(Protocol):
    """Whose a connection is."""

    dead: bool


class RelayEngine:
    """Gives the connection on which intake's relay holds its lock and writes its positions."""

    def __init__(self, process: Process, database: Database, tables: IntakeTables) -> None:
        self._process, self._database, self._tables = process, database, tables

    def execution_options(self, **_: Any) -> RelayEngine:
        return self

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[RelayConnection]:
        yield RelayConnection(self._process, self._database, self._tables)


class RelayConnection:
    """Knows the relay's three statements, and no others. It breaks where an answer does not come, and the lock goes with it."""

    def __init__(self, process: Process, database: Database, tables: IntakeTables) -> None:
        self._process, self._database, self._tables = process, database, tables
        self._broken = False

    @property
    def gone(self) -> bool:
        return self._broken or self._process.dead

    async def scalar(self, statement: Any, _: Any) -> bool:
        assert statement is relay._LOCK

        def there() -> bool:
            holder = self._tables.relays
            if holder is None or holder.gone:
                self._tables.relays = self
            return self._tables.relays is self

        return await self._ask(there)

    async def execute(self, statement: Any, values: Mapping[str, Any] | None = None) -> list[tuple[str, int]]:
        def there() -> list[tuple[str, int]]:
            if statement is relay._MOVE and values is not None:
                self._tables.relayed[values["region"]] = values["next"]
                return []
            assert statement is relay._POSITIONS
            return list(self._tables.relayed.items())

        return await self._ask(there)

    async def invalidate(self) -> None:
        self._broken = True

    async def _ask(self, there: Callable[[], T]) -> T:
        def unbroken() -> T:
            # What comes late comes on a connection that is no more.
            if self._broken:
                raise away()
            return there()

        try:
            return await self._database.ask(unbroken, away)
        except OSError:
            self._broken = True
            raise
