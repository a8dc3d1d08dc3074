"""A stretch as it was beside the same stretch as it would have been, referral by referral and in groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Literal, NamedTuple

from referral_bus.contracts.ledger import Entry, OfferAccepted, OfferMade, ReferralOpened, ReferralSplit

FEW: Final = 5
"""Groups of fewer people are told together, and the median of fewer waits is not told: it could be somebody's."""

By = Literal["urgency", "language", "area", "provider", "service"]
"""What referrals are grouped by. Of a provider or a service the group are those it accepted in one of the two lives."""
BYS: Final[tuple[By, ...]] = ("urgency", "language", "area", "provider", "service")
TOGETHER: Final = "all smaller groups together"
NOT_SAID: Final = "not said"


@dataclass(slots=True)
class Person:
    """What a referral is counted under, and whose it is: one person may have several, as the parts of one that was split."""

    subject: str
    urgency: str
    language: str = NOT_SAID
    area: str = NOT_SAID


class Acceptance(NamedTuple):
    """Who took a referral first, and when (epoch milliseconds, UTC)."""

    at: int
    provider: str
    service: str
    task: str


@dataclass(slots=True)
class Course:
    """What became of the referrals of a stretch: when each was opened, and when and where it was accepted. One that was split is its
    parts from then on."""

    opened: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, Acceptance] = field(default_factory=dict)
    offers: Counter[str] = field(default_factory=Counter)
    split: dict[str, list[str]] = field(default_factory=dict)
    """The parts of each that was split."""
    _asked: dict[str, str] = field(default_factory=dict)
    """The service of each task."""

    def take(self, entries: Iterable[Entry], people: Iterable[str]) -> None:
        """What happened next. Only the referrals of ``people`` are followed."""
        for entry in entries:
            event, now = entry.event, entry.meta.now
            match event:
                case ReferralOpened() if event.referral in people:
                    self.opened.setdefault(event.referral, now)
                case ReferralSplit():
                    self.split[event.referral] = event.parts
                    self.leave_out([event.referral])
                case OfferMade():
                    self.offers[event.service] += 1
                    self._asked[event.task] = event.service
                case OfferAccepted() if event.referral in self.opened:
                    acceptance = Acceptance(now, event.provider, self._asked[event.task], event.task)
                    self.accepted.setdefault(event.referral, acceptance)

    def waits(self, names: Iterable[str]) -> list[int]:
        """From opening to acceptance, in milliseconds, of those of these referrals that were accepted."""
        return [self.accepted[name].at - self.opened[name] for name in names if name in self.accepted]

    def leave_out(self, names: Iterable[str]) -> None:
        """These are not compared."""
        for name in names:
            self.opened.pop(name, None)
            self.accepted.pop(name, None)


class Group(NamedTuple):
    """Referrals that have something in common: how many, how many were and would have been accepted, and after how long (the median, in
    milliseconds; None where it is that of few)."""

    name: str
    referrals: int
    was: int
    would: int
    was_wait_ms: int | None
    would_wait_ms: int | None


@dataclass(slots=True)
class Comparison:
    """A stretch as it was, and as it would have been."""

    was: Course = field(default_factory=Course)
    would: Course = field(default_factory=Course)
    people: dict[str, Person] = field(default_factory=dict)
    """By referral: those that are compared."""
    erased: int = 0
    """Referrals whose facts can't be opened any more: they can't be matched again, and are left out of both lives."""
    split_once: int = 0
    """Referrals that were split in one of the lives alone: there is nothing in the other to compare their parts with."""
    taken_by_assumption: set[str] = field(default_factory=set)
    """Referrals that would have been accepted first by an answer that is assumed."""
    assumed: int = 0
    """Answers that had to be assumed, of services and regions that were never asked, or could not come to answer."""

    @property
    def elsewhere(self) -> int:
        """How many would have been accepted by another provider than they were."""
        was, would = self.was.accepted, self.would.accepted
        return sum(was[name].provider != would[name].provider for name in was.keys() & would.keys())

    @property
    def gained(self) -> set[str]:
        """Those that would have been accepted, and were not."""
        return self.would.accepted.keys() - self.was.accepted.keys()

    @property
    def gained_by_assumption(self) -> int:
        """How many of these rest on an answer that is assumed."""
        return len(self.gained & self.taken_by_assumption)

    def leave_out_split_once(self) -> None:
        """Leave what was split in one of the lives alone, and its parts, out of both."""
        once = {**self.was.split, **self.would.split}
        for name in self.was.split.keys() & self.would.split.keys():
            del once[name]
        for name, parts in once.items():
            self.split_once += not self.people.keys().isdisjoint({name, *parts})
            for course in (self.was, self.would):
                course.leave_out([name, *parts])

    def median_wait(self, course: Course) -> int | None:
        """Of all that were accepted in one of the lives, in milliseconds; None where they are few."""
        return self._median(course, course.opened)

    def groups(self, by: By) -> list[Group]:
        """The referrals by what they have in common. Small groups are told as one, or not at all; where what is left untold would be
        few, and could be had by subtracting, the smallest of the others goes with it."""
        members: dict[str, set[str]] = defaultdict(set)
        for name in self.was.opened:
            for course in (self.was, self.would):
                if (value := self._value(course, name, by)) is not None:
                    members[value].add(name)
        large = sorted(members, key=lambda value: (-len(members[value]), value))
        small: set[str] = set()
        rest: set[str] = set()
        while large and (self._persons(members[large[-1]]) < FEW or 0 < self._persons(rest) < FEW):
            small.add(large.pop())
            rest = {name for value in small for name in members[value]}
        shown = [self._group(value, members[value], {value}, by) for value in sorted(large)]
        if self._persons(rest) >= FEW:
            shown.append(self._group(TOGETHER, rest, small, by))
        return shown

    def _value(self, course: Course, name: str, by: By) -> str | None:
        """What a referral is counted under in one of the lives; None where it is not."""
        told_by = course.accepted.get(name) if by in ("provider", "service") else self.people[name]
        value: str | None = getattr(told_by, by, None)
        return value

    def _group(self, called: str, names: set[str], values: set[str], by: By) -> Group:
        was, would = (
            [name for name in names if name in course.accepted and self._value(course, name, by) in values]
            for course in (self.was, self.would)
        )
        waits = self._median(self.was, was), self._median(self.would, would)
        return Group(called, len(names), len(was), len(would), *waits)

    def _median(self, course: Course, names: Iterable[str]) -> int | None:
        accepted = [name for name in names if name in course.accepted]
        return int(median(course.waits(accepted))) if self._persons(accepted) >= FEW else None

    def _persons(self, names: Iterable[str]) -> int:
        """How many people they are of."""
        return len({self.people[name].subject for name in names})
