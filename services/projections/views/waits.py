"""What waits for somebody: one row for each thing that somebody must do, by when, and whether it is done. The queue is what is not.

``waits_for`` names it: ``answer`` to an offer, and before that to ``acknowledge`` it; the ``information`` a provider asked for;
``handoff`` (a row for each of the two parties); ``start`` and ``outcome`` of a service; a ``no_show``, whose reason the agency is to find
out, until somebody reached the person or the service goes on; to ``resume`` what rests without an end; a ``follow_up``; and an
``escalation``, which waits until what it is about is done. ``whose`` says who must: the ``agency`` (whichever follows the referral now),
the ``provider``, or the ``target`` of an escalation (None: operations).

A limit that counts round the clock is known from the referral's protocol. One that counts business time is known once a reminder or an
escalation says when it ends; until then ``due_at`` is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, get_args

from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    ContactReported,
    Entry,
    Escalated,
    Event,
    FollowedUp,
    FollowUpDue,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    NoShowReported,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralClosed,
    ReferralHeld,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWithdrawn,
    Reminded,
    ReportRetracted,
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.vocabulary import StepName
from referral_bus.store.rows import Put, Row
from services.projections.known import Known
from services.projections.views.need import Need, the

WaitsFor = Literal[
    "acknowledge",
    "answer",
    "information",
    "handoff",
    "start",
    "outcome",
    "no_show",
    "resume",
    "follow_up",
    "escalation",
]
Whose = Literal["agency", "provider", "target"]

_BEFORE_AN_ANSWER: Final = frozenset({"acknowledge", "answer", "information"})
_STEP: Final[dict[StepName, WaitsFor]] = {
    "acknowledge": "acknowledge",
    "accept": "answer",
    "handoff": "handoff",
    "start": "start",
    "outcome": "outcome",
}
_OF_A_TASK = (
    OfferMade
    | OfferAcknowledged
    | AcceptanceClaimed
    | OfferAccepted
    | OfferDeclined
    | OfferExpired
    | InformationAsked
    | InformationGiven
    | ServiceProposed
    | TaskCancelled
    | ServiceStarted
    | TaskHeld
    | TaskResumed
    | NoShowReported
    | ContactReported
    | ReportRetracted
    | HandoffConfirmed
    | HandoffRetracted
    | OutcomeReported
    | Reminded
)
_OF_A_REFERRAL = (
    ReferralHeld
    | ReferralResumed
    | ReferralSplit
    | ReferralTransferred
    | ReferralReopened
    | ReferralWithdrawn
    | ReferralClosed
    | Escalated
    | FollowUpDue
    | FollowedUp
)
_ANY = _OF_A_TASK | _OF_A_REFERRAL
HEARS: Final[frozenset[type[Event]]] = frozenset(get_args(_ANY))


def needs(entry: Entry) -> Iterator[Need]:
    """What waits of the referral, and the rows that say how it stands."""
    event = entry.event
    if not isinstance(event, _ANY):
        return
    yield Need("waits", "referral", event.referral)
    yield Need("referrals", "referral", event.referral)
    task = getattr(event, "task", None)
    if task is not None:
        yield Need("tasks", "task", task)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """The rows that begin to wait, and those that are done."""
    event = entry.event
    if isinstance(event, _ANY):
        yield from _Waits(entry, event.referral, known).after()


class _Waits:
    """What waits of one referral, and what an event makes of it."""

    def __init__(self, entry: Entry, referral: str, known: Known) -> None:
        self._event = entry.event
        self._region = entry.meta.region
        self._now = entry.meta.now
        self._referral = the(known, "referrals", referral)
        self._known = known
        self._rows = list(known.rows("waits", "referral", referral))

    def after(self) -> Iterator[Put]:
        """The rows the event changes."""
        event = self._event
        match event:
            case OfferMade():
                offered = self._of(event.task, event.provider, event.service)
                yield self._begin("answer", "provider", offered, event.expires_at)
                yield from self._step("acknowledge", "provider", offered)
            case OfferAcknowledged():
                yield from self._done(event.task, {"acknowledge"})
            case InformationAsked():
                yield from self._done(event.task, {"acknowledge"})
                task = the(self._known, "tasks", event.task)
                if not task["questions"]:
                    yield self._begin("information", "agency", self._of_row(task), task["expires_at"])
            case InformationGiven() if the(self._known, "tasks", event.task)["questions"] == 1:
                # The last question that was open.
                yield from self._done(event.task, {"information"})
            case AcceptanceClaimed():
                # The provider has answered; what is left is for the region of its service.
                yield from self._done(event.task, _BEFORE_AN_ANSWER)
            case OfferAccepted():
                yield from self._done(event.task, _BEFORE_AN_ANSWER)
                accepted = self._of_row(the(self._known, "tasks", event.task))
                yield self._begin("start", "provider", accepted, self._limit("start", event.starts_at))
                yield from self._step("handoff", "provider", accepted)
                yield from self._step("handoff", "agency", accepted)
            case OfferDeclined() | OfferExpired() | TaskCancelled():
                yield from self._done(event.task)
            case ServiceProposed():
                if the(self._known, "tasks", event.task)["status"] == "requested":
                    yield from self._done(event.task)
            case ServiceStarted() if not event.late and event.corrects is None:
                yield from self._done(event.task, {"start", "no_show"})
                task = the(self._known, "tasks", event.task)
                yield self._begin("outcome", "provider", self._of_row(task), self._limit("outcome"))
                if task["status"] == "on-hold":
                    yield from self._handoffs(event.task, self._limit("handoff"))
            case NoShowReported() if not event.late:
                missed = self._of_row(the(self._known, "tasks", event.task))
                yield self._begin("no_show", "agency", missed, self._now)
            case ContactReported() if not event.late and event.reached:
                yield from self._done(event.task, {"no_show"})
            case ReportRetracted() if not event.late and event.report == "no_show":
                yield from self._done(event.task, {"no_show"})
            case TaskHeld():
                yield from self._done(event.task, {"start", "outcome", "no_show"})
                yield from self._handoffs(event.task, None)
                if event.until is None:
                    resting = self._of_row(the(self._known, "tasks", event.task))
                    yield self._begin("resume", "provider", resting, None)
                else:
                    yield from self._done(event.task, {"resume"})
            case TaskResumed():
                yield from self._done(event.task, {"resume"})
                task = the(self._known, "tasks", event.task)
                if task["started_at"] is None:
                    due_at = self._limit("start", task["starts_at"])
                    yield self._begin("start", "provider", self._of_row(task), due_at)
                else:
                    yield self._begin("outcome", "provider", self._of_row(task), self._limit("outcome"))
                yield from self._handoffs(event.task, self._limit("handoff"))
            case HandoffConfirmed() if not event.late:
                yield from self._confirmed(event)
            case HandoffRetracted() if not event.late:
                yield from self._to_be_confirmed(event)
            case OutcomeReported() if event.corrects is None:
                yield from self._done(event.task)
            case OutcomeReported() if event.result == "no_show":
                # Nobody was served after all, whom one could ask after.
                yield from self._end(row for row in self._waiting() if row["waits_for"] == "follow_up")
            case Reminded():
                yield from self._reminded(event)
            case Escalated():
                yield from self._escalated(event)
            case ReferralHeld() if event.until is None:
                yield self._begin("resume", "agency", {}, None)
            case ReferralHeld() | ReferralResumed() | ReferralSplit():
                yield from self._done(None, {"resume"})
            case ReferralTransferred():
                yield from self._handed_on()
            case ReferralWithdrawn() if event.reason == "entered_in_error":
                yield from self._end(self._waiting())
            case ReferralWithdrawn() if event.task is not None:
                yield from self._done(event.task)
            case ReferralClosed():
                yield from self._end(row for row in self._waiting() if row["waits_for"] != "follow_up")
            case ReferralReopened():
                yield from self._end(self._waiting())
            case FollowUpDue():
                serving = {"task": self._referral["accepted_task"], "provider": event.provider}
                yield self._begin("follow_up", "provider", serving, self._now, str(event.days))
            case FollowedUp():
                yield from self._done(None, {f"follow_up.{event.days}"})

    def _of(self, task: str, provider: str, service: str) -> dict[str, Any]:
        return {"task": task, "provider": provider, "service": service}

    def _of_row(self, task: Row) -> dict[str, Any]:
        return self._of(task["task"], task["provider"], task["service"])

    def _limit(self, step: StepName, begins_at: int | None = None) -> int | None:
        """When a step that begins then, or now, is overdue, as far as that is known."""
        limits = self._referral["limits"].get(step)
        if limits is None:
            return None
        return max(self._now, begins_at or 0) + int(limits[self._referral["urgency"]])

    def _step(
        self, step: Literal["acknowledge", "handoff"], whose: Whose, of: dict[str, Any]
    ) -> Iterator[Put]:
        """A step that only some protocols have."""
        if step in self._referral["limits"]:
            yield self._begin(step, whose, of, self._limit(step))

    def _begin(
        self,
        waits_for: WaitsFor,
        whose: Whose,
        of: dict[str, Any],
        due_at: int | None,
        more: str = "",
        **also: Any,
    ) -> Put:
        about = of.get("task") if waits_for != "follow_up" else None
        name = ".".join(part for part in (waits_for, more) if part)
        if waits_for == "handoff":
            name = f"{name}.{whose}"
        row = {
            "wait": f"{about or self._referral['referral']}.{name}",
            "referral": self._referral["referral"],
            "task": None,
            "region": self._region,
            "provider": None,
            "service": None,
            "waits_for": waits_for,
            "name": name,
            "whose": whose,
            "target": None,
            "step": None,
            "since": self._now,
            "due_at": due_at,
            "reminded": None,
            "escalated_at": None,
            "done_at": None,
            **of,
            **also,
        }
        return Put("waits", row)

    def _waiting(self) -> Iterator[Row]:
        return (row for row in self._rows if row["done_at"] is None)

    def _end(self, rows: Iterable[Row]) -> Iterator[Put]:
        for row in rows:
            yield Put("waits", {**row, "done_at": self._now})

    def _done(self, task: str | None, names: Iterable[str] | None = None) -> Iterator[Put]:
        """These are done, with the escalations about them; all of the task's, unless named."""
        wanted = None if names is None else frozenset(names)
        return self._end(
            row
            for row in self._waiting()
            if (row["task"] == task or (task is None and row["waits_for"] == "follow_up"))
            and (wanted is None or row["name"] in wanted or row["step"] in wanted)
        )

    def _reminded(self, event: Reminded) -> Iterator[Put]:
        """When a step is due was said to one who must take it: who is asked something about an offer is reminded of that."""
        whose = "provider" if event.party == the(self._known, "tasks", event.task)["provider"] else "agency"
        names = {_STEP[event.step], "information"} if event.step == "accept" else {_STEP[event.step]}
        for row in self._waiting():
            if row["task"] == event.task and row["waits_for"] in names and row["whose"] == whose:
                yield Put("waits", {**row, "due_at": event.due, "reminded": event.percent})

    def _escalated(self, event: Escalated) -> Iterator[Put]:
        step = _STEP[event.step]
        of: dict[str, Any] = {}
        if event.task is not None:
            of = self._of_row(the(self._known, "tasks", event.task))
            for row in self._waiting():
                if row["task"] == event.task and row["waits_for"] == step:
                    yield Put("waits", {**row, "due_at": event.due, "escalated_at": self._now})
        yield self._begin("escalation", "target", of, event.due, step, target=event.to, step=step)

    def _handoffs(self, task: str, due_at: int | None) -> Iterator[Put]:
        """The handoff's time stands still while the service rests, and begins anew when that goes on."""
        for row in self._waiting():
            if row["task"] != task:
                continue
            if row["waits_for"] == "handoff":
                yield Put("waits", {**row, "due_at": due_at, "reminded": None, "escalated_at": None})
            elif row["step"] == "handoff":
                yield Put("waits", {**row, "done_at": self._now})

    def _confirmed(self, event: HandoffConfirmed) -> Iterator[Put]:
        """Who confirmed has nothing more to do; once both have, nothing waits."""
        provider = the(self._known, "tasks", event.task)["provider"]
        by: set[str] = set()
        if event.by == provider:
            by.add("handoff.provider")
        if event.by == self._referral["agency"]:
            by.add("handoff.agency")
        yield from self._done(
            event.task, {"handoff", "handoff.provider", "handoff.agency"} if event.complete else by
        )

    def _to_be_confirmed(self, event: HandoffRetracted) -> Iterator[Put]:
        """Who took its confirmation back is to give it: in the time that is left to the other, or anew if the handoff was done."""
        task = the(self._known, "tasks", event.task)
        handoffs = self._handoffs_of(event.task)
        due = _as_the_other(handoffs)
        if due is None:
            due_at = None if task["status"] == "on-hold" else self._limit("handoff")
            due = {"due_at": due_at, "reminded": None, "escalated_at": None}
        its = {"provider"} if event.by == task["provider"] else set()
        if event.by == self._referral["agency"]:
            its.add("agency")
        for row in handoffs:
            if row["whose"] in its:
                yield Put("waits", {**row, "since": self._now, "done_at": None, **due})

    def _handed_on(self) -> Iterator[Put]:
        """The agency that follows the referral now was not there when the one before it confirmed; unless the handoff is over."""
        task = self._referral["accepted_task"]
        handoffs = self._handoffs_of(task)
        due = _as_the_other(handoffs)
        if due is not None:
            for row in handoffs:
                if row["whose"] == "agency" and row["done_at"] is not None:
                    yield Put("waits", {**row, "since": self._now, "done_at": None, **due})

    def _handoffs_of(self, task: str | None) -> list[Row]:
        return [row for row in self._rows if row["task"] == task and row["waits_for"] == "handoff"]


def _as_the_other(handoffs: Iterable[Row]) -> Row | None:
    """By when a party is to confirm that joins another who has not confirmed: by when that one is. None where nobody is left to."""
    waiting = (row for row in handoffs if row["done_at"] is None)
    return next(
        ({name: row[name] for name in ("due_at", "reminded", "escalated_at")} for row in waiting), None
    )
