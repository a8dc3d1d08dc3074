"""A referral and its tasks, as a region remembers them: while it is open, and for a time after it is closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from referral_bus.contracts.ledger import ReferralAmended, ReferralOpened
from referral_bus.contracts.reference import Protocol
from referral_bus.contracts.vocabulary import (
    DECLINES,
    OF_THE_NEED,
    SERVING,
    UNKEPT,
    BusinessStatus,
    DeclineReason,
    Mode,
    OutcomeResult,
    Purpose,
    ReportKind,
    TaskStatus,
    Urgency,
)

DAY_MS: Final = 24 * 3_600_000
_OPEN: Final[frozenset[TaskStatus]] = frozenset({"requested"})
_NOT_OFFERED: Final[frozenset[BusinessStatus]] = frozenset({"reserving", "no-place", "no-answer"})
_NO_SAY: Final[frozenset[BusinessStatus]] = frozenset({"no-place", "no-answer", "withdrawn"})
_TAKEN: Final[frozenset[TaskStatus]] = frozenset({"accepted", "in-progress", "on-hold"})


class Task(NamedTuple):
    """One attempt to have a referral fulfilled by one service. ``status`` is FHIR's Task.status; ``expires_at`` the time until which an
    offer waits for its answer; ``overdue`` that this was escalated instead of ending the offer."""

    service: str
    unit: str
    provider: str
    expires_at: int
    status: TaskStatus = "requested"
    business: BusinessStatus = "offered"
    overdue: bool = False
    transfer: bool = False
    """Proposed by the provider that has accepted, which keeps the person until this one is accepted."""
    held_until: int | None = None
    """Until when the accepted service rests."""
    step_ends: int = 0
    """When the step that comes next, the start or the outcome, is overdue; 0 where the protocol sets no time."""
    handoff_ends: int = 0
    """When the handoff is overdue; 0 where the protocol has none."""
    answer_by: int = 0
    """Until when the service's own region may answer, where it is another and is asked for something."""
    starts_at: int | None = None
    """From when on the provider takes the person, as it said when it accepted."""
    again: bool = False
    """It had no place, or did not answer, and has a place since."""
    stood: BusinessStatus = "accepted"
    """How far the accepted service has come, which is where it goes on if it rests."""
    parked_until: int | None = None
    """The date until which the provider declined, or gave the person back."""
    questions: int = 0
    """How many of the provider's questions about the offer its agency has not answered."""
    not_ready: bool = False
    """That date is the person's: nobody else could take them before either."""
    offered_at: int = 0
    """Since when its provider has had the offer."""
    turn: int = 0
    """How often the offer has come to wait for its agency, or for its provider again, where the two keep other hours."""
    lacked: bool = False
    """Its provider had no place, or did not answer: who is on the waiting list goes on waiting for one."""

    @property
    def is_open(self) -> bool:
        """Whether the offer waits for its answer, and holds a place."""
        return self.status in _OPEN

    @property
    def waits_for_region(self) -> bool:
        """Whether another region must answer first: for a place to be held, or to be taken."""
        return self.business in ("reserving", "accepting")

    @property
    def is_taken(self) -> bool:
        """Whether the person was accepted and the service is not over: a place is taken."""
        return self.status in _TAKEN

    def further(self, business: BusinessStatus) -> Task:
        """The accepted task once this is reported of it. Reports come late and out of order, so one of what came before changes nothing;
        and what rests goes on resting."""
        stood = max(self.stood, business, key=SERVING.index)
        return self._replace(stood=stood, business=self.business if self.status == "on-hold" else stood)

    def refused(self, reason: DeclineReason, until: int | None) -> Task:
        """The task once its provider declined it or gave the person back: what that means for later."""
        not_ready = DECLINES[reason].then == "park"
        return self._replace(parked_until=until, not_ready=not_ready, lacked=reason in UNKEPT)

    def expired(self) -> Task:
        """The task once nobody answered it in time; where the provider had asked something it was the agency that did not answer."""
        return self._replace(status="cancelled", business="expired", lacked=self.business != "screening")


class Started(NamedTuple):
    """When a service began, as the event at ``sequence`` says."""

    sequence: int
    at: int


class Report(NamedTuple):
    """A no-show, a contact or a handoff that was reported by the event at ``sequence``, and was not taken back."""

    sequence: int
    what: ReportKind
    by: str
    at: int
    channel: str = ""


class Served(NamedTuple):
    """An attempt that was accepted and is over, of which something may still be said: late, or as a correction."""

    attempt: int
    provider: str
    opened_at: int
    """When its referral was opened, or reopened, before it."""
    outcome_at: int | None
    """The sequence of the outcome that counts; None where the person was given back, or another service took them over."""
    start: Started | None
    confirmed: frozenset[str]
    """The parties that confirmed the warm handoff."""
    ended_at: int
    """When the service ended, from which follow-ups count."""
    result: OutcomeResult | None
    reports: tuple[Report, ...] = ()


@dataclass(slots=True)
class Referral:
    """A referral that is not closed. ``tasks`` in the order of their attempts since it was opened or reopened, ``before`` of them having
    been made earlier; ``round_from`` is the first of the current round."""

    agency: str
    subject: str
    urgency: Urgency
    purpose: Purpose
    protocol: Protocol
    sealed_facts: bytes
    mode: Mode = "match"
    target: str | None = None
    """The service its agency named."""
    opened_at: int = 0
    in_line_since: int = 0
    """Since when it has its place in line: when it was opened or reopened, and for a part when the whole was."""
    unaccepted_since: int | None = None
    """Since when it could have been accepted and was not; None while it is accepted, or is said to be in another region that did not answer
    yet, rests at its agency's wish or is split."""
    unaccepted_for: int = 0
    """For how long before that it could have been accepted and was not; for a part also the whole, before it was split."""
    tasks: tuple[Task, ...] = ()
    asked_before: tuple[str, ...] = ()
    """The providers of the attempts that were made before it was reopened (see :attr:`asked`)."""
    round_from: int = 0
    never: Mapping[str, DeclineReason] = field(default_factory=dict)
    """Services it is not to be offered to again, and why."""
    on_hold: bool = False
    held_until: int | None = None
    waits_for: tuple[str, ...] | None = None
    """On the waiting list: the services that would take the person if they had a place."""
    review_at: int = 0
    """When somebody who waits is matched anew, whatever came free."""
    part_of: str | None = None
    parts: frozenset[str] | None = None
    """Of a split referral: the parts that are not closed."""
    results: Mapping[str, OutcomeResult] = field(default_factory=dict)
    """What came of the parts that are closed, by part."""
    withdrawn: bool = False
    """Its agency took it back after the service had begun, which goes on until its provider says what came of it."""
    confirmed: frozenset[str] = frozenset()
    """The parties that confirmed the warm handoff."""
    start: Started | None = None
    """The start that the provider reported which has accepted it."""
    reports: tuple[Report, ...] = ()
    """What else was reported of the service that has accepted it."""
    served: Served | None = None
    """The attempt that is over with an outcome: until its referral ends with it, or of before the referral was reopened."""
    former: tuple[Served, ...] = ()
    """Attempts that are over without one, the last of each provider."""

    @classmethod
    def opened(cls, event: ReferralOpened, protocol: Protocol, now: int) -> Referral:
        """The referral as it is once opened."""
        return cls(
            agency=event.agency,
            subject=event.subject,
            urgency=event.urgency,
            purpose=event.purpose,
            protocol=protocol,
            sealed_facts=event.sealed_facts,
            mode=event.mode,
            target=event.service,
            opened_at=now,
            in_line_since=now,
            unaccepted_since=now,
            part_of=event.part_of,
        )

    def amended(self, event: ReferralAmended) -> Referral:
        """The referral as it is once amended."""
        return replace(
            self,
            urgency=event.urgency or self.urgency,
            sealed_facts=event.sealed_facts or self.sealed_facts,
        )

    @property
    def before(self) -> int:
        """How many attempts were made before it was reopened."""
        return len(self.asked_before)

    @property
    def asked(self) -> tuple[str, ...]:
        """The provider of each attempt there ever was; empty where another region had no place, and so nothing was offered."""
        return (
            *self.asked_before,
            *("" if task.business in _NOT_OFFERED else task.provider for task in self.tasks),
        )

    @property
    def started(self) -> bool:
        """Whether the provider that has accepted it reported the start."""
        return self.start is not None

    @property
    def offers(self) -> list[int]:
        """The attempts whose offers are open."""
        return [number for number, task in enumerate(self.tasks, self.before + 1) if task.status in _OPEN]

    @property
    def acceptance(self) -> int | None:
        """The attempt that was accepted, while its service is not over."""
        for number in range(len(self.tasks), 0, -1):
            if self.tasks[number - 1].status in _TAKEN:
                return self.before + number
        return None

    @property
    def is_claimed(self) -> bool:
        """Whether a provider has accepted it whose place another region must let be taken first."""
        return any(task.business == "accepting" for task in self.tasks)

    @property
    def live(self) -> list[int]:
        """The attempts that hold or take a place."""
        accepted = self.acceptance
        return self.offers if accepted is None else sorted({*self.offers, accepted})

    def attempt(self, number: int) -> Task:
        """The task of an attempt."""
        return self.tasks[number - 1 - self.before]

    @property
    def limit(self) -> int | None:
        """When it has gone without an acceptance for too long; None where that can't happen now."""
        limits = self.protocol.referral_limits
        if limits is None or self.unaccepted_since is None:
            return None
        return self.unaccepted_since + max(0, limits.of(self.urgency) - self.unaccepted_for)

    def limit_reminders(self, now: int) -> list[tuple[int, int]]:
        """When its agency is to be reminded of :attr:`limit`, each with what per cent of the time is over then. Of what is over already,
        the last, at once: the limit is another now than was said before."""
        limits = self.protocol.referral_limits
        if limits is None or self.unaccepted_since is None:
            return []
        whole, begins = limits.of(self.urgency), self.unaccepted_since - self.unaccepted_for
        moments = [(begins + whole * percent // 100, percent) for percent in self.protocol.referral_reminders]
        over = [(now, percent) for at, percent in moments if at <= now]
        return [*over[-1:], *(one for one in moments if one[0] > now)]

    def stands_still(self, now: int) -> None:
        """It can't be accepted from now on, or somebody says that they do, and what is left of its time stays."""
        if self.unaccepted_since is not None:
            self.unaccepted_for += now - self.unaccepted_since
            self.unaccepted_since = None

    def goes_unaccepted(self, now: int) -> bool:
        """Let what is left of its time pass from now on, unless somebody has accepted it or is about to. Whether that is new."""
        if self.unaccepted_since is not None or self.acceptance is not None or self.is_claimed:
            return False
        self.unaccepted_since = now
        return True

    def asked_of(self, number: int) -> str:
        """Who must act for the attempt's offer to be answered: its agency while that was asked something, else its provider."""
        task = self.attempt(number)
        return self.agency if task.business == "screening" else task.provider

    def parties(self, number: int) -> list[str]:
        """Who hand the person over, the agency first: one, where an agency serves its own."""
        return list(dict.fromkeys((self.agency, self.attempt(number).provider)))

    def unconfirmed(self, number: int) -> list[str]:
        """The parties of the attempt's handoff that did not confirm it, the agency first."""
        return [party for party in self.parties(number) if party not in self.confirmed]

    def parked_until(self, now: int) -> int | None:
        """The last date to come until which a service is full that was not asked again since, in whatever round it said so."""
        last = {task.service: task for task in self.tasks}
        return _last_date((task for task in last.values() if not task.not_ready), now)

    def not_ready_until(self, now: int) -> int | None:
        """The last date to come until which the person is not ready, as somebody said in this round."""
        return _last_date((task for task in self.tasks[self.round_from :] if task.not_ready), now)

    @property
    def tried(self) -> frozenset[str]:
        """The services it is not to be offered to in this round."""
        asked = (task.service for task in self.tasks[self.round_from :] if not task.again)
        return frozenset(self.never).union(asked)

    @property
    def lacking(self) -> list[str]:
        """The services that were tried in this round and had no place, or did not answer, so that it may wait for one there."""
        tasks = (task for task in self.tasks[self.round_from :] if not task.again)
        tried = dict.fromkeys(task.service for task in tasks if task.lacked or task.business == "no-place")
        return [one for one in tried if one not in self.never and self.target in (None, one)]

    @property
    def never_a_part(self) -> dict[str, DeclineReason]:
        """The services that a part of it is not to be offered to either."""
        return {service: why for service, why in self.never.items() if why not in OF_THE_NEED}

    @property
    def may_wait(self) -> bool:
        """Whether there is anybody to wait for: not where its agency named the one service that never takes them."""
        return self.target is None or self.target not in self.never

    @property
    def offered(self) -> int:
        """How often it was offered since it was opened or reopened, as far as a provider had the say. A service that had no place after
        all was not asked; and that its agency let it rest, or that the person is not ready yet, is no provider's no."""
        return sum(task.business not in _NO_SAY and not task.not_ready for task in self.tasks)

    def ends_without_outcome(self, number: int, now: int) -> None:
        """The attempt that was accepted is over, and somebody else is to say what comes of the person. What was done is still reported."""
        provider = self.attempt(number).provider
        over = Served(
            attempt=number,
            provider=provider,
            opened_at=self.opened_at,
            outcome_at=None,
            start=self.start,
            confirmed=self.confirmed,
            ended_at=now,
            result=None,
            reports=self.reports,
        )
        self.former = (*(one for one in self.former if one.provider != provider), over)

    def with_task(self, number: int, task: Task) -> Referral:
        """The referral with a task of this attempt instead of its own."""
        return replace(self, tasks=self.tasks_with(number, task))

    def tasks_with(self, number: int, task: Task) -> tuple[Task, ...]:
        """Its tasks, with this one instead of that of the attempt."""
        place = number - 1 - self.before
        return (*self.tasks[:place], task, *self.tasks[place + 1 :])

    def called_by(self, service: str) -> Referral:
        """The referral, to be offered to a service that has a place now, also where it had none, or did not answer, when it was asked."""
        return replace(
            self,
            tasks=tuple(
                task._replace(again=True)
                if task.service == service and (task.lacked or task.business == "no-place")
                else task
                for task in self.tasks
            ),
        )


def _last_date(tasks: Iterable[Task], now: int) -> int | None:
    dates = [task.parked_until for task in tasks if task.parked_until is not None]
    return max((until for until in dates if until > now), default=None)


class Followed(NamedTuple):
    """How it is so many days later, as ``by`` said it by the event at ``sequence``."""

    days: int
    sequence: int
    by: str


class Closed(NamedTuple):
    """What is remembered of a closed referral: enough to reopen it, to follow it up, and to correct what was said of it."""

    at: int
    agency: str
    subject: str
    urgency: Urgency
    purpose: Purpose
    protocol: Protocol
    mode: Mode
    asked: tuple[str, ...]
    """The provider of each attempt (see :attr:`Referral.asked`)."""
    never: Mapping[str, DeclineReason]
    served: Served | None = None
    """The attempt that was last over with an outcome."""
    completed: bool = False
    """The referral ended with that outcome."""
    followed: tuple[Followed, ...] = ()
    """How it was said to be afterwards, for each day at most once."""
    to_ask: tuple[int, ...] = ()
    """After how many days its provider is still to be asked how it is."""
    part_of: str | None = None
    was_split: bool = False
    in_error: bool = False
    """It was entered in error."""
    joined: Mapping[str, OutcomeResult] = MappingProxyType({})
    """What its outcome was joined from, by part, where it was closed by that."""
    closed_by: int = 0
    """The sequence of the event that says what came of it: that which closed it, or corrected the joined outcome since."""
    target: str | None = None
    """The service its agency named."""
    former: tuple[Served, ...] = ()
    """Attempts that are over without an outcome, the last of each provider."""

    @property
    def attempts(self) -> int:
        """How many attempts were made to have it fulfilled."""
        return len(self.asked)

    def follow_up(self, days: int) -> Followed | None:
        """What was said of how it is so many days later."""
        return next((one for one in self.followed if one.days == days), None)

    def follow_up_at(self, days: int) -> int | None:
        """When its provider is to be asked how it is so many days later; None where it is not, as of a person who never came."""
        if self.served is None or self.served.result == "no_show":
            return None
        if days not in self.to_ask or self.follow_up(days) is not None:
            return None
        return self.served.ended_at + days * DAY_MS

    def counts(self, name: str, part: Closed) -> bool:
        """Whether the outcome was joined from what came of this part; one that was reopened since goes on for itself."""
        return name in self.joined and part.at <= self.at

    def reopened(self, sealed_facts: bytes, now: int) -> Referral:
        """The referral as it is taken up again. The service an agency once named is not asked again before all others; but whoever was to
        wait for that one alone waits for it again, unless it is not to be asked any more."""
        waits = self.mode == "waitlist" and self.target not in self.never
        return Referral(
            agency=self.agency,
            subject=self.subject,
            urgency=self.urgency,
            purpose=self.purpose,
            protocol=self.protocol,
            sealed_facts=sealed_facts,
            mode="match" if self.mode == "direct" else self.mode,
            target=self.target if waits else None,
            opened_at=now,
            in_line_since=now,
            unaccepted_since=now,
            asked_before=self.asked,
            never=self.never,
            part_of=self.part_of,
            served=self.served,
            former=self.former,
        )
