"""A small region that decides: adopted organisations, a protocol, a policy and services, and whoever sends it submissions.

The core is driven as the owner of a partition drives it, without log, keys or clock: a test says what time it is and what is in a
sealed section.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import fields
from functools import cache
from hashlib import sha256
from itertools import count
from typing import Any, Final

from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.facts import Facts, Identity, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.ids import referral_id, region_of, service_id, short_hash, task_id, unit_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AdoptReference,
    AnswerQuestion,
    AskForInformation,
    ConfirmHandoff,
    DeclineOffer,
    ForgetSubject,
    HoldReferral,
    ProposeService,
    PublishService,
    ReferralPart,
    ReopenReferral,
    ReportCapacity,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
    ResumeReferral,
    RetractReport,
    SplitReferral,
    Submission,
    SubmitReferral,
    Tick,
    TransferReferral,
    WithdrawReferral,
)
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    OfferMade,
    Received,
    ReferralCalled,
    SubmissionRefused,
    SubmissionResumed,
)
from referral_bus.contracts.reference import OfferLimits, Organisation, Policy, Protocol
from referral_bus.contracts.services import ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import (
    DeclineReason,
    FollowUpDay,
    OutcomeResult,
    ReopenReason,
    Urgency,
    WithdrawReason,
)
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Partition, Record
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.sealing.jwe import EncryptionKeys, new_encryption_keys, open_with
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.port import Destroyed
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import admitted_again, submission_record
from services.matching.chain import Chain
from services.matching.core.decide import (
    AllOpened,
    Opened,
    WantedFacts,
    call,
    decide,
    resume,
    wanted_facts,
    wanted_for,
)
from services.matching.core.judging.places import Places
from services.matching.core.referral import Task
from services.matching.core.rules import SUPPORTED
from services.matching.core.state import Region
from services.matching.facts import FactsOpener
from services.matching.partition import PartitionWork
from services.matching.snapshots import Snapshots
from tests.support.clocks import ManualClock

BUS: Final = "main"
REGION: Final = "north"
START: Final = 1_700_000_000_000
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
OPERATIONS: Final = "operations"
NAME: Final = "Quentin Featherstonehaugh"
AGENCIES: Final = ("police", "hospital")
PROVIDERS: Final = ("shelter", "clinic", "pantry")

PROTOCOL: Final = Protocol(
    protocol="simple",
    offer_limits=OfferLimits(crisis=MINUTE, urgent=10 * MINUTE, routine=HOUR),
    maximum_offers=3,
    parking_ms=5 * MINUTE,
)
POLICY: Final = Policy(
    policy="plain",
    rank_by=["certainty", "needs_covered", "load", "freshness", "lottery"],
    seed="published beforehand",
)
SPEAKS: Final = ListFact(status="stated", values=["en"])
HOUSING: Final = Facts(
    age=NumberFact(status="stated", value=30),
    languages=SPEAKS,
    area=TextFact(status="stated", value="riverside"),
    needs=[Need(code="housing")],
)
"""A person that every service of :func:`offers` takes."""


def stated_age(years: int) -> NumberFact:
    return NumberFact(status="stated", value=years)


def stated_area(area: str) -> TextFact:
    return TextFact(status="stated", value=area)


def spoken(*languages: str) -> ListFact:
    return ListFact(status="stated", values=list(languages))


def of(agency: str = "police", number: int = 1, region: str = REGION) -> str:
    """The id of an agency's referral."""
    return referral_id(region, BUS, agency, f"s-{number}")


def subject_of(number: int) -> str:
    return f"sj-{short_hash('person', str(number), length=26)}"


def service_of(local: str, region: str = REGION) -> str:
    return service_id(region, local)


def unit_of(local: str, region: str = REGION) -> str:
    return unit_id(region, local)


def offers(
    local: str,
    organisation: str = "shelter",
    *,
    needs: Iterable[str] = ("housing",),
    total: int = 1,
    available: int | None = None,
    units: Sequence[Unit] | None = None,
    region: str = REGION,
    **more: Any,
) -> ServiceDefinition:
    """A service that takes everybody with the needs, with one unit unless others are given."""
    free = total if available is None else available
    return ServiceDefinition.model_validate(
        {
            "service": service_of(local, region),
            "organisation": organisation,
            "name": f"Service {local}",
            "terms": [Need(code=need) for need in needs],
            "ages": {},
            "areas": ["*"],
            "languages": ["*"],
            "units": units or [Unit(unit=unit_of(local, region), name="places", total=total, available=free)],
            **more,
        }
    )


def organisation(name: str, version: int = 1) -> AdoptReference:
    roles: list[Any] = ["agency"] if name in AGENCIES else ["provider"]
    kind: Any = {"police": "police", "hospital": "hospital"}.get(name, "provider")
    content = Organisation(
        organisation=name, version=version, name=name.title(), kind=kind, roles=roles, home_region=REGION
    )
    return AdoptReference(kind="organisation", reference=name, version=version, organisation=content)


def protocol(content: Protocol = PROTOCOL) -> AdoptReference:
    return AdoptReference(
        kind="protocol", reference=content.protocol, version=content.version, protocol=content
    )


def policy(content: Policy = POLICY) -> AdoptReference:
    return AdoptReference(kind="policy", reference=content.policy, version=content.version, policy=content)


def rules(version: int) -> AdoptReference:
    return AdoptReference(kind="rules", reference="matching", version=version)


def publish(definition: ServiceDefinition) -> PublishService:
    return PublishService(definition=definition)


def withdraw(referral: str, reason: WithdrawReason = "moved_away") -> WithdrawReferral:
    return WithdrawReferral(referral=referral, reason=reason)


def hold(referral: str, until: int | None = None) -> HoldReferral:
    return HoldReferral(referral=referral, reason="person_asked", until=until)


def go_on(referral: str) -> ResumeReferral:
    return ResumeReferral(referral=referral)


def transfer(referral: str, agency: str = "hospital") -> TransferReferral:
    return TransferReferral(referral=referral, agency=agency)


def acknowledge(referral: str, attempt: int = 1) -> AcknowledgeOffer:
    return AcknowledgeOffer(task=task_id(referral, attempt))


def accept(referral: str, attempt: int = 1, starts_at: int | None = None) -> AcceptOffer:
    return AcceptOffer(task=task_id(referral, attempt), starts_at=starts_at)


def decline(
    referral: str, attempt: int = 1, reason: DeclineReason = "other", until: int | None = None
) -> DeclineOffer:
    return DeclineOffer(task=task_id(referral, attempt), reason=reason, until=until)


def give_back(
    referral: str, attempt: int = 1, reason: DeclineReason = "other", until: int | None = None
) -> DeclineOffer:
    return decline(referral, attempt, reason, until).model_copy(update={"gives_back": True})


def ask(referral: str, attempt: int = 1) -> AskForInformation:
    return AskForInformation(task=task_id(referral, attempt), sealed_question=b"a sealed question")


def reply(referral: str, attempt: int = 1) -> AnswerQuestion:
    return AnswerQuestion(task=task_id(referral, attempt), sealed_answer=b"a sealed answer")


def propose(referral: str, local: str, attempt: int = 1) -> ProposeService:
    return ProposeService(task=task_id(referral, attempt), service=service_of(local))


def no_show(referral: str, at: int = START) -> ReportNoShow:
    return ReportNoShow(referral=referral, missed_at=at)


def contact(referral: str, at: int = START) -> ReportContact:
    return ReportContact(referral=referral, tried_at=at, channel="phone", reached=False)


def handoff(referral: str, at: int = START) -> ConfirmHandoff:
    return ConfirmHandoff(referral=referral, means="in_person", confirmed_at=at)


def follow_up(referral: str, days: FollowUpDay = 30) -> ReportFollowUp:
    return ReportFollowUp(referral=referral, days=days, result="need_met")


def retract(referral: str, sequence: int) -> RetractReport:
    return RetractReport(referral=referral, sequence=sequence)


def start(referral: str, at: int = START) -> ReportServiceStart:
    return ReportServiceStart(referral=referral, started_at=at)


def outcome(referral: str, result: OutcomeResult = "need_met", ended_at: int | None = None) -> ReportOutcome:
    return ReportOutcome(referral=referral, result=result, ended_at=ended_at)


def report(local: str, total: int, available: int, at: int) -> ReportCapacity:
    return ReportCapacity(unit=unit_of(local), total=total, available=available, true_at=at)


def forget(subject: str) -> ForgetSubject:
    return ForgetSubject(subject=subject)


class World:
    """A region and its clock. Every submission is appended ``step`` milliseconds after the one before, unless a test says when."""

    def __init__(
        self,
        codec: Codec,
        *,
        adopted: bool = True,
        supported: frozenset[int] = SUPPORTED,
        region: str = REGION,
    ) -> None:
        self.codec = codec
        self.region = region
        self.chain = Chain(Region(region))
        self.now = START
        self.step = 1
        self.entries: list[tuple[Entry, bytes]] = []
        self.destroyed: dict[str, int] = {}
        """Subjects whose keys are destroyed, with the sequence the ledger had come to then."""
        self.unreadable: set[bytes] = set()
        """Sealed sections that can't be opened."""
        self._inside: dict[bytes, Facts] = {}
        self._offsets = count()
        self._supported = supported
        if adopted:
            for name in (*AGENCIES, *PROVIDERS):
                self.send(organisation(name), OPERATIONS)
            self.send(protocol(), OPERATIONS)
            self.send(policy(), OPERATIONS)

    @property
    def state(self) -> Region:
        return self.chain.state

    @property
    def events(self) -> list[Event]:
        return [entry.event for entry, _ in self.entries]

    def seal(self, facts: Facts, subject: str) -> bytes:
        """Bytes that stand for the sealed facts."""
        sealed = sha256(subject.encode() + self.codec.encode(facts)).digest()
        self._inside[sealed] = facts
        return sealed

    def open(self, wanted: Iterable[WantedFacts], sequence: int | None = None) -> AllOpened:
        """The facts as they could be opened when the ledger had come to ``sequence`` (now, unless said otherwise)."""
        return {one.referral: self._open(one, sequence) for one in wanted}

    def _open(self, wanted: WantedFacts, sequence: int | None) -> Opened:
        at = self.state.sequence if sequence is None else sequence
        if self.destroyed.get(wanted.subject, at + 1) <= at:
            return "erased"
        facts = None if wanted.sealed in self.unreadable else self._inside.get(wanted.sealed)
        return "unreadable" if facts is None else facts

    def submission(
        self,
        facts: Facts = HOUSING,
        *,
        agency: str = "police",
        number: int = 1,
        person: int | None = None,
        urgency: Urgency = "urgent",
        **more: Any,
    ) -> SubmitReferral:
        subject = subject_of(number if person is None else person)
        return SubmitReferral(
            referral=of(agency, number, self.region),
            region=self.region,
            subject=subject,
            urgency=urgency,
            purpose="care_coordination",
            sealed_facts=self.seal(facts, subject),
            **more,
        )

    def parts_of(self, referral: str, parts: Sequence[tuple[int, Facts]]) -> SplitReferral:
        """The agency splits a referral into parts, each with its number and facts."""
        known = self.state.referrals.get(referral)
        subject = subject_of(1) if known is None else known.subject
        return SplitReferral(
            referral=referral,
            parts=[
                ReferralPart(
                    referral=of(number=number), urgency="urgent", sealed_facts=self.seal(facts, subject)
                )
                for number, facts in parts
            ],
        )

    def reopening(
        self, referral: str, facts: Facts = HOUSING, reason: ReopenReason = "need_returned"
    ) -> ReopenReferral:
        """The agency takes a closed referral up again."""
        closed = self.state.closed.get(referral)
        subject = subject_of(1) if closed is None else closed.subject
        return ReopenReferral(referral=referral, reason=reason, sealed_facts=self.seal(facts, subject))

    def received(
        self,
        body: Submission,
        source: str,
        *,
        id: str | None = None,
        at: int | None = None,
        sent_at: int | None = None,
        digest: bytes | None = None,
    ) -> Received:
        """A submission as it is admitted next; moves the clock to ``at``, else on by ``step``."""
        self.now = self.now + self.step if at is None else at
        offset = next(self._offsets)
        value = self.codec.encode(body)
        admitted = Admitted(
            type=body.event_type(),
            id=id or f"n-{offset}",
            source=source,
            digest=sha256(value).digest() if digest is None else digest,
            sent_at=self.now if sent_at is None else sent_at,
            partition=0,
            offset=offset,
            append_time=self.now,
            value=value,
        )
        return Received(admitted, body)

    def send(self, body: Submission, source: str, **envelope: Any) -> list[Event]:
        """Everything a submission leads to."""
        return self.take(self.received(body, source, **envelope))

    def take(self, received: Received) -> list[Event]:
        before = len(self.entries)
        admitted, state = received.admitted, self.state
        now = max(state.now, admitted.append_time)
        while True:
            facts = self.open(wanted_facts(state, received, now))
            events = decide(state, received, now, facts, self._supported)
            self.entries += self.chain.append(self.codec, events, admitted, admitted.offset, now)
            while (followed := self._followed(now)) is not None:
                self.entries += self.chain.append(self.codec, followed, None, admitted.offset, now)
            if not events or not isinstance(received.body, Tick):
                return [entry.event for entry, _ in self.entries[before:]]

    def _followed(self, now: int) -> list[Event] | None:
        state = self.state
        if state.ready:
            parked = state.ready[0]
            again = admitted_again(state.parked[parked].admitted, self.codec)
            facts = self.open(wanted_facts(state, again, now))
            return resume(state, parked, again, now, facts, self._supported)
        called = state.next_call()
        return None if called is None else call(state, called, now, self.open(wanted_for(state, called)))

    def tick(self, at: int | None = None) -> list[Event]:
        """A tick, repeated until nothing is due."""
        due = self.now if at is None else at
        return self.send(
            Tick(region=self.region, due=due), "matching", at=due, id=f"tick.{self.region}.{due}"
        )

    def follow(self, **changes: Any) -> Protocol:
        """Adopt a next version of the protocol, with these changes."""
        version = self.state.versions["protocol", PROTOCOL.protocol] + 1
        content = Protocol.model_validate({**PROTOCOL.model_dump(), "version": version, **changes})
        self.send(protocol(content), OPERATIONS)
        return content

    def publish(self, *definitions: ServiceDefinition) -> None:
        for definition in definitions:
            self.send(publish(definition), definition.organisation)

    def publish_in_order(self, *named: str, **more: Any) -> None:
        """Publish services that rank in the order they are named in: each has a heavier load than the one before. A name may begin with its
        provider: ``clinic:rooms``."""
        version = self.state.versions["policy", POLICY.policy] + 1
        self.send(policy(POLICY.model_copy(update={"version": version, "rank_by": ["load"]})), OPERATIONS)
        for number, name in enumerate(named):
            provider, _, local = name.rpartition(":")
            self.publish(offers(local, provider or "shelter", total=10, available=10 - number, **more))

    def refer(self, facts: Facts = HOUSING, *, agency: str = "police", number: int = 1, **more: Any) -> str:
        """Submit a referral and return its id."""
        body = self.submission(facts, agency=agency, number=number, **more)
        self.send(body, agency, id=f"s-{number}")
        return body.referral

    def accepted(self, **more: Any) -> str:
        """A referral that the provider it was offered to first has accepted."""
        referral = self.refer(**more)
        task = self.state.referrals[referral].tasks[-1]
        self.send(accept(referral), task.provider)
        return referral

    def task(self, referral: str, attempt: int = 1) -> Task:
        """The attempt of an open referral."""
        return self.state.referrals[referral].attempt(attempt)

    def places(self, local: str = "beds") -> tuple[int, int, int]:
        """Free, held and taken places of a unit."""
        unit = self.state.units[unit_of(local)]
        return unit.free, unit.held, unit.taken

    def again(self) -> list[bytes]:
        """The ledger's bytes, decided again from what the ledger itself carries."""
        return decided_again(self.entries, self.codec, self.open, self._supported, self.region)

    def folded(self) -> Chain:
        """A chain that has read the ledger as it was written, through its bytes."""
        chain = Chain(Region(self.region))
        for _, value in self.entries:
            chain.take(self.codec.decode_entry(value), value)
        return chain


def decided_again(
    entries: Sequence[tuple[Entry, bytes]],
    codec: Codec,
    opened: Callable[[Iterable[WantedFacts], int], AllOpened],
    supported: frozenset[int] = SUPPORTED,
    region: str = REGION,
) -> list[bytes]:
    """Decide again at each entry that carries or resumes a submission; nothing else of the recorded events is looked at."""
    chain, values = Chain(Region(region)), []
    for entry, _ in entries:
        state, admitted = chain.state, entry.meta.submission
        if admitted is not None:
            received, now, through = (
                admitted_again(admitted, codec),
                max(state.now, admitted.append_time),
                admitted.offset,
            )
            facts = opened(wanted_facts(state, received, now), state.sequence)
            events = decide(state, received, now, facts, supported)
        elif isinstance(entry.event, SubmissionResumed):
            parked, now, through = entry.event.parked, state.now, state.decided_through
            received = admitted_again(state.parked[parked].admitted, codec)
            facts = opened(wanted_facts(state, received, now), state.sequence)
            events = resume(state, parked, received, now, facts, supported)
        elif isinstance(entry.event, ReferralCalled):
            called, now, through = state.next_call(), state.now, state.decided_through
            assert called is not None
            events = call(state, called, now, opened(wanted_for(state, called), state.sequence))
        else:
            continue
        values += [value for _, value in chain.append(codec, events, admitted, through, now)]
    return values


def picture(state: Region) -> dict[str, Any]:
    """Everything a region remembers, so that two can be compared. Due times that were settled mean nothing, so they are left out."""
    seen: dict[str, Any] = {field.name: getattr(state, field.name) for field in fields(state)}
    # Whatever changes where it stands, so that a picture does not change with the state.
    seen |= {
        name: copy(value) for name, value in seen.items() if isinstance(value, dict | set | list | deque)
    }
    catalogue = state.catalogue
    seen["catalogue"] = (
        dict(catalogue.definitions),
        dict(catalogue._profiles),
        dict(catalogue._needs),
    )
    seen["places"] = _places(state)
    vocabularies = state.vocabularies
    seen["vocabularies"] = (dict(vocabularies.taxonomies), dict(vocabularies.crosswalks))
    for name in ("units", "referrals", "parked"):
        seen[name] = {key: copy(value) for key, value in seen[name].items()}
    for name in ("waiting", "waitlist"):
        seen[name] = {what: list(line) for what, line in seen[name].items()}
    seen["due"] = sorted({due for due in state.due if state._still_due(due)})
    return seen


def _places(state: Region) -> bytes:
    """The digest of the places as a match would look at them, which are those there are."""
    anew = Places()
    for service in state.catalogue.definitions:
        anew.change(service)
    state.look_at_places()
    anew.refresh(state.catalogue, state.units, state.reliability)
    assert state.places.digest() == anew.digest(), "a place changed, and nobody said so"
    active = state.catalogue.active
    assert state.places.free & active == anew.free & active
    return anew.digest()


def offers_in(events: Iterable[Event]) -> list[OfferMade]:
    """The offers that were made."""
    return [event for event in events if isinstance(event, OfferMade)]


def kinds(events: Iterable[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def refused(events: Sequence[Event]) -> str:
    """The reason of the one refusal that the events are."""
    [event] = events
    assert isinstance(event, SubmissionRefused), event
    return event.reason


class FactsKeys(MemoryKeyStore):
    """What matching is given: keys of facts alone. Remembers of whom it was told to forget."""

    def __init__(self, table: KeyTable) -> None:
        super().__init__(table, ["facts"])
        self.forgotten: list[str] = []

    def forget(self, subject: str) -> None:
        self.forgotten.append(subject)
        super().forget(subject)


def inbox_record(
    body: Submission, source: str, *, id: str, sent_at: int, codec: Codec, partition: int = 0, **more: Any
) -> Outgoing:
    """A submission as intake puts it on the inbox."""
    about = next(
        (value for name in ("referral", "task", "unit") if (value := getattr(body, name, None))), REGION
    )
    region = REGION if about == REGION else region_of(about)
    return submission_record(
        body,
        codec=codec,
        topic=topics.inbox(BUS),
        partition=partition,
        region=region,
        id=id,
        organisation=source,
        sent_at=sent_at,
        digest=sha256(codec.encode(body)).digest(),
        about=about,
        **more,
    )


@cache
def _operations_keys() -> EncryptionKeys:
    return new_encryption_keys()


class Site:
    """The owner of one inbox partition, on a log in memory, with keys and sealing as in operation."""

    def __init__(self, codec: Codec, snapshots: Snapshots | None = None, *, limit: int = 20) -> None:
        self.codec = codec
        self.clock = ManualClock(START)
        self.log = MemoryLog(self.clock.now)
        self.key_table = KeyTable()
        self.all_keys = MemoryKeyStore(self.key_table)
        self.keys = FactsKeys(self.key_table)
        self.sealer = Sealer(codec)
        self.operations = _operations_keys()
        self.dead_letters = DeadLetters(BUS, "matching", self.operations.public, codec, self.clock, limit)
        self.snapshots = snapshots
        self.next_offset = 0
        self.work = self.owner()
        self._ids = count()

    @classmethod
    async def opened(cls, codec: Codec, snapshots: Snapshots | None = None, **more: Any) -> Site:
        """With its topics, and everything adopted."""
        site = cls(codec, snapshots, **more)
        await site.log.ensure(topics.topics(BUS, 1, 1))
        await site.work.load(lambda _: None)
        for name in (*AGENCIES, *PROVIDERS):
            await site.put(organisation(name), OPERATIONS)
        await site.put(protocol(), OPERATIONS)
        await site.put(policy(), OPERATIONS)
        await site.decide()
        return site

    @property
    def chain(self) -> Chain:
        return self.work.chains[REGION]

    def owner(self) -> PartitionWork:
        """A new ownership of the partition: nothing is loaded yet."""
        return PartitionWork(
            log=self.log,
            bus=BUS,
            partition=0,
            codec=self.codec,
            opener=FactsOpener(self.keys, self.sealer),
            dead_letters=self.dead_letters,
            clock=self.clock,
            snapshots=self.snapshots,
        )

    async def restarted(self) -> int | None:
        """Another owner takes over; returns what its load returned."""
        self.work = self.owner()
        return await self.work.load(lambda _: None)

    async def submission(
        self, facts: Facts = HOUSING, *, agency: str = "police", number: int = 1
    ) -> SubmitReferral:
        """A referral as intake seals it."""
        subject = subject_of(number)
        keys = (await self.all_keys.ensure([subject]))[subject]
        assert not isinstance(keys, Destroyed)
        return SubmitReferral(
            referral=of(agency, number),
            region=REGION,
            subject=subject,
            urgency="urgent",
            purpose="care_coordination",
            sealed_facts=self.sealer.seal(keys.facts, subject, facts),
            sealed_identity=self.sealer.seal(keys.identity, subject, Identity(name=NAME)),
        )

    async def put(self, body: Submission, source: str, **more: Any) -> int:
        """Append a submission to the inbox; returns its offset."""
        id = more.pop("id", None) or f"n-{next(self._ids)}"
        return await self.put_record(
            inbox_record(body, source, id=id, sent_at=self.clock.now(), codec=self.codec, **more)
        )

    async def put_record(self, record: Outgoing) -> int:
        self.clock.advance(1)
        [position] = await (await self.log.appender()).append([record])
        return position.offset

    async def waiting(self) -> list[Record]:
        """What on the inbox is not decided."""
        reader = await self.log.reader(Partition(topics.inbox(BUS), 0))
        return await reader.read(self.next_offset, 100_000)

    async def decide(self) -> list[Outgoing]:
        """Decide and commit what waits on the inbox."""
        records = await self.waiting()
        outcome = await self.work.work(records)
        writer = await self.log.transactor("matching-0")
        self.next_offset = records[-1].offset + 1
        await writer.commit(outcome, "matching", {Partition(topics.inbox(BUS), 0): self.next_offset})
        self.work.committed(records)
        return outcome

    async def ledger(self) -> list[Record]:
        reader = await self.log.reader(Partition(topics.ledger(BUS), 0))
        return await reader.read(0, 1_000_000)

    async def entries(self) -> list[Entry]:
        return [self.codec.decode_entry(record.value) for record in await self.ledger()]

    async def letters(self) -> list[DeadLetter]:
        """The dead letters."""
        reader = await self.log.reader(Partition(topics.deadletter(BUS), 0))
        letters = [self.codec.decode(record.value) for record in await reader.read(0, 1_000_000)]
        return [letter for letter in letters if isinstance(letter, DeadLetter)]

    def opened_letter(self, letter: DeadLetter) -> dict[str, Any]:
        """What operations find in a dead letter."""
        content: dict[str, Any] = json.loads(open_with(self.operations.private, letter.sealed))
        return content
