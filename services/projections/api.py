"""The query API. Each caller sees what its organisation may; what is not for it is not there (404)."""

import logging
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from referral_bus.access.caller import Caller
from referral_bus.contracts.ids import ReferralId
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.vocabulary import REFUSALS, DataClass, Role
from referral_bus.log.port import LogError
from referral_bus.runtime.clock import Clock
from referral_bus.sealing.port import KeyStoreError
from referral_bus.web.caller import CallerOf
from referral_bus.web.problems import Problem
from services.projections import cursors
from services.projections.queries import CAPACITY, CASELOAD, INBOX, QUEUE, SUBMISSIONS, Found, Order, Queries
from services.projections.reflected import LONGEST_SECONDS, Reflected
from services.projections.showing import Showing, View

logger = logging.getLogger(__name__)

Show = Literal["facts", "identity", "outcome"]
MOST_ROWS = 200
_RETRY_SECONDS = 5
_OUTCOME_TOLD = "outcome_reported"
"""The close reason that says that there is an outcome."""


class Happened(BaseModel):
    """One event of a referral. ``detail`` is as the event's type has it; ``at`` in epoch milliseconds, UTC."""

    sequence: int
    type: str
    at: int
    task: str | None
    detail: dict[str, Any]


class ReferralRow(BaseModel):
    """Where a referral stands. ``status`` is FHIR's; ``standing`` says it in the bus's words. Times in epoch milliseconds, UTC."""

    referral: str
    region: str
    agency: str
    subject: str | None = Field(description="The person's pseudonym, for the agency that referred.")
    erased: bool = Field(description="The person's keys are destroyed: nothing of them can be shown again.")
    urgency: str
    purpose: str
    status: str
    standing: Literal["opened", "offered", "accepted", "started", "closed"]
    reason: str | None = Field(description="Why it was closed, where the caller may know.")
    outcome: str | None = Field(description="What came of it, where the caller may know.")
    attempts: int | None
    task: str | None
    service: str | None
    accepted_by: str | None
    opened_at: int
    changed_at: int


class Timeline(ReferralRow):
    """A referral and what happened to it. ``withheld`` says why what was asked for with ``show`` is not there."""

    events: list[Happened]
    facts: dict[str, Any] | None = None
    identity: dict[str, Any] | None = None
    note: dict[str, Any] | None = Field(default=None, description="The note that came with the outcome.")
    withheld: dict[str, str] = Field(default_factory=dict)


class CaseloadPage(BaseModel):
    """Referrals, latest first. ``cursor`` asks for the next page and is null on the last."""

    items: list[ReferralRow]
    cursor: str | None


class TaskRow(BaseModel):
    """One attempt to have a referral fulfilled. ``status`` is FHIR's. Times in epoch milliseconds, UTC."""

    task: str
    referral: str
    region: str
    agency: str
    provider: str
    service: str
    unit: str
    urgency: str
    purpose: str
    status: str
    business_status: str
    expires_at: int
    offered_at: int
    accepted_at: int | None
    started_at: int | None
    ended_at: int | None
    outcome: str | None


class InboxPage(BaseModel):
    """Tasks, latest offered first."""

    items: list[TaskRow]
    cursor: str | None


class Waiting(BaseModel):
    """What waits for somebody. ``due_at`` is null where no limit is set. Times in epoch milliseconds, UTC."""

    task: str
    referral: str
    region: str
    agency: str
    provider: str
    service: str
    urgency: str
    waits_for: Literal["answer", "start", "outcome"]
    waits_since: int
    due_at: int | None
    overdue: bool


class QueuePage(BaseModel):
    """What waits for somebody: earliest due first, so what is overdue leads; then what has no limit, longest waiting first."""

    items: list[Waiting]
    cursor: str | None


class UnitRow(BaseModel):
    """A unit's places. ``held`` for open offers; ``counted_at`` is when its provider last counted, in epoch milliseconds, UTC."""

    unit: str
    region: str
    service: str
    organisation: str
    service_name: str
    name: str
    offered: bool
    total: int
    taken: int
    held: int
    free: int
    counted_at: int


class CapacityPage(BaseModel):
    """Units, by id."""

    items: list[UnitRow]
    cursor: str | None


class SubmissionRow(BaseModel):
    """What became of something the caller sent that was refused or had to wait. Times in epoch milliseconds, UTC."""

    submission: str
    type: str
    region: str
    state: Literal["parked", "decided", "refused"]
    about: str | None
    reason: str | None
    detail: str | None = Field(description="The reason in words, and what to do.")
    until: int | None = Field(description="How long it waits for what it refers to.")
    at: int


class SubmissionPage(BaseModel):
    """Submissions, latest first."""

    items: list[SubmissionRow]
    cursor: str | None


After = Annotated[
    str | None,
    Query(max_length=64, description="An inbox token: answer once the view reflects that submission."),
]
Wait = Annotated[
    float,
    Query(ge=0, le=LONGEST_SECONDS, allow_inf_nan=False, description="How long to wait for it, in seconds."),
]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]
Cursor = Annotated[str | None, Query(max_length=cursors.LONGEST, description="From the page before.")]


class Doors:
    """The routes, on the parts they need."""

    def __init__(self, queries: Queries, showing: Showing, reflected: Reflected, clock: Clock) -> None:
        self._queries = queries
        self._showing = showing
        self._reflected = reflected
        self._clock = clock

    def install(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        router = APIRouter(prefix="/v1", dependencies=[Depends(self.wait)])
        router.add_api_route("/referrals/{referral}", self.timeline, methods=["GET"])
        router.add_api_route("/caseload", self.caseload, methods=["GET"])
        router.add_api_route("/inbox", self.inbox, methods=["GET"])
        router.add_api_route("/queue", self.queue, methods=["GET"])
        router.add_api_route("/capacity", self.capacity, methods=["GET"])
        router.add_api_route("/submissions", self.submissions, methods=["GET"])
        app.include_router(router)
        for away in (OperationalError, InterfaceError, PoolTimeout, KeyStoreError, LogError):
            app.add_exception_handler(away, _unavailable)

    async def wait(self, _: CallerOf, after: After = None, wait: Wait = 5.0) -> None:
        """Wait until the views reflect the submission of an inbox token, where one is given."""
        if after is not None:
            await self._reflected.wait_for(after, wait)

    async def timeline(
        self,
        referral: Annotated[ReferralId, Path()],
        caller: CallerOf,
        show: Annotated[list[Show] | None, Query(max_length=3)] = None,
    ) -> Timeline:
        """Where a referral stands and what happened to it.

        ``show`` opens what is sealed of the person, where the caller may see it; each showing is recorded before the answer
        leaves. ``show=outcome`` opens the note that came with the outcome.
        """
        row = await self._queries.referral(referral)
        if row is None:
            raise await self._nothing(caller, referral)
        tasks = await self._queries.tasks([referral])
        [view] = await self._showing.views(caller, [(row, _offered_to(tasks))])
        if not view.shows("status") and not caller.has("operations"):
            raise await self._nothing(caller, referral)
        events = await self._queries.events(referral, row["sequence"])
        timeline = Timeline(
            **_referral(view, tasks).model_dump(), events=_happened(view, tasks, events, caller)
        )
        if show:
            await self._open(view, timeline, show)
        await self._showing.record([view])
        return timeline

    async def caseload(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> CaseloadPage:
        """The agency's referrals; for operations all, without anything of the person."""
        agency = _own_or_all(caller, "agency")
        rows = await self._queries.caseload(agency, _behind(CASELOAD, cursor), limit)
        views = await self._showing.views(caller, [(row, ()) for row in rows])
        items = [_referral(view, ()) for view in views if view.shows("status") or agency is None]
        await self._showing.record(views)
        return CaseloadPage(items=items, cursor=_following(CASELOAD, rows, limit))

    async def inbox(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> InboxPage:
        """What is offered to the provider and what it has accepted; for operations all, without anything of the person."""
        provider = _own_or_all(caller, "provider")
        rows = await self._queries.inbox(provider, _behind(INBOX, cursor), limit)
        views = await self._showing.views(caller, [(row, _offered_to([row])) for row in rows])
        items = [_task(view) for view in views if view.shows("status") or provider is None]
        await self._showing.record(views)
        return InboxPage(items=items, cursor=_following(INBOX, rows, limit))

    async def queue(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> QueuePage:
        """What waits for somebody in the caller's referrals and tasks, overdue first; for operations in all."""
        organisation, everything = caller.organisation, caller.has("operations")
        rows = await self._queries.queue(
            organisation if caller.has("agency") and not everything else None,
            organisation if caller.has("provider") and not everything else None,
            _behind(QUEUE, cursor),
            limit,
        )
        views = await self._showing.views(caller, [(row, _offered_to([row])) for row in rows])
        now = self._clock.now()
        items = [_waiting(view.referral, now) for view in views if view.shows("status") or everything]
        await self._showing.record(views)
        return QueuePage(items=items, cursor=_following(QUEUE, rows, limit))

    async def capacity(self, _: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> CapacityPage:
        """Units with their places: in all, taken, held and free. For every party: nothing of a person is in it."""
        rows = await self._queries.capacity(_behind(CAPACITY, cursor), limit)
        return CapacityPage(items=[UnitRow(**row) for row in rows], cursor=_following(CAPACITY, rows, limit))

    async def submissions(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> SubmissionPage:
        """What the caller's organisation sent that was refused, or had to wait for what it refers to."""
        rows = await self._queries.submissions(caller.organisation, _behind(SUBMISSIONS, cursor), limit)
        return SubmissionPage(
            items=[SubmissionRow(**row, detail=REFUSALS.get(row["reason"] or "")) for row in rows],
            cursor=_following(SUBMISSIONS, rows, limit),
        )

    async def _open(self, view: View, timeline: Timeline, show: Sequence[Show]) -> None:
        sealed = await self._queries.sections(timeline.referral)
        for name in dict.fromkeys(show):
            data: DataClass = name
            field = "note" if name == "outcome" else name
            content = await self._showing.opened(view, data, sealed)
            if isinstance(content, str):
                timeline.withheld[field] = content
            else:
                setattr(timeline, field, content)

    async def _nothing(self, caller: Caller, referral: str) -> Problem:
        """What to say of a referral that is not there for the caller: more, where it is the caller's own that was refused."""
        own = await self._queries.answer_about(caller.organisation, referral, SubmitReferral.event_type())
        if own is not None and own["state"] == "refused":
            return Problem(
                404,
                own["reason"],
                f"The referral was refused. {REFUSALS.get(own['reason'], '')}",
                field="referral",
            )
        return Problem(
            404,
            "unknown_referral",
            "There is no such referral for this organisation. If it was submitted just now, ask with ?after=TOKEN.",
            field="referral",
        )


def _own_or_all(caller: Caller, role: Role) -> str | None:
    """The organisation whose rows are shown in this role; None for operations, which see all. Raises a 403 problem."""
    if caller.has(role):
        return caller.organisation
    if caller.has("operations"):
        return None
    raise Problem(403, "wrong_role", f"The token does not carry the role '{role}'.", field="Authorization")


def _behind(order: Order, cursor: str | None) -> list[cursors.Key] | None:
    return None if cursor is None else cursors.read(cursor, order.kinds)


def _following(order: Order, rows: Sequence[Found], limit: int) -> str | None:
    return cursors.write(order.key(rows[-1])) if len(rows) == limit else None


def _offered_to(tasks: Sequence[Found]) -> list[str]:
    return [task["provider"] for task in tasks if task["business_status"] == "offered"]


def _referral(view: View, tasks: Sequence[Found]) -> ReferralRow:
    """The head of a referral. A provider sees its own attempt of it, not how many there were before."""
    row = dict(view.referral)
    if view.as_agency or not view.as_provider:
        shown = {name: row[name] for name in ("attempts", "task", "service", "accepted_by")}
    else:
        own = [task for task in tasks if task["provider"] == view.recipient]
        last = own[-1]
        shown = {
            "attempts": None,
            "task": last["task"],
            "service": last["service"],
            "accepted_by": row["accepted_by"] if row["accepted_by"] == view.recipient else None,
        }
    told = row["outcome"] is not None and view.shows("outcome")
    known = view.as_agency or view.as_provider
    return ReferralRow(
        **{
            **row,
            **shown,
            "subject": row["subject"] if view.as_agency else None,
            "outcome": row["outcome"] if told else None,
            "reason": row["reason"] if known and (told or row["reason"] != _OUTCOME_TOLD) else None,
        }
    )


def _happened(view: View, tasks: Sequence[Found], events: Sequence[Found], caller: Caller) -> list[Happened]:
    """The events as far as the caller may know of them: a provider of its own attempts alone, operations without any detail."""
    told = view.shown.get("outcome") is not None
    own = {task["task"] for task in tasks if task["provider"] == caller.organisation}
    found: list[Happened] = []
    for event in events:
        detail = dict(event["detail"])
        if not (view.as_agency or view.as_provider):
            detail = {}
        elif (
            not view.as_agency
            and (event["type"] == "MatchDecided" or (event["task"] is not None and event["task"] not in own))
        ) or (event["type"] == "OutcomeReported" and not told):
            continue
        elif event["type"] == "ReferralClosed" and detail["reason"] == _OUTCOME_TOLD and not told:
            detail["reason"] = None
        found.append(Happened(**{**event, "detail": detail}))
    return found


def _task(view: View) -> TaskRow:
    row = view.referral
    told = row["outcome"] is not None and view.shows("outcome")
    return TaskRow(**{**row, "outcome": row["outcome"] if told else None})


def _waiting(row: Found, now: int) -> Waiting:
    return Waiting(**row, overdue=row["due_at"] is not None and row["due_at"] < now)


async def _unavailable(_: Request, error: Exception) -> Response:
    # The database driver's errors can quote a statement; the others are our own words.
    said = str(error) if isinstance(error, KeyStoreError | LogError) else type(error).__name__
    logger.warning("a request could not be answered now: %s", said)
    return Problem(
        503,
        "unavailable",
        "What the answer needs can't be reached. Try again shortly.",
        retry_after=_RETRY_SECONDS,
    ).response()
