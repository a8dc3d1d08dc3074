"""``decide(state, submission, now) -> events``: what a region answers to one submission. Nothing here changes the state; the fold does.

A tick decides the one earliest thing that is due, and the worker repeats it (decision 0002). What nobody has to say anything for follows a
decision as one of its own: a parked submission whose time has come (:func:`resume`), and a referral whose turn it is (:func:`call`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from referral_bus.contracts import inbox
from referral_bus.contracts.ids import referral_of
from referral_bus.contracts.inbox import (
    AmendReferral,
    AnswerCapacity,
    DeclineOffer,
    ListService,
    ProposeService,
    PublishService,
    ReopenReferral,
    ResumeReferral,
    SplitReferral,
    Submission,
    SubmitReferral,
    Tick,
)
from referral_bus.contracts.ledger import (
    DuePutOff,
    Event,
    Received,
    ReferralCalled,
    ReferralHeld,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
)
from services.matching.core.decide import (
    borrowing,
    capacity,
    care,
    clock,
    lending,
    offers,
    reference,
    referrals,
)
from services.matching.core.decide.answers import AllOpened, Asked, FactsGone, Opened
from services.matching.core.decide.following import with_what_follows
from services.matching.core.decide.lines import who_may_line_up
from services.matching.core.decide.offering import next_offers
from services.matching.core.decide.parking import missing, park_or_refuse, unknown
from services.matching.core.rules import SUPPORTED
from services.matching.core.state import HORIZON_MS, Call, Due, Region

__all__ = [
    "AllOpened",
    "FactsGone",
    "Opened",
    "WantedFacts",
    "call",
    "decide",
    "gave_up_calling",
    "gave_up_deciding",
    "gave_up_due",
    "gave_up_resuming",
    "resume",
    "too_large",
    "wanted_due",
    "wanted_facts",
    "wanted_for",
]

_HANDLERS: Final[dict[type[Submission], Callable[[Asked, Any], list[Event]]]] = {
    inbox.SubmitReferral: referrals.submit,
    inbox.AmendReferral: referrals.amend,
    inbox.HoldReferral: referrals.hold,
    inbox.ResumeReferral: referrals.resume_referral,
    inbox.TransferReferral: referrals.transfer,
    inbox.SplitReferral: referrals.split,
    inbox.ReopenReferral: referrals.reopen,
    inbox.WithdrawReferral: referrals.withdraw,
    inbox.AcknowledgeOffer: offers.acknowledge,
    inbox.AcceptOffer: offers.accept,
    inbox.DeclineOffer: offers.decline,
    inbox.AskForInformation: offers.ask,
    inbox.AnswerQuestion: offers.answer,
    inbox.ProposeService: offers.propose,
    inbox.ReportServiceStart: care.start,
    inbox.ReportNoShow: care.no_show,
    inbox.ReportContact: care.contact,
    inbox.ConfirmHandoff: care.confirm_handoff,
    inbox.ReportOutcome: care.outcome,
    inbox.ReportFollowUp: care.follow_up,
    inbox.RetractReport: care.retract,
    inbox.ReportCapacity: capacity.count,
    inbox.PublishService: capacity.publish,
    inbox.AdoptReference: reference.adopt,
    inbox.ForgetSubject: reference.forget,
    inbox.ListService: borrowing.list_service,
    inbox.ListCapacity: borrowing.list_capacity,
    inbox.RequestCapacity: lending.lend,
    inbox.AnswerCapacity: borrowing.answer,
    inbox.TakeCapacity: lending.take,
    inbox.ReturnCapacity: lending.give_back,
}


REST_MS: Final = 3_600_000
"""How long a referral, or what is due, rests that matching failed on: an hour."""


class WantedFacts(NamedTuple):
    """The sealed facts a decision needs: of which referral, and whose they are."""

    referral: str
    subject: str
    sealed: bytes


def wanted_facts(state: Region, received: Received, now: int) -> list[WantedFacts]:
    """Which facts must be opened before this submission can be decided."""
    body = received.body
    match body:
        case SubmitReferral():
            wanted = [WantedFacts(body.referral, body.subject, body.sealed_facts)]
        case AmendReferral() if body.sealed_facts is not None:
            wanted = _of(state, body.referral, body.sealed_facts)
        case SplitReferral():
            wanted = [
                one._replace(referral=part.referral)
                for part in body.parts
                for one in _of(state, body.referral, part.sealed_facts)
            ]
        case ReopenReferral():
            closed = state.was_closed(body.referral, now)
            subject = None if closed is None else closed.subject
            wanted = [] if subject is None else [WantedFacts(body.referral, subject, body.sealed_facts)]
        case AmendReferral() | ResumeReferral():
            wanted = _of(state, body.referral)
        case DeclineOffer() | ProposeService():
            wanted = _of(state, referral_of(body.task))
        case AnswerCapacity() if body.answer in ("denied", "lost", "expired"):
            wanted = _of(state, referral_of(body.task))
        case PublishService() | ListService():
            described = state.as_here(body.definition) if isinstance(body, ListService) else body.definition
            wanted = [one for name in who_may_line_up(state, described) for one in _of(state, name)]
        case Tick():
            return wanted_due(state, now, 1)
        case _:
            return []
    return _not_erased(state, wanted)


def wanted_due(state: Region, now: int, most: int) -> list[WantedFacts]:
    """Which facts must be opened before the first so many things that are due can be decided."""
    return _not_erased(state, [one for due in state.first_due(now, most) for one in _of_due(state, due)])


def _of_due(state: Region, due: Due) -> list[WantedFacts]:
    if due.kind == "window":
        return [one for name in state.window for one in _of(state, name)]
    return _of(state, due.about) if due.kind in ("offer", "hold", "review", "reserve") else []


def wanted_for(state: Region, called: Call) -> list[WantedFacts]:
    """Which facts must be opened before a referral can be called."""
    return _not_erased(state, _of(state, called.referral))


def _not_erased(state: Region, wanted: list[WantedFacts]) -> list[WantedFacts]:
    # From the KeyDestroyed on, nothing is decided by these facts, whatever the key store still gives.
    return [one for one in wanted if one.subject not in state.erased]


def decide(
    state: Region,
    received: Received,
    now: int,
    facts: AllOpened = {},  # noqa: B006 - it is a Mapping, which nobody changes
    supported: frozenset[int] = SUPPORTED,
) -> list[Event]:
    """The events that answer a submission, the first of which carries it. ``now`` is the larger of the region's last and the
    submission's append time; ``supported`` the rules this version of matching knows. A tick with nothing due gives no events."""
    admitted, body = received.admitted, received.body
    if isinstance(body, Tick):
        return with_what_follows(state, clock.tick(state, now, facts), now)
    first = state.first_answer(admitted, now)
    if first is not None:
        if first.digest == admitted.digest:
            return [SubmissionRepeated(first=first.sequence)]
        return [SubmissionRefused(reason="id_reused")]
    if admitted.sent_at < now - HORIZON_MS:
        return [SubmissionRefused(reason="too_old")]
    not_there = missing(state, received, now)
    if not_there is not None:
        return [park_or_refuse(state, admitted.source, not_there, now)]
    return _handled(Asked(state, admitted, now, facts, supported), body)


def resume(
    state: Region,
    parked: int,
    received: Received,
    now: int,
    facts: AllOpened = {},  # noqa: B006
    supported: frozenset[int] = SUPPORTED,
) -> list[Event]:
    """The events that answer the submission parked at this sequence, now that what it waited for has come."""
    admitted, body = received.admitted, received.body
    not_there = missing(state, received, now)
    events = (
        [SubmissionRefused(reason=unknown(state, admitted.source, not_there, now), about=not_there)]
        if not_there is not None
        else _handled(Asked(state, admitted, now, facts, supported), body)
    )
    if isinstance(events[0], SubmissionRefused):
        events[0] = events[0].model_copy(update={"parked": parked})
    return [SubmissionResumed(parked=parked), *events]


def call(state: Region, called: Call, now: int, facts: AllOpened) -> list[Event]:
    """The events that match a referral whose turn it is."""
    known = state.referrals[called.referral]
    if called.service is not None:
        known = known.called_by(called.service)
    assigned = state.assigned.get(called.referral)
    return [
        ReferralCalled(referral=called.referral, service=called.service),
        *next_offers(state, called.referral, known, now, facts, assigned),
    ]


def gave_up_deciding() -> list[Event]:
    """What stands in the place of :func:`decide` where a fault of ours keeps it from coming to anything: the sender is told, and what was
    sent can be put to the region again once that is mended."""
    return [SubmissionRefused(reason="undecidable")]


def too_large() -> list[Event]:
    """What stands in the place of :func:`decide` where what it came to can't be written, since the event that takes a submission says it
    again. Unlike a fault of ours it comes out the same however often it is sent."""
    return [SubmissionRefused(reason="too_large")]


def gave_up_resuming(parked: int) -> list[Event]:
    """What stands in the place of :func:`resume` where a fault of ours keeps it from coming to anything."""
    return [SubmissionResumed(parked=parked), SubmissionRefused(reason="undecidable", parked=parked)]


def gave_up_calling(called: Call, now: int) -> list[Event]:
    """What stands in the place of :func:`call` where a fault of ours keeps it from coming to anything: the referral rests for an hour."""
    return [
        ReferralCalled(referral=called.referral, service=called.service),
        ReferralHeld(referral=called.referral, reason="other", until=now + REST_MS),
    ]


def gave_up_due(state: Region, now: int) -> list[Event]:
    """What stands in the place of a tick's decision where a fault of ours keeps what is due first from coming to anything: that alone falls
    due again in an hour, so that whatever is due behind it goes on. Nothing, if nothing is due."""
    due = state.next_due()
    if due is None or due.at > now:
        return []
    about = due.about or None
    return [
        DuePutOff(kind=due.kind, about=about, number=due.number, due=due.should_have, until=now + REST_MS)
    ]


def _handled(asked: Asked, body: Submission) -> list[Event]:
    handler = _HANDLERS.get(type(body))
    if handler is None:
        raise TypeError(f"{type(body).__name__} is a submission this version of matching does not know")
    return with_what_follows(asked.state, handler(asked, body), asked.now)


def _of(state: Region, referral: str, sealed: bytes | None = None) -> list[WantedFacts]:
    known = state.referrals.get(referral)
    return [] if known is None else [WantedFacts(referral, known.subject, sealed or known.sealed_facts)]
