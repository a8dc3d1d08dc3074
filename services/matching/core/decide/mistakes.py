"""What was entered in error: no task of it counts for anything, whatever became of it."""

from __future__ import annotations

from collections.abc import Sequence

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import Event, ReferralClosed, ReferralWithdrawn, TaskEnteredInError
from referral_bus.contracts.vocabulary import ReferralStatus
from services.matching.core.closing import corrected_whole
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.decide.offering import cancelled
from services.matching.core.referral import Referral


def closed_in_error(asked: Asked, name: str) -> list[Event]:
    """A referral that is closed should never have been, nor its parts, but for those that were reopened since. What came of the one it was
    a part of is joined without it."""
    closed = asked.state.closed[name]
    if closed.agency != asked.admitted.source:
        return refused("not_your_referral", name)
    if closed.in_error:
        return refused("entered_in_error", name)
    go_on = sorted(
        (part, known)
        for part, known in asked.state.referrals.items()
        if known.part_of == name and known.withdrawn and known.agency == closed.agency
    )
    return [
        *_in_error(name, closed.asked),
        *(event for part, known in go_on for event in part_withdrawn(part, known, "entered-in-error")),
        *parts_in_error(asked, name, closed.agency),
        *corrected_whole(asked.state, name, None, asked.now),
    ]


def part_withdrawn(name: str, known: Referral, status: ReferralStatus) -> list[Event]:
    """An open part ends with its whole, as taken back or as entered in error."""
    return [
        *cancelled(name, known, known.live, "withdrawn"),
        *(never_were(name, known.asked) if status == "entered-in-error" else ()),
        ReferralClosed(referral=name, status=status, reason="withdrawn"),
    ]


def parts_in_error(asked: Asked, name: str, agency: str) -> list[Event]:
    """The parts that are closed should never have been, but for those that another agency followed since a transfer."""
    closed = asked.state.closed
    parts = closed_parts(asked, name, agency)
    return [event for part in parts for event in _in_error(part, closed[part].asked)]


def closed_parts(asked: Asked, name: str, agency: str) -> list[str]:
    """The parts that are closed and that the agency follows, but for those that were entered in error."""
    state = asked.state
    # Looked for among all that is remembered: this is asked for seldom, and what is closed is remembered for a while only.
    parts = sorted(part for part, one in state.closed.items() if one.part_of == name and one.agency == agency)
    found = [(part, state.was_closed(part, asked.now)) for part in parts]
    return [part for part, closed in found if closed is not None and not closed.in_error]


def never_were(name: str, providers: Sequence[str], but: int | None = None) -> list[Event]:
    """The attempts of a referral for which something was offered, ``but`` one, should never have been. They are over."""
    return [
        TaskEnteredInError(referral=name, task=task_id(name, number), provider=provider)
        for number, provider in enumerate(providers, 1)
        if provider and number != but
    ]


def _in_error(name: str, providers: Sequence[str]) -> list[Event]:
    return [ReferralWithdrawn(referral=name, reason="entered_in_error"), *never_were(name, providers)]
