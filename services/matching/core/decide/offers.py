"""What a provider answers to an offer, and what it and the agency ask of each other before."""

from __future__ import annotations

from typing import NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import referral_of, region_of
from referral_bus.contracts.inbox import (
    CLOCK_SKEW_MS,
    AcceptOffer,
    AcknowledgeOffer,
    AnswerQuestion,
    AskForInformation,
    DeclineOffer,
    ProposeService,
)
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    Event,
    InformationAsked,
    InformationGiven,
    OfferAcknowledged,
    OfferDeclined,
    ServiceProposed,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DECLINES
from services.matching.core.closing import closing
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.decide.offering import next_offers, offers, won
from services.matching.core.judging.match import match
from services.matching.core.referral import Referral, Task


class _Found(NamedTuple):
    name: str
    known: Referral
    number: int
    task: Task


def acknowledge(asked: Asked, body: AcknowledgeOffer) -> list[Event]:
    """The provider has seen the offer."""
    found = _offered(asked, body.task)
    if isinstance(found, list):
        return found
    if found.task.business != "offered":
        return refused("already_acknowledged", body.task)
    return [OfferAcknowledged(referral=found.name, task=body.task, provider=found.task.provider)]


def accept(asked: Asked, body: AcceptOffer) -> list[Event]:
    """The provider takes the person: the first acceptance wins, and every other offer of the referral ends."""
    found = _offered(asked, body.task)
    if isinstance(found, list):
        return found
    name, known, number, task = found
    longest = known.protocol.longest_hold_ms
    if body.starts_at is not None and not asked.now - CLOCK_SKEW_MS <= body.starts_at <= asked.now + longest:
        return refused("time_out_of_range", body.task)
    if known.is_claimed:
        return refused("acceptance_pending", body.task)
    if region_of(task.unit) == asked.state.region:
        return won(name, known, number, body.starts_at)
    return [
        AcceptanceClaimed(
            referral=name, task=body.task, provider=task.provider, unit=task.unit, starts_at=body.starts_at
        )
    ]


def decline(asked: Asked, body: DeclineOffer) -> list[Event]:
    """The provider doesn't take the person, or gives back one it had accepted. The reason says what happens next."""
    state, _, now, facts, _ = asked
    located = _of_provider(asked, body.task)
    if isinstance(located, list):
        return located
    name, known, number, task = located
    if body.gives_back and task.is_open:
        return refused("not_accepted", body.task)
    if not (task.is_taken if body.gives_back else task.is_open):
        return _not_open(body.task, task)
    meant = DECLINES[body.reason]
    if meant.dated:
        if body.until is None:
            return refused("date_missing", body.task)
        if not now < body.until <= now + known.protocol.longest_hold_ms:
            return refused("time_out_of_range", body.task)
    elif body.until is not None:
        return refused("date_not_wanted", body.task)
    ended: Event
    if task.is_open:
        ended = OfferDeclined(
            referral=name, task=body.task, provider=task.provider, reason=body.reason, until=body.until
        )
    else:
        ended = TaskCancelled(
            referral=name,
            task=body.task,
            provider=task.provider,
            reason="given_back",
            because=body.reason,
            until=body.until,
        )
    if known.withdrawn:
        return [ended, *closing(state, name, known, "revoked", "withdrawn")]
    others = [other for other in known.offers if other != number]
    if others or (task.is_open and known.acceptance is not None):
        return [ended]
    over = task._replace(
        status="rejected" if task.is_open else "cancelled",
        business="declined" if task.is_open else "given-back",
    )
    after = known.with_task(number, over.refused(body.reason, body.until))
    if meant.then == "never":
        after.never = {**after.never, task.service: body.reason}
    after.goes_unaccepted(now)
    return [ended, *next_offers(state, name, after, now, facts)]


def ask(asked: Asked, body: AskForInformation) -> list[Event]:
    """The provider needs to know more."""
    found = _offered(asked, body.task)
    if isinstance(found, list):
        return found
    return [
        InformationAsked(
            referral=found.name,
            task=body.task,
            provider=found.task.provider,
            sealed_question=body.sealed_question,
        )
    ]


def answer(asked: Asked, body: AnswerQuestion) -> list[Event]:
    """The agency answers, each question by itself."""
    located = asked.state.task(body.task)
    if located is None:
        return _over(asked, body.task)
    name, known, number = located
    if known.agency != asked.admitted.source:
        return refused("not_your_referral", body.task)
    task = known.attempt(number)
    if not task.is_open:
        return _not_open(body.task, task)
    if not task.questions:
        return refused("nothing_asked", body.task)
    if task.waits_for_region:
        # It was accepted without the answer.
        return refused("offer_not_open", body.task)
    if _is_late(asked, known, task):
        return refused("offer_expired", body.task)
    return [
        InformationGiven(
            referral=name, task=body.task, provider=task.provider, sealed_answer=body.sealed_answer
        )
    ]


def propose(asked: Asked, body: ProposeService) -> list[Event]:
    """Ask the proposed service instead of the one that was asked; or, for a person who was accepted, ask it to take them over."""
    state, _, now, facts, _ = asked
    located = _of_provider(asked, body.task)
    if isinstance(located, list):
        return located
    name, known, _, task = located
    if not (task.is_open or task.is_taken):
        return _not_open(body.task, task)
    if known.withdrawn:
        return refused("already_withdrawn", body.task)
    if not state.catalogue.is_active(body.service):
        elsewhere = region_of(body.service) != state.region
        return refused("region_mismatch" if elsewhere else "unknown_service", body.service)
    if known.offered >= known.protocol.maximum_offers:
        return refused("offers_used_up", body.task)
    opened = facts.get(name)
    if state.policy is None or not isinstance(opened, Facts):
        return refused("facts_unreadable" if opened == "unreadable" else "subject_erased", body.task)
    found = match(
        state,
        state.policy,
        name,
        opened,
        state.tried(known),
        now,
        only=body.service,
        urgency=known.urgency,
    )
    if not found.best:
        return refused("service_unavailable", body.service)
    proposed = ServiceProposed(referral=name, task=body.task, provider=task.provider, service=body.service)
    return [proposed, *offers(state, name, known, found, 1, now, transfer=known.acceptance is not None)]


def _over(asked: Asked, task: str) -> list[Event]:
    """The refusal where there is no such task any more: its referral is closed, or was and is reopened."""
    reopened = referral_of(task) in asked.state.referrals
    return refused("offer_not_open" if reopened else "referral_closed", task)


def _of_provider(asked: Asked, task: str) -> _Found | list[Event]:
    """The task, if it is the sender's; else the refusal."""
    located = asked.state.task(task)
    if located is None:
        return _over(asked, task)
    name, known, number = located
    found = known.attempt(number)
    if found.provider != asked.admitted.source:
        return refused("not_your_offer", task)
    if found.waits_for_region:
        return refused("offer_not_open", task)
    if _is_late(asked, known, found):
        return refused("offer_expired", task)
    return _Found(name, known, number, found)


def _offered(asked: Asked, task: str) -> _Found | list[Event]:
    """The task, if it is an open offer to the sender; else the refusal."""
    found = _of_provider(asked, task)
    if isinstance(found, list) or found.task.is_open:
        return found
    return _not_open(task, found.task)


def _is_late(asked: Asked, known: Referral, task: Task) -> bool:
    """Whether this is said of an open offer whose time was over when it was admitted: that the tick which ends the offer comes late gives
    nobody more time. Where silence escalates the offer waits on."""
    over = task.is_open and asked.admitted.append_time >= task.expires_at
    return over and known.protocol.silence == "declines"


def _not_open(id: str, task: Task) -> list[Event]:
    return refused("offer_expired" if task.business == "expired" else "offer_not_open", id)
