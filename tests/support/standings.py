"""Where a referral stands when something is said of it, and who says it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from referral_bus.contracts.ids import referral_of
from referral_bus.contracts.ledger import Received
from referral_bus.contracts.vocabulary import BusinessStatus, TaskStatus
from services.matching.core.referral import Closed, Referral, Task
from services.matching.core.state import Region

Standing = Literal[
    "waiting",
    "offered",
    "on hold",
    "accepted",
    "in progress",
    "service on hold",
    "split",
    "withdrawn",
    "closed",
    "entered in error",
]
Party = Literal["follows", "offered", "serves", "served", "owns"]
"""The agency that follows the referral; the provider it was offered to, that has accepted it, or that served it before; the one whose
service or unit it is."""

_TAKEN: Final[dict[TaskStatus, Standing]] = {
    "accepted": "accepted",
    "in-progress": "in progress",
    "on-hold": "service on hold",
}


class Stood(NamedTuple):
    """What a submission met: how the referral stood, and the task it is about; as whom its sender spoke."""

    standing: Standing | None = None
    task: BusinessStatus | None = None
    party: Party | None = None


def stood(state: Region, received: Received) -> Stood:
    body, source = received.body, received.admitted.source
    task = getattr(body, "task", None)
    name = getattr(body, "referral", None) if task is None else referral_of(task)
    if name is None:
        return Stood(party="owns" if _owner(state, body) == source else None)
    known = state.referrals.get(name)
    if known is None:
        closed = state.closed.get(name)
        return Stood() if closed is None else _closed(closed, source)
    located = None if task is None else state.task(task)
    about = None if located is None else known.attempt(located[2])
    return Stood(_standing(known), None if about is None else about.business, _party(known, about, source))


def _owner(state: Region, body: object) -> str | None:
    definition = getattr(body, "definition", None)
    if definition is not None:
        return str(definition.organisation)
    unit = state.units.get(getattr(body, "unit", ""))
    return None if unit is None else state.catalogue.definitions[unit.service].organisation


def _closed(closed: Closed, source: str) -> Stood:
    standing: Standing = "entered in error" if closed.in_error else "closed"
    if source == closed.agency:
        return Stood(standing, party="follows")
    served = [one.provider for one in (closed.served, *closed.former) if one is not None]
    return Stood(standing, party="served" if source in served else None)


def _standing(known: Referral) -> Standing:
    if known.withdrawn:
        return "withdrawn"
    if known.parts is not None:
        return "split"
    if known.acceptance is not None:
        return _TAKEN[known.attempt(known.acceptance).status]
    if known.on_hold:
        return "on hold"
    return "offered" if known.offers else "waiting"


def _party(known: Referral, about: Task | None, source: str) -> Party | None:
    accepted = None if known.acceptance is None else known.attempt(known.acceptance)
    served = [one.provider for one in (known.served, *known.former) if one is not None]
    if accepted is not None and accepted.provider == source and about in (None, accepted):
        return "serves"
    if about is not None and about.provider == source:
        return "offered"
    if known.agency == source:
        return "follows"
    return "served" if source in served else None
