"""From an admitted request to its submission: what concerns a person is sealed here, and leaves intake no other way."""

from __future__ import annotations

from dataclasses import dataclass

from referral_bus.contracts.areas import facts_with_areas, service_with_areas
from referral_bus.contracts.facts import Facts, Identity, Note
from referral_bus.contracts.inbox import (
    AmendReferral,
    AnswerQuestion,
    AskForInformation,
    PublishService,
    ReferralPart,
    ReopenReferral,
    ReportFollowUp,
    ReportOutcome,
    SplitReferral,
    Submission,
    SubmitReferral,
)
from referral_bus.contracts.requests import (
    REQUESTS,
    AmendRequest,
    AnswerRequest,
    AskRequest,
    FollowUpRequest,
    OutcomeRequest,
    ReferralRequest,
    ReopenRequest,
    ServiceRequest,
    SplitRequest,
)
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
    match routed.presented.request:
        case ReferralRequest() | SplitRequest() | ReopenRequest() | AskRequest() | AnswerRequest():
            return True
        case AmendRequest() as request:
            return request.facts is not None or request.identity is not None
        case OutcomeRequest() | FollowUpRequest() as request:
            return request.note is not None
    return False


def submission_of(routed: Routed, person: Person | None, sealer: Sealer) -> Submission:
    """The submission of a request. ``person`` is given for whatever :func:`concerns_a_person`."""
    if person is not None:
        return _sealed(routed, person, sealer)
    request = routed.presented.request
    if isinstance(request, ServiceRequest):
        return PublishService(definition=service_with_areas(request.definition))
    # What is sealed in a submission is called otherwise than what is clear in its request: nothing clear fits in here.
    return REQUESTS[type(request)].model_validate(request.model_dump(exclude_none=True))


def _sealed(routed: Routed, person: Person, sealer: Sealer) -> Submission:
    def sealed(content: Facts | Identity) -> bytes:
        if isinstance(content, Facts):
            return sealer.seal(person.keys.facts, person.subject, facts_with_areas(content))
        return sealer.seal(person.keys.identity, person.subject, content)

    def text(said: str) -> bytes:
        # Free text can name anyone.
        return sealer.seal(person.keys.identity, person.subject, Note(text=said))

    request = routed.presented.request
    match request:
        case ReferralRequest() if routed.referral is not None:
            return SubmitReferral(
                referral=routed.referral,
                region=routed.region,
                subject=person.subject,
                urgency=request.urgency,
                purpose=request.purpose,
                sealed_facts=sealed(request.facts),
                sealed_identity=None if request.identity is None else sealed(request.identity),
                mode=request.mode,
                service=request.service,
                protocol=request.protocol,
            )
        case AmendRequest():
            return AmendReferral(
                referral=request.referral,
                urgency=request.urgency,
                sealed_facts=None if request.facts is None else sealed(request.facts),
                sealed_identity=None if request.identity is None else sealed(request.identity),
            )
        case SplitRequest():
            return SplitReferral(
                referral=request.referral,
                parts=[
                    ReferralPart(referral=name, urgency=part.urgency, sealed_facts=sealed(part.facts))
                    for name, part in zip(routed.parts, request.parts, strict=True)
                ],
            )
        case ReopenRequest():
            return ReopenReferral(
                referral=request.referral, reason=request.reason, sealed_facts=sealed(request.facts)
            )
        case AskRequest():
            return AskForInformation(task=request.task, sealed_question=text(request.question))
        case AnswerRequest():
            return AnswerQuestion(task=request.task, sealed_answer=text(request.answer))
        case OutcomeRequest() if request.note is not None:
            return ReportOutcome(
                referral=request.referral,
                result=request.result,
                sealed_note=text(request.note),
                cause=request.cause,
                ended_at=request.ended_at,
            )
        case FollowUpRequest() if request.note is not None:
            return ReportFollowUp(
                referral=request.referral,
                days=request.days,
                result=request.result,
                sealed_note=text(request.note),
            )
    raise TypeError(f"{type(request).__name__} concerns nobody")
