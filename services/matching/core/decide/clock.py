"""What happens when something falls due."""

from __future__ import annotations

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    AgencyReminded,
    Escalated,
    Event,
    FollowUpDue,
    OfferExpired,
    ReferralCalled,
    ReferralResumed,
    Reminded,
    SubmissionRefused,
    TaskResumed,
)
from services.matching.core.closing import closing
from services.matching.core.decide import borrowing, capacity, lending
from services.matching.core.decide.answers import AllOpened
from services.matching.core.decide.gathering import close_window
from services.matching.core.decide.offering import cancelled, new_round, next_offers
from services.matching.core.decide.parking import unknown
from services.matching.core.state import Due, Region


def tick(state: Region, now: int, facts: AllOpened) -> list[Event]:
    """See to the one thing that is due first; nothing, if nothing is."""
    due = state.next_due()
    if due is None or due.at > now:
        return []
    name = due.about
    match due.kind:
        case "parked":
            parked = state.parked[due.number]
            reason = unknown(state, parked.admitted.source, parked.waiting_for, now)
            return [SubmissionRefused(reason=reason, about=parked.waiting_for, parked=due.number)]
        case "follow_up":
            return [_follow_up(state, due)]
        case "hold" if due.number:
            return [TaskResumed(referral=name, task=task_id(name, due.number))]
        case "hold":
            known = state.referrals[name]
            return [
                ReferralResumed(referral=name),
                *next_offers(state, name, new_round(known, now), now, facts),
            ]
        case "review":
            return [
                ReferralCalled(referral=name),
                *next_offers(state, name, new_round(state.referrals[name], now), now, facts),
            ]
        case "limit":
            known = state.referrals[name]
            return [
                *cancelled(name, known, known.offers, "time_over"),
                *closing(state, name, known, "revoked", "time_over"),
            ]
        case "window":
            return [] if state.policy is None else [close_window(state, state.policy, now, facts)]
        case "remind" if not due.number:
            known = state.referrals[name]
            return [AgencyReminded(referral=name, agency=known.agency, percent=due.percent, due=due.end)]
        case "remind":
            return _reminders(state, due)
        case "offer":
            return _unanswered(state, due, now, facts)
        case "step":
            return [_escalated(state, due)]
        case "reserve":
            return borrowing.give_up(state, due, now, facts)
        case "lent":
            return lending.let_go(state, due)
        case "doubt":
            return capacity.trust_again(state, due)


def _unanswered(state: Region, due: Due, now: int, facts: AllOpened) -> list[Event]:
    """Nobody answered an offer: silence declines, or escalates."""
    known = state.referrals[due.about]
    if known.protocol.silence == "escalates":
        return [_escalated(state, due)]
    task = known.attempt(due.number)
    expired = OfferExpired(referral=due.about, task=task_id(due.about, due.number), provider=task.provider)
    if len(known.offers) > 1 or known.acceptance is not None:
        return [expired]
    return [expired, *next_offers(state, due.about, known.with_task(due.number, task.expired()), now, facts)]


def _escalated(state: Region, due: Due) -> Event:
    step = due.step or "accept"
    return Escalated(
        referral=due.about,
        task=task_id(due.about, due.number),
        step=step,
        to=state.referrals[due.about].protocol.told_of(step),
        due=due.end,
    )


def _reminders(state: Region, due: Due) -> list[Event]:
    """Whoever must act is told: of a handoff each party that did not confirm it, of an offer about which something was asked the agency."""
    known = state.referrals[due.about]
    parties = known.unconfirmed(due.number) if due.step == "handoff" else [known.asked_of(due.number)]
    return [
        Reminded(
            referral=due.about,
            task=task_id(due.about, due.number),
            step=due.step or "accept",
            party=party,
            percent=due.percent,
            due=due.end,
        )
        for party in parties
    ]


def _follow_up(state: Region, due: Due) -> Event:
    closed = state.closed[due.about]
    days = 30 if due.number == 30 else 90
    provider = closed.agency if closed.served is None else closed.served.provider
    return FollowUpDue(referral=due.about, days=days, provider=provider)
