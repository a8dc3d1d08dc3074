"""What a region remembers of its ledger: as much as the next decision reads, and no more. Changed by :mod:`fold` alone."""

from __future__ import annotations

import hashlib
from bisect import insort
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Final, Literal, NamedTuple

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.ids import referral_of, region_of
from referral_bus.contracts.ledger import GENESIS_HASH, Admitted
from referral_bus.contracts.reference import Organisation, Policy, Protocol
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import (
    URGENCIES,
    DueKind,
    StepName,
    Urgency,
)
from services.matching.core.calendar import BusinessTime, prepare
from services.matching.core.judging.catalogue import Catalogue
from services.matching.core.judging.places import Places, Reliability
from services.matching.core.judging.vocabularies import Vocabularies
from services.matching.core.referral import DAY_MS, Closed, Referral
from services.matching.core.rules import FIRST

HORIZON_MS: Final = 90 * DAY_MS
"""How long repeats are recognised: 90 days."""
CLOSED_MS: Final = 120 * DAY_MS
"""How long closed referrals are remembered: past their last follow-up."""
COUNT_MS: Final = DAY_MS
"""How old a count of places may be when it arrives: what was accepted and freed since is remembered for so long."""
GATHERED: Final[Urgency] = "routine"
"""How urgent a referral is that may wait for a window, to be decided with others."""


@dataclass(slots=True)
class Unit:
    """Places of one kind. ``taken`` by accepted referrals or as the provider counted, ``held`` by open offers; ``counted_at`` is when
    the provider last counted (epoch milliseconds); ``overbook`` is how many more than there are it explicitly lets be promised."""

    unit: str
    service: str
    total: int
    taken: int
    held: int
    counted_at: int
    overbook: int = 0
    moved: tuple[tuple[int, int], ...] = ()
    """When places were taken (+1) or became free (-1) since, for as long as a count may be under way."""
    doubted: int = 0
    """How many of the places its provider said it does not have, whatever it counted."""
    doubted_at: int = 0
    """When it last said so."""
    doubted_until: int = 0

    @property
    def used(self) -> int:
        """Places that nobody can be offered: taken, held or in doubt."""
        return self.taken + self.held + self.doubted

    @property
    def free(self) -> int:
        return self.total + self.overbook - self.used


@dataclass(slots=True)
class Parked:
    """A submission that waits for what it refers to."""

    admitted: Admitted
    waiting_for: str
    until: int


class Lent(NamedTuple):
    """A place of this region for a task of another: held until ``until`` (epoch milliseconds), or taken."""

    unit: str
    until: int
    taken: bool = False


class Answered(NamedTuple):
    """A submission that was answered: what of it recognises a repeat, where the answer stands, and when it was admitted (or sent, if
    the sender says that it was later)."""

    digest: bytes
    sequence: int
    at: int


class Due(NamedTuple):
    """Something that falls due. ``about`` is a referral, ``number`` its attempt (a sequence where a submission is parked, days where a
    follow-up is due, 0 where the referral itself rests or goes unaccepted); of a reminder or a step also which one, after what share of its
    time, and when all of it is over. Where a place is lent, ``about`` is the other region's task; where places are doubted, it is their
    unit.

    What is not due any more never is again: whoever looks for what is due lets go of it, and may look at any time. What begins anew falls
    due by a time of its own.
    """

    at: int
    kind: DueKind
    about: str
    number: int = 0
    step: StepName | Literal[""] = ""
    percent: int = 0
    end: int = 0
    turn: int = 0
    """Of an offer's reminder: which turn it is of (see :attr:`Task.turn`)."""
    put_off: int = 0
    """By how much it falls due later than it should have, since matching failed on it."""

    @property
    def should_have(self) -> int:
        """When it should have fallen due."""
        return self.at - self.put_off


class Call(NamedTuple):
    """A referral whose turn it is, and the service that has a place for it, if that is why."""

    referral: str
    service: str | None


@dataclass(slots=True)
class Region:
    """The state of one region. Times are epoch milliseconds, UTC."""

    region: str
    now: int = 0
    sequence: int = 0
    last_hash: bytes = GENESIS_HASH
    """The hash of the region's last event. Lots are drawn from it, since nobody knows it before that event is written."""
    decided_through: int = -1
    rules: int = FIRST
    organisations: dict[str, Organisation] = field(default_factory=dict)
    protocols: dict[str, Protocol] = field(default_factory=dict)
    """The version in force of each, the one adopted last being last."""
    calendars: dict[str, Calendar] = field(default_factory=dict)
    hours: dict[str, BusinessTime] = field(default_factory=dict)
    """The calendars, ready to count by."""
    policy: Policy | None = None
    versions: dict[tuple[str, str], int] = field(default_factory=dict)
    """The adopted version of each piece of reference data, by kind and id."""
    catalogue: Catalogue = field(default_factory=Catalogue)
    units: dict[str, Unit] = field(default_factory=dict)
    lent: dict[str, Lent] = field(default_factory=dict)
    """Places held or taken for tasks of other regions, by task."""
    promised: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many places of a unit are held for another region, by both."""
    short: dict[str, frozenset[str]] = field(default_factory=dict)
    """By unit: the other regions that were last told that no place is free. They are told when one is."""
    vocabularies: Vocabularies = field(default_factory=Vocabularies)
    """How codes of one vocabulary stand for those of another."""
    reliability: dict[str, Reliability] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    """How full all services are, as last looked at."""
    referrals: dict[str, Referral] = field(default_factory=dict)
    closed: dict[str, Closed] = field(default_factory=dict)
    """Referrals that were closed not so long ago that they are forgotten."""
    erased: set[str] = field(default_factory=set)
    """Subjects whose keys are destroyed."""
    parked: dict[int, Parked] = field(default_factory=dict)
    parked_of: dict[str, int] = field(default_factory=dict)
    """How many of them are whose."""
    waiting: dict[str, list[int]] = field(default_factory=dict)
    """Parked submissions by what they wait for."""
    ready: deque[int] = field(default_factory=deque)
    """Parked submissions whose wait is over because what they waited for has come."""
    waitlist: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    """Who waits for a place at a service, first in line first: by urgency, then by how long ago the referral was opened, or the one it is a
    part of."""
    passed_over: dict[str, frozenset[str]] = field(default_factory=dict)
    """Of those, by service, who was refused the place that is there for want of one, or not answered about it: the others are called for
    it, and they again once a place comes free or the provider counts."""
    window: list[str] = field(default_factory=list)
    """Referrals that are decided together when their window closes."""
    window_ends: int = 0
    """When that is."""
    assigned: dict[str, str] = field(default_factory=dict)
    """The service each referral of a closed window is to be offered to, until it is called."""
    split_off: deque[str] = field(default_factory=deque)
    """Parts of a split referral, and referrals of a closed window, that were not matched yet: those of a window that have a service first,
    so that nobody else gets it."""
    freed: deque[str] = field(default_factory=deque)
    """Services at which a place has come free, by the decision that was made last, that somebody may wait for."""
    answered: dict[bytes, Answered] = field(default_factory=dict)
    due: list[Due] = field(default_factory=list)
    """A heap of what falls due; some of it was settled meanwhile."""

    def keep(self, calendar: Calendar) -> None:
        """Count by this version of a calendar from now on."""
        self.calendars[calendar.calendar] = calendar
        self.hours[calendar.calendar] = prepare(calendar)

    def look_at_places(self) -> None:
        """Bring :attr:`places` up to date."""
        self.places.refresh(self.catalogue, self.units, self.reliability)

    def park(self, sequence: int, waits: Parked) -> None:
        """Let a submission wait for what it refers to."""
        source = waits.admitted.source
        self.parked[sequence] = waits
        self.parked_of[source] = self.parked_of.get(source, 0) + 1
        self.waiting.setdefault(waits.waiting_for, []).append(sequence)

    def unpark(self, sequence: int) -> None:
        """It waits no longer."""
        waits = self.parked.pop(sequence, None)
        if waits is None:
            return
        source = waits.admitted.source
        self.parked_of[source] -= 1
        if not self.parked_of[source]:
            del self.parked_of[source]
        others = self.waiting[waits.waiting_for]
        others.remove(sequence)
        if not others:
            del self.waiting[waits.waiting_for]

    def first_answer(self, admitted: Admitted, now: int) -> Answered | None:
        """How a submission of the same source and id was answered, if that is within the horizon."""
        known = self.answered.get(answer_key(admitted.source, admitted.id))
        return known if known is not None and known.at >= now - HORIZON_MS else None

    def was_closed(self, referral: str, now: int) -> Closed | None:
        """The referral, if it was closed so recently that it is remembered."""
        closed = self.closed.get(referral)
        return closed if closed is not None and closed.at >= now - CLOSED_MS else None

    def protocol_for(self, urgency: Urgency, named: str | None) -> Protocol | None:
        """The protocol that is named, or the one usual for the urgency."""
        if named is not None:
            return self.protocols.get(named)
        return next((one for one in reversed(self.protocols.values()) if urgency in one.usual_for), None)

    def forget_old(self) -> None:
        """Let go of what is beyond the horizon. It changes no decision: those look at the horizon themselves."""
        oldest = self.now - CLOSED_MS
        if any(one.at < oldest for one in self.closed.values()):
            asked = {due.about for due in self.due if due.kind == "follow_up" and self._still_due(due)}
            self.closed = {
                name: one for name, one in self.closed.items() if one.at >= oldest or name in asked
            }
        oldest = self.now - HORIZON_MS
        if any(one.at < oldest for one in self.answered.values()):
            self.answered = {key: one for key, one in self.answered.items() if one.at >= oldest}

    def expects(self, due: Due) -> None:
        """Remember what falls due."""
        heappush(self.due, due)

    def settle(self, kind: DueKind, about: str) -> Due:
        """What was due first was seen to. Raises ValueError where something else is due first."""
        due = self.next_due()
        if due is None or (due.kind, due.about) != (kind, about):
            raise ValueError(f"{about} has no {kind} that is due first")
        # The same may be there more than once: what was interrupted and began anew can end at the same moment.
        while self.due and self.due[0] == due:
            heappop(self.due)
        return due

    def next_due(self) -> Due | None:
        """What falls due first. What was settled meanwhile is forgotten on the way."""
        while self.due:
            due = self.due[0]
            if self._still_due(due):
                return due
            heappop(self.due)
        return None

    def first_due(self, now: int, most: int) -> list[Due]:
        """What is due by now, the first so many, in order."""
        found: list[Due] = []
        # A heap's least is its root, and whatever follows is a child of what was found before: nothing else is looked at.
        ahead = [(self.due[0], 0)] if self.due else []
        while ahead and len(found) < most:
            due, at = heappop(ahead)
            if due.at > now:
                break
            if self._still_due(due):
                found.append(due)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(self.due):
                    heappush(ahead, (self.due[child], child))
        return found

    def _still_due(self, due: Due) -> bool:
        if due.kind == "window":
            return bool(self.window) and self.window_ends == due.should_have
        if due.kind == "parked":
            parked = self.parked.get(due.number)
            return parked is not None and parked.until == due.should_have
        if due.kind == "follow_up":
            # However late it is: a region that slept for months asks then.
            closed = self.closed.get(due.about)
            return closed is not None and closed.follow_up_at(due.number) == due.should_have
        if due.kind == "lent":
            lent = self.lent.get(due.about)
            return lent is not None and not lent.taken and lent.until == due.should_have
        if due.kind == "doubt":
            unit = self.units[due.about]
            return unit.doubted > 0 and unit.doubted_until == due.should_have
        known = self.referrals.get(due.about)
        if known is None:
            return False
        match due.kind:
            case "hold" if not due.number:
                return known.on_hold and known.held_until == due.should_have
            case "review":
                return known.waits_for is not None and known.review_at == due.should_have
            case "limit":
                return known.limit == due.should_have
            case "remind" if not due.number:
                return known.limit == due.end
        if not known.before < due.number <= known.before + len(known.tasks):
            return False
        task = known.attempt(due.number)
        if due.kind == "hold":
            return task.status == "on-hold" and task.held_until == due.should_have
        if due.kind == "reserve":
            return task.is_open and task.waits_for_region and task.answer_by == due.should_have
        if task.waits_for_region:
            return False
        match due.step:
            case "acknowledge":
                return task.is_open and task.business == "offered"
            case "handoff":
                waiting = task.is_taken and task.status != "on-hold" and bool(known.unconfirmed(due.number))
                return waiting and task.handoff_ends == due.end
            case "start" | "outcome":
                serving = (
                    task.is_taken and task.status != "on-hold" and known.started == (due.step == "outcome")
                )
                return serving and task.step_ends == due.end
        return task.is_open and (due.turn == task.turn if due.kind == "remind" else not task.overdue)

    def next_call(self) -> Call | None:
        """Whose turn it is to be matched without anybody having said anything: a part that was split off, or the first in line for a
        place that has come free."""
        if self.split_off:
            name = self.split_off[0]
            return Call(name, self.assigned.get(name))
        for service in self.freed:
            if not self._has_place(service):
                continue
            passed_over = self.passed_over.get(service, frozenset())
            for _, _, name in self.waitlist.get(service, ()):
                if name not in passed_over:
                    return Call(name, service)
        return None

    def _has_place(self, service: str) -> bool:
        definition = self.catalogue.definitions.get(service)
        if definition is None or not definition.active:
            return False
        return any(self.units[unit.unit].free > 0 for unit in definition.units)

    def as_here(self, definition: ServiceDefinition) -> ServiceDefinition:
        """Another region's service as it is for this region's referrals: active only where it takes them."""
        return definition.model_copy(
            update={"active": definition.active and self.region in definition.regions}
        )

    def tried(self, known: Referral) -> frozenset[str]:
        """The services a referral is not to be offered to in this round; none of a region that did not answer in it."""
        silent = {
            region_of(task.service)
            for task in known.tasks[known.round_from :]
            if task.business == "no-answer"
        }
        if not silent:
            return known.tried
        return known.tried.union(
            service for service in self.catalogue.definitions if region_of(service) in silent
        )

    def room(self, unit: Unit, borrower: str) -> int:
        """How many places of a unit another region may hold at once: those free, and those held for it."""
        return max(0, unit.free + self.promised.get((unit.unit, borrower), 0))

    def waiters(self) -> list[tuple[str, Referral]]:
        """Who waits for a place, anywhere or nowhere yet, the first in line first."""
        waiting = [(name, known) for name, known in self.referrals.items() if known.waits_for is not None]
        return sorted(waiting, key=lambda one: _in_line(*one))

    def lines_up(self, name: str, referral: Referral, services: tuple[str, ...]) -> None:
        """The referral waits for a place at any of these services."""
        referral.waits_for = services
        for service in services:
            insort(self.waitlist.setdefault(service, []), _in_line(name, referral))

    def passes_over(self, name: str, referral: Referral) -> None:
        """The referral is not called for the places that it was refused, or not answered about, in this round."""
        for service in referral.lacking:
            if service in (referral.waits_for or ()):
                self.passed_over[service] = self.passed_over.get(service, frozenset()) | {name}

    def leaves_line(self, name: str, referral: Referral) -> None:
        """The referral waits no longer."""
        for service in referral.waits_for or ():
            line = self.waitlist[service]
            line.remove(_in_line(name, referral))
            if not line:
                del self.waitlist[service]
            others = self.passed_over.pop(service, frozenset()) - {name}
            if others:
                self.passed_over[service] = others
        referral.waits_for = None

    def task(self, task: str) -> tuple[str, Referral, int] | None:
        """Referral and attempt of a task id; None where the referral is closed or there is no such task."""
        referral = referral_of(task)
        known = self.referrals.get(referral)
        if known is None:
            return None
        number = _attempt_of(task)
        there = known.before < number <= known.before + len(known.tasks)
        return (referral, known, number) if there else None

    def is_over(self, task: str, now: int) -> bool:
        """Whether the task was one of a referral that is closed, or was since reopened."""
        referral = referral_of(task)
        known = self.referrals.get(referral)
        if known is None:
            return self.was_closed(referral, now) is not None
        return _attempt_of(task) <= known.before


def _attempt_of(task: str) -> int:
    return int(task.rpartition("-")[2])


def _in_line(name: str, referral: Referral) -> tuple[int, int, str]:
    return URGENCIES.index(referral.urgency), referral.in_line_since, name


def answer_key(source: str, id: str) -> bytes:
    """What a submission is recognised by, in 16 bytes. A source holds no NUL, so no two pairs collide by joining."""
    return hashlib.blake2b(f"{source}\0{id}".encode(), digest_size=16).digest()
