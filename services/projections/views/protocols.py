"""What a region decides by, as far as views show it: how long a protocol's steps may take, by what a policy ranks,
and how it trusts a count by its age."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from referral_bus.contracts.ledger import Entry, Event, ReferenceAdopted
from referral_bus.contracts.reference import Protocol
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need

HEARS: Final[frozenset[type[Event]]] = frozenset({ReferenceAdopted})


def needs(_: Entry) -> Iterator[Need]:
    """Nothing: a version stands beside those before it."""
    return iter(())


def changes(entry: Entry, _: Known) -> Iterator[Put]:
    """The row of what was adopted, where the views read that kind."""
    event, region = entry.event, entry.meta.region
    if not isinstance(event, ReferenceAdopted):
        return
    if event.protocol is not None:
        yield Put(
            "protocols",
            {
                "region": region,
                "protocol": event.protocol.protocol,
                "version": event.protocol.version,
                "limits": _limits(event.protocol),
            },
        )
    elif event.policy is not None:
        yield Put(
            "policies",
            {
                "region": region,
                "policy": event.policy.policy,
                "version": event.policy.version,
                "sequence": entry.meta.sequence,
                "rank_by": event.policy.rank_by,
                "trust": [[step.hours, step.thousandths] for step in event.policy.trust],
            },
        )


def _limits(protocol: Protocol) -> dict[str, Any]:
    """How long each step may take, by urgency, in milliseconds; None where that is counted in business time, which is not known here:
    when it is over is told by the first reminder or the escalation."""
    return {
        step.step: None if protocol.business_time else step.limits.model_dump() for step in protocol.steps
    }
