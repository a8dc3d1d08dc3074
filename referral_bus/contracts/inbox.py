"""What a party says: the submissions on the inbox, and what is already sealed in them.

Who says it and under which id stands in the CloudEvents headers (:class:`~referral_bus.contracts.ledger.Admitted` once decided).
"""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.ids import (
    OrganisationId,
    ReferralId,
    Region,
    ServiceId,
    SubjectId,
    TaskId,
    UnitId,
)
from referral_bus.contracts.message import Code, Message, Millis, Part
from referral_bus.contracts.reference import Agreement, Organisation, Policy, Protocol, Version
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.contracts.vocabulary import (
    NAMING,
    Channel,
    DeclineReason,
    FollowUpDay,
    HoldReason,
    LendingAnswer,
    Means,
    Mode,
    OutcomeCause,
    OutcomeResult,
    Purpose,
    ReferenceKind,
    ReopenReason,
    Urgency,
    WithdrawReason,
)

CLOCK_SKEW_MS: Final = 10 * 60_000
"""How far a party's clock may be ahead of the bus, or behind it."""

Sealed = Annotated[bytes, Field(min_length=1, max_length=65_536)]
Places = Annotated[int, Field(ge=0, le=1_000_000)]
Sequence = Annotated[int, Field(ge=1, le=9_223_372_036_854_775_807)]
"""Where an event stands in its region's ledger: what a long of Avro can say."""
HomeSequence = Annotated[int, Field(ge=0)]
"""A sequence of another region's ledger."""
Room = Annotated[int, Field(ge=0, le=2_000_000)]
"""Places and what may be promised beyond them."""


class Submission(Message):
    """Any message on the inbox."""

    folder = "inbox"


class SubmitReferral(Submission):
    """An agency asks for help for a person. ``service`` is named in mode *direct*, and may be in *waitlist*, to wait for that one alone;
    ``protocol`` where another than the region's usual one is to be followed."""

    referral: ReferralId
    region: Region
    subject: SubjectId
    urgency: Urgency
    purpose: Purpose
    sealed_facts: Sealed
    sealed_identity: Sealed | None = None
    mode: Mode = "match"
    service: ServiceId | None = None
    protocol: Code | None = None

    @model_validator(mode="after")
    def _names_a_service_or_not(self) -> Self:
        if (self.service is not None) not in NAMING[self.mode]:
            raise ValueError(
                "a service is named in mode 'direct', may be in 'waitlist', and is not in another"
            )
        return self


class AmendReferral(Submission):
    """The agency corrects what it said: what is given replaces what was."""

    referral: ReferralId
    urgency: Urgency | None = None
    sealed_facts: Sealed | None = None
    sealed_identity: Sealed | None = None


class HoldReferral(Submission):
    """Rest until a date or until it is resumed before: the referral before a service has accepted it (its agency says so), or the accepted
    service (its provider says so). Without a date it rests for as long as its protocol lets it at most (``longest_hold_ms``)."""

    referral: ReferralId
    reason: HoldReason
    until: Millis | None = None


class ResumeReferral(Submission):
    """Go on with what was put on hold."""

    referral: ReferralId


class TransferReferral(Submission):
    """The agency hands the referral to another agency, which follows it from then on."""

    referral: ReferralId
    agency: OrganisationId


class ReferralPart(Part):
    """One of the referrals that another is split into."""

    referral: ReferralId
    urgency: Urgency
    sealed_facts: Sealed


class SplitReferral(Submission):
    """The agency splits a referral whose needs no one service meets: each part is a referral of its own, and the whole is closed with
    the last of them."""

    referral: ReferralId
    parts: Annotated[list[ReferralPart], Field(min_length=2, max_length=10)]


class ReopenReferral(Submission):
    """The agency takes a closed referral up again. The facts are given anew: those of a closed referral are not kept."""

    referral: ReferralId
    reason: ReopenReason
    sealed_facts: Sealed


class WithdrawReferral(Submission):
    """The agency takes a referral back."""

    referral: ReferralId
    reason: WithdrawReason


class AcknowledgeOffer(Submission):
    """The provider has seen the offer, and will answer it."""

    task: TaskId


class AcceptOffer(Submission):
    """The provider takes the person, from ``starts_at`` on where that is said."""

    task: TaskId
    starts_at: Millis | None = None


class DeclineOffer(Submission):
    """The provider doesn't take the person, and says why. ``until`` goes with the reasons for which the referral rests (see
    ``vocabulary.DECLINES``). A person it has accepted it gives back only if it says so: of two answers from one office the first counts."""

    task: TaskId
    reason: DeclineReason
    until: Millis | None = None
    gives_back: bool = False


class AskForInformation(Submission):
    """The provider needs to know more before it answers an offer. The offer's time runs on."""

    task: TaskId
    sealed_question: Sealed


class AnswerQuestion(Submission):
    """The agency answers what the provider asked."""

    task: TaskId
    sealed_answer: Sealed


class ProposeService(Submission):
    """The provider proposes another service: instead of the offer it has, or to move a person it has accepted, who stays until the
    other service accepts."""

    task: TaskId
    service: ServiceId


class ReportServiceStart(Submission):
    """The provider says that the service began."""

    referral: ReferralId
    started_at: Millis


class ReportNoShow(Submission):
    """The person did not come."""

    referral: ReferralId
    missed_at: Millis


class ReportContact(Submission):
    """The provider tried to reach the person."""

    referral: ReferralId
    tried_at: Millis
    channel: Channel
    reached: bool


class ConfirmHandoff(Submission):
    """Agency or provider confirms that the person was handed over from one to the other, in person or on the phone."""

    referral: ReferralId
    means: Means
    confirmed_at: Millis


class ReportOutcome(Submission):
    """The provider says what came of it, or corrects what it said. ``ended_at`` is when the service ended (epoch milliseconds, UTC), where
    that was before it is said; a correction that leaves it out leaves it as it was."""

    referral: ReferralId
    result: OutcomeResult
    sealed_note: Sealed | None = None
    cause: OutcomeCause | None = None
    ended_at: Millis | None = None


class ReportFollowUp(Submission):
    """The provider, or the agency, says how it is some days after the referral was completed."""

    referral: ReferralId
    days: FollowUpDay
    result: OutcomeResult
    sealed_note: Sealed | None = None


class RetractReport(Submission):
    """A no-show, a contact or a handoff should not have been reported. ``sequence`` is that of the event that says it was; who reported it
    takes it back."""

    referral: ReferralId
    sequence: Sequence


class ReportCapacity(Submission):
    """The provider counts its places anew; ``true_at`` is when it counted."""

    unit: UnitId
    total: Places
    available: Places
    true_at: Millis


class PublishService(Submission):
    """The provider publishes a service, or a new state of it."""

    definition: ServiceDefinition


class AdoptReference(Submission):
    """A version of reference data is put to a region: just one of the fields besides ``kind`` is set."""

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

    @model_validator(mode="after")
    def _content_is_of_its_kind(self) -> Self:
        for kind in (
            "organisation",
            "agreement",
            "protocol",
            "policy",
            "calendar",
            "taxonomy",
            "crosswalk",
        ):
            if (getattr(self, kind) is not None) != (self.kind == kind):
                raise ValueError(
                    f"reference data of kind {self.kind!r} carries the wrong content: look at {kind!r}"
                )
        return self


class ForgetSubject(Submission):
    """The person's keys are destroyed; each region hears it."""

    subject: SubjectId


class ListService(Submission):
    """Another region's service takes, or from now on does not take, referrals of this region. The relay puts it here, as all up to
    :class:`ReturnCapacity`. ``home_sequence`` is that of the event in the service's own region."""

    definition: ServiceDefinition
    home_sequence: HomeSequence


class ListCapacity(Submission):
    """The places of another region's unit, as that region saw them at ``home_sequence``. ``room`` is how many of them this region may hold
    at once: those free, and those held for it. ``true_at`` is when the provider last counted."""

    unit: UnitId
    total: Places
    room: Room
    true_at: Millis
    home_sequence: HomeSequence


class RequestCapacity(Submission):
    """Another region asks for a place for one of its tasks, to be held until ``until``."""

    task: TaskId
    service: ServiceId
    unit: UnitId
    until: Millis


class AnswerCapacity(Submission):
    """What the service's own region answers, with the places of the unit as it leaves them (see :class:`ListCapacity`)."""

    task: TaskId
    unit: UnitId
    answer: LendingAnswer
    total: Places
    room: Room


class TakeCapacity(Submission):
    """In the other region the provider has accepted: the place that is held is taken."""

    task: TaskId
    unit: UnitId


class ReturnCapacity(Submission):
    """The place that is held or taken for another region's task is not needed any more. ``because`` and ``until`` are what its provider
    said, where it said that it has no place."""

    task: TaskId
    unit: UnitId
    because: DeclineReason | None = None
    until: Millis | None = None


class Tick(Submission):
    """A due time has passed. Matching puts it on its own inbox; a repeated tick does no harm."""

    region: Region
    due: Millis


OfAService = ReportServiceStart | ReportNoShow | ReportContact | ConfirmHandoff | ReportOutcome
"""What is reported of a service that has accepted."""

SUBMISSIONS: tuple[type[Submission], ...] = (
    SubmitReferral,
    AmendReferral,
    HoldReferral,
    ResumeReferral,
    TransferReferral,
    SplitReferral,
    ReopenReferral,
    WithdrawReferral,
    AcknowledgeOffer,
    AcceptOffer,
    DeclineOffer,
    AskForInformation,
    AnswerQuestion,
    ProposeService,
    ReportServiceStart,
    ReportNoShow,
    ReportContact,
    ConfirmHandoff,
    ReportOutcome,
    ReportFollowUp,
    RetractReport,
    ReportCapacity,
    PublishService,
    AdoptReference,
    ForgetSubject,
    ListService,
    ListCapacity,
    RequestCapacity,
    AnswerCapacity,
    TakeCapacity,
    ReturnCapacity,
    Tick,
)
