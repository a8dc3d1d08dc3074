"""What can be said of a decision some of whose facts can't be opened any more: all that doesn't hang on them is checked as ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import (
    CapacityOffered,
    CapacityRequested,
    CapacityReturned,
    Event,
    MatchDecided,
    OfferMade,
    ReferralClosed,
    ReferralHeld,
    ReferralWaitlisted,
    ServiceListed,
    ServiceProposed,
    ServicePublished,
    SubmissionRefused,
    WindowClosed,
)
from services.matching.core.decide import AllOpened, FactsGone
from services.matching.core.decide.gathering import possible
from services.matching.core.state import Region

_SOMEBODY: Final = Facts.model_construct(needs=[])
"""Somebody whom no service helps: in place of facts that are gone, to see how far a decision comes without them."""
_GONE: Final[tuple[FactsGone, ...]] = ("erased", "unreadable")
_AFTER_A_MATCH: Final = (
    OfferMade | CapacityRequested | CapacityOffered | ReferralWaitlisted | ReferralHeld | ReferralClosed
)


class InPart(NamedTuple):
    """A decision as it should stand on the ledger, what hangs on facts that are gone being as it was recorded; ``wholly`` where nothing of
    it does."""

    events: Sequence[Event]
    wholly: bool = False


def in_part(
    state: Region,
    now: int,
    facts: AllOpened,
    again: Callable[[AllOpened], list[Event]],
    recorded: Sequence[Event],
) -> InPart | None:
    """What the decision should be; None where what was recorded could have come of no facts. ``again`` decides it by the facts it is
    given."""
    for event in recorded:
        if isinstance(event, ServicePublished | ServiceListed):
            return _lined_up(state, event.definition.service, facts, again(facts), recorded)
        if isinstance(event, WindowClosed):
            policy = state.policy
            right = policy is not None and possible(state, policy, now, facts, event)
            return InPart(recorded) if right and len(recorded) == 1 else None
    gone = _gone(facts)
    if any(again({**facts, **dict.fromkeys(gone, why)}) == recorded for why in _GONE):
        # They could not be opened then either, for whichever reason.
        return InPart(recorded)
    made = again({**facts, **dict.fromkeys(gone, _SOMEBODY)})
    for number, event in enumerate(made):
        if isinstance(event, MatchDecided) and event.referral in gone:
            alike = made[:number] == recorded[:number]
            return InPart(recorded) if alike and _matched(state, recorded[number:], event) else None
    refusal = made[-1] if made else None
    if isinstance(refusal, SubmissionRefused) and refusal.reason == "service_unavailable":
        alike = made[:-1] == recorded[: len(made) - 1]
        right = made == recorded or _proposed(state, gone, recorded[len(made) - 1 :], refusal)
        return InPart(recorded) if alike and right else None
    return InPart(made, wholly=True)


def _gone(facts: AllOpened) -> list[str]:
    return [name for name, opened in facts.items() if isinstance(opened, str)]


def _lined_up(
    state: Region, service: str, facts: AllOpened, again: list[Event], recorded: Sequence[Event]
) -> InPart | None:
    """Those whose facts are gone may have lined up for the service or not, each in their turn; all others as it comes out again."""
    gone = frozenset(_gone(facts))
    rest: list[Event] = []
    names: list[str] = []
    for event in recorded:
        if isinstance(event, ReferralWaitlisted):
            names.append(event.referral)
        if not isinstance(event, ReferralWaitlisted) or event.referral not in gone:
            rest.append(event)
            continue
        known = state.referrals[event.referral]
        services = [*(known.waits_for or ()), service]
        if (event.services, event.review) != (services, known.review_at):
            return None
    in_turn = [name for name in facts if name in set(names)]
    return InPart(recorded) if rest == again and names == in_turn else None


def _matched(state: Region, recorded: Sequence[Event], like: MatchDecided | None) -> bool:
    """Whether these can be a match of the referral that another match (of nobody) is of, and what follows from it."""
    if not recorded or not isinstance(decided := recorded[0], MatchDecided):
        return False
    shown, following = decided.certificate, recorded[1:]
    if like is not None:
        by = like.certificate
        if (decided.referral, decided.attempt) != (like.referral, like.attempt):
            return False
        if (shown.policy, shown.policy_version, shown.considered) != (
            by.policy,
            by.policy_version,
            by.considered,
        ):
            return False
    if not all(isinstance(event, _AFTER_A_MATCH) for event in following):
        return False
    offered = [event for event in following if isinstance(event, OfferMade | CapacityRequested)]
    first = offered[0].service if offered else None
    return decided.service == first and all(
        event.referral == decided.referral and _has_place(state, event) for event in offered
    )


def _has_place(state: Region, event: OfferMade | CapacityRequested) -> bool:
    unit = state.units.get(event.unit)
    definition = state.catalogue.definitions.get(event.service)
    return (
        unit is not None
        and definition is not None
        and state.catalogue.is_active(event.service)
        and (unit.service, definition.organisation) == (event.service, event.provider)
        and unit.free > 0
    )


def _proposed(
    state: Region, gone: Sequence[str], recorded: Sequence[Event], refusal: SubmissionRefused
) -> bool:
    """Whether these can be what a proposal came to that is refused where the proposed service doesn't take the person."""
    if not recorded or not isinstance(proposed := recorded[0], ServiceProposed):
        return False
    located = state.task(proposed.task)
    if located is None or located[0] != proposed.referral or proposed.referral not in gone:
        return False
    after = [event for event in recorded[1:] if not isinstance(event, CapacityReturned)]
    offers = [event for event in after if isinstance(event, OfferMade | CapacityRequested)]
    return (
        proposed.service == refusal.about
        and len(offers) == 1
        and offers[0].service == proposed.service
        and offers[0].referral == proposed.referral
        and _matched(state, after, None)
    )
