"""Which service a report is about: the one that has accepted the referral, or one that had and is over."""

from __future__ import annotations

from typing import NamedTuple

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import Event
from referral_bus.contracts.reference import Protocol
from services.matching.core.decide.answers import Asked, refused
from services.matching.core.referral import Closed, Referral, Report, Served, Started


class Service(NamedTuple):
    """The service that has accepted a referral; or that had, and is ``over`` with an outcome."""

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
        if closed is None or closed.served is None:
            return refused("referral_closed", name)
        return _over(name, closed, closed.served)
    number = known.acceptance
    serves = number is not None and known.attempt(number).provider == source
    if known.served is not None and known.served.provider == source and not serves:
        return _over(name, known, known.served)
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
