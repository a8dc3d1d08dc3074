"""What each region decides by, every version of it with its content, and the services that are published in it: for every party to read.

Agreements are shown to nobody here: they say what two parties may see of persons.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from referral_bus.contracts.ledger import Entry, Event, ReferenceAdopted, RulesActivated, ServicePublished
from referral_bus.contracts.message import Part
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need

ShownKind = Literal[
    "organisation", "protocol", "policy", "rules", "calendar", "taxonomy", "crosswalk", "service"
]
HEARS: Final[frozenset[type[Event]]] = frozenset({ReferenceAdopted, RulesActivated, ServicePublished})
_ONLY_VERSION: Final = 1
"""Of a service the last publication counts, and those before are on the ledger alone."""


def needs(_: Entry) -> Iterator[Need]:
    """Nothing: a version stands beside those before it, and a service replaces what it was."""
    return iter(())


def changes(entry: Entry, _: Known) -> Iterator[Put]:
    """The row of what was adopted or published."""
    event = entry.event
    match event:
        case ReferenceAdopted():
            content = (
                event.organisation
                or event.protocol
                or event.policy
                or event.calendar
                or event.taxonomy
                or event.crosswalk
            )
            if content is not None:
                yield _row(entry, event.kind, event.reference, event.version, content)
        case RulesActivated():
            yield _row(entry, "rules", "matching", event.version, event)
        case ServicePublished():
            yield _row(entry, "service", event.definition.service, _ONLY_VERSION, event.definition)


def _row(entry: Entry, kind: str, name: str, version: int, content: Part) -> Put:
    return Put(
        "adopted",
        {
            "region": entry.meta.region,
            "kind": kind,
            "name": name,
            "version": version,
            "at": entry.meta.now,
            "content": content.model_dump(mode="json"),
        },
    )
