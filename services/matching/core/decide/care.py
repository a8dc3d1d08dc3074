"""What is reported of the service a person was accepted for: handoff, contacts, start, outcome, and how it is afterwards.

Reports come late and out of order. One that comes after the service was over, by its outcome or without one, changes only the record, and
says that it does; also where the referral was reopened since. What can only be once (a start, an outcome, how it is after so many days) is
corrected by saying it again; what may be several times (a no-show, a contact), and a confirmed handoff, is taken back.
"""

from __future__ import annotations

from typing import Final

from referral_bus.contracts.inbox import (
    CLOCK_SKEW_MS,
    ConfirmHandoff,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
    RetractReport,
)
from referral_bus.contracts.ledger import (
    ContactReported,
    Event,
    FollowedUp,
    HandoffConfirmed,
    HandoffRetracted,
    NoShowReported,
    OutcomeReported,
    ReportRetracted,
    ServiceStarted,
)
from referral_bus.contracts.vocabulary import PersonReport
from services.matching.core.closing import closing, corrected_whole
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.decide.offering import cancelled
from services.matching.core.decide.served import Service, own_service, service_of
from services.matching.core.referral import DAY_MS

MOST_REPORTS: Final = 500
"""No-shows and contacts that are taken of one service: more is a sender gone wrong, and each is remembered."""

_EARLY_MS: Final = 7 * DAY_MS
"""How much before its day a follow-up may be reported."""


def start(asked: Asked, body: ReportServiceStart) -> list[Event]:
    """The service began; said again with another time, it corrects what was said before."""
    found = own_service(asked, body.referral)
    if isinstance(found, list):
        return found
    former = found.start
    if former is not None and former.at == body.started_at:
        return refused("already_started", body.referral)
    wrong = _wrong_time(asked, body.started_at, found.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [
        ServiceStarted(
            referral=body.referral,
            task=found.task,
            started_at=body.started_at,
            late=found.late,
            corrects=None if former is None else former.sequence,
        )
    ]


def no_show(asked: Asked, body: ReportNoShow) -> list[Event]:
    """The person did not come."""
    found = _one_of_several(asked, body.referral, "no_show", body.missed_at)
    if isinstance(found, list):
        return found
    return [
        NoShowReported(referral=body.referral, task=found.task, missed_at=body.missed_at, late=found.late)
    ]


def contact(asked: Asked, body: ReportContact) -> list[Event]:
    """The provider tried to reach the person."""
    found = _one_of_several(asked, body.referral, "contact", body.tried_at, body.channel)
    if isinstance(found, list):
        return found
    return [
        ContactReported(
            referral=body.referral,
            task=found.task,
            tried_at=body.tried_at,
            channel=body.channel,
            reached=body.reached,
            late=found.late,
        )
    ]


def confirm_handoff(asked: Asked, body: ConfirmHandoff) -> list[Event]:
    """One of the two says that the person was handed over."""
    source = asked.admitted.source
    found = service_of(asked, body.referral)
    if isinstance(found, list):
        return found
    parties = {found.agency, found.provider}
    if source not in parties:
        return refused("not_your_referral", body.referral)
    if found.protocol.step("handoff") is None or source in found.confirmed:
        return refused("no_handoff", body.referral)
    wrong = _wrong_time(asked, body.confirmed_at, found.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [
        HandoffConfirmed(
            referral=body.referral,
            task=found.task,
            by=source,
            means=body.means,
            confirmed_at=body.confirmed_at,
            complete=parties <= {*found.confirmed, source},
            late=found.late,
        )
    ]


def retract(asked: Asked, body: RetractReport) -> list[Event]:
    """Who reported it says that it should not have been."""
    source = asked.admitted.source
    found = service_of(asked, body.referral)
    if isinstance(found, list):
        return found
    said = next((one for one in found.reports if one.sequence == body.sequence), None)
    if source not in (found.agency, found.provider) or (said is not None and said.by != source):
        return refused("not_your_report", body.referral)
    if said is None:
        return refused("no_such_report", body.referral)
    if said.what == "handoff":
        return [
            HandoffRetracted(
                referral=body.referral, task=found.task, by=source, corrects=said.sequence, late=found.late
            )
        ]
    return [
        ReportRetracted(
            referral=body.referral,
            task=found.task,
            report=said.what,
            corrects=said.sequence,
            late=found.late,
        )
    ]


def outcome(asked: Asked, body: ReportOutcome) -> list[Event]:
    """What came of it ends the referral; said again after that, it corrects what was said before."""
    found = own_service(asked, body.referral)
    if isinstance(found, list):
        return found
    if found.over is not None and found.over.outcome_at is None:
        return refused("ended_without_outcome", body.referral)
    wrong = None if body.ended_at is None else _wrong_time(asked, body.ended_at, found.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    reported = OutcomeReported(
        referral=body.referral,
        task=found.task,
        result=body.result,
        sealed_note=body.sealed_note,
        cause=body.cause,
        corrects=None if found.over is None else found.over.outcome_at,
        ended_at=body.ended_at,
    )
    if found.late:
        return [reported, *corrected_whole(asked.state, body.referral, body.result, asked.now)]
    known = asked.state.referrals[body.referral]
    return [
        reported,
        *cancelled(body.referral, known, known.offers, "closed"),
        *(
            closing(asked.state, body.referral, known, "revoked", "withdrawn", body.result)
            if known.withdrawn
            else closing(asked.state, body.referral, known, "completed", "outcome_reported", body.result)
        ),
    ]


def follow_up(asked: Asked, body: ReportFollowUp) -> list[Event]:
    """How it is some days later; said again by the same, it corrects what was said before."""
    state, source, now = asked.state, asked.admitted.source, asked.now
    if body.referral in state.referrals:
        return refused("not_closed", body.referral)
    closed = state.was_closed(body.referral, now)
    if closed is not None and closed.in_error:
        return refused("entered_in_error", body.referral)
    served = None if closed is None or not closed.completed else closed.served
    if closed is None or served is None:
        return refused("no_follow_up", body.referral)
    if source not in (served.provider, closed.agency):
        return refused("not_your_referral", body.referral)
    former = closed.follow_up(body.days)
    if former is not None and former.by != source:
        return refused("not_your_report", body.referral)
    if now < served.ended_at + body.days * DAY_MS - _EARLY_MS:
        return refused("time_out_of_range", body.referral)
    return [
        FollowedUp(
            referral=body.referral,
            days=body.days,
            by=source,
            result=body.result,
            sealed_note=body.sealed_note,
            corrects=None if former is None else former.sequence,
        )
    ]


def _one_of_several(
    asked: Asked, referral: str, what: PersonReport, at: int, channel: str = ""
) -> Service | list[Event]:
    """The service, where a report of which there may be several is taken of it; else why not."""
    found = own_service(asked, referral)
    if isinstance(found, list):
        return found
    wrong = _wrong_time(asked, at, found.opened_at) or _too_often(found, what, at, channel)
    if wrong is not None:
        return refused(wrong, referral)
    return found


def _too_often(found: Service, what: PersonReport, at: int, channel: str) -> str | None:
    """Why the report is not taken besides those there are, if it isn't."""
    said = [one for one in found.reports if one.what != "handoff"]
    if any((one.what, one.at, one.channel) == (what, at, channel) for one in said):
        return "already_reported"
    return "too_many_reports" if len(said) >= MOST_REPORTS else None


def _wrong_time(asked: Asked, at: int, opened_at: int) -> str | None:
    if at > asked.now + CLOCK_SKEW_MS:
        return "time_in_future"
    return "time_before_opening" if at < opened_at - DAY_MS else None
