"""The views. Each module turns events into rows and knows nothing of the others' doing: what an event means to a view is in one place.

A view is a pair of functions: ``needs(entry)`` names the rows it goes on from, ``changes(entry, known)`` gives the rows that
are to be put. Both are pure. Whatever a view reads, it reads as it was before the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from referral_bus.contracts.ledger import Entry
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views import (
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

    name: str
    needs: Callable[[Entry], Iterator[Need]]
    further: Callable[[Entry, Known], Iterator[Need]] | None
    changes: Callable[[Entry, Known], Iterator[Put]]


VIEWS: Final = (
    View("protocols", protocols.needs, None, protocols.changes),
    View("timeline", timeline.needs, None, timeline.changes),
    View("referrals", referrals.needs, None, referrals.changes),
    View("sections", sections.needs, None, sections.changes),
    View("tasks", tasks.needs, None, tasks.changes),
    View("waits", waits.needs, None, waits.changes),
    View("capacity", capacity.needs, capacity.further, capacity.changes),
    View("parties", parties.needs, None, parties.changes),
    View("submissions", submissions.needs, None, submissions.changes),
)
