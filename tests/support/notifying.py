"""A bus as the notifier sees it: a ledger somebody writes, keys somebody made, and parties that listen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaProducer
from sqlalchemy import text

from referral_bus.access.tokens import issue_token
from referral_bus.contracts.facts import Facts, Identity, Need, Note
from referral_bus.contracts.ids import referral_id, task_id
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Admitted,
    Entry,
    Event,
    Meta,
    OfferAccepted,
    OfferMade,
    ReferenceAdopted,
    ReferralOpened,
)
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.vocabulary import OrganisationKind, Role
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Appender, Outgoing, Record
from referral_bus.log.reading import everything
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.health import Health
from referral_bus.sealing.jwe import EncryptionKeys, open_with
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import SubjectKeys
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from services.notifier.service import build
from services.notifier.settings import NotifierSettings

SECONDS = 30.0
REGION = "north"
SUBJECT = "sj-" + "a" * 26
PARTIES: dict[str, tuple[OrganisationKind, list[Role]]] = {
    "police": ("police", ["agency"]),
    "hospital": ("hospital", ["agency"]),
    "shelter": ("provider", ["provider"]),
    "clinic": ("provider", ["provider"]),
    "operations": ("operations", ["operations"]),
}
NAME = "Quentin Featherstonehaugh"


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


class Ledger:
    """Writes a region's events as matching would."""

    def __init__(self, log: KafkaLog, bus: str, codec: Codec) -> None:
        self._log = log
        self._topic = topics.ledger(bus)
        self._codec = codec
        self._appender: Appender | None = None
        self.sequence = 0

    async def _append(self, record: Outgoing) -> None:
        if self._appender is None:
            self._appender = await self._log.appender()
        await self._appender.append([record])

    def entry(self, event: Event, admitted: Admitted | None = None) -> Entry:
        meta = Meta(
            region=REGION,
            sequence=self.sequence + 1,
            prev_hash=GENESIS_HASH,
            decided_through=1,
            now=int(time.time() * 1000),
            rules=1,
            submission=admitted,
        )
        return Entry(meta, event)

    def record(self, event: Event, admitted: Admitted | None = None) -> Outgoing:
        return Outgoing(
            self._topic, 0, REGION.encode(), self._codec.encode_entry(self.entry(event, admitted)), ()
        )

    async def put(self, *events: Event, admitted: Admitted | None = None) -> None:
        for event in events:
            record = self.record(event, admitted)
            self.sequence += 1
            await self._append(record)

    async def put_bytes(self, value: bytes) -> None:
        await self._append(Outgoing(self._topic, 0, REGION.encode(), value, ()))


@dataclass
class World:
    """Everything around the notifier."""

    bus: str
    kafka: str
    database: str
    codec: Codec
    log: KafkaLog
    ledger: Ledger
    sealer: Sealer
    keys: KeyStore
    organisation_keys: dict[str, EncryptionKeys]
    signing: str
    settings: NotifierSettings
    _count: int = field(default=0)

    def token(self, organisation: str, roles: Sequence[Role] | None = None) -> str:
        return issue_token(self.signing, self.bus, organisation, roles or PARTIES[organisation][1])

    def http(self, organisation: str, roles: Sequence[Role] | None = None) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.settings.port}",
            headers={"authorization": f"Bearer {self.token(organisation, roles)}"},
            timeout=SECONDS,
        )

    async def adopt(self) -> None:
        """The region hears of all organisations."""
        for name, (kind, roles) in PARTIES.items():
            organisation = Organisation(
                organisation=name,
                name=name,
                kind=kind,
                roles=roles,
                home_region=REGION,
                encryption_key=self.organisation_keys[name].public,
            )
            await self.ledger.put(
                ReferenceAdopted(kind="organisation", reference=name, version=1, organisation=organisation)
            )

    async def _keys_of(self, subject: str) -> SubjectKeys:
        keys = (await self.keys.ensure([subject]))[subject]
        assert isinstance(keys, SubjectKeys)
        return keys

    async def sealed_text(self, words: str, subject: str = SUBJECT) -> bytes:
        """Free text about a person, as a party sends it."""
        return self.sealer.seal((await self._keys_of(subject)).identity, subject, Note(text=words))

    async def sealed_facts(self, need: str, subject: str = SUBJECT) -> bytes:
        """Facts that say the person needs this."""
        facts = Facts(needs=[Need(code=need)])
        return self.sealer.seal((await self._keys_of(subject)).facts, subject, facts)

    async def opened(
        self, agency: str = "hospital", subject: str = SUBJECT, part_of: str | None = None
    ) -> ReferralOpened:
        """A referral just opened (not yet on the ledger), its sections sealed; a part of another has no identity of its own."""
        self._count += 1
        keys = await self._keys_of(subject)
        identity = self.sealer.seal(keys.identity, subject, Identity(name=NAME))
        return ReferralOpened(
            referral=referral_id(REGION, self.bus, agency, f"s-{self._count}"),
            subject=subject,
            agency=agency,
            urgency="urgent",
            purpose="care_coordination",
            protocol="simple",
            protocol_version=1,
            sealed_facts=await self.sealed_facts("emergency-shelter", subject),
            sealed_identity=identity if part_of is None else None,
            part_of=part_of,
        )

    def offered(self, opened: ReferralOpened, provider: str = "shelter", attempt: int = 1) -> OfferMade:
        return OfferMade(
            referral=opened.referral,
            task=task_id(opened.referral, attempt),
            service=f"sv-{REGION}-beds",
            unit=f"un-{REGION}-beds",
            provider=provider,
            expires_at=int(time.time() * 1000) + 60_000,
        )

    def accepted(self, offer: OfferMade) -> OfferAccepted:
        return OfferAccepted(referral=offer.referral, task=offer.task, provider=offer.provider)

    def shown(self, organisation: str, disclosed: bytes | None) -> dict[str, Any]:
        """What a notice shows, opened with the organisation's key."""
        assert disclosed is not None
        content: dict[str, Any] = json.loads(
            open_with(self.organisation_keys[organisation].private, disclosed)
        )
        return content

    async def messages(self, topic: str) -> list[tuple[Record, Message]]:
        """All that is on a topic now."""
        return [(record, self.codec.decode(record.value)) for record in await everything(self.log, topic)]

    async def rows(self, statement: str) -> list[Any]:
        engine = new_engine(self.database)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(statement))
                return list(result.all()) if result.returns_rows else []
        finally:
            await engine.dispose()

    async def abort(self, *events: Event) -> None:
        """Put events on the ledger in a transaction that is aborted."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka, transactional_id=f"aborting-{uuid4().hex[:8]}"
        )
        await producer.start()
        try:
            await producer.begin_transaction()
            for event in events:
                record = self.ledger.record(event)
                await producer.send_and_wait(
                    record.topic, record.value, key=record.key, partition=record.partition
                )
            await producer.abort_transaction()
        finally:
            await producer.stop()

    @asynccontextmanager
    async def running(self, clock: Clock | None = None, **changed: Any) -> AsyncIterator[Health]:
        """The notifier, until it is cancelled as a killed one would be: at once, wherever it is."""
        settings = self.settings.model_copy(update=changed)
        health = Health()
        async with build(settings, health, clock) as parts:
            tasks = [asyncio.create_task(part.work, name=part.name) for part in parts]
            try:
                await until(lambda: not health.problems() or any(task.done() for task in tasks))
                for task in tasks:
                    if task.done():
                        task.result()
                yield health
            finally:
                failed = [task for task in tasks if task.done() and not task.cancelled()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for task in failed:
                    # What ended it says more than what was waited for in vain.
                    task.result()

    async def reflected(self) -> None:
        """Wait until SQL reflects all that was put on the ledger."""
        statement = f"select next_sequence from notifier.regions where region = '{REGION}'"

        async def there() -> bool:
            rows = await self.rows(statement)
            return bool(rows) and rows[0][0] == self.ledger.sequence + 1

        await until(there)


@dataclass
class Received:
    """A request that reached the webhook."""

    headers: dict[str, str]
    body: bytes


class Receiver:
    """A webhook. Answers with the statuses it is given, then with ``otherwise``."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.statuses: list[int] = []
        self.otherwise = 204
        self.open = asyncio.Event()
        self.open.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                pairs = (line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers["content-length"]))
                self.received.append(Received(headers, body))
                await self.open.wait()
                status = self.statuses.pop(0) if self.statuses else self.otherwise
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A webhook that is up."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()
