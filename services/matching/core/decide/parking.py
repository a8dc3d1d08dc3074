"""Submissions that refer to what the region does not have, or not yet; and reports of a service that has not accepted yet."""

from __future__ import annotations

from typing import Final

from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AdoptReference,
    AmendReferral,
    AnswerCapacity,
    AnswerQuestion,
    AskForInformation,
    DeclineOffer,
    ForgetSubject,
    HoldReferral,
    ListCapacity,
    ListService,
    OfAService,
    ProposeService,
    ReopenReferral,
    ReportCapacity,
    ReportFollowUp,
    RequestCapacity,
    ResumeReferral,
    RetractReport,
    ReturnCapacity,
    SplitReferral,
    TakeCapacity,
    Tick,
    TransferReferral,
    WithdrawReferral,
)
from referral_bus.contracts.ledger import Event, Received, SubmissionParked, SubmissionRefused
from services.matching.core.state import Region

MOST_PARKED: Final = 10_000
"""Submissions one region keeps waiting at once; what comes beyond is refused at once."""

MOST_PARKED_OF_ONE: Final = 1_000
"""How many of them may be one organisation's: nobody takes all the room there is."""

_FROM_THE_BUS = (
    Tick,
    AdoptReference,
    ForgetSubject,
    ListService,
    ListCapacity,
    RequestCapacity,
    AnswerCapacity,
    TakeCapacity,
    ReturnCapacity,
)
"""Put to the region by intake or matching itself, for operations, on somebody's right or for another region; no organisation of the region
sends them."""
_OF_A_REFERRAL = (
    AmendReferral
    | HoldReferral
    | ResumeReferral
    | TransferReferral
    | SplitReferral
    | ReopenReferral
    | WithdrawReferral
    | OfAService
    | ReportFollowUp
    | RetractReport
)
_OF_A_TASK = (
    AcknowledgeOffer | AcceptOffer | DeclineOffer | AskForInformation | AnswerQuestion | ProposeService
)
_KINDS: Final = {"rf-": "unknown_referral", "tk-": "unknown_task", "un-": "unknown_unit"}


def missing(state: Region, received: Received, now: int) -> str | None:
    """The id of what the submission refers to and the region does not have (yet), or of the referral that must be accepted before."""
    source, body = received.admitted.source, received.body
    if source not in state.organisations and not isinstance(body, _FROM_THE_BUS):
        return source
    if isinstance(body, OfAService) and _comes_before_its_acceptance(state, source, body.referral):
        return body.referral
    if isinstance(body, _OF_A_REFERRAL):
        known = body.referral in state.referrals or state.was_closed(body.referral, now) is not None
        return None if known else body.referral
    if isinstance(body, _OF_A_TASK):
        there = state.task(body.task) is not None or state.is_over(body.task, now)
        return None if there else body.task
    if isinstance(body, ReportCapacity):
        return None if body.unit in state.units else body.unit
    return None


def park_or_refuse(state: Region, source: str, waiting_for: str, now: int) -> Event:
    """Let the submission wait for what it refers to, for as long as the protocol says that was adopted last: which one it belongs to is not
    known yet."""
    protocol = next(reversed(state.protocols.values()), None)
    patience = 0 if protocol is None else protocol.parking_ms
    room = len(state.parked) < MOST_PARKED and state.parked_of.get(source, 0) < MOST_PARKED_OF_ONE
    if patience and room:
        return SubmissionParked(waiting_for=waiting_for, until=now + patience)
    return SubmissionRefused(reason=unknown(state, source, waiting_for, now), about=waiting_for)


def _comes_before_its_acceptance(state: Region, source: str, name: str) -> bool:
    """Whether it is reported of a service that has the referral on offer, and whose acceptance may be on its way; or by the agency. Who
    served before the referral was reopened speaks of that until it has accepted anew."""
    known = state.referrals.get(name)
    if known is None or (known.served is not None and known.served.provider == source):
        return False
    number = known.acceptance
    if number is None and known.agency == source:
        return bool(known.offers)
    serves = number is not None and known.attempt(number).provider == source
    return not serves and any(known.attempt(one).provider == source for one in known.offers)


def unknown(state: Region, source: str, waited_for: str, now: int) -> str:
    """The reason code for what did not come."""
    if waited_for == source:
        if not state.protocols:
            # Nothing was adopted, and so nothing says how long to wait for it: that its sender is unknown would blame the sender.
            return "not_adopted"
        # Before what follows, since an organisation's id may begin like any other.
        return "unknown_organisation"
    if waited_for in state.referrals:
        return "not_accepted"
    if state.was_closed(waited_for, now) is not None:
        return "referral_closed"
    return _KINDS[waited_for[:3]]
