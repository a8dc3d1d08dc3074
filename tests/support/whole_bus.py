"""The whole bus as those who use it meet it: broker, database and four services as processes, and parties that go by the SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
from sqlalchemy import text

from referral_bus.access.tokens import issue_token
from referral_bus.client.answers import Answer, Row
from referral_bus.client.bus import Bus
from referral_bus.client.outbox import Outbox
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.facts import Facts, Identity, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.ids import service_id, unit_id
from referral_bus.contracts.ledger import Entry
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import OfferLimits, Organisation, Protocol
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.services import ANY, AgeRange, ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import OrganisationKind, Role, Urgency
from referral_bus.demo.watch import Watch
from referral_bus.embedded.bus import LocalBus, Plan, local_bus
from referral_bus.embedded.reference import OPERATIONS, publish_defaults
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing, Record
from referral_bus.log.reading import everything
from referral_bus.sealing.jwe import EncryptionKeys, new_encryption_keys
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec

SECONDS: Final = 30.0
REGIONS: Final = ("north", "south")
PARTIES: Final[dict[str, tuple[OrganisationKind, list[Role], str]]] = {
    "police-team": ("police", ["agency"], "north"),
    "hospital": ("hospital", ["agency"], "north"),
    "school": ("school", ["agency"], "south"),
    "harbor": ("provider", ["provider"], "north"),
    "maple": ("provider", ["provider"], "north"),
    "cedar": ("provider", ["provider"], "south"),
}
"""Kind, roles and home region of each organisation."""

CRISIS_MS: Final = 2_500
PROTOCOL: Final = Protocol(
    protocol="standard",
    version=2,
    offer_limits=OfferLimits(crisis=CRISIS_MS, urgent=60_000, routine=600_000),
    maximum_offers=5,
    parking_ms=2_000,
)
"""A crisis offer runs out while a test waits for it; the others do not while a test does something else."""

SETTINGS: Final = {
    "REFBUS_WEBHOOK_ALLOW_HTTP_LOOPBACK": "true",
    "REFBUS_WEBHOOK_FIRST_RETRY_SECONDS": "0.1",
    "REFBUS_WEBHOOK_LONGEST_RETRY_SECONDS": "0.5",
    "REFBUS_SNAPSHOT_EVENTS": "100",
}


async def until(held: Callable[[], Any], within: float = SECONDS) -> Any:
    """Wait for something to hold, and return it; fail after a while."""
    async with asyncio.timeout(within):
        while True:
            found = held()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.03)


@dataclass(frozen=True, slots=True)
class Asked:
    """A referral that was submitted, and where it stands once it is decided."""

    answer: Answer
    timeline: Row

    @property
    def referral(self) -> str:
        assert self.answer.referral is not None
        return self.answer.referral

    @property
    def task(self) -> str:
        """The task that is offered now."""
        task: str = self.timeline["task"]
        return task


class WholeBus:
    """A bus that is up, with the organisations of :data:`PARTIES` published and adopted. Made by :func:`whole_bus`."""

    def __init__(self, bus: LocalBus, log: KafkaLog, http: httpx.AsyncClient) -> None:
        self.bus = bus
        self.log = log
        self.http = http
        self.codec = Codec.load()
        self.keys: dict[str, EncryptionKeys] = {name: new_encryption_keys() for name in PARTIES}

    @property
    def home(self) -> Path:
        return self.bus.plan.home

    @property
    def name(self) -> str:
        """The bus's id."""
        return self.bus.plan.bus

    def token(self, organisation: str, roles: Sequence[Role] | None = None) -> str:
        granted = roles if roles is not None else PARTIES[organisation][1]
        return issue_token(self.bus.secrets.read("token_key"), self.name, organisation, granted)

    def party(self, organisation: str, roles: Sequence[Role] | None = None) -> Bus:
        """The bus as one organisation uses it."""
        addresses = self.bus.addresses
        return Bus(
            lambda: self.token(organisation, roles),
            intake=addresses.intake,
            queries=addresses.queries,
            notifier=addresses.notifier,
            http=self.http,
            patience=SECONDS,
        )

    def operations(self) -> Bus:
        return self.party(OPERATIONS, ["operations"])

    def authorization(self, organisation: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token(organisation)}"}

    async def publish_parties(self) -> None:
        """Rules and organisations, until every region has adopted them."""
        await publish_defaults(self.bus, list(REGIONS))
        operations = self.operations()
        await operations.publish(PROTOCOL)
        wanted = {(region, "protocol", "standard", PROTOCOL.version) for region in REGIONS}
        for name, (kind, roles, home) in PARTIES.items():
            organisation = Organisation(
                organisation=name,
                name=name,
                kind=kind,
                roles=roles,
                home_region=home,
                encryption_key=self.keys[name].public,
            )
            await operations.publish(organisation)
            wanted |= {(region, "organisation", name, 1) for region in REGIONS}
        await self.adopted(wanted)

    async def adopted(self, wanted: set[tuple[str, str, str, int]]) -> None:
        """Wait until each (region, kind, id, version) is in force."""
        watch = Watch(self.log, self.name, self.codec)
        watching = asyncio.create_task(watch.run())
        try:
            await watch.until(
                lambda seen: wanted <= seen.adopted, lambda seen: f"{wanted - seen.adopted}", SECONDS
            )
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def service(
        self, provider: str, need: str, *, places: int = 1, region: str | None = None, **changed: Any
    ) -> ServiceDefinition:
        """The provider offers a new service for a need; for everybody, unless that is changed."""
        home = region or PARTIES[provider][2]
        local = uuid4().hex[:12]
        definition = ServiceDefinition(
            **{
                "service": service_id(home, local),
                "organisation": provider,
                "name": f"{provider} {need}",
                "terms": [Need(code=need)],
                "ages": AgeRange(),
                "areas": [ANY],
                "languages": [ANY],
                "units": [Unit(unit=unit_id(home, local), name="place", total=places, available=places)],
                **changed,
            }
        )
        answer = await self.party(provider).publish_service(definition)
        await self.party(provider).capacity(after=answer.token, wait=20.0)
        return definition

    async def refer(
        self, agency: str, need: str, *, id: str | None = None, urgency: Urgency = "routine", **changed: Any
    ) -> Asked:
        """The agency submits a referral, and looks once the views reflect what was decided."""
        bus = self.party(agency)
        answer = await bus.submit(request(need, urgency=urgency, **changed), id=id)
        assert answer.referral is not None
        return Asked(answer, await bus.timeline(answer.referral, after=answer.token, wait=20.0))

    async def subscribe(self, organisation: str, **body: str) -> dict[str, Any]:
        """The organisation subscribes at the notifier; what it was answered."""
        url = f"{self.bus.addresses.notifier}/v1/subscriptions"
        response = await self.http.post(url, json=body, headers=self.authorization(organisation))
        found: dict[str, Any] = response.raise_for_status().json()
        return found

    async def unsubscribe(self, organisation: str, subscription: str) -> None:
        url = f"{self.bus.addresses.notifier}/v1/subscriptions/{subscription}"
        (await self.http.delete(url, headers=self.authorization(organisation))).raise_for_status()

    async def outbox(self, organisation: str) -> Outbox:
        """The organisation's way through the Kafka door."""
        return Outbox(await self.log.appender(), organisation, await self.party(organisation).intake_key())

    async def put_bytes(self, topic: str, value: bytes) -> None:
        await (await self.log.appender()).append([Outgoing(topic, 0, None, value)])

    async def records(self, topic: str) -> list[Record]:
        """All committed records that are on a topic now."""
        return await everything(self.log, topic)

    async def messages(self, topic: str) -> list[Message]:
        return [self.codec.decode(record.value) for record in await self.records(topic)]

    async def ledger(self) -> list[Entry]:
        return [
            self.codec.decode_entry(record.value) for record in await self.records(topics.ledger(self.name))
        ]

    async def disclosed(self, referral: str, recipient: str) -> list[Disclosed]:
        """What was recorded as shown of a referral to a recipient."""
        return [
            message
            for message in await self.messages(topics.disclosure(self.name))
            if isinstance(message, Disclosed)
            and message.referral == referral
            and message.recipient == recipient
        ]

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        """Ask or change the database as its operator would."""
        engine = new_engine(self.bus.addresses.database, pool_size=1)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(statement), values)
                return list(result.all()) if result.returns_rows else []
        finally:
            await engine.dispose()


def request(need: str, *, urgency: Urgency = "routine", **changed: Any) -> ReferralRequest:
    """A person who needs something. ``changed`` replaces fields of the request."""
    return ReferralRequest(
        **{
            "subject": f"case-{uuid4().hex[:12]}",
            "urgency": urgency,
            "facts": Facts(
                age=NumberFact(status="stated", value=34),
                languages=ListFact(status="stated", values=["en"]),
                area=TextFact(status="stated", value="00011"),
                needs=[Need(code=need)],
            ),
            "identity": Identity(name="Wilhelmina Ashgrove-Tester", phone="+1 555 555 0142"),
            **changed,
        }
    )


def new_need() -> str:
    """A need that nobody else has or meets, so that tests sharing a bus do not meet each other."""
    return f"need-{uuid4().hex[:12]}"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def of(rows: Sequence[Row], field: str, value: str) -> Row:
    """The one row of a page that has this value."""
    [row] = [row for row in rows if row[field] == value]
    return row


@asynccontextmanager
async def whole_bus(home: Path, **settings: str) -> AsyncIterator[WholeBus]:
    """Bring a bus up with its parties, and take it down again."""
    async with bus_of(plan_of(home, **settings)) as whole:
        await whole.publish_parties()
        yield whole


def plan_of(home: Path, **settings: str) -> Plan:
    """The bus of these tests."""
    return Plan(home, bus="e2e", partitions=3, durable=False, settings={**SETTINGS, **settings})


@asynccontextmanager
async def bus_of(plan: Plan) -> AsyncIterator[WholeBus]:
    """Bring a bus up as it is, and take it down again."""
    async with (
        local_bus(plan) as bus,
        httpx.AsyncClient(
            timeout=SECONDS,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        ) as http,
    ):
        log = KafkaLog(bus.addresses.kafka)
        try:
            yield WholeBus(bus, log, http)
        finally:
            await log.close()
