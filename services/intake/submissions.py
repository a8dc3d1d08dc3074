"""From an admitted request to its submission: what concerns a person is sealed here, and leaves intake no other way."""

from __future__ import annotations

from dataclasses import dataclass

from referral_bus.contracts.facts import Note
from referral_bus.contracts.inbox import PublishService, ReportOutcome, Submission, SubmitReferral
from referral_bus.contracts.requests import REQUESTS, OutcomeRequest, ReferralRequest, ServiceRequest
from referral_bus.sealing.port import SubjectKeys
from referral_bus.sealing.sections import Sealer
from services.intake.checks import Routed


@dataclass(frozen=True, slots=True)
class Person:
    """The subject a request concerns, and the data keys to seal with."""

    subject: str
    keys: SubjectKeys


def concerns_a_person(routed: Routed) -> bool:
    """Whether there is something to seal in it."""
    request = routed.presented.request
    return isinstance(request, ReferralRequest) or (
        isinstance(request, OutcomeRequest) and request.note is not None
    )


def submission_of(routed: Routed, person: Person | None, sealer: Sealer) -> Submission:
    """The submission of a request. ``person`` is given for whatever :func:`concerns_a_person`."""
    request = routed.presented.request
    match request:
        case ReferralRequest() if person is not None and routed.referral is not None:
            identity = request.identity
            return SubmitReferral(
                referral=routed.referral,
                region=routed.region,
                subject=person.subject,
                urgency=request.urgency,
                purpose=request.purpose,
                sealed_facts=sealer.seal(person.keys.facts, person.subject, request.facts),
                sealed_identity=None
                if identity is None
                else sealer.seal(person.keys.identity, person.subject, identity),
            )
        case OutcomeRequest():
            note = None
            if request.note is not None and person is not None:
                note = sealer.seal(person.keys.identity, person.subject, Note(text=request.note))
            return ReportOutcome(referral=request.referral, result=request.result, sealed_note=note)
        case ServiceRequest():
            return PublishService(definition=request.definition)
    return REQUESTS[type(request)].model_validate(request.model_dump())
