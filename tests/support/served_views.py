"""Projections on a real broker and a real database: a ledger somebody writes, keys somebody made, and parties that ask."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.access.tokens import issue_token
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.facts import Facts, Identity, Need, Note
from referral_bus.contracts.ledger import Event, ReferralOpened
from referral_bus.contracts.vocabulary import Role
from referral_bus.embedded.process import ChildProcess
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Appender, Outgoing
from referral_bus.log.reading import everything
from referral_bus.runtime.health import Health
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import SubjectKeys
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from services.projections.check import Comparison, compare
from services.projections.service import build
from services.projections.settings import ProjectionsSettings
from tests.support.viewing import PARTIES, Region, subject

SECONDS = 30.0
NAME = "Quentin Featherstonehaugh"
NOTE = "Moved in on Tuesday with the dog Bartholomew"


async def until(held: Callable[[], Any]) -> None:
    """Wait for something to hold; fail after a while."""
    async with asyncio.timeout(SECONDS):
        while True:
            held_now = held()
            if asyncio.iscoroutine(held_now):
                held_now = await held_now
            if held_now:
                return
            await asyncio.sleep(0.02)


@dataclass
class World:
    """Everything around projections. ``north`` and ``south`` are regions in partitions of their own."""

    bus: str
    codec: Codec
    log: KafkaLog
    engine: AsyncEngine
    sealer: Sealer
    keys: KeyStore
    signing: str
    settings: ProjectionsSettings
    north: Region
    south: Region
    folder: Path
    _appender: list[Appender] = field(default_factory=list)

    @property
    def ledger(self) -> str:
        return topics.ledger(self.bus)

    def token(self, organisation: str, roles: Sequence[Role] | None = None) -> str:
        return issue_token(self.signing, self.bus, organisation, roles or PARTIES[organisation][1])

    def http(self, organisation: str, roles: Sequence[Role] | None = None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.settings.port}",
            headers={"authorization": f"Bearer {self.token(organisation, roles)}"},
            timeout=SECONDS,
        )

    async def append(self, records: Sequence[Outgoing]) -> None:
        if not self._appender:
            self._appender.append(await self.log.appender())
        for start in range(0, len(records), 1000):
            await self._appender[0].append(records[start : start + 1000])

    async def put(self, region: Region, *events: Event) -> None:
        """The region's next events, committed."""
        await self.append([region.put(event) for event in events])

    async def begin(self) -> None:
        """North knows all organisations, and the shelter has beds there."""
        await self.put(self.north, *(self.north.adopted(name) for name in PARTIES), self.north.published())

    async def opened(self, agency: str = "hospital", number: int = 1) -> ReferralOpened:
        """A referral just opened in the north (not yet on the ledger), its sections sealed."""
        person = subject(number)
        keys = (await self.keys.ensure([person]))[person]
        assert isinstance(keys, SubjectKeys)
        return self.north.opened(
            agency,
            person,
            facts=self.sealer.seal(keys.facts, person, Facts(needs=[Need(code="emergency-shelter")])),
            identity=self.sealer.seal(keys.identity, person, Identity(name=NAME)),
        )

    async def note(self, number: int = 1) -> bytes:
        """A note on an outcome, sealed."""
        keys = (await self.keys.ensure([subject(number)]))[subject(number)]
        assert isinstance(keys, SubjectKeys)
        return self.sealer.seal(keys.identity, subject(number), Note(text=NOTE))

    def after(self, region: Region) -> str:
        """The token of the region's last decided submission."""
        return f"{region.name}.{region.partition}.{region.inbox_offset}"

    async def reflected(self, schema: str = "projections") -> None:
        """Wait until the views reflect all that both regions put on the ledger."""
        wanted = {region.name: region.sequence for region in (self.north, self.south) if region.sequence}

        async def there() -> bool:
            rows = await self.rows(f"select region, sequence from {schema}.regions")
            return {row.region: row.sequence for row in rows} == wanted

        await until(there)

    async def rows(self, statement: str) -> list[Any]:
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement))
            return list(result.all()) if result.returns_rows else []

    async def compared(self) -> Comparison:
        """The views held against a fresh fold."""
        return await compare(self.engine, self.log, self.ledger, self.codec, SECONDS)

    async def releases(self) -> list[Disclosed]:
        """All that was recorded as shown."""
        found: list[Disclosed] = []
        for record in await everything(self.log, topics.disclosure(self.bus)):
            message = self.codec.decode(record.value)
            assert isinstance(message, Disclosed)
            found.append(message)
        return found

    @asynccontextmanager
    async def running(self, **changed: Any) -> AsyncIterator[Health]:
        """Projections in this process, ready."""
        health = Health()
        async with build(self.settings.model_copy(update=changed), health) as parts:
            tasks = [asyncio.create_task(part.work, name=part.name) for part in parts]
            try:
                await until(lambda: not health.problems() or any(task.done() for task in tasks))
                for task in tasks:
                    if task.done():
                        task.result()
                yield health
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def process(self, name: str, operations_port: int) -> ChildProcess:
        """Projections as a process of its own."""
        settings = self.settings
        environment = {
            "REFBUS_BUS": self.bus,
            "REFBUS_KAFKA": settings.kafka,
            "REFBUS_DATABASE_URL": settings.database_url.get_secret_value(),
            "REFBUS_MASTER_KEY": settings.master_key.get_secret_value(),
            "REFBUS_JWKS": settings.jwks,
            "REFBUS_PORT": "0",
            "REFBUS_OPERATIONS_PORT": str(operations_port),
            "REFBUS_BATCH_RECORDS": "50",
            "PYTHONPATH": os.getcwd(),
        }
        command = [sys.executable, "-m", "services.projections"]
        return ChildProcess(name, command, environment, self.folder / f"{name}.log")
