"""What was refused or has to wait, for whoever sent it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from referral_bus.contracts.ids import OF_THE_BUS
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    Meta,
    SubmissionParked,
    SubmissionRefused,
    SubmissionResumed,
)
from referral_bus.store.rows import Put
from services.projections.known import Damaged, Known
from services.projections.views.need import Need, the

HEARS: Final[frozenset[type[Event]]] = frozenset({SubmissionParked, SubmissionResumed, SubmissionRefused})


def place(region: str, sequence: int) -> str:
    """Where an event stands, as one key."""
    return f"{region}.{sequence}"


def needs(entry: Entry) -> Iterator[Need]:
    """What was parked, where its wait ends."""
    event = entry.event
    if isinstance(event, SubmissionResumed | SubmissionRefused) and event.parked is not None:
        yield Need("submissions", "place", place(entry.meta.region, event.parked))


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The submission's row."""
    event, meta = entry.event, entry.meta
    match event:
        case SubmissionParked():
            if meta.submission is None:
                raise Damaged("it parks nothing")
            yield _row(
                meta, meta.submission, state="parked", about=event.waiting_for, until=event.until, reason=None
            )
        case SubmissionResumed():
            row = the(known, "submissions", place(meta.region, event.parked))
            yield Put("submissions", {**row, "state": "decided", "until": None, "at": meta.now})
        case SubmissionRefused() if event.parked is not None:
            row = the(known, "submissions", place(meta.region, event.parked))
            yield Put(
                "submissions",
                {
                    **row,
                    "state": "refused",
                    "reason": event.reason,
                    "about": event.about,
                    "until": None,
                    "at": meta.now,
                },
            )
        case SubmissionRefused() if meta.submission is not None and meta.submission.source not in OF_THE_BUS:
            yield _row(
                meta, meta.submission, state="refused", about=event.about, until=None, reason=event.reason
            )


def _row(meta: Meta, admitted: Admitted, **more: Any) -> Put:
    row = {
        "place": place(meta.region, meta.sequence),
        "region": meta.region,
        "sequence": meta.sequence,
        "organisation": admitted.source,
        "submission": admitted.id,
        "type": admitted.type,
        "at": meta.now,
        **more,
    }
    return Put("submissions", row)
