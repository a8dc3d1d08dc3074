"""When the steps of a protocol are due: its limits, counted round the clock or in the business time of whoever must act."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from referral_bus.contracts.reference import Protocol
from referral_bus.contracts.vocabulary import StepName
from services.matching.core.calendar import due
from services.matching.core.referral import Referral
from services.matching.core.state import Due, Region


def ends(state: Region, protocol: Protocol, party: str, start: int, limit: int) -> int:
    """When a limit that begins at ``start`` is over for the party that must act."""
    if not protocol.business_time:
        return start + limit
    organisation = state.organisations.get(party)
    own = None if organisation is None else organisation.calendar
    hours = state.hours.get(own or "") or state.hours.get(protocol.calendar or "")
    return due(start, limit, hours)


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
