"""The views. Each module turns events into rows and knows nothing of the others' doing: what an event means to a view is in one place.

A view is a pair of functions and the kinds of event it HEARS: ``needs(entry)`` names the rows it goes on from, ``changes(entry,
known)`` gives the rows that are to be put. Both are pure, and called for no other event. Whatever a view reads, it reads as it was
before the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from referral_bus.contracts.ledger import EVENTS, Entry, Event
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views import (
    adopted,
    capacity,
    parties,
    protocols,
    referrals,
    sections,
    submissions,
    tasks,
    timeline,
    waits,
)
from services.projections.views.need import Need


class View(NamedTuple):
    """One view: the rows it needs for an event (``further``: those that only the rows found first can name), and its changes."""

    hears: frozenset[type[Event]]
    needs: Callable[[Entry], Iterator[Need]]
    further: Callable[[Entry, Known], Iterator[Need]] | None
    changes: Callable[[Entry, Known], Iterator[Put]]


_VIEWS: Final = (
    View(protocols.HEARS, protocols.needs, None, protocols.changes),
    View(adopted.HEARS, adopted.needs, None, adopted.changes),
    View(timeline.HEARS, timeline.needs, None, timeline.changes),
    View(referrals.HEARS, referrals.needs, None, referrals.changes),
    View(sections.HEARS, sections.needs, None, sections.changes),
    View(tasks.HEARS, tasks.needs, None, tasks.changes),
    View(waits.HEARS, waits.needs, None, waits.changes),
    View(capacity.HEARS, capacity.needs, capacity.further, capacity.changes),
    View(parties.HEARS, parties.needs, None, parties.changes),
    View(submissions.HEARS, submissions.needs, None, submissions.changes),
)

VIEWS_OF: Final[Mapping[type[Event], tuple[View, ...]]] = {
    event: tuple(view for view in _VIEWS if event in view.hears) for event in EVENTS
}
"""The views an event may change, for each kind there is."""
