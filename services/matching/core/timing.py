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


def step_dues(
    state: Region, known: Referral, step: StepName, party: str, name: str, attempt: int, start: int
) -> Iterator[Due]:
    """What falls due for a step that begins at ``start``: its reminders and its end; nothing, where the protocol has no such step."""
    rule = known.protocol.step(step)
    if rule is None:
        return
    limit = rule.limits.of(known.urgency)
    end = ends(state, known.protocol, party, start, limit)
    whole = Due(end, "step", name, attempt, step, 0, end)
    yield whole
    yield from reminders(state, known.protocol, rule.reminders, party, whole, start, limit)


def reminders(
    state: Region, protocol: Protocol, percents: Iterable[int], party: str, whole: Due, start: int, limit: int
) -> Iterator[Due]:
    """The reminders of what is due as ``whole``, which begins at ``start``."""
    for percent in percents:
        at = ends(state, protocol, party, start, limit * percent // 100)
        yield whole._replace(at=at, kind="remind", percent=percent)
