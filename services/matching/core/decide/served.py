"""Which service a report is about: the one that has accepted the referral, or one that had and is over. Who served speaks of that until it
has accepted anew, whoever has the referral now."""

from __future__ import annotations

from typing import NamedTuple

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import Event
from referral_bus.contracts.reference import Protocol
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.referral import Closed, Referral, Report, Served, Started


class Service(NamedTuple):
    """The service that has accepted a referral; or that had, and is ``over``, with an outcome or without."""

    task: str
    agency: str
    provider: str
    protocol: Protocol
    opened_at: int
    start: Started | None
    confirmed: frozenset[str]
    reports: tuple[Report, ...]
    over: Served | None = None

    @property
    def late(self) -> bool:
        return self.over is not None


def service_of(asked: Asked, name: str) -> Service | list[Event]:
    """The service a report is about; else the refusal."""
    state, source = asked.state, asked.admitted.source
    known = state.referrals.get(name)
    if known is None:
        closed = state.was_closed(name, asked.now)
        if closed is not None and closed.in_error:
            return refused("entered_in_error", name)
        over = None if closed is None else _own_of(closed, source) or closed.served
        if closed is None or over is None:
            return refused("referral_closed", name)
        return _over(name, closed, over)
    number = known.acceptance
    serves = number is not None and known.attempt(number).provider == source
    over = _own_of(known, source)
    if over is not None and not serves:
        return _over(name, known, over)
    if number is None:
        return refused("not_accepted", name)
    return Service(
        task=task_id(name, number),
        agency=known.agency,
        provider=known.attempt(number).provider,
        protocol=known.protocol,
        opened_at=known.opened_at,
        start=known.start,
        confirmed=known.confirmed,
        reports=known.reports,
    )


def _own_of(known: Referral | Closed, source: str) -> Served | None:
    """The last attempt that is over and was the sender's."""
    own = [one for one in (known.served, *known.former) if one is not None and one.provider == source]
    return max(own, key=lambda one: one.attempt, default=None)


def _over(name: str, known: Referral | Closed, served: Served) -> Service:
    return Service(
        task=task_id(name, served.attempt),
        agency=known.agency,
        provider=served.provider,
        protocol=known.protocol,
        opened_at=served.opened_at,
        start=served.start,
        confirmed=served.confirmed,
        reports=served.reports,
        over=served,
    )


def own_service(asked: Asked, name: str) -> Service | list[Event]:
    """The service, if it is the sender's; else the refusal."""
    found = service_of(asked, name)
    if isinstance(found, list) or found.provider == asked.admitted.source:
        return found
    return refused("not_your_offer", name)
