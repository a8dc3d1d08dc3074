"""When the steps of a protocol are due: its limits, counted round the clock or in the business time of whoever must act."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from referral_bus.contracts.reference import Protocol
from referral_bus.contracts.vocabulary import StepName
from services.matching.core.calendar import BusinessTime, business_ms, due
from services.matching.core.referral import Referral
from services.matching.core.state import Due, Region


def ends(state: Region, protocol: Protocol, party: str, start: int, limit: int) -> int:
    """When a limit that begins at ``start`` is over for the party that must act."""
    if not protocol.business_time:
        return start + limit
    return due(start, limit, _hours(state, protocol, party))


def lasts(state: Region, protocol: Protocol, party: str, start: int, end: int) -> int:
    """How long a limit is that the party has from ``start`` until ``end``."""
    if not protocol.business_time:
        return end - start
    return business_ms(start, end, _hours(state, protocol, party))


def _hours(state: Region, protocol: Protocol, party: str) -> BusinessTime | None:
    organisation = state.organisations.get(party)
    own = None if organisation is None else organisation.calendar
    return state.hours.get(own or "") or state.hours.get(protocol.calendar or "")


def offer_ends(state: Region, known: Referral, provider: str, start: int) -> int:
    """When an offer is over that the provider has from ``start`` on: nobody is given time that the referral itself has no more."""
    end = ends(state, known.protocol, provider, start, known.protocol.offer_limits.of(known.urgency))
    return end if known.limit is None else min(end, known.limit)


def keep_other_hours(state: Region, protocol: Protocol, one: str, other: str) -> bool:
    """Whether a limit that both must keep counts differently for the two."""
    return protocol.business_time and _hours(state, protocol, one) is not _hours(state, protocol, other)


def step_dues(
    state: Region,
    known: Referral,
    step: StepName,
    parties: Iterable[str],
    name: str,
    attempt: int,
    start: int,
) -> Iterator[Due]:
    """What falls due for a step that begins at ``start``: its end and its reminders; nothing, where the protocol has no such step. What
    several parties do together is due, in whole or in part, once it is so by the hours of each: nobody is told while they had no time."""
    rule = known.protocol.step(step)
    if rule is None:
        return
    limit, each = rule.limits.of(known.urgency), list(parties)

    def due_after(passed: int) -> int:
        return max(ends(state, known.protocol, party, start, passed) for party in each)

    end = due_after(limit)
    yield Due(end, "step", name, attempt, step, 0, end)
    for percent in rule.reminders:
        yield Due(due_after(limit * percent // 100), "remind", name, attempt, step, percent, end)


def offer_reminders(state: Region, known: Referral, name: str, attempt: int) -> Iterator[Due]:
    """The reminders of an offer for who must answer now: shares of its time, in the hours of its provider, or of the agency that was asked
    something. When the offer ends they don't change."""
    protocol, task = known.protocol, known.attempt(attempt)
    start, end, party = task.offered_at, task.expires_at, known.asked_of(attempt)
    limit = lasts(state, protocol, party, start, end) if protocol.offer_reminders else 0
    for percent in protocol.offer_reminders:
        at = ends(state, protocol, party, start, limit * percent // 100)
        yield Due(at, "remind", name, attempt, "accept", percent, end, task.turn)
