"""Places by unit, and how services answered what was offered to them with a place they said they had.

A count says what was true when the provider counted: who was accepted or left since is counted in, as matching does it. ``free`` is what
may still be promised: the total and what the provider lets be overbooked, less what is taken and held, and ``doubted``, since the provider
said that it is not there. Below zero it would be a place sold twice: it is shown as it is.

A unit is counted on the ledger of its own region alone, places that are lent to other regions included: what another region believes of it
is no count of places. How a service answers is counted in each region that makes it offers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple, get_args

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.inbox import CLOCK_SKEW_MS
from referral_bus.contracts.ledger import (
    CapacityChanged,
    CapacityDoubted,
    CapacityFreed,
    CapacityLent,
    CapacityTaken,
    CapacityTrusted,
    Entry,
    Event,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    ServiceProposed,
    ServicePublished,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import UNKEPT
from referral_bus.store.rows import Put, Row
from services.projections.known import Known
from services.projections.views.need import Need, the
from services.projections.views.tasks import TAKEN

COUNT_MS: Final = 24 * 3_600_000
"""How old a count may be when it arrives: what was taken and freed since is remembered for so long."""

_NO_DOUBT: Final[Row] = {"doubted": 0, "doubted_at": None, "doubted_until": None}

_OF_A_TASK = (
    OfferAccepted
    | OfferDeclined
    | OfferExpired
    | ServiceProposed
    | TaskCancelled
    | ReferralWithdrawn
    | OutcomeReported
)
HEARS: Final[frozenset[type[Event]]] = frozenset(
    {
        ServicePublished,
        CapacityChanged,
        CapacityDoubted,
        CapacityTrusted,
        OfferMade,
        CapacityLent,
        CapacityTaken,
        CapacityFreed,
        *get_args(_OF_A_TASK),
    }
)


def needs(entry: Entry) -> Iterator[Need]:
    """The unit's row, or the row that says which unit it is."""
    event = entry.event
    match event:
        case ServicePublished():
            yield Need("units", "service", event.definition.service)
        case CapacityChanged() | CapacityDoubted() | CapacityTrusted():
            yield Need("units", "unit", event.unit)
        case OfferMade():
            yield Need("units", "unit", event.unit)
            yield Need("reliability", "service", event.service)
        case CapacityLent():
            yield Need("units", "unit", event.unit)
        case CapacityTaken() | CapacityFreed():
            yield Need("units", "unit", event.unit)
            yield Need("lent", "task", event.task)
        case _ if isinstance(event, _OF_A_TASK) and event.task is not None:
            yield Need("tasks", "task", event.task)


def further(entry: Entry, known: Known) -> Iterator[Need]:
    """The unit and the service of a task."""
    event = entry.event
    if not isinstance(event, _OF_A_TASK) or event.task is None:
        return
    row = known.row("tasks", event.task)
    if row is not None:
        yield Need("units", "unit", row["unit"])
        yield Need("reliability", "service", row["service"])


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The rows of the units and services the event counts in."""
    event, now = entry.event, entry.meta.now
    match event:
        case ServicePublished():
            yield from _published(event, entry.meta.region, now, known)
        case CapacityChanged():
            unit = the(known, "units", event.unit)
            since = sum(places for at, places in unit["moved"] if at > event.true_at)
            taken = max(0, event.total - event.available + since)
            counted = {"total": event.total, "taken": taken, "counted_at": event.true_at, "reported_at": now}
            fresh = {**unit, **counted, **_NO_DOUBT}
            if unit["doubted"] and event.true_at < unit["doubted_at"] - CLOCK_SKEW_MS:
                # It counted these places before it said that there are none.
                left = event.total + unit["overbook"] - taken - unit["held"]
                fresh |= {name: unit[name] for name in _NO_DOUBT} | {"doubted": max(0, left)}
            yield _counted(fresh)
        case CapacityDoubted():
            unit = the(known, "units", event.unit)
            doubt = {
                "doubted": unit["doubted"] + event.places,
                "doubted_at": now,
                "doubted_until": event.until,
            }
            yield _counted({**unit, **doubt})
        case CapacityTrusted():
            yield _counted({**the(known, "units", event.unit), **_NO_DOUBT})
        case OfferMade() if _is_here(event.unit, entry):
            unit = the(known, "units", event.unit)
            yield _counted(unit, held=unit["held"] + 1)
        case CapacityLent() | CapacityTaken() | CapacityFreed():
            yield from _lent(event, entry, known)
        case _ if isinstance(event, _OF_A_TASK) and event.task is not None:
            task = the(known, "tasks", event.task)
            if _is_here(task["unit"], entry):
                yield from _moved(event, task, now, known)
            told = _told(event, task)
            if told is not None:
                yield _answered(task, told, known)


def _is_here(unit: str, entry: Entry) -> bool:
    return region_of(unit) == entry.meta.region


def _lent(event: CapacityLent | CapacityTaken | CapacityFreed, entry: Entry, known: Known) -> Iterator[Put]:
    """A place is held or taken for a task of another region, or free again."""
    unit, now = the(known, "units", event.unit), entry.meta.now
    match event:
        case CapacityLent():
            loan = {"task": event.task, "region": entry.meta.region, "unit": event.unit, "until": event.until}
            yield Put("lent", {**loan, "state": "held"})
            yield _counted(unit, held=unit["held"] + 1)
        case CapacityTaken():
            yield Put("lent", {**the(known, "lent", event.task), "state": "taken"})
            yield _taken({**unit, "held": unit["held"] - 1}, now, 1)
        case CapacityFreed():
            row = the(known, "lent", event.task)
            yield Put("lent", {**row, "state": "freed"})
            if row["state"] == "taken":
                yield _taken(unit, now, -1)
            else:
                yield _counted(unit, held=unit["held"] - 1)


def _moved(event: Event, task: Row, now: int, known: Known) -> Iterator[Put]:
    unit = the(known, "units", task["unit"])
    match event:
        case OfferAccepted():
            yield _taken({**unit, "held": unit["held"] - 1}, now, 1)
        case _ if task["status"] == "requested":
            yield _counted(unit, held=unit["held"] - 1)
        case ServiceProposed():
            return
        case _ if task["status"] in TAKEN:
            yield _taken(unit, now, -1)


class _Told(NamedTuple):
    """How much more often the service had the place it said it had, and had not."""

    kept: int = 0
    broken: int = 0


def _told(event: Event, task: Row) -> _Told | None:
    """What the answer tells of whether the service had the place it said it had, if it does."""
    match event:
        case OfferAccepted():
            return _Told(kept=1)
        case OfferExpired() if task["business_status"] != "screening":
            # Else it had asked, and it was the agency that did not answer.
            return _Told(broken=1)
        case OfferDeclined() if event.reason in UNKEPT:
            return _Told(broken=1)
        case TaskCancelled() if event.because in UNKEPT:
            # It had accepted: an offer counts once, by what came of it.
            return _Told(kept=-1, broken=1)
        case _:
            return None


def _answered(task: Row, told: _Told, known: Known) -> Put:
    former = known.row("reliability", task["region"], task["service"])
    counts = {"kept": 0, "broken": 0} if former is None else former
    return Put(
        "reliability",
        {
            "region": task["region"],
            "service": task["service"],
            "kept": counts["kept"] + told.kept,
            "broken": counts["broken"] + told.broken,
        },
    )


def _taken(unit: Row, now: int, places: int) -> Put:
    """Places were taken, or became free."""
    moved = [*(one for one in unit["moved"] if one[0] > now - COUNT_MS), [now, places]]
    return _counted({**unit, "moved": moved}, taken=max(0, unit["taken"] + places))


def _counted(unit: Row, **counts: int) -> Put:
    row = {**unit, **counts}
    row["free"] = row["total"] + row["overbook"] - row["taken"] - row["held"] - row["doubted"]
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
            again = {**there, **described, "name": unit.name, "offered": definition.active}
            # What is not there by any count can't be in doubt.
            left = there["total"] + unit.overbook - there["taken"] - there["held"]
            yield _counted(again, overbook=unit.overbook, doubted=max(0, min(there["doubted"], left)))
            continue
        fresh = {
            **described,
            "unit": unit.unit,
            "name": unit.name,
            "offered": definition.active,
            "overbook": unit.overbook,
            "held": 0,
            "counted_at": now if unit.counted_at is None else min(unit.counted_at, now),
            "reported_at": now,
            "moved": [],
            **_NO_DOUBT,
        }
        yield _counted(fresh, total=unit.total, taken=unit.total - unit.available)
