"""Organisations and agreements as each region adopted them: who is what, and who may be shown what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from referral_bus.contracts.ledger import Entry, Event, ReferenceAdopted
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need

HEARS: Final[frozenset[type[Event]]] = frozenset({ReferenceAdopted})


def needs(_: Entry) -> Iterator[Need]:
    """Nothing: a version replaces the one before it."""
    return iter(())


def changes(entry: Entry, _: Known) -> Iterator[Put]:
    """The row of what was adopted, where the views read that kind."""
    event = entry.event
    if not isinstance(event, ReferenceAdopted):
        return
    if event.organisation is not None:
        yield Put(
            "organisations",
            {
                "region": entry.meta.region,
                "organisation": event.organisation.organisation,
                "version": event.version,
                "name": event.organisation.name,
                "kind": event.organisation.kind,
            },
        )
    elif event.agreement is not None:
        yield Put(
            "agreements",
            {
                "region": entry.meta.region,
                "agreement": event.agreement.agreement,
                "version": event.version,
                "recipient": event.agreement.recipient,
                "content": event.agreement.model_dump(mode="json"),
            },
        )
