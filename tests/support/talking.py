"""Whatever can be said of a referral or of an offer, so that a test can let anybody say anything at any time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from referral_bus.contracts.inbox import AmendReferral, Submission
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    World,
    accept,
    acknowledge,
    ask,
    contact,
    decline,
    follow_up,
    give_back,
    go_on,
    handoff,
    hold,
    no_show,
    outcome,
    propose,
    reply,
    retract,
    start,
    stated_age,
    transfer,
    withdraw,
)

Saying = Callable[[World, str, int], Submission]
"""What is said: in this world, of this referral or of its attempt of this number."""

_OLDER: Final = HOUSING.model_copy(update={"age": stated_age(80)})

OF_OFFERS: Final[dict[str, Saying]] = {
    "acknowledge": lambda _, referral, attempt: acknowledge(referral, attempt),
    "accept": lambda _, referral, attempt: accept(referral, attempt),
    "accept later": lambda world, referral, attempt: accept(referral, attempt, world.now + DAY),
    "decline": lambda _, referral, attempt: decline(referral, attempt),
    "decline for good": lambda _, referral, attempt: decline(referral, attempt, "not_eligible"),
    "decline until": lambda world, referral, attempt: decline(
        referral, attempt, "full_until", world.now + DAY
    ),
    "ask": lambda _, referral, attempt: ask(referral, attempt),
    "propose": lambda _, referral, attempt: propose(referral, "abc"[attempt % 3], attempt),
}
"""What the provider that has the offer may say."""

OF_SERVICE: Final[dict[str, Saying]] = {
    "hold": lambda _, referral, __: hold(referral),
    "hold until": lambda world, referral, _: hold(referral, world.now + DAY),
    "go on": lambda _, referral, __: go_on(referral),
    "start": lambda world, referral, _: start(referral, world.now),
    "no-show": lambda world, referral, _: no_show(referral, world.now),
    "contact": lambda world, referral, _: contact(referral, world.now),
    "handoff": lambda world, referral, _: handoff(referral, world.now),
    "outcome": lambda _, referral, __: outcome(referral),
    "outcome of before": lambda world, referral, _: outcome(referral, ended_at=world.now - HOUR),
    "give back": lambda _, referral, attempt: give_back(referral, attempt),
    "give back until": lambda world, referral, attempt: give_back(
        referral, attempt, "full_until", world.now + DAY
    ),
    "failure": lambda _, referral, __: outcome(referral, "no_show"),
    "follow up": lambda _, referral, __: follow_up(referral, 30),
    "follow up again": lambda _, referral, __: follow_up(referral, 90),
    "retract": lambda world, referral, attempt: retract(referral, _reported(world, referral, attempt)),
}
"""What the provider that has accepted the person may say."""

OF_AGENCY: Final[dict[str, Saying]] = {
    "amend the urgency": lambda _, referral, attempt: AmendReferral(
        referral=referral, urgency="routine" if attempt % 2 else "crisis"
    ),
    "amend the facts": lambda world, referral, _: AmendReferral(
        referral=referral, sealed_facts=world.seal(_OLDER, _subject(world, referral))
    ),
    "hold": OF_SERVICE["hold"],
    "hold until": OF_SERVICE["hold until"],
    "go on": OF_SERVICE["go on"],
    "transfer": lambda _, referral, attempt: transfer(referral, "hospital" if attempt % 2 else "police"),
    "split": lambda world, referral, attempt: world.parts_of(
        referral, [(10 * attempt + number, HOUSING) for number in (100, 101)]
    ),
    "reopen": lambda world, referral, _: world.reopening(referral),
    "withdraw": lambda _, referral, __: withdraw(referral),
    "withdraw as wrong": lambda _, referral, __: withdraw(referral, "entered_in_error"),
    "reply": lambda _, referral, attempt: reply(referral, attempt),
    "handoff": OF_SERVICE["handoff"],
    "follow up": OF_SERVICE["follow up"],
    "retract": OF_SERVICE["retract"],
}
"""What the agency that follows the referral may say."""

SAYINGS: Final[list[Saying]] = list({**OF_OFFERS, **OF_SERVICE, **OF_AGENCY}.values())


def _reported(world: World, referral: str, attempt: int) -> int:
    """The sequence of one of the last reports that can be taken back, or of what can't."""
    known = world.state.referrals.get(referral) or world.state.closed.get(referral)
    reports = (
        ()
        if known is None
        else getattr(known, "reports", ()) or (known.served.reports if known.served else ())
    )
    return reports[-1 - attempt % len(reports)].sequence if reports else 1


def _subject(world: World, referral: str) -> str:
    known = world.state.referrals.get(referral) or world.state.closed.get(referral)
    return "sj-nobody" if known is None else known.subject
