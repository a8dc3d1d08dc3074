"""Whom a referral is offered to next, and the end of one that nobody is left for."""

from __future__ import annotations

from dataclasses import replace

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import Event, MatchDecided, OfferMade, ReferralWaitlisted, TaskCancelled
from referral_bus.contracts.vocabulary import CancelReason
from services.matching.core.closing import closing
from services.matching.core.decide.answers import AllOpened
from services.matching.core.match import Match, match
from services.matching.core.state import Referral, Region
from services.matching.core.timing import ends, limit_of


def next_offers(state: Region, name: str, known: Referral, now: int, facts: AllOpened) -> list[Event]:
    """Offer the referral, as it stands, to whoever is best among those it was not offered to in this round; put it on the waiting list;
    or close it, with the certificate that says why."""
    opened = facts.get(name)
    if state.policy is None or not isinstance(opened, Facts):
        return closing(state, name, known, "revoked", "facts_unavailable")
    attempts = len(known.tasks)
    left = known.protocol.maximum_offers - attempts
    if left <= 0:
        return closing(state, name, known, "revoked", "offers_exhausted")
    found = match(state, state.policy, name, opened, known.tried, now, only=known.target)
    if found.best:
        width = min(known.protocol.broadcast_width, left) if known.mode == "broadcast" else 1
        return offers(state, name, known, found, width, now)
    decided = _decided(name, known, found)
    if known.mode == "waitlist":
        review = now + known.protocol.waitlist_review_ms
        return [decided, ReferralWaitlisted(referral=name, services=found.full, review=review)]
    return [decided, *closing(state, name, known, "revoked", "offers_exhausted" if attempts else "no_match")]


def offers(
    state: Region, name: str, known: Referral, found: Match, width: int, now: int, transfer: bool = False
) -> list[Event]:
    """Offer it to the best that were found, as many as ``width``."""
    limit = limit_of(known.protocol.offer_limits, known.urgency)
    first = known.before + len(known.tasks) + 1
    made = [
        OfferMade(
            referral=name,
            task=task_id(name, first + number),
            service=best.profile.service,
            unit=best.unit,
            provider=best.profile.provider,
            expires_at=ends(state, known.protocol, best.profile.provider, now, limit),
            transfer=transfer,
        )
        for number, best in enumerate(found.best[:width])
    ]
    return [_decided(name, known, found), *made]


def _decided(name: str, known: Referral, found: Match) -> MatchDecided:
    return MatchDecided(
        referral=name,
        attempt=known.before + len(known.tasks) + 1,
        service=found.best[0].profile.service if found.best else None,
        certificate=found.certificate,
    )


def new_round(known: Referral) -> Referral:
    """The referral, with who was asked before to be asked again."""
    return replace(known, round_from=len(known.tasks), on_hold=False, held_until=None)


def cancelled(name: str, known: Referral, numbers: list[int], reason: CancelReason) -> list[Event]:
    """These offers or acceptances end."""
    return [
        TaskCancelled(
            referral=name, task=task_id(name, number), provider=known.attempt(number).provider, reason=reason
        )
        for number in numbers
    ]
