"""Whole lives of referrals over HTTP: what agencies and providers say by the SDK, and what matching decides of it on the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from pydantic import SecretStr

from referral_bus.client import Answer, Bus
from referral_bus.contracts.facts import Facts, Identity, Need, NumberFact
from referral_bus.contracts.ledger import (
    Event,
    InformationAsked,
    InformationGiven,
    OfferAccepted,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralReopened,
    ReferralSplit,
    ReferralTransferred,
    SubmissionRefused,
    TaskCancelled,
)
from referral_bus.contracts.reference import OfferLimits, Policy, Protocol
from referral_bus.contracts.requests import PartRequest
from referral_bus.contracts.services import ANY, AgeRange, ServiceDefinition, Unit
from referral_bus.log import topics
from referral_bus.runtime.health import Health
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import Section
from referral_bus.sealing.secrets import write_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from services.matching.service import build
from services.matching.settings import MatchingSettings
from tests.support.admitting import NAME, NOTE, REFERENCE, World, now, organisation, referral, until

pytestmark = pytest.mark.timeout(120)

QUESTION = "Does Quentin sleep on the ground floor?"
HOUR_MS = 3_600_000
PROTOCOL = Protocol(
    protocol="standard",
    offer_limits=OfferLimits(crisis=HOUR_MS, urgent=HOUR_MS, routine=HOUR_MS),
    maximum_offers=9,
    parking_ms=2_000,
)
POLICY = Policy(policy="standard", rank_by=["certainty", "lottery"], seed="of these tests")

Kind = TypeVar("Kind", bound=Event)


@dataclass
class Life:
    """A bus with two agencies and two providers, who say what they say by the SDK."""

    world: World
    hospital: Bus
    clinic: Bus
    shelter: Bus
    harbor: Bus

    async def heard(self, kind: type[Kind], more: int = 1, **wanted: Any) -> Kind:
        """The event of a kind with these values, the last where there are several, once there are as many as ``more``."""
        found: list[Kind] = []

        async def there() -> bool:
            found[:] = [
                event
                for event in await self.ledger()
                if isinstance(event, kind)
                and all(getattr(event, name) == value for name, value in wanted.items())
            ]
            return len(found) >= more

        try:
            await until(there)
        except TimeoutError:
            types = [type(event).__name__ for event in await self.ledger()]
            raise AssertionError(f"no {kind.__name__} with {wanted} among {types}") from None
        return found[-1]

    async def refused(self, answer: Answer) -> str:
        """Why what was said changed nothing."""

        async def why() -> str | None:
            for record in await self.world.records(topics.ledger(self.world.bus)):
                entry = self.world.codec.decode_entry(record.value)
                sent = entry.meta.submission
                if sent is not None and sent.id == answer.submission:
                    assert isinstance(entry.event, SubmissionRefused), type(entry.event).__name__
                    return entry.event.reason
            return None

        found: list[str] = []

        async def there() -> bool:
            reason = await why()
            found.extend([reason] if reason is not None else [])
            return bool(found)

        await until(there)
        return found[0]

    async def ledger(self) -> list[Event]:
        records = await self.world.records(topics.ledger(self.world.bus))
        return [self.world.codec.decode_entry(record.value).event for record in records]

    async def offer(self, provider: Bus, need: str) -> str:
        """A service of the provider for a need, with one place; returns its id."""
        local = uuid4().hex[:8]
        name = "shelter" if provider is self.shelter else "harbor"
        await provider.publish_service(
            ServiceDefinition(
                service=f"sv-north-{local}",
                organisation=name,
                name=need,
                terms=[Need(code=need)],
                ages=AgeRange(),
                areas=[ANY],
                languages=[ANY],
                units=[Unit(unit=f"un-north-{local}", name="place", total=1, available=1)],
            )
        )
        return f"sv-north-{local}"

    async def opened(self, subject: str, section: Section, sealed: bytes) -> Any:
        """What is sealed of a person, as whoever holds the keys reads it."""
        secrets = self.world.secrets
        engine = new_engine(self.world.database)
        try:
            keys = KeyStore(engine, {"facts": secrets.facts_key, "identity": secrets.identity_key})
            key = (await keys.fetch([subject], section))[subject]
        finally:
            await engine.dispose()
        sealer = Sealer(self.world.codec)
        if section == "facts":
            return sealer.open_facts(key, subject, sealed)
        return sealer.open_note(key, subject, sealed).text


@asynccontextmanager
async def matching(world: World) -> AsyncIterator[None]:
    settings = MatchingSettings(
        bus=world.bus,
        kafka=world.kafka,
        database_url=SecretStr(world.database),
        facts_key=SecretStr(write_key(world.secrets.facts_key)),
        operations_public_key=world.operations_keys.public,
        data_dir=world.folder,
    )
    async with build(settings, Health()) as parts:
        tasks = [asyncio.create_task(part.work, name=part.name) for part in parts]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def life(world: World) -> AsyncIterator[Life]:
    async with world.running(), matching(world):
        await world.publish(
            organisation("clinic", roles=["agency"]),
            organisation("harbor", roles=["provider"]),
            PROTOCOL,
            POLICY,
        )
        async with (
            world.client("hospital") as hospital,
            world.client("clinic", ["agency"]) as clinic,
            world.client("shelter") as shelter,
            world.client("harbor", ["provider"]) as harbor,
        ):
            yield Life(world, hospital, clinic, shelter, harbor)


def asking(need: str, **changed: Any) -> Any:
    return referral(facts=facts(need), **changed)


def facts(need: str) -> Facts:
    return Facts(age=NumberFact(status="stated", value=34), needs=[Need(code=need)])


async def asked(life: Life, need: str, **changed: Any) -> str:
    answer = await life.hospital.submit(asking(need, **changed))
    assert answer.referral is not None
    await life.heard(ReferralOpened, referral=answer.referral)
    return answer.referral


async def test_of_a_broadcast_the_first_to_accept_has_the_person_and_the_other_is_told_at_once(
    life: Life,
) -> None:
    services = [await life.offer(life.shelter, "beds"), await life.offer(life.harbor, "beds")]
    name = await asked(life, "beds", mode="broadcast")
    await life.heard(OfferMade, more=2, referral=name)
    made = {e.service: e.task for e in await life.ledger() if isinstance(e, OfferMade)}
    assert set(made) == set(services)
    at = now() + HOUR_MS
    await life.harbor.acknowledge(made[services[1]])
    await life.harbor.accept(made[services[1]], at)
    late = await life.shelter.accept(made[services[0]])
    accepted = await life.heard(OfferAccepted, referral=name)
    assert (accepted.task, accepted.starts_at) == (made[services[1]], at)
    ended = await life.heard(TaskCancelled, referral=name)
    assert (ended.task, ended.reason) == (made[services[0]], "taken_elsewhere")
    assert await life.refused(late) == "offer_not_open"


async def test_a_named_service_is_asked_alone_and_asks_back_before_it_answers(life: Life) -> None:
    await life.offer(life.harbor, "advice")
    service = await life.offer(life.shelter, "advice")
    name = await asked(life, "advice", mode="direct", service=service)
    made = await life.heard(OfferMade, referral=name)
    assert made.service == service
    early = await life.hospital.answer(made.task, NOTE)
    assert await life.refused(early) == "nothing_asked"
    await life.shelter.ask(made.task, QUESTION)
    question = await life.heard(InformationAsked, task=made.task)
    await life.hospital.answer(made.task, NOTE)
    answer = await life.heard(InformationGiven, task=made.task)
    subject = (await life.heard(ReferralOpened, referral=name)).subject
    assert await life.opened(subject, "identity", question.sealed_question) == QUESTION
    assert await life.opened(subject, "identity", answer.sealed_answer) == NOTE
    later = now() + 2 * HOUR_MS
    await life.shelter.decline(made.task, "person_not_ready", later)
    held = await life.heard(ReferralHeld, referral=name)
    assert (held.reason, held.until) == ("declined", later)
    everything = repr([record.value for record in await life.world.records(topics.ledger(life.world.bus))])
    assert not any(clear in everything for clear in (NAME, REFERENCE, NOTE, QUESTION))


async def test_a_split_referral_is_closed_with_the_last_of_its_parts_and_their_notes_are_the_persons(
    life: Life,
) -> None:
    await life.offer(life.shelter, "clothes")
    await life.offer(life.harbor, "food")
    name = await asked(life, "clothes")
    parts = [PartRequest(urgency="urgent", facts=facts(need)) for need in ("clothes", "food")]
    answer = await life.hospital.split(name, parts, id="split-1")
    assert await life.hospital.split(name, parts, id="split-1") == answer
    assert (await life.heard(ReferralSplit, referral=name)).parts == list(answer.parts)
    for part, provider in zip(answer.parts, (life.shelter, life.harbor), strict=True):
        made = await life.heard(OfferMade, referral=part)
        await provider.accept(made.task)
        await provider.start(part, now())
        await provider.outcome(part, "need_met", NOTE, "service_completed")
    closed = await life.heard(ReferralClosed, referral=name)
    assert (closed.reason, closed.result) == ("parts_closed", "need_met")
    subject = (await life.heard(ReferralOpened, referral=name)).subject
    for part in answer.parts:
        assert (await life.heard(ReferralOpened, referral=part)).subject == subject
        reported = await life.heard(OutcomeReported, referral=part)
        assert reported.sealed_note is not None
        assert await life.opened(subject, "identity", reported.sealed_note) == NOTE


async def test_after_a_transfer_the_new_agency_answers_and_amends_and_the_former_no_more(life: Life) -> None:
    await life.offer(life.shelter, "rent")
    name = await asked(life, "rent")
    made = await life.heard(OfferMade, referral=name)
    await life.shelter.ask(made.task, QUESTION)
    await life.hospital.transfer(name, "clinic")
    assert (await life.heard(ReferralTransferred, referral=name)).agency == "clinic"
    assert await life.refused(await life.hospital.answer(made.task, NOTE)) == "not_your_referral"
    await life.clinic.answer(made.task, NOTE)
    await life.clinic.amend(name, facts=facts("rent"), identity=Identity(name=NAME))
    amended = await life.heard(ReferralAmended, referral=name)
    answer = await life.heard(InformationGiven, task=made.task)
    subject = (await life.heard(ReferralOpened, referral=name)).subject
    assert amended.sealed_facts is not None
    assert await life.opened(subject, "facts", amended.sealed_facts) == facts("rent")
    assert await life.opened(subject, "identity", answer.sealed_answer) == NOTE


async def test_a_closed_referral_is_reopened_by_facts_given_anew_and_matched_again(life: Life) -> None:
    await life.offer(life.shelter, "meals")
    name = await asked(life, "meals")
    first = await life.heard(OfferMade, referral=name)
    await life.shelter.accept(first.task)
    await life.shelter.hold(name, "hospital_stay")
    await life.shelter.resume(name)
    await life.shelter.outcome(name, "partly_met", cause="person_left")
    await life.heard(ReferralClosed, referral=name)
    early = await life.hospital.follow_up(name, 30, "need_met", NOTE)
    assert await life.refused(early) == "time_out_of_range"
    await life.hospital.reopen(name, "need_returned", facts("meals"))
    assert (await life.heard(ReferralReopened, referral=name)).reason == "need_returned"
    again = await life.heard(OfferMade, more=2, referral=name)
    assert again.task != first.task
    await life.shelter.accept(again.task)
    late = await life.hospital.hold(name, "person_asked")
    assert await life.refused(late) == "already_accepted"
