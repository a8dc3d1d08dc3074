"""The life of a task: FHIR's Task.status, and from which to which it may go.

The transitions are those of the SDOH Clinical Care guide's state machine for referral tasks. A task begins as ``requested`` (FHIR's draft
is optional, and the bus has none). Finer state is the business status, which may change without the status.
"""

from __future__ import annotations

from typing import Final, Literal

from referral_bus.contracts.vocabulary import TaskStatus

Setter = Literal["agency", "provider"]
"""Who may bring a transition about. FHIR calls the agency the requester and the provider the referral target."""

_BOTH: Final[frozenset[Setter]] = frozenset({"agency", "provider"})
_PROVIDER: Final[frozenset[Setter]] = frozenset({"provider"})

TRANSITIONS: Final[dict[tuple[TaskStatus, TaskStatus], frozenset[Setter]]] = {
    ("requested", "accepted"): _PROVIDER,
    ("requested", "rejected"): _PROVIDER,
    ("requested", "cancelled"): _BOTH,
    ("accepted", "in-progress"): _PROVIDER,
    ("accepted", "on-hold"): _PROVIDER,
    ("accepted", "completed"): _PROVIDER,
    ("accepted", "failed"): _PROVIDER,
    ("accepted", "cancelled"): _BOTH,
    ("in-progress", "completed"): _PROVIDER,
    ("in-progress", "failed"): _PROVIDER,
    ("in-progress", "cancelled"): _BOTH,
    ("in-progress", "on-hold"): _PROVIDER,
    ("on-hold", "in-progress"): _PROVIDER,
    ("on-hold", "completed"): _PROVIDER,
    ("on-hold", "failed"): _PROVIDER,
    ("on-hold", "cancelled"): _BOTH,
}
"""Besides these any task may be declared ``entered-in-error`` by the agency."""


def may_go(former: TaskStatus, later: TaskStatus) -> bool:
    """Whether a task may go from one status to the other."""
    return later == "entered-in-error" or (former, later) in TRANSITIONS
