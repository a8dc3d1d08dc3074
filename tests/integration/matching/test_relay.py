"""Two regions on two partitions of a real broker want the same place, and matching, with the relay in it, is killed between the question
and the answer: the place is sold once, and nobody is forgotten."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from referral_bus.contracts.facts import Facts, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.ids import referral_id, region_of, service_id, short_hash, unit_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AdoptReference,
    PublishService,
    Submission,
    SubmitReferral,
)
from referral_bus.contracts.ledger import (
    CapacityFreed,
    CapacityLent,
    CapacityRequested,
    CapacityTaken,
    Entry,
    Event,
    OfferAccepted,
    OfferMade,
    ReferralClosed,
    ServiceListed,
)
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import OfferLimits, Organisation, Policy, Protocol, RegionTable
from referral_bus.contracts.services import ServiceDefinition, Unit
from referral_bus.embedded.ports import free_ports
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing, Partition
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import Destroyed
from referral_bus.sealing.secrets import Secrets, new_key, write_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from referral_bus.wire.inbox import submission_record

_REGIONS = {"north": 0, "south": 1}
_TABLE = RegionTable(version=1, partitions=_REGIONS)
_BETWEEN = 2
"""So often it is to be killed while a question has no answer."""
_TRIES = 12
_SECONDS = 90.0
_HOUR = 3_600_000
_LIMITS = OfferLimits(crisis=_HOUR, urgent=_HOUR, routine=_HOUR)
_HOUSING = Facts(
    age=NumberFact(status="stated", value=30),
    languages=ListFact(status="stated", values=["en"]),
    area=TextFact(status="stated", value="riverside"),
    needs=[Need(code="housing")],
)


class _Town:
    """The two regions as somebody sees them who writes their inboxes and reads their ledgers."""

    def __init__(self, kafka: str, postgres: str, codec: Codec, folder: Path) -> None:
        self.bus = f"b{uuid4().hex[:8]}"
        self.log = KafkaLog(kafka)
        self.events: list[Event] = []
        self._codec = codec
        self._entries: list[Entry] = []
        self._read = dict.fromkeys(_REGIONS.values(), 0)
        self._secrets = Secrets.derive(new_key(), self.bus)
        self._engine = new_engine(postgres)
        self._keys = KeyStore(
            self._engine, {"facts": self._secrets.facts_key, "identity": self._secrets.identity_key}
        )
        self._ids = 0
        self._environment = {
            **os.environ,
            "REFBUS_BUS": self.bus,
            "REFBUS_KAFKA": kafka,
            "REFBUS_DATABASE_URL": postgres,
            "REFBUS_FACTS_KEY": write_key(self._secrets.facts_key),
            "REFBUS_OPERATIONS_PUBLIC_KEY": new_encryption_keys().public,
            "REFBUS_DATA_DIR": str(folder),
            "REFBUS_LOG_LEVEL": "WARNING",
        }

    async def open(self) -> None:
        await migrate(self._engine, "sealing", "referral_bus.sealing.migrations")
        await self.log.ensure(topics.topics(self.bus, len(_REGIONS), 1))
        self._appender = await self.log.appender()
        self._readers = {
            number: await self.log.reader(Partition(topics.ledger(self.bus), number))
            for number in _REGIONS.values()
        }
        await self._appender.append([self._published(_TABLE, "regions/regions")])
        for region in _REGIONS:
            await self.say(region, *(_adoption(content) for content in _CONTENTS), source="operations")

    async def close(self) -> None:
        await self.log.close()
        await self._engine.dispose()

    async def matching(self) -> asyncio.subprocess.Process:
        environment = {**self._environment, "REFBUS_OPERATIONS_PORT": str(free_ports(1)[0])}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.matching", env=environment
        )

    async def say(self, region: str, *bodies: Submission, source: str) -> None:
        records = []
        for body in bodies:
            self._ids += 1
            about = getattr(body, "referral", None) or getattr(body, "task", None) or region
            records.append(
                submission_record(
                    body,
                    codec=self._codec,
                    topic=topics.inbox(self.bus),
                    partition=_REGIONS[region],
                    region=region,
                    id=f"n-{self._ids}",
                    organisation=source,
                    sent_at=int(time.time() * 1000),
                    digest=sha256(self._codec.encode(body)).digest(),
                    about=about,
                )
            )
        await self._appender.append(records)

    async def refer(self, region: str, number: int, service: str) -> str:
        """Somebody who is to go to that very service."""
        subject = f"sj-{short_hash(region, str(number), length=26)}"
        keys = (await self._keys.ensure([subject]))[subject]
        assert not isinstance(keys, Destroyed)
        referral = referral_id(region, self.bus, "police", f"s-{number}")
        body = SubmitReferral(
            referral=referral,
            region=region,
            subject=subject,
            urgency="routine",
            purpose="care_coordination",
            sealed_facts=Sealer(self._codec).seal(keys.facts, subject, _HOUSING),
            mode="direct",
            service=service,
        )
        await self.say(region, body, source="police")
        return referral

    async def look(self) -> None:
        """Take in what was decided since."""
        for number, reader in self._readers.items():
            for record in await reader.read(self._read[number], wait=0.002):
                self.events.append(self._codec.decode_entry(record.value or b"").event)
            self._read[number] = reader.position()

    async def until(self, held: Callable[[], bool]) -> None:
        async with asyncio.timeout(_SECONDS):
            while not held():
                await self.look()

    def _published(self, message: Message, key: str) -> Outgoing:
        envelope = Envelope(
            id=f"{key.replace('/', '.')}.v1",
            source=source_of("operations"),
            type=message.event_type(),
            time=int(time.time() * 1000),
            subject=key,
            schema_id=self._codec.schema_id(type(message)),
            partitionkey=key,
            dataclassification="internal",
        )
        topic = topics.reference(self.bus)
        return Outgoing(topic, 0, key.encode(), self._codec.encode(message), envelope.to_headers())


_CONTENTS = (
    Organisation(organisation="police", name="Police", kind="police", roles=["agency"], home_region="north"),
    Organisation(
        organisation="shelter", name="Shelter", kind="provider", roles=["provider"], home_region="south"
    ),
    Protocol(protocol="simple", offer_limits=_LIMITS, maximum_offers=3, parking_ms=60_000),
    Policy(policy="plain", rank_by=["load", "lottery"], seed="published beforehand"),
)


def _adoption(content: Organisation | Protocol | Policy) -> AdoptReference:
    kind = type(content).__name__.lower()
    return AdoptReference.model_validate(
        {"kind": kind, "reference": getattr(content, kind), "version": content.version, kind: content}
    )


def _service(number: int) -> ServiceDefinition:
    """One place in the south, for both regions."""
    place = Unit(unit=unit_id("south", f"bed-{number}"), name="beds", total=1, available=1)
    return ServiceDefinition(
        service=service_id("south", f"beds-{number}"),
        organisation="shelter",
        name=f"Beds {number}",
        terms=[Need(code="housing")],
        units=[place],
        regions=["north"],
    )


@asynccontextmanager
async def _town(kafka: str, postgres: str, codec: Codec, folder: Path) -> AsyncIterator[_Town]:
    town = _Town(kafka, postgres, codec, folder)
    try:
        await town.open()
        yield town
    finally:
        await town.close()


async def test_a_place_is_sold_once_though_matching_is_killed_between_question_and_answer(
    kafka: str, postgres: str, codec: Codec, tmp_path: Path
) -> None:
    async with _town(kafka, postgres, codec, tmp_path) as town:
        services = [_service(number) for number in range(_TRIES)]
        await town.say("south", *(PublishService(definition=one) for one in services), source="shelter")
        matching = await town.matching()
        try:
            await town.until(lambda: sum(isinstance(event, ServiceListed) for event in town.events) == _TRIES)
            referrals: list[str] = []
            between = tried = 0
            while between < _BETWEEN:
                assert tried < _TRIES, "it was never killed between a question and its answer"
                service, tried = services[tried].service, tried + 1
                asking = await town.refer("north", tried, service)
                await town.until(lambda asking=asking: asking in _about(town.events, CapacityRequested))
                matching.kill()
                await matching.wait()
                await town.look()
                between += asking not in _about(town.events, OfferMade)
                # While nothing is decided, the other region comes to want the same place.
                referrals += [asking, await town.refer("south", tried, service)]
                matching = await town.matching()
            await town.until(lambda: set(referrals) <= _about(town.events, OfferMade, ReferralClosed))
            made = [event for event in town.events if isinstance(event, OfferMade)]
            assert Counter(event.service for event in made) == {one.service: 1 for one in services[:tried]}
            for event in made:
                region = region_of(event.referral)
                await town.say(region, AcceptOffer(task=event.task), source=event.provider)
            await town.until(
                lambda: sum(isinstance(event, OfferAccepted) for event in town.events) == len(made)
            )
            assert _most_sold(town.events) == 1
        finally:
            matching.kill()
            await matching.wait()


def _about(events: list[Event], *kinds: type[Event]) -> set[str]:
    """The referrals of the events of these kinds."""
    return {event.referral for event in events if isinstance(event, kinds)}  # type: ignore[attr-defined]


def _most_sold(events: list[Event]) -> int:
    """The most tasks that ever had the same place of the south at once, counted from what it lent and what it offered itself."""
    holders: dict[str, set[str]] = {}
    most = 0
    for event in events:
        match event:
            case OfferMade() if region_of(event.referral) == "south":
                holders.setdefault(event.unit, set()).add(event.task)
            case CapacityLent() | CapacityTaken():
                holders.setdefault(event.unit, set()).add(event.task)
            case CapacityFreed():
                holders[event.unit].discard(event.task)
        most = max([most, *map(len, holders.values())])
    return most
