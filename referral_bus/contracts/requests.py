"""What agencies and providers send, before it is sealed: the data of the CloudEvents they put to intake.

The typed HTTP routes, ``POST /v1/events`` and the outboxes all take these; intake turns each into its inbox submission.
The CloudEvents type is that of the submission (``org.referralbus.inbox.SubmitReferral.v1``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.ids import ReferralId, Region, TaskId, UnitId
from referral_bus.contracts.inbox import (
    AcceptOffer,
    DeclineOffer,
    Places,
    PublishService,
    ReportCapacity,
    ReportOutcome,
    ReportServiceStart,
    Submission,
    SubmitReferral,
    WithdrawReferral,
)
from referral_bus.contracts.message import Millis, Part
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import DeclineReason, OutcomeResult, Purpose, Urgency, WithdrawReason

SubjectReference = Annotated[str, Field(min_length=1, max_length=128)]
"""The agency's own reference for the person. It never leaves intake: the bus knows a pseudonym."""


class ReferralRequest(Part):
    """Help is asked for. Without ``region`` it goes to the agency's home region."""

    subject: SubjectReference
    urgency: Urgency
    facts: Facts
    identity: Identity | None = None
    purpose: Purpose = "care_coordination"
    region: Region | None = None


class WithdrawRequest(Part):
    """A referral is taken back."""

    referral: ReferralId
    reason: WithdrawReason


class AcceptRequest(Part):
    """An offer is accepted."""

    task: TaskId


class DeclineRequest(Part):
    """An offer is declined."""

    task: TaskId
    reason: DeclineReason


class StartRequest(Part):
    """The service began, at ``started_at``."""

    referral: ReferralId
    started_at: Millis


class OutcomeRequest(Part):
    """What came of it. The note is sealed."""

    referral: ReferralId
    result: OutcomeResult
    note: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


class CapacityRequest(Part):
    """Places counted at ``true_at``."""

    unit: UnitId
    total: Places
    available: Places
    true_at: Millis


class ServiceRequest(Part):
    """A service as it is offered from now on."""

    definition: ServiceDefinition


REQUESTS: dict[type[Part], type[Submission]] = {
    ReferralRequest: SubmitReferral,
    WithdrawRequest: WithdrawReferral,
    AcceptRequest: AcceptOffer,
    DeclineRequest: DeclineOffer,
    StartRequest: ReportServiceStart,
    OutcomeRequest: ReportOutcome,
    CapacityRequest: ReportCapacity,
    ServiceRequest: PublishService,
}
