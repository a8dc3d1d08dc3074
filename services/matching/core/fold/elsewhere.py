"""Places that regions lend each other: what this region lends of its own, and how it accounts for what it may hold of others'.

A unit of another region stands beside the region's own: ``held`` and what ``moved`` are this region's doing, and ``taken`` makes up for the
rest, so that what is free is what the other region leaves.
"""

from __future__ import annotations

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityListed,
    CapacityOffered,
    CapacityRequested,
    CapacityTaken,
    Meta,
    ServiceListed,
)
from services.matching.core.counting import moved
from services.matching.core.fold.capacity import freed
from services.matching.core.referral import Task
from services.matching.core.state import Due, Lent, Region, Unit


def requested(state: Region, meta: Meta, event: CapacityRequested) -> None:
    known = state.referrals[event.referral]
    answer_by = meta.now + known.protocol.elsewhere_ms
    task = Task(
        event.service,
        event.unit,
        event.provider,
        event.until,
        business="reserving",
        transfer=event.transfer,
        answer_by=answer_by,
    )
    known.tasks = (*known.tasks, task)
    state.units[event.unit].held += 1
    state.places.change(event.service)
    state.expects(Due(answer_by, "reserve", event.referral, known.before + len(known.tasks)))


def claimed(state: Region, meta: Meta, event: AcceptanceClaimed) -> None:
    found = state.task(event.task)
    if found is None:
        raise LookupError(f"there is no open task {event.task}")
    name, known, number = found
    task = known.attempt(number)
    if not task.is_open or task.waits_for_region:
        raise ValueError(f"{name}: a task that is {task.business} can't be accepted")
    answer_by = meta.now + known.protocol.elsewhere_ms
    claiming = task._replace(business="accepting", answer_by=answer_by, starts_at=event.starts_at)
    known.tasks = known.tasks_with(number, claiming)
    # It was accepted in time, however long its region takes.
    known.stands_still(meta.now)
    state.expects(Due(answer_by, "reserve", name, number))


def lent(state: Region, _: Meta, event: CapacityLent) -> None:
    unit, borrower = state.units[event.unit], region_of(event.task)
    unit.held += 1
    state.places.change(unit.service)
    state.lent[event.task] = Lent(event.unit, event.until)
    _promised(state, event.unit, borrower, 1)
    state.expects(Due(event.until, "lent", event.task))
    _told(state, unit, borrower)


def denied(state: Region, _: Meta, event: CapacityDenied) -> None:
    unit = state.units.get(event.unit)
    if unit is not None and event.reason != "not_listed":
        _told(state, unit, region_of(event.task))


def taken(state: Region, meta: Meta, event: CapacityTaken) -> None:
    unit, borrower = state.units[event.unit], region_of(event.task)
    state.lent[event.task] = state.lent[event.task]._replace(taken=True)
    unit.held -= 1
    moved(unit, meta.now, 1)
    state.places.change(unit.service)
    _promised(state, event.unit, borrower, -1)
    _told(state, unit, borrower)


def returned(state: Region, meta: Meta, event: CapacityFreed) -> None:
    unit, borrower = state.units[event.unit], region_of(event.task)
    if state.lent.pop(event.task).taken:
        moved(unit, meta.now, -1)
    else:
        unit.held -= 1
        _promised(state, event.unit, borrower, -1)
    _told(state, unit, borrower)
    freed(state, unit)


def offered(state: Region, _: Meta, event: CapacityOffered) -> None:
    for room in event.rooms:
        _told(state, state.units[event.unit], room.region)


def listed(state: Region, meta: Meta, event: ServiceListed) -> None:
    definition = event.definition
    for described in definition.units:
        unit = state.units.get(described.unit)
        if unit is None:
            # Its places are told by what follows the listing.
            unit = state.units[described.unit] = Unit(described.unit, definition.service, 0, 0, 0, meta.now)
        unit.taken = max(0, unit.taken + described.overbook - unit.overbook)
        unit.overbook = described.overbook
    state.catalogue.put(state.as_here(definition))
    state.versions["listed", definition.service] = event.home_sequence


def counted(state: Region, _: Meta, event: CapacityListed) -> None:
    unit = state.units[event.unit]
    counted, free = event.true_at > unit.counted_at, unit.free
    unit.total, unit.counted_at = event.total, event.true_at
    unit.taken = max(0, event.total + unit.overbook - event.room)
    state.versions["listed", event.unit] = event.home_sequence
    # Its home also says how many are left when this region has returned one, which is no news.
    freed(state, unit, refused=not counted and unit.free <= free)


def _promised(state: Region, unit: str, borrower: str, places: int) -> None:
    count = state.promised.get((unit, borrower), 0) + places
    if count:
        state.promised[unit, borrower] = count
    else:
        del state.promised[unit, borrower]


def _told(state: Region, unit: Unit, borrower: str) -> None:
    """The other region has heard how many places are left, and is to hear when there are some again."""
    waiting = state.short.get(unit.unit, frozenset())
    waiting = waiting | {borrower} if unit.free <= 0 else waiting - {borrower}
    if waiting:
        state.short[unit.unit] = waiting
    else:
        state.short.pop(unit.unit, None)
