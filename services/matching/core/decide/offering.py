"""Whom a referral is offered to next, and the end of one that nobody is left for."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import region_of, task_id
from referral_bus.contracts.ledger import (
    CapacityRequested,
    Event,
    MatchDecided,
    OfferAccepted,
    OfferMade,
    ReferralHeld,
    ReferralWaitlisted,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import CancelReason
from services.matching.core.closing import closing
from services.matching.core.decide.answers import AllOpened
from services.matching.core.decide.lines import would_take
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import MOST_WAITED_FOR, Match, match
from services.matching.core.referral import Referral
from services.matching.core.state import Region
from services.matching.core.timing import offer_ends

MOST_ATTEMPTS: Final = 9_000
"""To have one referral fulfilled, all in all: an attempt's number has four digits."""


def next_offers(
    state: Region,
    name: str,
    known: Referral,
    now: int,
    facts: AllOpened,
    assigned: str | None = None,
) -> list[Event]:
    """Offer the referral, as it stands, to whoever is best among those it was not offered to in this round, or to the service its window
    ``assigned`` it if that has a place still; put it on the waiting list; let it rest until a date somebody declined until, at once if the
    person is not ready before; or close it, with the certificate that says why, or because its time is over."""
    if known.limit is not None and known.limit <= now:
        return closing(state, name, known, "revoked", "time_over")
    not_ready = known.not_ready_until(now)
    if not_ready is not None:
        return [ReferralHeld(referral=name, reason="declined", until=not_ready)]
    opened = facts.get(name)
    if state.policy is None or not isinstance(opened, Facts):
        return closing(state, name, known, "revoked", "facts_unavailable")
    attempts = len(known.tasks)
    left = min(known.protocol.maximum_offers - known.offered, MOST_ATTEMPTS - known.before - attempts)
    if left <= 0:
        return closing(state, name, known, "revoked", "offers_exhausted")
    width = min(known.protocol.broadcast_width, left) if known.mode == "broadcast" else 1
    found = match(
        state,
        state.policy,
        name,
        opened,
        state.tried(known),
        now,
        known.target,
        urgency=known.urgency,
        most=width,
        assigned=assigned,
    )
    if found.best:
        return offers(state, name, known, found, width, now)
    decided = _decided(name, known, found)
    if known.mode == "waitlist" and known.may_wait:
        review = now + known.protocol.waitlist_review_ms
        lacking = would_take(state, state.policy, known.lacking, person_of(opened, known.urgency), now)
        services = [*found.full, *lacking][:MOST_WAITED_FOR]
        return [decided, ReferralWaitlisted(referral=name, services=services, review=review)]
    until = known.parked_until(now)
    if until is not None:
        # Whoever declined until then can be asked again.
        return [decided, ReferralHeld(referral=name, reason="declined", until=until)]
    return [decided, *closing(state, name, known, "revoked", "offers_exhausted" if attempts else "no_match")]


def offers(
    state: Region, name: str, known: Referral, found: Match, width: int, now: int, transfer: bool = False
) -> list[Event]:
    """Offer it to the best that were found, as many as ``width``."""
    first = known.before + len(known.tasks) + 1
    made: list[Event] = []
    for number, best in enumerate(found.best[:width]):
        task, service, provider = task_id(name, first + number), best.profile.service, best.profile.provider
        if region_of(service) == state.region:
            expires_at = offer_ends(state, known, provider, now)
            made.append(
                OfferMade(
                    referral=name,
                    task=task,
                    service=service,
                    unit=best.unit,
                    provider=provider,
                    expires_at=expires_at,
                    transfer=transfer,
                )
            )
        else:
            # The provider is to have all its time once the place is held.
            until = offer_ends(state, known, provider, now + known.protocol.elsewhere_ms)
            made.append(
                CapacityRequested(
                    referral=name,
                    task=task,
                    service=service,
                    unit=best.unit,
                    provider=provider,
                    until=until,
                    transfer=transfer,
                )
            )
    return [_decided(name, known, found), *made]


def won(name: str, known: Referral, number: int, starts_at: int | None) -> list[Event]:
    """The attempt is accepted: every other offer of the referral ends, and so does the service that kept the person so far."""
    others = [other for other in known.offers if other != number]
    former = known.acceptance
    return [
        OfferAccepted(
            referral=name,
            task=task_id(name, number),
            provider=known.attempt(number).provider,
            starts_at=starts_at,
        ),
        *(cancelled(name, known, [former], "transferred") if former is not None else ()),
        *cancelled(name, known, others, "taken_elsewhere"),
    ]


def _decided(name: str, known: Referral, found: Match) -> MatchDecided:
    return MatchDecided(
        referral=name,
        attempt=known.before + len(known.tasks) + 1,
        service=found.best[0].profile.service if found.best else None,
        certificate=found.certificate,
    )


def new_round(known: Referral, now: int) -> Referral:
    """The referral, with who was asked before to be asked again."""
    again = replace(known, round_from=len(known.tasks), on_hold=False, held_until=None)
    again.goes_unaccepted(now)
    return again


def cancelled(name: str, known: Referral, numbers: list[int], reason: CancelReason) -> list[Event]:
    """These offers or acceptances end."""
    return [
        TaskCancelled(
            referral=name, task=task_id(name, number), provider=known.attempt(number).provider, reason=reason
        )
        for number in numbers
    ]
