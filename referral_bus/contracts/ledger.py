"""What was decided: the events on the ledger, the source of truth.

On the wire an event is one flat record: its own fields and ``meta``. Here the two are apart: the core decides an :class:`Event`,
the worker stamps it with its :class:`Meta`, and together they are an :class:`Entry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.ids import (
    OrganisationId,
    ReferralId,
    Region,
    ServiceId,
    SubjectId,
    SubmissionId,
    TaskId,
    UnitId,
)
from referral_bus.contracts.inbox import HomeSequence, Places, Room, Sealed, Sequence, Submission
from referral_bus.contracts.message import Code, Message, Millis, Part
from referral_bus.contracts.reference import Agreement, Organisation, Policy, Protocol, Version
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.contracts.vocabulary import (
    CancelReason,
    Channel,
    CloseReason,
    DeclineReason,
    DenialReason,
    DueKind,
    FollowUpDay,
    FreedBecause,
    HeldReason,
    HoldReason,
    Means,
    Mode,
    OutcomeCause,
    OutcomeResult,
    PersonReport,
    Purpose,
    ReferenceKind,
    ReferralStatus,
    ReopenReason,
    StepName,
    Urgency,
    Verdict,
    WithdrawReason,
)

Hash = Annotated[bytes, Field(min_length=32, max_length=32)]


class Admitted(Part):
    """A submission as it was admitted: enough to decide it again without the inbox.

    ``value`` is the framed Avro body as it stood on the inbox (sealed where it concerns a person); ``digest`` recognises a repeat;
    ``sent_at`` is the sender's CloudEvents time, ``append_time`` the broker's.
    """

    type: Code
    id: SubmissionId
    source: OrganisationId
    digest: Annotated[bytes, Field(max_length=32)]
    sent_at: Millis
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    append_time: Millis
    value: bytes


class Meta(Part):
    """Where an event stands: the dense ``sequence`` in its region, the hash of the event before (SHA-256 of its framed
    bytes; zeros before the first), the inbox offset it reflects, the decision's ``now``, and the rules it was decided by."""

    region: Region
    sequence: Sequence
    prev_hash: Hash
    decided_through: Annotated[int, Field(ge=0)]
    now: Millis
    rules: Version
    submission: Admitted | None = None


class Event(Message):
    """Any message on the ledger, without its meta."""

    folder = "ledger"


class ReferralOpened(Event):
    """A referral was taken up; protocol and policy versions stay with it."""

    referral: ReferralId
    subject: SubjectId
    agency: OrganisationId
    urgency: Urgency
    purpose: Purpose
    protocol: Code
    protocol_version: Version
    sealed_facts: Sealed
    sealed_identity: Sealed | None = None
    mode: Mode = "match"
    service: ServiceId | None = None
    """The service its agency named, in mode *direct*."""
    part_of: ReferralId | None = None
    """The referral that was split, where this is a part of one."""


class ReferralAmended(Event):
    """The agency corrected the referral: what is given replaces what was."""

    referral: ReferralId
    urgency: Urgency | None = None
    sealed_facts: Sealed | None = None
    sealed_identity: Sealed | None = None


class ReferralHeld(Event):
    """The referral rests, until a moment or until it is resumed before. Its offers ended before."""

    referral: ReferralId
    reason: HeldReason
    until: Millis | None = None


class ReferralResumed(Event):
    """The referral goes on, in a new round: who was asked before may be asked again, but for those never to be asked again."""

    referral: ReferralId


class ReferralWaitlisted(Event):
    """No place is free. ``services`` would take the person if one were; a place that comes free there calls the referral, and at
    ``review`` it is matched anew whatever happened."""

    referral: ReferralId
    services: Annotated[list[ServiceId], Field(max_length=1000)]
    review: Millis


class ReferralQueued(Event):
    """The referral waits until its window closes, when all that were gathered in it are decided together."""

    referral: ReferralId
    until: Millis


class Placement(Part):
    """The service that is best for a referral of a window, all others of it considered; None: no place is left for it."""

    referral: ReferralId
    service: ServiceId | None = None


class Price(Part):
    """What a service's next place is worth in a window: a whole number, written in decimals since it can be larger than 64 bits."""

    service: ServiceId
    price: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,99}$")]


class WindowClosed(Event):
    """The referrals of a window were assigned together: as many as can be, who waited longest first, and then at the least cost by the
    policy. ``prices`` prove that no assignment is better; those that are not said are zero. Each referral is called in what follows."""

    placements: Annotated[list[Placement], Field(max_length=1000)]
    # No more than placements: a service that nobody is placed with has no price.
    prices: Annotated[list[Price], Field(max_length=1000)]


class ReferralCalled(Event):
    """It is the referral's turn to be matched, and the events that follow decide it: a place came free at ``service``, where it is first in
    line, or its window closed and left it that service; or, without one, it was split off another, or has waited so long that it is
    looked at anew."""

    referral: ReferralId
    service: ServiceId | None = None


class ReferralTransferred(Event):
    """Another agency follows the referral from now on."""

    referral: ReferralId
    former: OrganisationId
    agency: OrganisationId


class ReferralSplit(Event):
    """The referral goes on as these parts, which are opened by the events that follow."""

    referral: ReferralId
    parts: Annotated[list[ReferralId], Field(min_length=2, max_length=10)]


class ReferralReopened(Event):
    """A closed referral is taken up again, with facts given anew."""

    referral: ReferralId
    reason: ReopenReason
    sealed_facts: Sealed


class Eliminated(Part):
    """How many services a criterion ruled out (each counted under the first criterion that did)."""

    criterion: Code
    services: Annotated[int, Field(ge=0)]


class Judged(Part):
    """One service as it was judged: a verdict per criterion in the order need, area, age, language, criteria, reach, hours, capacity; the
    integer score parts in the policy's order, lower is better (empty for a miss)."""

    service: ServiceId
    verdicts: Annotated[list[Verdict], Field(max_length=8)]
    score: Annotated[list[int], Field(max_length=10)]
    mapping: Code | None = None
    """The mapping between vocabularies by which the need found the service, ``name@version``; None: by its own code or a narrower one."""
    confidence: Annotated[int, Field(ge=0, le=1000)] = 1000
    """How sure that mapping is, in thousandths."""
    because: Annotated[list[Code], Field(max_length=10)] = Field(default_factory=list)
    """The kinds of fact for which its own criteria say no, or are unknown."""


class Certificate(Part):
    """The record of one match: what was considered, what ruled it out, the best, and the nearest misses.

    ``digest`` is SHA-256 over the whole table of judged services in canonical order, so that a full recomputation can be compared.
    """

    policy: Code
    policy_version: Version
    considered: Annotated[int, Field(ge=0)]
    eliminated: Annotated[list[Eliminated], Field(max_length=12)]
    best: Annotated[list[Judged], Field(max_length=20)]
    misses: Annotated[list[Judged], Field(max_length=20)]
    digest: Hash
    drawn_after: Hash | None = None
    """The hash of the event before the decision, with which lots were drawn; None where nothing could be drawn."""
    in_window: bool = False
    """It was decided together with the others of its window, and offered to the service that was found for it there. That one stands last
    in ``best`` where it is not among the best for this referral alone."""


class MatchDecided(Event):
    """A match was decided, with or without a service to offer to."""

    referral: ReferralId
    attempt: Annotated[int, Field(ge=1)]
    service: ServiceId | None = None
    certificate: Certificate


class OfferMade(Event):
    """A place is held for the referral until ``expires_at``."""

    referral: ReferralId
    task: TaskId
    service: ServiceId
    unit: UnitId
    provider: OrganisationId
    expires_at: Millis
    transfer: bool = False
    """Another provider has accepted the person, and proposed this service to take them over."""


class OfferAcknowledged(Event):
    """The provider has seen the offer."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId


class OfferAccepted(Event):
    """The provider took the person: the held place is taken."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    starts_at: Millis | None = None


class OfferDeclined(Event):
    """The provider said no: the held place is free again."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    reason: DeclineReason
    until: Millis | None = None


class TaskCancelled(Event):
    """An offer or an acceptance ended because of something else than its answer: its place is free again."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    reason: CancelReason
    because: DeclineReason | None = None
    """What the provider said, where it gave the person back."""
    until: Millis | None = None
    """The date until which it did."""


class InformationAsked(Event):
    """The provider needs to know more before it answers."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    sealed_question: Sealed


class InformationGiven(Event):
    """The agency answered what the provider asked."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    sealed_answer: Sealed


class ServiceProposed(Event):
    """The provider proposed another service; what follows decides whether it is asked."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    service: ServiceId


class OfferExpired(Event):
    """Nobody answered in time: the held place is free again."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId


class ReferralWithdrawn(Event):
    """The agency took the referral back; ``task`` is the offer or acceptance that ended with it. One that is closed is taken back only as
    entered in error, and is that from then on."""

    referral: ReferralId
    reason: WithdrawReason
    task: TaskId | None = None
    serving: TaskId | None = None
    """The service that has begun. It goes on, and keeps its place, until its provider says what came of it: the referral is closed then."""


class TaskEnteredInError(Event):
    """A task that is over should never have been: its referral was entered in error."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId


class ServiceStarted(Event):
    """The person is being served. One that ``corrects`` the event at that sequence says only that it was at another time."""

    referral: ReferralId
    task: TaskId
    started_at: Millis
    late: bool = False
    """It was reported after the service was over: a correction of the record, which changes nothing else."""
    corrects: Sequence | None = None


class TaskHeld(Event):
    """The accepted service rests, until a moment or until it is resumed before; its place stays taken."""

    referral: ReferralId
    task: TaskId
    reason: HoldReason
    until: Millis | None = None


class TaskResumed(Event):
    """The accepted service goes on."""

    referral: ReferralId
    task: TaskId


class NoShowReported(Event):
    """The person did not come."""

    referral: ReferralId
    task: TaskId
    missed_at: Millis
    late: bool = False
    """As of :class:`ServiceStarted`."""


class ContactReported(Event):
    """The provider tried to reach the person."""

    referral: ReferralId
    task: TaskId
    tried_at: Millis
    channel: Channel
    reached: bool
    late: bool = False
    """As of :class:`ServiceStarted`."""


class HandoffConfirmed(Event):
    """One of the two parties confirmed the warm handoff. With the second it is ``complete``."""

    referral: ReferralId
    task: TaskId
    by: OrganisationId
    means: Means
    confirmed_at: Millis
    complete: bool
    late: bool = False
    """As of :class:`ServiceStarted`."""


class ReportRetracted(Event):
    """What the event at the sequence that it ``corrects`` says did not happen, as the provider says that reported it."""

    referral: ReferralId
    task: TaskId
    report: PersonReport
    corrects: Sequence
    late: bool = False
    """As of :class:`ServiceStarted`."""


class HandoffRetracted(Event):
    """Who confirmed the handoff, by the event at the sequence that this ``corrects``, did so by mistake: it is still to be confirmed."""

    referral: ReferralId
    task: TaskId
    by: OrganisationId
    corrects: Sequence
    late: bool = False
    """As of :class:`ServiceStarted`."""


class OutcomeReported(Event):
    """What came of it, as the provider says. One that ``corrects`` the event at that sequence came after the referral was closed.
    ``ended_at`` is when the service ended, where that was before it was said: follow-ups count from it, also where it is corrected. Nobody
    who did not come is followed up."""

    referral: ReferralId
    task: TaskId
    result: OutcomeResult
    sealed_note: Sealed | None = None
    cause: OutcomeCause | None = None
    corrects: Sequence | None = None
    ended_at: Millis | None = None


class JoinedOutcomeCorrected(Event):
    """What came of a split referral that is closed is not what was said: the outcome of a ``part`` was corrected. It ``corrects`` the event
    at that sequence, by which the referral was closed, or corrected before."""

    referral: ReferralId
    part: ReferralId
    result: OutcomeResult
    corrects: Sequence


class FollowUpDue(Event):
    """So many days after the referral was completed somebody should ask how it is."""

    referral: ReferralId
    days: FollowUpDay
    provider: OrganisationId


class FollowedUp(Event):
    """How it is, so many days after the referral was completed. One that ``corrects`` the event at that sequence replaces what it says."""

    referral: ReferralId
    days: FollowUpDay
    by: OrganisationId
    result: OutcomeResult
    sealed_note: Sealed | None = None
    corrects: Sequence | None = None


class Reminded(Event):
    """A part of a step's time is over (``percent`` of it): who must take it is told. ``due`` is when all of it will be."""

    referral: ReferralId
    task: TaskId
    step: StepName
    party: OrganisationId
    percent: Annotated[int, Field(ge=1, le=99)]
    due: Millis


class AgencyReminded(Event):
    """A part of the time is over that the referral may go without an acceptance (``percent`` of it): its agency is told. ``due`` is when
    all of it will be, and the referral is closed if nobody has accepted it by then."""

    referral: ReferralId
    agency: OrganisationId
    percent: Annotated[int, Field(ge=1, le=99)]
    due: Millis


class Escalated(Event):
    """A step was not taken in time: ``to`` is told, None being operations."""

    referral: ReferralId
    task: TaskId | None = None
    step: StepName
    to: OrganisationId | None = None
    due: Millis


class ReferralClosed(Event):
    """The referral is over; a taken place is free again. ``result`` is what came of it, for a split one what came of its parts."""

    referral: ReferralId
    status: ReferralStatus
    reason: CloseReason
    result: OutcomeResult | None = None


class CapacityChanged(Event):
    """A unit was counted anew."""

    unit: UnitId
    service: ServiceId
    total: Places
    available: Places
    true_at: Millis


class CapacityDoubted(Event):
    """The provider said of a ``task`` that it has no place, where by its count there are ``places`` more than are taken or held: until it
    counts again, or until ``until``, none of them is offered to anybody."""

    unit: UnitId
    service: ServiceId
    task: TaskId
    places: Annotated[int, Field(ge=1)]
    until: Millis


class CapacityTrusted(Event):
    """The time is over for which a unit's places were doubted, and nobody counted them: they are offered again, as they were counted."""

    unit: UnitId
    service: ServiceId


class ServicePublished(Event):
    """A service is offered as described from now on."""

    definition: ServiceDefinition
    told: Annotated[list[Region], Field(max_length=200)] = Field(default_factory=list)
    """The other regions that hear of it: those it is listed in, and those it was listed in before."""


class CapacityRequested(Event):
    """The best service is another region's: that region is asked to hold a place until ``until``. The attempt waits for its answer."""

    referral: ReferralId
    task: TaskId
    service: ServiceId
    unit: UnitId
    provider: OrganisationId
    until: Millis
    transfer: bool = False
    """As of :class:`OfferMade`, which follows once the place is held."""


class AcceptanceClaimed(Event):
    """The provider accepted, and the region of its service is asked to take the place. Until it answers, nobody else can accept."""

    referral: ReferralId
    task: TaskId
    provider: OrganisationId
    unit: UnitId
    starts_at: Millis | None = None


class CapacityReturned(Event):
    """The place in another region that was asked for, held or taken is not needed any more. ``because`` and ``until`` are what the
    provider said, where it said that it has no place."""

    referral: ReferralId
    task: TaskId
    unit: UnitId
    because: DeclineReason | None = None
    until: Millis | None = None


class CapacityLent(Event):
    """A place is held for a task of another region, until ``until``."""

    task: TaskId
    unit: UnitId
    until: Millis
    total: Places
    room: Room


class CapacityDenied(Event):
    """No place is held, or taken, for a task of another region. ``total`` and ``room`` are 0 where the unit is not listed there."""

    task: TaskId
    unit: UnitId
    reason: DenialReason
    total: Places
    room: Room


class CapacityTaken(Event):
    """The place that was held for a task of another region is taken."""

    task: TaskId
    unit: UnitId
    total: Places
    room: Room


class CapacityFreed(Event):
    """The place that was held or taken for a task of another region is free again."""

    task: TaskId
    unit: UnitId
    because: FreedBecause
    total: Places
    room: Room


class RoomOf(Part):
    """How many places of a unit another region may hold at once: those free, and those held for it."""

    region: Region
    room: Room


class CapacityOffered(Event):
    """Other regions are told how many places of a unit they may hold; ``true_at`` is when the provider last counted."""

    unit: UnitId
    total: Places
    rooms: Annotated[list[RoomOf], Field(min_length=1, max_length=100)]
    true_at: Millis


class ServiceListed(Event):
    """A service of another region is offered to this region's referrals as described; one that is not any more is listed as not active."""

    definition: ServiceDefinition
    home_sequence: HomeSequence


class CapacityListed(Event):
    """The places of another region's unit, as that region saw them at ``home_sequence``: ``room`` may be held by this region at once.
    ``true_at`` is when the provider last counted."""

    unit: UnitId
    service: ServiceId
    total: Places
    room: Room
    true_at: Millis
    home_sequence: HomeSequence


class SubmissionRefused(Event):
    """A submission changed nothing. ``reason`` is a key of ``vocabulary.REFUSALS``; ``about`` the id it spoke of."""

    reason: Code
    about: Code | None = None
    parked: Sequence | None = None
    """The sequence under which the refused submission had been parked, if it had."""


class SubmissionParked(Event):
    """A submission came before what it refers to, and waits for it until ``until``."""

    waiting_for: Code
    until: Millis


class SubmissionResumed(Event):
    """What the submission parked under this sequence waited for is there: the events that follow decide it."""

    parked: Sequence


class SubmissionRepeated(Event):
    """A submission had been answered before, at sequence ``first``."""

    first: Sequence


class DuePutOff(Event):
    """Matching failed on what was due first: that alone falls due again at ``until``, and what is due behind it goes on. ``about`` is a
    referral, a task of another region or a unit, ``number`` its attempt, days or a parked submission's sequence; ``due`` is when it was."""

    kind: DueKind
    about: Code | None = None
    number: Annotated[int, Field(ge=0)] = 0
    due: Millis
    until: Millis


class ReferenceAdopted(Event):
    """The region decides by this version from now on: just one of the fields besides ``kind`` is set."""

    kind: ReferenceKind
    reference: Code
    version: Version
    organisation: Organisation | None = None
    agreement: Agreement | None = None
    protocol: Protocol | None = None
    policy: Policy | None = None
    calendar: Calendar | None = None
    taxonomy: Taxonomy | None = None
    crosswalk: Crosswalk | None = None


class RulesActivated(Event):
    """The region decides by this version of matching's own rules from the next event on."""

    version: Version


class KeyDestroyed(Event):
    """The person's keys are destroyed. A restored key store replays these before it opens."""

    subject: SubjectId


ELSEWHERE: tuple[type[Event], ...] = (
    CapacityRequested,
    AcceptanceClaimed,
    CapacityReturned,
    CapacityLent,
    CapacityDenied,
    CapacityTaken,
    CapacityFreed,
    CapacityOffered,
    ServiceListed,
    CapacityListed,
)
"""What regions decide of each other's services."""

EVENTS: tuple[type[Event], ...] = (
    ReferralOpened,
    ReferralAmended,
    ReferralHeld,
    ReferralResumed,
    ReferralWaitlisted,
    ReferralQueued,
    WindowClosed,
    ReferralCalled,
    ReferralTransferred,
    ReferralSplit,
    ReferralReopened,
    MatchDecided,
    OfferMade,
    OfferAcknowledged,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    TaskCancelled,
    InformationAsked,
    InformationGiven,
    ServiceProposed,
    ReferralWithdrawn,
    TaskEnteredInError,
    ServiceStarted,
    TaskHeld,
    TaskResumed,
    NoShowReported,
    ContactReported,
    HandoffConfirmed,
    ReportRetracted,
    HandoffRetracted,
    OutcomeReported,
    FollowUpDue,
    FollowedUp,
    Reminded,
    AgencyReminded,
    Escalated,
    ReferralClosed,
    JoinedOutcomeCorrected,
    CapacityChanged,
    CapacityDoubted,
    CapacityTrusted,
    ServicePublished,
    SubmissionRefused,
    SubmissionParked,
    SubmissionResumed,
    SubmissionRepeated,
    DuePutOff,
    ReferenceAdopted,
    RulesActivated,
    KeyDestroyed,
    *ELSEWHERE,
)


def task_of(event: Event) -> str | None:
    """The task an event is about, if it is about one: of a withdrawal also the service that goes on."""
    task: str | None = getattr(event, "task", None)
    return event.serving if isinstance(event, ReferralWithdrawn) and task is None else task


@dataclass(frozen=True, slots=True)
class Entry:
    """An event where it stands on the ledger."""

    meta: Meta
    event: Event


@dataclass(frozen=True, slots=True)
class Received:
    """A submission as the core gets it: as admitted, and decoded."""

    admitted: Admitted
    body: Submission


GENESIS_HASH = bytes(32)
"""``prev_hash`` of a region's first event."""
