"""What is reported of the service a person was accepted for: handoff, contacts, start, outcome, and how it is afterwards.

Reports come late and out of order. One that comes after the outcome changes only the record, and says that it does; also where the referral
was reopened since.
"""

from __future__ import annotations

from typing import NamedTuple

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import (
    CLOCK_SKEW_MS,
    ConfirmHandoff,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
)
from referral_bus.contracts.ledger import (
    ContactReported,
    Event,
    FollowedUp,
    HandoffConfirmed,
    NoShowReported,
    OutcomeReported,
    ServiceStarted,
)
from referral_bus.contracts.reference import Protocol
from services.matching.core.closing import closing, corrected_whole
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.decide.offering import cancelled
from services.matching.core.state import DAY_MS, Closed, Referral, Served


class _Service(NamedTuple):
    """The service that has accepted a referral; or that had, and is ``over`` with an outcome."""

    task: str
    agency: str
    provider: str
    protocol: Protocol
    opened_at: int
    started: bool
    confirmed: frozenset[str]
    over: Served | None = None

    @property
    def late(self) -> bool:
        return self.over is not None


def start(asked: Asked, body: ReportServiceStart) -> list[Event]:
    """The service began."""
    found = _own(asked, body.referral)
    if isinstance(found, list):
        return found
    if found.started:
        return refused("already_started", body.referral)
    wrong = _wrong_time(asked, body.started_at, found.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [
        ServiceStarted(referral=body.referral, task=found.task, started_at=body.started_at, late=found.late)
    ]


def no_show(asked: Asked, body: ReportNoShow) -> list[Event]:
    """The person did not come."""
    found = _own(asked, body.referral)
    if isinstance(found, list):
        return found
    wrong = _wrong_time(asked, body.missed_at, found.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
    return [
        NoShowReported(referral=body.referral, task=found.task, missed_at=body.missed_at, late=found.late)
    ]


def contact(asked: Asked, body: ReportContact) -> list[Event]:
    """The provider tried to reach the person."""
    found = _own(asked, body.referral)
    if isinstance(found, list):
        return found
    wrong = _wrong_time(asked, body.tried_at, found.opened_at)
    if wrong is not None:
        return refused(wrong, body.referral)
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
    found = _service(asked, body.referral)
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


def outcome(asked: Asked, body: ReportOutcome) -> list[Event]:
    """What came of it ends the referral; said again after that, it corrects what was said before."""
    found = _own(asked, body.referral)
    if isinstance(found, list):
        return found
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
        *closing(asked.state, body.referral, known, "completed", "outcome_reported", body.result),
    ]


def follow_up(asked: Asked, body: ReportFollowUp) -> list[Event]:
    """How it is some days later."""
    state, source, now = asked.state, asked.admitted.source, asked.now
    if body.referral in state.referrals:
        return refused("not_closed", body.referral)
    closed = state.was_closed(body.referral, now)
    served = None if closed is None or not closed.completed else closed.served
    if closed is None or served is None or body.days in closed.followed:
        return refused("no_follow_up", body.referral)
    if source not in (served.provider, closed.agency):
        return refused("not_your_referral", body.referral)
    if now < served.ended_at + body.days * DAY_MS - _EARLY_MS:
        return refused("time_out_of_range", body.referral)
    return [
        FollowedUp(
            referral=body.referral,
            days=body.days,
            by=source,
            result=body.result,
            sealed_note=body.sealed_note,
        )
    ]


_EARLY_MS = 7 * DAY_MS
"""How much before its day a follow-up may be reported."""


def _service(asked: Asked, name: str) -> _Service | list[Event]:
    """The service a report is about; else the refusal."""
    state, source = asked.state, asked.admitted.source
    known = state.referrals.get(name)
    if known is None:
        closed = state.was_closed(name, asked.now)
        if closed is None or closed.served is None:
            return refused("referral_closed", name)
        return _over(name, closed, closed.served)
    number = known.acceptance
    serves = number is not None and known.attempt(number).provider == source
    if known.served is not None and known.served.provider == source and not serves:
        return _over(name, known, known.served)
    if number is None:
        return refused("not_accepted", name)
    return _Service(
        task=task_id(name, number),
        agency=known.agency,
        provider=known.attempt(number).provider,
        protocol=known.protocol,
        opened_at=known.opened_at,
        started=known.started,
        confirmed=known.confirmed,
    )


def _over(name: str, known: Referral | Closed, served: Served) -> _Service:
    return _Service(
        task=task_id(name, served.attempt),
        agency=known.agency,
        provider=served.provider,
        protocol=known.protocol,
        opened_at=served.opened_at,
        started=served.started,
        confirmed=served.confirmed,
        over=served,
    )


def _own(asked: Asked, name: str) -> _Service | list[Event]:
    """The service, if it is the sender's; else the refusal."""
    found = _service(asked, name)
    if isinstance(found, list) or found.provider == asked.admitted.source:
        return found
    return refused("not_your_offer", name)


def _wrong_time(asked: Asked, at: int, opened_at: int) -> str | None:
    if at > asked.now + CLOCK_SKEW_MS:
        return "time_in_future"
    return "time_before_opening" if at < opened_at - DAY_MS else None
