"""What agencies and providers send, before it is sealed: the data of the CloudEvents they put to intake.

The typed HTTP routes, ``POST /v1/events`` and the outboxes all take these; intake turns each into its inbox submission.
The CloudEvents type is that of the submission (``org.referralbus.inbox.SubmitReferral.v1``).

A ``...Body`` is what is said of a referral, an offer or a unit whose id stands elsewhere, as in the path of a route; the request of
the same name says both.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.ids import OrganisationId, ReferralId, Region, ServiceId, TaskId, UnitId
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AmendReferral,
    AnswerQuestion,
    AskForInformation,
    ConfirmHandoff,
    DeclineOffer,
    HoldReferral,
    Places,
    ProposeService,
    PublishService,
    ReopenReferral,
    ReportCapacity,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
    ResumeReferral,
    RetractReport,
    Sequence,
    SplitReferral,
    Submission,
    SubmitReferral,
    TransferReferral,
    WithdrawReferral,
)
from referral_bus.contracts.message import NO_NUL, Code, Millis, Part
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import (
    NAMING,
    Channel,
    DeclineReason,
    FollowUpDay,
    HoldReason,
    Means,
    Mode,
    OutcomeCause,
    OutcomeResult,
    Purpose,
    ReopenReason,
    Urgency,
    WithdrawReason,
)

SubjectReference = Annotated[str, Field(min_length=1, max_length=128, json_schema_extra=NO_NUL)]
"""The agency's own reference for the person. It never leaves intake: the bus knows a pseudonym."""

FreeText = Annotated[str, Field(min_length=1, max_length=4000, json_schema_extra=NO_NUL)]
"""What people write for people. It can name anyone, so it is sealed like identity."""


class ReferralRequest(Part):
    """Help is asked for. ``service`` is named in mode *direct*, and may be in *waitlist*, to wait for that one alone; ``protocol`` where
    another than the region's usual one is to be followed. Without ``region`` it goes to that of the named service, else to the agency's
    home region."""

    subject: SubjectReference
    urgency: Urgency
    facts: Facts
    identity: Identity | None = None
    purpose: Purpose = "care_coordination"
    region: Region | None = None
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


class WithdrawBody(Part):
    """Why a referral is taken back."""

    reason: WithdrawReason


class WithdrawRequest(WithdrawBody):
    """A referral is taken back."""

    referral: ReferralId


class AmendBody(Part):
    """What replaces what was said before; at least one of these."""

    urgency: Urgency | None = None
    facts: Facts | None = None
    identity: Identity | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.urgency is None and self.facts is None and self.identity is None:
            raise ValueError("nothing is corrected: give urgency, facts or identity")
        return self


class AmendRequest(AmendBody):
    """A referral is corrected."""

    referral: ReferralId


class HoldBody(Part):
    """Why it rests, and until when: epoch milliseconds, UTC. Without a date it rests until it is resumed, or for as long as its protocol
    lets it at most."""

    reason: HoldReason
    until: Millis | None = None


class HoldRequest(HoldBody):
    """A referral rests, or the service that has accepted it."""

    referral: ReferralId


class ResumeRequest(Part):
    """A referral or a service goes on."""

    referral: ReferralId


class TransferBody(Part):
    """The agency that follows the referral from then on."""

    agency: OrganisationId


class TransferRequest(TransferBody):
    """A referral is handed to another agency."""

    referral: ReferralId


class PartRequest(Part):
    """A part of a referral, with the facts that count for it."""

    urgency: Urgency
    facts: Facts


class SplitBody(Part):
    """The parts that become referrals of their own. The person is the same in all."""

    parts: Annotated[list[PartRequest], Field(min_length=2, max_length=10)]


class SplitRequest(SplitBody):
    """A referral is split."""

    referral: ReferralId


class ReopenBody(Part):
    """Why a closed referral is taken up again, and the facts anew: those of a closed referral are not kept."""

    reason: ReopenReason
    facts: Facts


class ReopenRequest(ReopenBody):
    """A closed referral is taken up again."""

    referral: ReferralId


class AcknowledgeRequest(Part):
    """An offer was seen."""

    task: TaskId


class AcceptBody(Part):
    """When the service begins, where that is known: epoch milliseconds, UTC."""

    starts_at: Millis | None = None


class AcceptRequest(AcceptBody):
    """An offer is accepted."""

    task: TaskId


class DeclineBody(Part):
    """Why an offer is declined. ``until`` (epoch milliseconds, UTC) goes with ``full_until`` and ``person_not_ready``, and with no
    other reason. ``gives_back`` says that it is about a person who was accepted."""

    reason: DeclineReason
    until: Millis | None = None
    gives_back: bool = False


class DeclineRequest(DeclineBody):
    """An offer is declined, or a person who was accepted given back."""

    task: TaskId


class AskBody(Part):
    """What the provider needs to know. It is sealed."""

    question: FreeText


class AskRequest(AskBody):
    """The agency is asked for more."""

    task: TaskId


class AnswerBody(Part):
    """What the agency answers. It is sealed."""

    answer: FreeText


class AnswerRequest(AnswerBody):
    """The agency answers what it was asked."""

    task: TaskId


class ProposeBody(Part):
    """The service that is proposed."""

    service: ServiceId


class ProposeRequest(ProposeBody):
    """Another service is proposed."""

    task: TaskId


class StartBody(Part):
    """When the service began: epoch milliseconds, UTC."""

    started_at: Millis


class StartRequest(StartBody):
    """The service began."""

    referral: ReferralId


class NoShowBody(Part):
    """When the person was expected: epoch milliseconds, UTC."""

    missed_at: Millis


class NoShowRequest(NoShowBody):
    """The person did not come."""

    referral: ReferralId


class ContactBody(Part):
    """How and when it was tried to reach the person (epoch milliseconds, UTC), and whether they were reached."""

    tried_at: Millis
    channel: Channel
    reached: bool


class ContactRequest(ContactBody):
    """It was tried to reach the person."""

    referral: ReferralId


class HandoffBody(Part):
    """How and when the person was handed over: epoch milliseconds, UTC."""

    means: Means
    confirmed_at: Millis


class HandoffRequest(HandoffBody):
    """The person was handed over from the agency to the provider, as one of the two says."""

    referral: ReferralId


class OutcomeBody(Part):
    """What came of it, and why. The note is sealed. ``ended_at`` (epoch milliseconds, UTC) is when the service ended, where that was
    earlier: follow-ups count from it."""

    result: OutcomeResult
    note: FreeText | None = None
    cause: OutcomeCause | None = None
    ended_at: Millis | None = None


class OutcomeRequest(OutcomeBody):
    """What came of a referral, or a correction of it."""

    referral: ReferralId


class FollowUpBody(Part):
    """How it is so many days after the referral was completed. The note is sealed."""

    days: FollowUpDay
    result: OutcomeResult
    note: FreeText | None = None


class FollowUpRequest(FollowUpBody):
    """How it is some time after a referral."""

    referral: ReferralId


class RetractBody(Part):
    """What is taken back: the sequence under which the timeline has the no-show, the contact or the handoff."""

    sequence: Sequence


class RetractRequest(RetractBody):
    """A report is taken back by who made it."""

    referral: ReferralId


class CapacityBody(Part):
    """Places counted at ``true_at``: epoch milliseconds, UTC."""

    total: Places
    available: Places
    true_at: Millis


class CapacityRequest(CapacityBody):
    """The places of a unit, counted anew."""

    unit: UnitId


class ServiceRequest(Part):
    """A service as it is offered from now on."""

    definition: ServiceDefinition


REQUESTS: dict[type[Part], type[Submission]] = {
    ReferralRequest: SubmitReferral,
    AmendRequest: AmendReferral,
    HoldRequest: HoldReferral,
    ResumeRequest: ResumeReferral,
    TransferRequest: TransferReferral,
    SplitRequest: SplitReferral,
    ReopenRequest: ReopenReferral,
    WithdrawRequest: WithdrawReferral,
    AcknowledgeRequest: AcknowledgeOffer,
    AcceptRequest: AcceptOffer,
    DeclineRequest: DeclineOffer,
    AskRequest: AskForInformation,
    AnswerRequest: AnswerQuestion,
    ProposeRequest: ProposeService,
    StartRequest: ReportServiceStart,
    NoShowRequest: ReportNoShow,
    ContactRequest: ReportContact,
    HandoffRequest: ConfirmHandoff,
    OutcomeRequest: ReportOutcome,
    FollowUpRequest: ReportFollowUp,
    RetractRequest: RetractReport,
    CapacityRequest: ReportCapacity,
    ServiceRequest: PublishService,
}
