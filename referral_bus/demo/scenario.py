"""The scenario of the demo: a county's agencies and providers use the bus the way its real users would."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, TypeVar

import httpx

from referral_bus.access.tokens import issue_token
from referral_bus.client.answers import Answer
from referral_bus.client.bus import Bus
from referral_bus.client.errors import BusError
from referral_bus.client.outbox import Outbox
from referral_bus.client.tokens import RenewedToken
from referral_bus.contracts.facts import Need, TextFact
from referral_bus.contracts.reference import OfferLimits, Organisation, Protocol
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.services import ANY, ServiceDefinition
from referral_bus.contracts.vocabularies import Taxonomy
from referral_bus.contracts.vocabulary import Role
from referral_bus.demo.agencies import BATCH, Agency, Door, Event, HttpDoor, KafkaDoor, TypedDoor
from referral_bus.demo.county import COUNTED_AT, County
from referral_bus.demo.display import Display
from referral_bus.demo.expectations import Expectations
from referral_bus.demo.people import people
from referral_bus.demo.programs import Program
from referral_bus.demo.watch import Seen, Watch
from referral_bus.directory.model import Import
from referral_bus.embedded.bus import LocalBus
from referral_bus.embedded.reference import publish_defaults
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Log, Outgoing
from referral_bus.log.topics import outbox
from referral_bus.sealing.jwe import EncryptionKeys, new_encryption_keys
from referral_bus.wire.codec import Codec

OPERATIONS: Final = "operations"
KAFKA_AGENCY: Final = "school-district"
"""The agency that goes through the Kafka door."""

_BATCHING: Final = frozenset({"line-211", "hospital-ed"})
"""The agencies that send batches of CloudEvents; the others use the typed routes."""

REFERRALS_PER_SECOND: Final = 25.0
"""All agencies together: a pace at which the latency says something about the bus and not about a queue
before it."""

PROTOCOL: Final = Protocol(
    protocol="standard",
    version=2,
    offer_limits=OfferLimits(crisis=5_000, urgent=6_000, routine=8_000),
    maximum_offers=20,
    parking_ms=2_000,
)
"""As the standard protocol, in seconds instead of hours: somebody is watching."""

MOST_WAITING: Final = 40
"""Offers that wait for an answer before agencies hold back: on a machine that is busy with other things, offers
that nobody comes to in time would otherwise go from provider to provider and leave even less of it."""

_UNREADABLE: Final = 2
_QUIET_SECONDS: Final = 45.0
_TOKEN_SECONDS: Final = 3_600
_RENEW_SECONDS: Final = 3_000.0
_AT_ONCE: Final = 16
_TICK_SECONDS: Final = 0.5
_One = TypeVar("_One")


@dataclass(slots=True)
class Cast:
    """Who plays in a demo: organisations with their keys, the services, and who is referred."""

    organisations: list[Organisation]
    services: list[ServiceDefinition]
    regions: tuple[str, ...]
    requests: dict[str, list[ReferralRequest]]
    """What each agency submits."""
    taxonomies: list[Taxonomy] = field(default_factory=list)
    """The vocabularies that services are coded by, besides those of every bus."""
    keys: dict[str, EncryptionKeys] = field(default_factory=dict)

    @property
    def agencies(self) -> list[str]:
        return sorted(self.requests)

    @property
    def providers(self) -> list[str]:
        return sorted({service.organisation for service in self.services})


def cast(referrals: int, seed: int, directory: Import | None = None, counted_at: str = COUNTED_AT) -> Cast:
    """The synthetic county of a seed and its people; with a ``directory``, the services and providers of that
    one instead."""
    county = County.make(seed, counted_at=counted_at)
    organisations, services = county.organisations, county.services
    if directory is not None:
        services = directory.services
        known = {agency.organisation for agency in county.agencies}
        organisations = [
            *county.agencies,
            *(found for found in directory.organisations if found.organisation not in known),
        ]
    chance = random.Random(f"needs {seed}")  # noqa: S311
    requests: defaultdict[str, list[ReferralRequest]] = defaultdict(list)
    for person in people(county, referrals, seed):
        request = person.request if directory is None else _fitting(person.request, services, chance)
        requests[person.agency.organisation].append(request)
    return Cast(
        organisations=organisations,
        services=services,
        regions=county.regions,
        requests=dict(requests),
        taxonomies=[] if directory is None else directory.taxonomies,
        keys={organisation.organisation: new_encryption_keys() for organisation in organisations},
    )


@dataclass(slots=True)
class Played:
    """What a demo has left besides what is on the topics: what was expected, and where it came otherwise."""

    cast: Cast
    expectations: Expectations
    seen: Seen


async def play(bus: LocalBus, cast: Cast, display: Display, seed: int) -> Played:
    """Publish, submit, answer, until all is settled. Raises NotSettled where something never comes, BusError
    and LogError as they are."""
    expected, codec = Expectations(), Codec.load()
    async with AsyncExitStack() as stack:
        log = KafkaLog(bus.access)
        stack.push_async_callback(log.close)
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                timeout=30.0,
                trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            )
        )
        parties = Parties(bus, cast, http)
        display.step("publishing organisations and rules")
        await parties.publish_reference()
        watch = Watch(log, bus.plan.bus, codec, [KAFKA_AGENCY] if KAFKA_AGENCY in cast.requests else [])
        background = await stack.enter_async_context(_Background())
        background.start(watch.run())
        display.step(f"publishing {len(cast.services)} services")
        await _adopted(watch, cast)
        await parties.publish_services()
        await _published(watch, cast)
        for provider in cast.providers:
            key = cast.keys[provider].private
            background.start(Program(parties.bus_of(provider, "provider"), key, seed, expected.faults).run())
        display.step(f"submitting {sum(map(len, cast.requests.values()))} referrals")
        background.start(_ticking(display))
        with display.live(watch.seen):
            await background.guard(_submit(parties, log, cast, bus.plan.bus, expected, watch, seed))
            await background.guard(watch.until(expected.settled, expected.missing, _QUIET_SECONDS))
        expected.faults += expected.wrong_reasons(watch.seen)
        return Played(cast, expected, watch.seen)


class Parties:
    """The organisations of a cast, each with its own way to the bus."""

    def __init__(self, bus: LocalBus, cast: Cast, http: httpx.AsyncClient) -> None:
        self._bus = bus
        self._cast = cast
        self._http = http
        self._signing_key = bus.secrets.read("token_key")

    def bus_of(self, organisation: str, *roles: Role) -> Bus:
        """The bus as one organisation uses it."""
        addresses = self._bus.addresses
        token = RenewedToken(
            lambda: issue_token(self._signing_key, self._bus.plan.bus, organisation, roles, _TOKEN_SECONDS),
            _RENEW_SECONDS,
        )
        return Bus(
            token,
            intake=addresses.intake,
            queries=addresses.queries,
            notifier=addresses.notifier,
            http=self._http,
        )

    async def publish_reference(self) -> None:
        """The rules and vocabularies, then the organisations with the keys that what is disclosed to them is sealed to."""
        await publish_defaults(self._bus, list(self._cast.regions))
        operations = self.bus_of(OPERATIONS, "operations")
        await operations.publish(PROTOCOL)
        for taxonomy in self._cast.taxonomies:
            await operations.publish(taxonomy)

        async def publish(organisation: Organisation) -> None:
            key = self._cast.keys[organisation.organisation].public
            await operations.publish(organisation.model_copy(update={"encryption_key": key}))

        await _beside_each_other(publish, self._cast.organisations)

    async def publish_services(self) -> None:
        """Each provider publishes its own."""

        async def publish(service: ServiceDefinition) -> None:
            await self.bus_of(service.organisation, "provider").publish_service(service)

        await _beside_each_other(publish, self._cast.services)

    async def door_of(self, agency: str, log: Log) -> Door:
        """The door an agency goes through."""
        bus = self.bus_of(agency, "agency")
        if agency == KAFKA_AGENCY:
            return KafkaDoor(Outbox(await log.appender(), agency, await bus.intake_key()))
        return HttpDoor(bus, BATCH) if agency in _BATCHING else TypedDoor(bus)


async def _beside_each_other(publish: Callable[[_One], Awaitable[None]], all_of_them: Iterable[_One]) -> None:
    """Publish them, a few at a time."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(one: _One) -> None:
        async with few:
            await publish(one)

    async with asyncio.TaskGroup() as group:
        for one in all_of_them:
            group.create_task(in_turn(one))


class _Background:
    """Work that goes on beside the scenario and is stopped with it. When any of it fails, so does what it is
    beside of."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> _Background:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def guard(self, work: Coroutine[None, None, None]) -> None:
        """Do this work to its end, unless something in the background fails before: then raise that."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for finished in done - {task}:
                finished.result()
            await task
        finally:
            task.cancel()


@dataclass(frozen=True, slots=True)
class _HeldBack:
    """A door that is gone through while providers keep up."""

    door: Door
    watch: Watch

    async def put(self, events: Sequence[Event]) -> list[Answer | BusError | None]:
        await self.watch.until(
            lambda seen: len(seen.waiting) < MOST_WAITING,
            lambda seen: f"{len(seen.waiting)} offers wait for an answer",
            _QUIET_SECONDS,
        )
        return await self.door.put(events)


async def _submit(
    parties: Parties, log: Log, cast: Cast, bus_id: str, expected: Expectations, watch: Watch, seed: int
) -> None:
    pause = len(cast.agencies) / REFERRALS_PER_SECOND
    async with asyncio.TaskGroup() as group:
        for name in cast.agencies:
            door = _HeldBack(await parties.door_of(name, log), watch)
            agency = Agency(name, bus_id, door, expected, seed, pause)
            group.create_task(agency.run(cast.requests[name]))
        if KAFKA_AGENCY in cast.requests:
            group.create_task(_unreadable(log, expected))


async def _unreadable(log: Log, expected: Expectations) -> None:
    """Somebody forgot to seal: bytes on the outbox that are no JWE."""
    appender = await log.appender()
    await appender.append([Outgoing(outbox(KAFKA_AGENCY), 0, None, b"not sealed")] * _UNREADABLE)
    expected.unread["not_sealed"] += _UNREADABLE


async def _adopted(watch: Watch, cast: Cast) -> None:
    wanted = {
        (region, "organisation", one.organisation, one.version)
        for region in cast.regions
        for one in cast.organisations
    }
    wanted |= {(region, "protocol", PROTOCOL.protocol, PROTOCOL.version) for region in cast.regions}
    await watch.until(
        lambda seen: wanted <= seen.adopted,
        lambda seen: (
            f"{len(wanted - seen.adopted)} of {len(wanted)} pieces of reference data are not adopted"
        ),
        _QUIET_SECONDS,
    )


async def _published(watch: Watch, cast: Cast) -> None:
    count = len(cast.services)
    await watch.until(
        lambda seen: seen.events["ServicePublished"] >= count,
        lambda seen: f"{count - seen.events['ServicePublished']} of {count} services are not published",
        _QUIET_SECONDS,
    )


async def _ticking(display: Display) -> None:
    while True:
        await asyncio.sleep(_TICK_SECONDS)
        display.tick()


def _fitting(
    request: ReferralRequest, services: Sequence[ServiceDefinition], chance: random.Random
) -> ReferralRequest:
    """The same person in another county: a need and an area out of one of its services, in that service's
    region."""
    service = chance.choice(services)
    region = service.service.split("-")[1]
    needs = [chance.choice(service.terms)] if service.terms else [Need(code="1130")]
    areas = [area for area in service.areas or [] if area != ANY]
    area = TextFact(status="stated", value=chance.choice(areas)) if areas else TextFact(status="not_said")
    facts = request.facts.model_copy(update={"needs": needs, "area": area})
    return request.model_copy(update={"facts": facts, "region": region})
