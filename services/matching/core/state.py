"""What a region remembers of its ledger: as much as the next decision reads, and no more. Changed by :mod:`fold` alone."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, Literal, NamedTuple

from referral_bus.contracts.ids import referral_of
from referral_bus.contracts.ledger import Admitted
from referral_bus.contracts.reference import Policy, Protocol
from referral_bus.contracts.vocabulary import Urgency
from services.matching.core.catalogue import Catalogue
from services.matching.core.rules import FIRST

HORIZON_MS: Final = 90 * 24 * 3_600_000
"""How long repeats and closed referrals are recognised: 90 days."""

TaskState = Literal["open", "accepted", "declined", "expired", "withdrawn"]


@dataclass(slots=True)
class Unit:
    """Places of one kind. ``taken`` by accepted referrals or as the provider counted, ``held`` by open offers; ``counted_at`` is when
    the provider last counted (epoch milliseconds)."""

    unit: str
    service: str
    total: int
    taken: int
    held: int
    counted_at: int

    @property
    def free(self) -> int:
        return self.total - self.taken - self.held


class Task(NamedTuple):
    """One attempt to have a referral fulfilled by one service."""

    service: str
    unit: str
    provider: str
    expires_at: int
    state: TaskState


@dataclass(slots=True)
class Referral:
    """A referral that is not closed. ``tasks`` in the order of their attempts, the last one being the one that counts; the sealed facts go
    once no further match can be needed."""

    agency: str
    subject: str
    urgency: Urgency
    protocol: Protocol
    sealed_facts: bytes | None
    tasks: tuple[Task, ...] = ()
    started: bool = False

    @property
    def offer(self) -> Task | None:
        """The open offer."""
        return self.tasks[-1] if self.tasks and self.tasks[-1].state == "open" else None

    @property
    def acceptance(self) -> Task | None:
        """The accepted task."""
        return self.tasks[-1] if self.tasks and self.tasks[-1].state == "accepted" else None


@dataclass(slots=True)
class Parked:
    """A submission that waits for what it refers to."""

    admitted: Admitted
    waiting_for: str
    until: int


class Answered(NamedTuple):
    """A submission that was answered: what of it recognises a repeat, where the answer stands, and when it was admitted (or sent, if
    the sender says that it was later)."""

    digest: bytes
    sequence: int
    at: int


class DueOffer(NamedTuple):
    """An open offer whose time is over."""

    at: int
    referral: str


class DueParked(NamedTuple):
    """A parked submission that has waited long enough."""

    at: int
    sequence: int


@dataclass(slots=True)
class Region:
    """The state of one region. Times are epoch milliseconds, UTC."""

    region: str
    now: int = 0
    sequence: int = 0
    decided_through: int = -1
    rules: int = FIRST
    organisations: set[str] = field(default_factory=set)
    protocol: Protocol | None = None
    policy: Policy | None = None
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    """The adopted version of each piece of reference data, by kind and id."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    units: dict[str, Unit] = field(default_factory=dict)
    referrals: dict[str, Referral] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    """When each referral was closed, for those that were within the horizon."""
    erased: set[str] = field(default_factory=set)
    """Subjects whose keys are destroyed."""
    parked: dict[int, Parked] = field(default_factory=dict)
    waiting: dict[str, list[int]] = field(default_factory=dict)
    """Parked submissions by what they wait for."""
    ready: deque[int] = field(default_factory=deque)
    """Parked submissions whose wait is over because what they waited for has come."""
    answered: dict[bytes, Answered] = field(default_factory=dict)
    _due: list[tuple[int, int, str]] = field(default_factory=list)

    def first_answer(self, admitted: Admitted, now: int) -> Answered | None:
        """How a submission of the same source and id was answered, if that is within the horizon."""
        known = self.answered.get(answer_key(admitted.source, admitted.id))
        return known if known is not None and known.at >= now - HORIZON_MS else None

    def was_closed(self, referral: str, now: int) -> bool:
        """Whether the referral was closed within the horizon."""
        closed_at = self.closed.get(referral)
        return closed_at is not None and closed_at >= now - HORIZON_MS

    def forget_old(self) -> None:
        """Let go of what is beyond the horizon. It changes no decision: those look at the horizon themselves."""
        oldest = self.now - HORIZON_MS
        if any(at < oldest for at in self.closed.values()):
            self.closed = {name: at for name, at in self.closed.items() if at >= oldest}
        if any(one.at < oldest for one in self.answered.values()):
            self.answered = {key: one for key, one in self.answered.items() if one.at >= oldest}

    def expects(self, at: int, what: str | int) -> None:
        """Remember that an offer (by its referral) or a parked submission (by its sequence) falls due."""
        heappush(self._due, (at, what, "") if isinstance(what, int) else (at, 0, what))

    def next_due(self) -> DueOffer | DueParked | None:
        """What falls due first. What was settled meanwhile is forgotten on the way."""
        while self._due:
            at, sequence, referral = self._due[0]
            if sequence:
                parked = self.parked.get(sequence)
                if parked is not None and parked.until == at:
                    return DueParked(at, sequence)
            else:
                known = self.referrals.get(referral)
                offer = None if known is None else known.offer
                if offer is not None and offer.expires_at == at:
                    return DueOffer(at, referral)
            heappop(self._due)
        return None

    def task(self, task: str) -> tuple[str, Referral, Task] | None:
        """Referral and task of a task id; None where the referral is closed or there is no such task."""
        referral = referral_of(task)
        known = self.referrals.get(referral)
        if known is None:
            return None
        attempt = int(task.rpartition("-")[2])
        return (referral, known, known.tasks[attempt - 1]) if attempt <= len(known.tasks) else None


def answer_key(source: str, id: str) -> bytes:
    """What a submission is recognised by, in 16 bytes. A source holds no NUL, so no two pairs collide by joining."""
    return hashlib.blake2b(f"{source}\0{id}".encode(), digest_size=16).digest()
