"""The attempts to have a referral fulfilled, and the places they hold and take."""

from __future__ import annotations

from collections.abc import Iterable

from referral_bus.contracts.ids import referral_of, task_id
from referral_bus.contracts.ledger import (
    Escalated,
    InformationAsked,
    InformationGiven,
    Meta,
    OfferAccepted,
    OfferAcknowledged,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    Reminded,
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.vocabulary import (
    CANCELLED_AS,
    DECLINES,
    MET,
    UNKEPT,
    BusinessStatus,
    DeclineReason,
    StepName,
    TaskStatus,
)
from services.matching.core.counting import moved
from services.matching.core.fold.capacity import freed
from services.matching.core.fold.referrals import entered_in_error, follow_ups, limited
from services.matching.core.fold.submissions import wake
from services.matching.core.judging.places import Reliability
from services.matching.core.referral import Closed, Referral, Served, Started, Task
from services.matching.core.state import Due, Region
from services.matching.core.timing import keep_other_hours, offer_reminders, step_dues
from services.matching.core.transitions import may_go


def offered(state: Region, meta: Meta, event: OfferMade) -> None:
    known = state.referrals[event.referral]
    found = state.task(event.task)
    if found is None:
        task = Task(
            event.service,
            event.unit,
            event.provider,
            event.expires_at,
            transfer=event.transfer,
            offered_at=meta.now,
        )
        known.tasks = (*known.tasks, task)
        state.units[event.unit].held += 1
        state.places.change(event.service)
        attempt = known.before + len(known.tasks)
    else:
        # Another region holds the place, which is counted since it was asked for.
        attempt = found[2]
        task = known.attempt(attempt)
        if task.business != "reserving":
            raise ValueError(f"{event.referral}: a task that is {task.business} can't be offered")
        known.tasks = known.tasks_with(
            attempt,
            task._replace(business="offered", expires_at=event.expires_at, offered_at=meta.now),
        )
    state.expects(Due(event.expires_at, "offer", event.referral, attempt, "accept", 0, event.expires_at))
    _expect(state, offer_reminders(state, known, event.referral, attempt))
    if known.protocol.steps:
        _expect(
            state,
            step_dues(state, known, "acknowledge", [event.provider], event.referral, attempt, meta.now),
        )
    wake(state, event.task)


def acknowledged(state: Region, _: Meta, event: OfferAcknowledged) -> None:
    _refine(state, event.task, "acknowledged")


def asked(state: Region, meta: Meta, event: InformationAsked) -> None:
    _questions(state, event.task, 1, meta.now)


def answered(state: Region, meta: Meta, event: InformationGiven) -> None:
    _questions(state, event.task, -1, meta.now)


def accepted(state: Region, meta: Meta, event: OfferAccepted) -> None:
    business: BusinessStatus = "accepted" if event.starts_at is None else "scheduled"
    known, _ = located(state, event.task)
    if (serving := known.acceptance) is not None:
        # The service that kept the person so far ends with this, and what was said of it is not said of the new one.
        known.ends_without_outcome(serving, meta.now)
    known, number = _change(state, event.task, "accepted", business)
    task = known.attempt(number)
    unit = state.units[task.unit]
    unit.held -= 1
    moved(unit, meta.now, 1)
    _answered_reliably(state, task.service, kept=True)
    known.confirmed, known.start, known.reports = frozenset(), None, ()
    known.stands_still(meta.now)
    # Whoever goes somewhere is ready, whatever was said before.
    known.tasks = tuple(one._replace(parked_until=None) if one.not_ready else one for one in known.tasks)
    known.tasks = known.tasks_with(number, task._replace(stood=business, starts_at=event.starts_at))
    if known.protocol.steps:
        awaits_handoff(state, known, event.referral, number, meta.now)
        _awaits_start(state, known, event.referral, number, meta.now)
    wake(state, event.referral)


def declined(state: Region, _: Meta, event: OfferDeclined) -> None:
    known, number = _change(state, event.task, "rejected", "declined")
    task = known.attempt(number)
    _release(state, task, refused=event.reason in UNKEPT)
    if event.reason in UNKEPT:
        _answered_reliably(state, task.service, kept=False)
    _after(known, task, event.reason)
    known.tasks = known.tasks_with(number, task.refused(event.reason, event.until))


def expired(state: Region, _: Meta, event: OfferExpired) -> None:
    known, number = located(state, event.task)
    task = known.attempt(number)
    _change(state, event.task, "cancelled", "expired")
    _release(state, task, refused=True)
    known.tasks = known.tasks_with(number, task.expired())
    if task.business != "screening":
        # Else it had asked, and it was the agency that did not answer.
        _answered_reliably(state, task.service, kept=False)


def proposed(state: Region, _: Meta, event: ServiceProposed) -> None:
    known, number = located(state, event.task)
    task = known.attempt(number)
    if task.is_open:
        _change(state, event.task, "rejected", "proposed-elsewhere")
        _release(state, task)


def cancelled(state: Region, meta: Meta, event: TaskCancelled) -> None:
    known, number = located(state, event.task)
    if event.reason == "given_back":
        known.ends_without_outcome(number, meta.now)
    _end(state, event.task, CANCELLED_AS[event.reason], meta.now, refused=event.because in UNKEPT)
    if event.because is not None:
        task = known.attempt(number)
        _after(known, task, event.because)
        if event.because in UNKEPT:
            _not_kept_after_all(state, task.service)
        known.tasks = known.tasks_with(number, task.refused(event.because, event.until))
    if known.goes_unaccepted(meta.now):
        limited(state, event.referral, known, meta.now)


def withdrawn(state: Region, meta: Meta, event: ReferralWithdrawn) -> None:
    if event.referral in state.closed:
        entered_in_error(state, event)
    elif event.serving is not None:
        state.referrals[event.referral].withdrawn = True
    elif event.task is not None:
        status: TaskStatus = "entered-in-error" if event.reason == "entered_in_error" else "cancelled"
        _end(state, event.task, "withdrawn", meta.now, status)


def never_was(state: Region, _: Meta, event: TaskEnteredInError) -> None:
    # Of a referral that is closed, or of attempts before it was reopened, no more is remembered than who was asked.
    if state.task(event.task) is not None:
        _change(state, event.task, "entered-in-error", "withdrawn")


def started(state: Region, meta: Meta, event: ServiceStarted) -> None:
    start = Started(meta.sequence, event.started_at)
    if event.late:
        put_served(state, event.referral, served_of(state, event.task)._replace(start=start))
        return
    known, number = located(state, event.task)
    known.start = start
    if event.corrects is not None:
        return
    rested = known.attempt(number).status == "on-hold"
    if known.attempt(number).status != "in-progress":
        _change(state, event.task, "in-progress", "started")
    # Else it rested before it began, and in FHIR a task that goes on is in progress.
    further(state, event.task, "started")
    _next_step(state, known, "outcome", event.referral, number, meta.now)
    if rested:
        awaits_handoff(state, known, event.referral, number, meta.now)


def held(state: Region, _: Meta, event: TaskHeld) -> None:
    known, number = located(state, event.task)
    if known.attempt(number).status != "on-hold":
        _change(state, event.task, "on-hold", "on-hold")
    # Else it rests on for this reason, and until this date.
    known.tasks = known.tasks_with(number, known.attempt(number)._replace(held_until=event.until))
    if event.until is not None:
        state.expects(Due(event.until, "hold", event.referral, number))


def resumed(state: Region, meta: Meta, event: TaskResumed) -> None:
    """FHIR lets a task go on only as in progress; whether the service began is another thing, and its time runs anew."""
    known, number = located(state, event.task)
    _change(state, event.task, "in-progress", known.attempt(number).stood)
    if known.started:
        _next_step(state, known, "outcome", event.referral, number, meta.now)
    else:
        _awaits_start(state, known, event.referral, number, meta.now)
    awaits_handoff(state, known, event.referral, number, meta.now)


def ended(state: Region, meta: Meta, event: OutcomeReported) -> None:
    if event.corrects is not None:
        former = served_of(state, event.task)
        ended_at = former.ended_at if event.ended_at is None else event.ended_at
        corrected = former._replace(outcome_at=meta.sequence, result=event.result, ended_at=ended_at)
        put_served(state, event.referral, corrected)
        record = state.closed.get(event.referral)
        if record is not None and (former.ended_at, former.result) != (ended_at, event.result):
            follow_ups(state, event.referral)
        if record is not None and record.completed:
            _corrected_in_whole(state, event, record)
        return
    met = event.result in MET
    known, number = located(state, event.task)
    task = known.attempt(number)
    _change(state, event.task, "completed" if met else "failed", "completed" if met else "failed")
    vacate(state, task, meta.now)
    known.served = Served(
        attempt=number,
        provider=task.provider,
        opened_at=known.opened_at,
        outcome_at=meta.sequence,
        start=known.start,
        confirmed=known.confirmed,
        ended_at=meta.now if event.ended_at is None else event.ended_at,
        result=event.result,
        reports=known.reports,
    )


def reminded(state: Region, _: Meta, event: Reminded) -> None:
    if event.step == "handoff":
        known, number = located(state, event.task)
        if event.party != known.unconfirmed(number)[-1]:
            # Each party is told of what falls due once.
            return
    state.settle("remind", event.referral)


def escalated(state: Region, _: Meta, event: Escalated) -> None:
    due = state.settle("offer" if event.step == "accept" else "step", event.referral)
    if due.kind == "offer":
        known = state.referrals[event.referral]
        known.tasks = known.tasks_with(due.number, known.attempt(due.number)._replace(overdue=True))


def vacate(state: Region, task: Task, now: int, refused: bool = False) -> None:
    """The place that was taken is free again."""
    unit = state.units[task.unit]
    moved(unit, now, -1)
    freed(state, unit, refused)


def _release(state: Region, task: Task, refused: bool = False) -> None:
    """The place that was held is free again."""
    unit = state.units[task.unit]
    unit.held -= 1
    freed(state, unit, refused)


def _end(
    state: Region,
    id: str,
    business: BusinessStatus,
    now: int,
    status: TaskStatus = "cancelled",
    refused: bool = False,
) -> None:
    known, number = located(state, id)
    task = known.attempt(number)
    _change(state, id, status, business)
    if task.is_open:
        _release(state, task)
    else:
        vacate(state, task, now, refused)


def located(state: Region, task: str) -> tuple[Referral, int]:
    found = state.task(task)
    if found is None:
        raise LookupError(f"there is no open task {task}")
    return found[1], found[2]


def _change(state: Region, id: str, status: TaskStatus, business: BusinessStatus) -> tuple[Referral, int]:
    known, number = located(state, id)
    task = known.attempt(number)
    if not may_go(task.status, status):
        raise ValueError(f"{referral_of(id)}: a task can't go from {task.status} to {status}")
    known.tasks = known.tasks_with(number, task._replace(status=status, business=business))
    return known, number


def _refine(state: Region, id: str, business: BusinessStatus) -> None:
    """The business status of an open offer changes, and its status does not."""
    known, number = located(state, id)
    task = known.attempt(number)
    if not task.is_open:
        raise ValueError(f"{referral_of(id)}: a task that is {task.status} can't be {business}")
    known.tasks = known.tasks_with(number, task._replace(business=business))


def _questions(state: Region, id: str, more: int, now: int) -> None:
    """The offer waits for its agency until every question is answered."""
    known, number = located(state, id)
    former = known.asked_of(number)
    open_ones = known.attempt(number).questions + more
    _refine(state, id, "screening" if open_ones else "acknowledged")
    known.tasks = known.tasks_with(number, known.attempt(number)._replace(questions=open_ones))
    # Where both keep the same hours what is laid stays as it is.
    if known.attempt(number).turn or keep_other_hours(state, known.protocol, former, known.asked_of(number)):
        _turns(state, known, referral_of(id), number, now)


def _turns(state: Region, known: Referral, name: str, number: int, now: int) -> None:
    """Somebody else must act from now on: what is to come of the reminders comes in their hours."""
    task = known.attempt(number)
    known.tasks = known.tasks_with(number, task._replace(turn=task.turn + 1))
    _expect(state, (due for due in offer_reminders(state, known, name, number) if due.at > now))


def further(state: Region, id: str, business: BusinessStatus) -> None:
    """So far has the accepted service come."""
    known, number = located(state, id)
    task = known.attempt(number)
    if not task.is_taken:
        raise ValueError(f"{referral_of(id)}: a task that is {task.status} can't be {business}")
    known.tasks = known.tasks_with(number, task.further(business))


def served_of(state: Region, task: str) -> Served:
    """The attempt that is over, of a referral that is open or closed."""
    name = referral_of(task)
    known = state.referrals.get(name) or state.closed[name]
    for one in (known.served, *known.former):
        if one is not None and task_id(name, one.attempt) == task:
            return one
    raise LookupError(f"{task} was not accepted, or is not over")


def put_served(state: Region, name: str, served: Served) -> None:
    known = state.referrals.get(name)
    of = known or state.closed[name]
    outcome, former = of.served, of.former
    if outcome is not None and outcome.attempt == served.attempt:
        outcome = served
    else:
        former = tuple(served if one.attempt == served.attempt else one for one in former)
    if known is None:
        state.closed[name] = state.closed[name]._replace(served=outcome, former=former)
    else:
        known.served, known.former = outcome, former


def _corrected_in_whole(state: Region, event: OutcomeReported, part: Closed) -> None:
    if part.part_of is None:
        return
    whole, closed = state.referrals.get(part.part_of), state.closed.get(part.part_of)
    if whole is not None and whole.parts is not None:
        whole.results = {**whole.results, event.referral: event.result}
    elif closed is not None and closed.counts(event.referral, part):
        joined = {**closed.joined, event.referral: event.result}
        state.closed[part.part_of] = closed._replace(joined=joined)


def _after(known: Referral, task: Task, reason: DeclineReason) -> None:
    """What a provider's no means for later."""
    if DECLINES[reason].then == "never":
        known.never = {**known.never, task.service: reason}


def _next_step(state: Region, known: Referral, step: StepName, name: str, number: int, now: int) -> None:
    """From now on the step, the start or the outcome, is waited for."""
    task = known.attempt(number)
    dues = list(step_dues(state, known, step, [task.provider], name, number, now))
    known.tasks = known.tasks_with(
        number, task._replace(held_until=None, step_ends=dues[0].end if dues else 0)
    )
    _expect(state, dues)


def _awaits_start(state: Region, known: Referral, name: str, number: int, now: int) -> None:
    """The time to start begins when the provider said that it takes the person."""
    _next_step(state, known, "start", name, number, max(now, known.attempt(number).starts_at or 0))


def awaits_handoff(state: Region, known: Referral, name: str, number: int, now: int) -> None:
    if not known.unconfirmed(number):
        return
    task = known.attempt(number)
    dues = list(step_dues(state, known, "handoff", known.parties(number), name, number, now))
    known.tasks = known.tasks_with(number, task._replace(handoff_ends=dues[0].end if dues else 0))
    _expect(state, dues)


def _expect(state: Region, dues: Iterable[Due]) -> None:
    for due in dues:
        state.expects(due)


def _answered_reliably(state: Region, service: str, kept: bool) -> None:
    former = state.reliability.get(service, Reliability())
    state.places.change(service)
    state.reliability[service] = Reliability(former.kept + kept, former.broken + (not kept))


def _not_kept_after_all(state: Region, service: str) -> None:
    """It had accepted, and had no place: an offer counts once, by what came of it."""
    former = state.reliability[service]
    state.places.change(service)
    state.reliability[service] = Reliability(former.kept - 1, former.broken + 1)
