"""What a party says: the submissions on the inbox, and what is already sealed in them.

Who says it and under which id stands in the CloudEvents headers (:class:`~referral_bus.contracts.ledger.Admitted` once decided).
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from referral_bus.contracts.ids import ReferralId, Region, SubjectId, TaskId, UnitId
from referral_bus.contracts.message import Code, Message, Millis
from referral_bus.contracts.reference import Agreement, Organisation, Policy, Protocol, Version
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import (
    DeclineReason,
    OutcomeResult,
    Purpose,
    ReferenceKind,
    Urgency,
    WithdrawReason,
)

Sealed = Annotated[bytes, Field(min_length=1, max_length=65_536)]
Places = Annotated[int, Field(ge=0, le=1_000_000)]


class Submission(Message):
    """Any message on the inbox."""

    folder = "inbox"


class SubmitReferral(Submission):
    """An agency asks for help for a person."""

    referral: ReferralId
    region: Region
    subject: SubjectId
    urgency: Urgency
    purpose: Purpose
    sealed_facts: Sealed
    sealed_identity: Sealed | None = None


class WithdrawReferral(Submission):
    """The agency takes a referral back."""

    referral: ReferralId
    reason: WithdrawReason


class AcceptOffer(Submission):
    """The provider takes the person."""

    task: TaskId


class DeclineOffer(Submission):
    """The provider doesn't take the person, and says why."""

    task: TaskId
    reason: DeclineReason


class ReportServiceStart(Submission):
    """The provider says that the service began."""

    referral: ReferralId
    started_at: Millis


class ReportOutcome(Submission):
    """The provider says what came of it."""

    referral: ReferralId
    result: OutcomeResult
    sealed_note: Sealed | None = None


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

    @model_validator(mode="after")
    def _content_is_of_its_kind(self) -> Self:
        for kind in ("organisation", "agreement", "protocol", "policy"):
            if (getattr(self, kind) is not None) != (self.kind == kind):
                raise ValueError(
                    f"reference data of kind {self.kind!r} carries the wrong content: look at {kind!r}"
                )
        return self


class ForgetSubject(Submission):
    """The person's keys are destroyed; each region hears it."""

    subject: SubjectId


class Tick(Submission):
    """A due time has passed. Matching puts it on its own inbox; a repeated tick does no harm."""

    region: Region
    due: Millis


SUBMISSIONS: tuple[type[Submission], ...] = (
    SubmitReferral,
    WithdrawReferral,
    AcceptOffer,
    DeclineOffer,
    ReportServiceStart,
    ReportOutcome,
    ReportCapacity,
    PublishService,
    AdoptReference,
    ForgetSubject,
    Tick,
)
