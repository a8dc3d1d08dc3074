"""Places by unit: in all, taken, held for open offers, free, and when they were last counted.

``free`` below zero would be a place sold twice: it is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from referral_bus.contracts.ledger import (
    CapacityChanged,
    Entry,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferralClosed,
    ReferralWithdrawn,
    ServicePublished,
)
from referral_bus.store.rows import Put, Row
from services.projections.known import Known
from services.projections.views.need import Need, the


def needs(entry: Entry) -> Iterator[Need]:
    """The unit's row, or the row that says which unit it is."""
    event = entry.event
    match event:
        case ServicePublished():
            yield Need("units", "service", event.definition.service)
        case CapacityChanged() | OfferMade():
            yield Need("units", "unit", event.unit)
        case OfferAccepted() | OfferDeclined() | OfferExpired():
            yield Need("tasks", "task", event.task)
        case ReferralWithdrawn() if event.task is not None:
            yield Need("tasks", "task", event.task)
        case ReferralClosed():
            yield Need("referrals", "referral", event.referral)


def further(entry: Entry, known: Known) -> Iterator[Need]:
    """The unit of a task or of a referral that was accepted."""
    event = entry.event
    match event:
        case OfferAccepted() | OfferDeclined() | OfferExpired() | ReferralWithdrawn() if (
            event.task is not None
        ):
            row = known.row("tasks", event.task)
        case ReferralClosed():
            row = known.row("referrals", event.referral)
        case _:
            return
    if row is not None and row["unit"] is not None:
        yield Need("units", "unit", row["unit"])


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The rows of the units the event counts in."""
    event = entry.event
    match event:
        case ServicePublished():
            yield from _published(event, entry.meta.region, entry.meta.now, known)
        case CapacityChanged():
            unit = the(known, "units", event.unit)
            yield _counted(
                unit, total=event.total, taken=event.total - event.available, counted_at=event.true_at
            )
        case OfferMade():
            unit = the(known, "units", event.unit)
            yield _counted(unit, held=unit["held"] + 1)
        case OfferAccepted():
            unit = _unit_of(event.task, known)
            yield _counted(unit, held=unit["held"] - 1, taken=unit["taken"] + 1)
        case OfferDeclined() | OfferExpired():
            unit = _unit_of(event.task, known)
            yield _counted(unit, held=unit["held"] - 1)
        case ReferralWithdrawn() if event.task is not None:
            if the(known, "tasks", event.task)["accepted_at"] is None:
                unit = _unit_of(event.task, known)
                yield _counted(unit, held=unit["held"] - 1)
        case ReferralClosed():
            referral = the(known, "referrals", event.referral)
            if referral["accepted_task"] is not None:
                unit = the(known, "units", referral["unit"])
                yield _counted(unit, taken=max(0, unit["taken"] - 1))


def _unit_of(task: str, known: Known) -> Row:
    return the(known, "units", the(known, "tasks", task)["unit"])


def _counted(unit: Row, **counts: int) -> Put:
    row = {**unit, **counts}
    row["free"] = row["total"] - row["taken"] - row["held"]
    return Put("units", row)


def _published(event: ServicePublished, region: str, now: int, known: Known) -> Iterator[Put]:
    """Units that are new come with their counts; those that are there keep theirs. One that is no longer named is not offered."""
    definition = event.definition
    described: dict[str, Any] = {
        "region": region,
        "service": definition.service,
        "organisation": definition.organisation,
        "service_name": definition.name,
    }
    named = {unit.unit: unit for unit in definition.units}
    for row in known.rows("units", "service", definition.service):
        if row["unit"] not in named:
            yield Put("units", {**row, **described, "offered": False})
    for unit in named.values():
        there = known.row("units", unit.unit)
        if there is not None:
            yield Put("units", {**there, **described, "name": unit.name, "offered": definition.active})
            continue
        fresh = {
            **described,
            "unit": unit.unit,
            "name": unit.name,
            "offered": definition.active,
            "held": 0,
            "counted_at": now,
        }
        yield _counted(fresh, total=unit.total, taken=unit.total - unit.available)
