"""Regions that do not exist, each with two hundred services, and the referrals submitted to them: the demonstration's county, eight times.

Places are multiplied, so that a backlog of thousands still finds some free: a decision with an offer is the dearest there is.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.ids import referral_id, service_id, short_hash, unit_id
from referral_bus.contracts.inbox import AdoptReference, PublishService, Submission, SubmitReferral
from referral_bus.contracts.reference import OfferLimits, Organisation, Policy, Protocol
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.demo.county import County
from referral_bus.demo.people import people
from referral_bus.log.port import Outgoing
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import SubjectKeys
from referral_bus.sealing.secrets import Secrets
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record

OPERATIONS: Final = "operations"
PROTOCOL: Final = Protocol(
    protocol="bench",
    offer_limits=OfferLimits(crisis=12 * 3_600_000, urgent=24 * 3_600_000, routine=48 * 3_600_000),
    maximum_offers=5,
    parking_ms=300_000,
)
"""No offer expires while something else is measured."""
POLICY: Final = Policy(
    policy="bench",
    rank_by=["certainty", "needs_covered", "load", "freshness", "lottery"],
    seed="published for the benchmarks",
)
_AT_ONCE: Final = 500


class Said(NamedTuple):
    """A submission, who says it and under which id, and the region it goes to."""

    body: Submission
    organisation: str
    id: str
    about: str
    region: str
    partition: int

    def record(self, topic: str, codec: Codec, sent_at: int | None = None) -> Outgoing:
        """Its record on an inbox; sent now unless said otherwise (epoch milliseconds)."""
        return submission_record(
            self.body,
            codec=codec,
            topic=topic,
            partition=self.partition,
            region=self.region,
            id=self.id,
            organisation=self.organisation,
            sent_at=int(time.time() * 1000) if sent_at is None else sent_at,
            digest=hashlib.sha256(self.id.encode()).digest(),
            about=self.about,
        )


@dataclass(frozen=True, slots=True)
class World:
    """One region: who takes part and what is offered there. ``partition`` is its own on inbox and ledger."""

    region: str
    partition: int
    county: County
    organisations: tuple[Organisation, ...]
    services: tuple[ServiceDefinition, ...]
    policy: Policy = POLICY

    def beginning(self) -> Iterator[Said]:
        """What a region hears before it can decide: parties, protocol, policy, services."""
        for organisation in self.organisations:
            yield self._adopted(organisation.organisation, organisation=organisation)
        yield self._adopted(PROTOCOL.protocol, protocol=PROTOCOL)
        yield self._adopted(self.policy.policy, policy=self.policy)
        for service in self.services:
            body = PublishService(definition=service)
            yield Said(
                body, service.organisation, f"publish-{service.service}", service.service, *self._place
            )

    def _adopted(self, name: str, **content: object) -> Said:
        [kind] = content
        body = AdoptReference.model_validate({"kind": kind, "reference": name, "version": 1, **content})
        return Said(body, OPERATIONS, f"adopt-{kind}-{name}", name, *self._place)

    @property
    def _place(self) -> tuple[str, int]:
        return self.region, self.partition


def worlds(count: int, places: int) -> list[World]:
    """``count`` regions on as many partitions; each unit has ``places`` times what the county's generator gave it."""
    made = []
    for number in range(count):
        region = f"region{number + 1}"
        county = County.make(number + 1, (region,))
        services = tuple(_roomier(service, places) for service in county.services)
        made.append(World(region, number, county, tuple(county.organisations), services))
    return made


def wide(region: str, services: int, places: int) -> World:
    """One region with so many services: those of as many counties as it takes, and not one that is there twice."""
    found: list[ServiceDefinition] = []
    county = County.make(1, (region,))
    organisations = {one.organisation: one for one in county.organisations}
    for seed in itertools.count(1):
        other = County.make(seed, (region,))
        organisations.update({one.organisation: one for one in other.organisations})
        for service in other.services:
            found.append(_as(region, _roomier(service, places), len(found)))
        if len(found) >= services:
            return World(region, 0, county, tuple(organisations.values()), tuple(found[:services]))
    raise AssertionError


def _as(region: str, service: ServiceDefinition, number: int) -> ServiceDefinition:
    units = [
        unit.model_copy(update={"unit": unit_id(region, f"s{number}-{place}")})
        for place, unit in enumerate(service.units)
    ]
    return service.model_copy(update={"service": service_id(region, f"s{number}"), "units": units})


def _roomier(service: ServiceDefinition, times: int) -> ServiceDefinition:
    units = [
        unit.model_copy(update={"total": unit.total * times, "available": unit.available * times})
        for unit in service.units
    ]
    return service.model_copy(update={"units": units})


@dataclass(frozen=True, slots=True)
class Case:
    """One referral that is going to be submitted, in the clear."""

    world: World
    agency: str
    id: str
    subject: str
    request: ReferralRequest

    @property
    def referral(self) -> str:
        return referral_id(self.world.region, "bench", self.agency, self.id)

    def submission(self, facts: bytes, identity: bytes | None) -> Said:
        """The submission, with these bytes for its sections."""
        body = SubmitReferral(
            referral=self.referral,
            region=self.world.region,
            subject=self.subject,
            urgency=self.request.urgency,
            purpose=self.request.purpose,
            sealed_facts=facts,
            sealed_identity=identity,
        )
        return Said(body, self.agency, self.id, body.referral, self.world.region, self.world.partition)


def cases(among: Sequence[World], count: int, seed: int = 1) -> list[Case]:
    """``count`` cases, to the regions in turn."""
    lines = [_cases_of(world, -(-count // len(among)), seed) for world in among]
    return list(itertools.islice((case for turn in zip(*lines, strict=True) for case in turn), count))


def _cases_of(world: World, count: int, seed: int) -> Iterator[Case]:
    for person in people(world.county, count, seed):
        agency, reference = person.agency.organisation, person.request.subject
        subject = f"sj-{short_hash(world.region, str(seed), reference, length=26)}"
        yield Case(world, agency, f"{seed}-{reference}", subject, person.request)


async def sealed(among: Sequence[Case], engine: AsyncEngine, secrets: Secrets, codec: Codec) -> list[Said]:
    """The cases as intake would put them on the inbox; the keys of their subjects are made."""
    keys = KeyStore(engine, {"facts": secrets.facts_key, "identity": secrets.identity_key})
    sealer = Sealer(codec)
    said: list[Said] = []
    async for case, own in _with_keys(among, keys):
        facts, identity = case.request.facts, case.request.identity
        said.append(
            case.submission(
                sealer.seal(own.facts, case.subject, facts),
                None if identity is None else sealer.seal(own.identity, case.subject, identity),
            )
        )
    return said


async def _with_keys(among: Sequence[Case], keys: KeyStore) -> AsyncIterator[tuple[Case, SubjectKeys]]:
    for start in range(0, len(among), _AT_ONCE):
        part = among[start : start + _AT_ONCE]
        found = await keys.ensure(case.subject for case in part)
        for case in part:
            own = found[case.subject]
            if isinstance(own, SubjectKeys):
                yield case, own


def unsealed(among: Sequence[Case], codec: Codec) -> list[Said]:
    """The same submissions for peers, which know no sealing: the sections are clear Avro, and need no key."""

    def section(content: Facts | Identity | None) -> bytes | None:
        return None if content is None else codec.encode(content)

    return [
        case.submission(codec.encode(case.request.facts), section(case.request.identity)) for case in among
    ]
