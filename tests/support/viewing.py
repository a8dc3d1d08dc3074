"""A ledger as matching would write it, for views to reflect: chained, with parties, units, offers and whatever befalls them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from referral_bus.contracts.ids import referral_id, task_id
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Admitted,
    CapacityChanged,
    Certificate,
    Entry,
    Event,
    KeyDestroyed,
    MatchDecided,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferenceAdopted,
    ReferralClosed,
    ReferralOpened,
    ReferralWithdrawn,
    ServicePublished,
    ServiceStarted,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
)
from referral_bus.contracts.reference import Agreement, Organisation, Policy, Protocol, TrustStep
from referral_bus.contracts.services import ServiceDefinition, Unit
from referral_bus.contracts.vocabulary import DataClass, OrganisationKind, Role
from referral_bus.log.port import Outgoing, Partition, Record
from referral_bus.store.memory import MemoryViews
from referral_bus.wire.codec import Codec
from services.projections.fold import Fold
from services.projections.tables import SERVING

TOPIC = "refbus.main.ledger"
START = 1_700_000_000_000
CODEC = Codec.load()
PARTIES: dict[str, tuple[OrganisationKind, list[Role]]] = {
    "police": ("police", ["agency"]),
    "hospital": ("hospital", ["agency"]),
    "shelter": ("provider", ["provider"]),
    "clinic": ("provider", ["provider"]),
}
SEALED = b"\x01 sealed"
CERTIFICATE = Certificate(
    policy="standard", policy_version=1, considered=2, eliminated=[], best=[], misses=[], digest=bytes(32)
)


def subject(number: int) -> str:
    """A pseudonym."""
    return "sj-" + "".join("abcdefghijklmnopqrstuvwxyz"[(number // 26**i) % 26] for i in range(26))


def admitted(
    source: str = "hospital", id: str = "s-1", type: str = SubmitReferral.event_type(), offset: int = 0
) -> Admitted:
    """Who sent what; its bytes play no part in views."""
    return Admitted(
        type=type,
        id=id,
        source=source,
        digest=bytes(32),
        sent_at=START,
        partition=0,
        offset=offset,
        append_time=START,
        value=b"",
    )


@dataclass
class Region:
    """Writes one region's events, in one partition of the ledger that regions may share."""

    name: str = "north"
    partition: int = 0
    topic: str = TOPIC
    now: int = START
    sequence: int = 0
    hash: bytes = GENESIS_HASH
    inbox_offset: int = 0
    _referrals: int = 0

    def entry(self, event: Event, submission: Admitted | None = None) -> Entry:
        """The event as the next of the region."""
        meta = Meta(
            region=self.name,
            sequence=self.sequence + 1,
            prev_hash=self.hash,
            decided_through=self.inbox_offset,
            now=self.now,
            rules=1,
            submission=submission,
        )
        return Entry(meta, event)

    def put(self, event: Event, submission: Admitted | None = None) -> Outgoing:
        """The event's record. Time and the inbox go on by one each."""
        self.now += 1
        self.inbox_offset += 1
        value = CODEC.encode_entry(self.entry(event, submission))
        self.sequence += 1
        self.hash = sha256(value).digest()
        headers = (("ce_type", event.event_type().encode()),)
        return Outgoing(self.topic, self.partition, self.name.encode(), value, headers)

    # Events that belong to the region

    def adopted(self, organisation: str, version: int = 1) -> ReferenceAdopted:
        kind, roles = PARTIES[organisation]
        return ReferenceAdopted(
            kind="organisation",
            reference=organisation,
            version=version,
            organisation=Organisation(
                organisation=organisation,
                version=version,
                name=organisation.title(),
                kind=kind,
                roles=roles,
                home_region=self.name,
            ),
        )

    def agreed(
        self, recipient: str, classes: list[DataClass], valid_from: int = 0, valid_until: int = 2 * START
    ) -> ReferenceAdopted:
        agreement = Agreement(
            agreement=f"mou-{recipient}",
            recipient=recipient,
            data_classes=classes,
            purposes=["care_coordination"],
            legal_basis="consent",
            valid_from=valid_from,
            valid_until=valid_until,
        )
        return ReferenceAdopted(
            kind="agreement", reference=agreement.agreement, version=1, agreement=agreement
        )

    def follows(self, protocol: Protocol) -> ReferenceAdopted:
        return ReferenceAdopted(
            kind="protocol", reference=protocol.protocol, version=protocol.version, protocol=protocol
        )

    def trusts(self, *steps: tuple[int, int]) -> ReferenceAdopted:
        policy = Policy(
            policy="plain",
            rank_by=["lottery"],
            seed="published",
            trust=[TrustStep(hours=hours, thousandths=thousandths) for hours, thousandths in steps],
        )
        return ReferenceAdopted(kind="policy", reference="plain", version=1, policy=policy)

    def published(
        self, service: str = "beds", provider: str = "shelter", total: int = 5, units: Sequence[str] = ()
    ) -> ServicePublished:
        return ServicePublished(
            definition=ServiceDefinition(
                service=f"sv-{self.name}-{service}",
                organisation=provider,
                name=service,
                terms=[],
                units=[
                    Unit(unit=f"un-{self.name}-{unit}", name=unit, total=total, available=total)
                    for unit in units or [service]
                ],
            )
        )

    def counted(self, unit: str = "beds", total: int = 5, available: int = 5) -> CapacityChanged:
        return CapacityChanged(
            unit=f"un-{self.name}-{unit}",
            service=f"sv-{self.name}-{unit}",
            total=total,
            available=available,
            true_at=self.now,
        )

    def opened(
        self,
        agency: str = "hospital",
        of: str | None = None,
        facts: bytes = SEALED,
        identity: bytes | None = SEALED,
    ) -> ReferralOpened:
        self._referrals += 1
        return ReferralOpened(
            referral=referral_id(self.name, "main", agency, f"s-{self._referrals}"),
            subject=of or subject(self._referrals),
            agency=agency,
            urgency="urgent",
            purpose="care_coordination",
            protocol="standard",
            protocol_version=1,
            sealed_facts=facts,
            sealed_identity=identity,
        )

    def matched(self, opened: ReferralOpened, attempt: int = 1, service: str | None = "beds") -> MatchDecided:
        return MatchDecided(
            referral=opened.referral,
            attempt=attempt,
            service=None if service is None else f"sv-{self.name}-{service}",
            certificate=CERTIFICATE,
        )

    def offered(
        self, opened: ReferralOpened, provider: str = "shelter", attempt: int = 1, unit: str = "beds"
    ) -> OfferMade:
        return OfferMade(
            referral=opened.referral,
            task=task_id(opened.referral, attempt),
            service=f"sv-{self.name}-{unit}",
            unit=f"un-{self.name}-{unit}",
            provider=provider,
            expires_at=self.now + 60_000,
        )


def accepted(offer: OfferMade) -> OfferAccepted:
    return OfferAccepted(referral=offer.referral, task=offer.task, provider=offer.provider)


def declined(offer: OfferMade) -> OfferDeclined:
    return OfferDeclined(
        referral=offer.referral, task=offer.task, provider=offer.provider, reason="no_capacity"
    )


def expired(offer: OfferMade) -> OfferExpired:
    return OfferExpired(referral=offer.referral, task=offer.task, provider=offer.provider)


def withdrawn(referral: str, task: str | None) -> list[Event]:
    return [
        ReferralWithdrawn(referral=referral, reason="moved_away", task=task),
        ReferralClosed(referral=referral, status="revoked", reason="withdrawn"),
    ]


def started(offer: OfferMade) -> ServiceStarted:
    return ServiceStarted(referral=offer.referral, task=offer.task, started_at=START)


def completed(offer: OfferMade, note: bytes | None = None) -> list[Event]:
    return [
        OutcomeReported(referral=offer.referral, task=offer.task, result="need_met", sealed_note=note),
        ReferralClosed(referral=offer.referral, status="completed", reason="outcome_reported"),
    ]


def records(outgoing: Sequence[Outgoing]) -> list[Record]:
    """As they would be read, each partition's offsets with a gap here and there, as transactions leave them."""
    following: dict[int, int] = {}
    found: list[Record] = []
    for number, record in enumerate(outgoing):
        offset = following.get(record.partition, 0)
        following[record.partition] = offset + (2 if number % 3 == 0 else 1)
        found.append(Record(record.topic, record.partition, offset, START, record.key, record.value))
    return found


class Views:
    """Views in memory, fed with whatever a test writes."""

    def __init__(self) -> None:
        self.store = MemoryViews(SERVING.views)
        self.fold = Fold(self.store, CODEC)
        self._next: dict[int, int] = {}

    async def feed(self, batch: Sequence[Record]) -> None:
        """Reflect the records, each partition's as one batch."""
        for number in sorted({record.partition for record in batch}):
            partition = Partition(batch[0].topic, number)
            own = [record for record in batch if record.partition == number]
            changes = await self.fold.project(partition, own)
            claim = await self.store.claim(partition)
            await self.store.apply(partition, claim.epoch, claim.position, own[-1].offset + 1, changes)

    async def of(self, region: Region, *events: Event) -> None:
        """Reflect the next events of a region in one batch."""
        batch: list[Record] = []
        for event in events:
            record = region.put(event)
            offset = self._next.get(region.partition, 0)
            self._next[region.partition] = offset + 1
            batch.append(Record(record.topic, record.partition, offset, START, record.key, record.value))
        await self.feed(batch)

    def table(self, name: str) -> list[dict[str, object]]:
        return self.store.table(name)

    def row(self, name: str, **key: object) -> dict[str, object]:
        """The one row with these values."""
        [found] = [row for row in self.table(name) if all(row[column] == key[column] for column in key)]
        return found

    def everything(self) -> dict[str, list[dict[str, object]]]:
        return {table.name: self.table(table.name) for table in SERVING.views}


@dataclass
class _Live:
    opened: ReferralOpened
    attempt: int = 0
    offer: OfferMade | None = None
    accepted: bool = False
    started: bool = False


@dataclass
class Story:
    """Makes up what befalls a region's referrals, as matching would decide it: every step is one it could take."""

    region: Region
    random: random.Random
    live: list[_Live] = field(default_factory=list)
    parked: list[int] = field(default_factory=list)
    free: dict[str, int] = field(default_factory=lambda: {"beds": 50, "rooms": 50})
    persons: int = 0
    erased: set[str] = field(default_factory=set)

    def beginning(self) -> list[Outgoing]:
        """Parties and services."""
        return [
            *(self.region.put(self.region.adopted(name)) for name in PARTIES),
            self.region.put(self.region.published("beds", "shelter", 50)),
            self.region.put(self.region.published("rooms", "clinic", 50)),
        ]

    def steps(self, count: int) -> list[Outgoing]:
        """That many decisions, some of them of several events."""
        out: list[Outgoing] = []
        for number in range(count):
            events, submission = self._step(number)
            for index, event in enumerate(events):
                out.append(self.region.put(event, submission if index == 0 else None))
        return out

    def _step(self, number: int) -> tuple[list[Event], Admitted | None]:
        draw = self.random
        agency = draw.choice(["hospital", "police"])
        sent = admitted(agency, f"s-{number}", offset=self.region.inbox_offset)
        what = draw.random()
        if what < 0.04:
            return [SubmissionRefused(reason="id_reused")], sent
        if what < 0.06:
            self.parked.append(self.region.sequence + 1)
            return [
                SubmissionParked(waiting_for=f"un-{self.region.name}-late", until=self.region.now + 9)
            ], sent
        if what < 0.08 and self.parked:
            parked = self.parked.pop(0)
            if draw.random() < 0.5:
                return [SubmissionRefused(reason="unknown_unit", parked=parked)], None
            return [SubmissionResumed(parked=parked), self.region.counted(available=50, total=50)], None
        if what < 0.10:
            return [SubmissionRepeated(first=1)], sent
        if what < 0.12:
            someone = self._subject()
            self.erased.add(someone)
            return [KeyDestroyed(subject=someone)], None
        if what < 0.13:
            return [self.region.adopted(draw.choice(list(PARTIES)), version=number + 2)], None
        if what < 0.14:
            return [self.region.published("beds", "shelter", 50, units=["beds", f"annex{number}"])], None
        waiting = [one for one in self.live if one.opened.referral]
        if what < 0.4 or not waiting:
            return self._open(agency), sent
        return self._go_on(draw.choice(waiting)), None

    def _subject(self) -> str:
        return subject(self.random.randrange(max(1, self.persons)) + 1)

    def _open(self, agency: str) -> list[Event]:
        self.persons += 1
        someone = self._subject() if self.random.random() < 0.2 else subject(self.persons)
        if someone in self.erased:
            return [SubmissionRefused(reason="subject_erased")]
        note = SEALED if self.random.random() < 0.7 else None
        one = _Live(self.region.opened(agency, someone, identity=note))
        return [one.opened, *self._offer(one)]

    def _offer(self, one: _Live) -> list[Event]:
        one.attempt += 1
        unit = self.random.choice(list(self.free))
        if one.attempt > 4 or self.free[unit] == 0:
            if one in self.live:
                self.live.remove(one)
            one.offer = None
            return [
                self.region.matched(one.opened, one.attempt, None),
                ReferralClosed(referral=one.opened.referral, status="revoked", reason="no_match"),
            ]
        if one not in self.live:
            self.live.append(one)
        self.free[unit] -= 1
        provider = "shelter" if unit == "beds" else "clinic"
        one.offer = self.region.offered(one.opened, provider, one.attempt, unit)
        return [self.region.matched(one.opened, one.attempt, unit), one.offer]

    def _go_on(self, one: _Live) -> list[Event]:
        offer = one.offer
        assert offer is not None
        unit = offer.unit.rpartition("-")[2]
        what = self.random.random()
        if what < 0.1:
            self.live.remove(one)
            self.free[unit] += 1
            return withdrawn(offer.referral, offer.task)
        if not one.accepted:
            if what < 0.6:
                one.accepted = True
                return [accepted(offer)]
            self.free[unit] += 1
            return [declined(offer) if what < 0.8 else expired(offer), *self._offer(one)]
        if not one.started:
            one.started = True
            return [started(offer)]
        self.live.remove(one)
        self.free[unit] += 1
        return completed(offer, SEALED if what < 0.5 else None)
