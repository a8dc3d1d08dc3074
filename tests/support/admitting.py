"""A bus as intake sees it: topics, a database, tokens, organisations that are published, and parties that speak."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from pydantic import SecretStr
from sqlalchemy import text

from referral_bus.access.tokens import issue_token, jwks_of, new_signing_key
from referral_bus.client import Bus
from referral_bus.contracts.facts import Facts, Identity, Need, NumberFact
from referral_bus.contracts.inbox import AdoptReference, Submission
from referral_bus.contracts.ledger import Received
from referral_bus.contracts.message import Message, Part
from referral_bus.contracts.reference import Organisation, RegionTable
from referral_bus.contracts.requests import (
    AcceptRequest,
    AcknowledgeRequest,
    AmendRequest,
    AnswerRequest,
    AskRequest,
    CapacityRequest,
    ContactRequest,
    DeclineRequest,
    FollowUpRequest,
    HandoffRequest,
    HoldRequest,
    NoShowRequest,
    OutcomeRequest,
    PartRequest,
    ProposeRequest,
    ReferralRequest,
    ReopenRequest,
    ResumeRequest,
    RetractRequest,
    ServiceRequest,
    SplitRequest,
    StartRequest,
    TransferRequest,
    WithdrawRequest,
)
from referral_bus.contracts.services import ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import OrganisationKind, Role
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Record
from referral_bus.log.reading import everything
from referral_bus.runtime.health import Health
from referral_bus.sealing.jwe import EncryptionKeys, new_encryption_keys
from referral_bus.sealing.secrets import Secrets, new_key, write_key
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import received
from services.intake.service import build
from services.intake.settings import IntakeSettings

SECONDS = 30.0
OPERATIONS = "operations"
REGIONS = {"north": 0, "south": 1}
PARTIES: dict[str, tuple[OrganisationKind, list[Role]]] = {
    OPERATIONS: ("operations", ["operations"]),
    "hospital": ("hospital", ["agency"]),
    "shelter": ("provider", ["provider"]),
}
NAME = "Quentin Featherstonehaugh"
REFERENCE = "case-4711"
NOTE = "Quentin has moved in with his sister"
SERVICE = "sv-north-beds"
UNIT = "un-north-beds"
REFERRAL = "rf-north-" + "a" * 20
TASK = "tk-north-" + "a" * 20 + "-1"


async def until(held: Callable[[], Any], seconds: float = SECONDS) -> None:
    """Wait for something to hold; fail after a while."""
    async with asyncio.timeout(seconds):
        while True:
            held_now = held()
            if asyncio.iscoroutine(held_now):
                held_now = await held_now
            if held_now:
                return
            await asyncio.sleep(0.02)


def organisation(name: str, version: int = 1, region: str = "north", **changed: Any) -> Organisation:
    kind, roles = PARTIES.get(name, ("shelter", ["agency", "provider"]))
    content = {"kind": kind, "roles": roles, "home_region": region, **changed}
    return Organisation(organisation=name, version=version, name=name, **content)


def referral(**changed: Any) -> ReferralRequest:
    content: dict[str, Any] = {
        "subject": REFERENCE,
        "urgency": "urgent",
        "facts": Facts(age=NumberFact(status="stated", value=34), needs=[Need(code="emergency-shelter")]),
        "identity": Identity(name=NAME),
        **changed,
    }
    return ReferralRequest(**content)


def definition(**changed: Any) -> ServiceDefinition:
    content: dict[str, Any] = {
        "service": SERVICE,
        "organisation": "shelter",
        "name": "Beds",
        "terms": [Need(code="emergency-shelter")],
        "units": [Unit(unit=UNIT, name="beds", total=4, available=4)],
        **changed,
    }
    return ServiceDefinition(**content)


def long_definition(areas: int) -> ServiceDefinition:
    """A service whose criteria name so many areas, within every limit of the contract for one field: each takes 130 bytes."""
    names = [f"{number:06d}-{'x' * 121}" for number in range(areas)]
    nodes: list[dict[str, Any]] = [
        {"op": "test", "test": {"kind": "area", "one_of": names[at : at + 68]}} for at in range(0, areas, 68)
    ]
    levels = {"service": nodes[:63], "program": nodes[63:]}
    return definition(
        eligibility={
            level: {"nodes": [*tests, {"op": "any", "of": len(tests)}]} for level, tests in levels.items()
        }
    )


ROUTES = {
    "ReferralRequest": "POST /referrals",
    "AmendRequest": "POST /referrals/{}/amend",
    "HoldRequest": "POST /referrals/{}/hold",
    "ResumeRequest": "POST /referrals/{}/resume",
    "TransferRequest": "POST /referrals/{}/transfer",
    "SplitRequest": "POST /referrals/{}/split",
    "ReopenRequest": "POST /referrals/{}/reopen",
    "WithdrawRequest": "POST /referrals/{}/withdraw",
    "AnswerRequest": "POST /offers/{}/answer",
    "AcknowledgeRequest": "POST /offers/{}/acknowledge",
    "AskRequest": "POST /offers/{}/ask",
    "AcceptRequest": "POST /offers/{}/accept",
    "DeclineRequest": "POST /offers/{}/decline",
    "ProposeRequest": "POST /offers/{}/propose",
    "StartRequest": "POST /referrals/{}/start",
    "NoShowRequest": "POST /referrals/{}/no-show",
    "ContactRequest": "POST /referrals/{}/contacts",
    "HandoffRequest": "POST /referrals/{}/handoff",
    "OutcomeRequest": "POST /referrals/{}/outcome",
    "FollowUpRequest": "POST /referrals/{}/follow-up",
    "RetractRequest": "POST /referrals/{}/retract",
    "CapacityRequest": "PUT /capacity/{}",
    "ServiceRequest": "PUT /services/{}",
}
"""The typed route of each request."""
FACTS = Facts(age=NumberFact(status="stated", value=35), needs=[Need(code="grief-support")])
SAID: list[tuple[str, str, Part]] = [
    ("hospital", REFERRAL, AmendRequest(referral=REFERRAL, facts=FACTS, identity=Identity(name=NAME))),
    ("hospital", REFERRAL, HoldRequest(referral=REFERRAL, reason="hospital_stay", until=2)),
    ("hospital", REFERRAL, ResumeRequest(referral=REFERRAL)),
    ("hospital", REFERRAL, TransferRequest(referral=REFERRAL, agency="school")),
    (
        "hospital",
        REFERRAL,
        SplitRequest(referral=REFERRAL, parts=[PartRequest(urgency="crisis", facts=FACTS)] * 2),
    ),
    ("hospital", REFERRAL, ReopenRequest(referral=REFERRAL, reason="need_returned", facts=FACTS)),
    ("hospital", REFERRAL, WithdrawRequest(referral=REFERRAL, reason="other")),
    ("hospital", TASK, AnswerRequest(task=TASK, answer=NOTE)),
    ("shelter", TASK, AcknowledgeRequest(task=TASK)),
    ("shelter", TASK, AskRequest(task=TASK, question=NOTE)),
    ("shelter", TASK, AcceptRequest(task=TASK, starts_at=2)),
    ("shelter", TASK, DeclineRequest(task=TASK, reason="full_until", until=2)),
    ("shelter", TASK, ProposeRequest(task=TASK, service=SERVICE)),
    ("shelter", REFERRAL, StartRequest(referral=REFERRAL, started_at=1)),
    ("shelter", REFERRAL, NoShowRequest(referral=REFERRAL, missed_at=1)),
    ("shelter", REFERRAL, ContactRequest(referral=REFERRAL, tried_at=1, channel="letter", reached=False)),
    ("shelter", REFERRAL, HandoffRequest(referral=REFERRAL, means="phone", confirmed_at=1)),
    (
        "shelter",
        REFERRAL,
        OutcomeRequest(referral=REFERRAL, result="not_met", note=NOTE, cause="moved_away"),
    ),
    ("shelter", REFERRAL, FollowUpRequest(referral=REFERRAL, days=30, result="need_met", note=NOTE)),
    ("shelter", REFERRAL, RetractRequest(referral=REFERRAL, sequence=17)),
    ("shelter", UNIT, CapacityRequest(unit=UNIT, total=1, available=1, true_at=1)),
    ("shelter", SERVICE, ServiceRequest(definition=definition())),
]
"""Each request besides a referral with all it can hold: who may say it, of what, and what is said."""


def now() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class World:
    """Everything around intake."""

    kafka: str
    database: str
    folder: Path
    log: KafkaLog
    codec: Codec
    bus: str = field(default_factory=lambda: f"b{uuid4().hex[:8]}")
    signing: str = field(default_factory=new_signing_key)
    master: bytes = field(default_factory=new_key)
    intake_keys: EncryptionKeys = field(default_factory=new_encryption_keys)
    operations_keys: EncryptionKeys = field(default_factory=new_encryption_keys)
    settings: IntakeSettings = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "jwks").write_text(jwks_of(self.signing))
        [port] = free_ports(1)
        self.settings = IntakeSettings(
            bus=self.bus,
            kafka=self.kafka,
            database_url=SecretStr(self.database),
            master_key=SecretStr(write_key(self.master)),
            intake_key=SecretStr(self.intake_keys.private),
            operations_public_key=self.operations_keys.public,
            jwks=str(self.folder / "jwks"),
            port=port,
        )

    @property
    def secrets(self) -> Secrets:
        return Secrets.derive(self.master, self.bus)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def token(self, name: str, roles: Sequence[Role] | None = None) -> str:
        return issue_token(self.signing, self.bus, name, roles or PARTIES[name][1])

    def http(
        self, name: str | None = None, roles: Sequence[Role] | None = None, port: int | None = None
    ) -> httpx.AsyncClient:
        headers = {} if name is None else {"authorization": f"Bearer {self.token(name, roles)}"}
        url = self.url if port is None else f"http://127.0.0.1:{port}"
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=SECONDS, trust_env=False)

    def client(self, name: str, roles: Sequence[Role] | None = None, **more: Any) -> Bus:
        """The SDK, as the organisation."""
        return Bus(
            lambda: self.token(name, roles), intake=self.url, patience=more.pop("patience", 5.0), **more
        )

    async def publish(self, *more: Message) -> None:
        """Operations publish the regions, the parties, and what else is given."""
        async with self.client(OPERATIONS) as bus:
            await bus.publish(RegionTable(version=1, partitions=REGIONS))
            for name in PARTIES:
                await bus.publish(organisation(name))
            for message in more:
                await bus.publish(message)

    @asynccontextmanager
    async def running(self, **changed: Any) -> AsyncIterator[Health]:
        """Intake, until it is cancelled as a killed one would be: at once, wherever it is."""
        settings = self.settings.model_copy(update=changed)
        health = Health()
        async with build(settings, health) as parts:
            tasks = [asyncio.create_task(part.work, name=part.name) for part in parts]
            try:
                await until(lambda: not health.problems() or any(task.done() for task in tasks))
                for task in tasks:
                    if task.done():
                        task.result()
                async with self.http(port=settings.port) as http:
                    await until(lambda: self.listens(http))
                yield health
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def process(self, operations_port: int) -> Iterator[subprocess.Popen[bytes]]:
        """``python -m services.intake``; its log is ``log`` in the folder. Killed in the end, where it still runs."""
        settings = self.settings
        environment = {
            **os.environ,
            "REFBUS_BUS": settings.bus,
            "REFBUS_KAFKA": settings.kafka,
            "REFBUS_DATABASE_URL": settings.database_url.get_secret_value(),
            "REFBUS_MASTER_KEY": settings.master_key.get_secret_value(),
            "REFBUS_INTAKE_KEY": settings.intake_key.get_secret_value(),
            "REFBUS_OPERATIONS_PUBLIC_KEY": settings.operations_public_key,
            "REFBUS_JWKS": settings.jwks,
            "REFBUS_PORT": str(settings.port),
            "REFBUS_OPERATIONS_PORT": str(operations_port),
        }
        with (self.folder / "log").open("ab") as log:
            running = subprocess.Popen(
                [sys.executable, "-m", "services.intake"], env=environment, stdout=log, stderr=log
            )
        try:
            yield running
        finally:
            running.kill()
            running.wait()

    async def listens(self, http: httpx.AsyncClient) -> bool:
        """Whether intake answers at all."""
        try:
            return (await http.get("/v1/keys")).status_code == 200
        except httpx.TransportError:
            return False

    async def records(self, topic: str) -> list[Record]:
        """All that is on a topic now."""
        return await everything(self.log, topic)

    async def inbox(self) -> list[tuple[str, Received]]:
        """Region and submission of all that is on the inbox."""
        return [received(record, self.codec) for record in await self.records(topics.inbox(self.bus))]

    async def said(self) -> list[Submission]:
        """What parties said, without the reference data that was relayed."""
        bodies = [received.body for _, received in await self.inbox()]
        return [body for body in bodies if not isinstance(body, AdoptReference)]

    async def rows(self, statement: str) -> list[Any]:
        engine = new_engine(self.database)
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(statement))
                return list(result.all()) if result.returns_rows else []
        finally:
            await engine.dispose()
