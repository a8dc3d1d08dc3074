"""The query API. Each caller sees what its organisation may; what is not for it is not there (404)."""

import logging
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from referral_bus.access.caller import Caller
from referral_bus.contracts.ids import ReferralId, Region
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.ledger import Certificate
from referral_bus.contracts.message import Code
from referral_bus.contracts.vocabulary import REFUSALS, Role
from referral_bus.log.port import LogError
from referral_bus.runtime.clock import Clock
from referral_bus.sealing.port import KeyStoreError
from referral_bus.web.caller import CallerOf
from referral_bus.web.problems import Problem
from referral_bus.wording.certificates import match_in_words
from services.projections import cursors
from services.projections.answers import (
    CapacityPage,
    CaseloadPage,
    Explained,
    InboxPage,
    PlaceInLine,
    QueuePage,
    Reference,
    ReferencePage,
    ReferenceRow,
    ReferralRow,
    SubmissionPage,
    SubmissionRow,
    TaskRow,
    Timeline,
    UnitRow,
    Waiting,
    WaitingInLine,
    WaitingListPage,
    Written,
)
from services.projections.disclosed import happened, head, is_offered, task_shown, wait_shown
from services.projections.queries import (
    CAPACITY,
    CASELOAD,
    INBOX,
    QUEUE,
    REFERENCE,
    SUBMISSIONS,
    Found,
    Order,
    Queries,
    Whose,
)
from services.projections.reflected import LONGEST_SECONDS, Reflected
from services.projections.showing import Said, Showing, View
from services.projections.views.adopted import ShownKind

logger = logging.getLogger(__name__)

Show = Literal["facts", "identity", "outcome", "exchange", "matches"]
MOST_ROWS = 200
_RETRY_SECONDS = 5
_HOUR_MS = 3_600_000


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
        router.add_api_route("/waiting-list", self.waiting_list, methods=["GET"])
        router.add_api_route("/capacity", self.capacity, methods=["GET"])
        router.add_api_route("/submissions", self.submissions, methods=["GET"])
        router.add_api_route("/reference", self.references, methods=["GET"])
        router.add_api_route("/reference/{kind}/{name}", self.reference, methods=["GET"])
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
        show: Annotated[list[Show] | None, Query(max_length=5)] = None,
    ) -> Timeline:
        """Where a referral stands and what happened to it.

        ``show`` opens what is sealed of the person, where the caller may see it; each showing is recorded before the answer
        leaves. ``show=outcome`` opens the notes that came with outcomes and follow-ups, ``show=exchange`` what providers
        asked and the agency answered: a provider sees what is about its own attempts. ``show=matches`` puts the certificates
        into sentences, for the agency alone.
        """
        row = await self._queries.referral(referral)
        if row is None:
            raise await self._nothing(caller, referral)
        tasks = await self._queries.tasks([referral])
        [view] = await self._showing.views(caller, [(row, _offered_to(tasks))])
        if not view.shows("status") and not caller.has("operations"):
            raise await self._nothing(caller, referral)
        events = await self._queries.events(referral, row["sequence"])
        timeline = Timeline.model_validate(
            {**head(view, tasks), "events": happened(view, tasks, events, caller)}
        )
        if show:
            await self._open(view, timeline, row["part_of"], events, show)
        await self._showing.record([view])
        return timeline

    async def caseload(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> CaseloadPage:
        """The agency's referrals; for operations all, without anything of the person."""
        agency = _own_or_all(caller, "agency")
        rows = await self._queries.caseload(agency, _behind(CASELOAD, cursor), limit)
        views = await self._showing.views(caller, [(row, ()) for row in rows])
        items = [
            ReferralRow.model_validate(head(view, ()))
            for view in views
            if view.shows("status") or agency is None
        ]
        await self._showing.record(views)
        return CaseloadPage(items=items, cursor=_following(CASELOAD, rows, limit))

    async def inbox(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> InboxPage:
        """What is offered to the provider and what it has accepted; for operations all, without anything of the person."""
        provider = _own_or_all(caller, "provider")
        rows = await self._queries.inbox(provider, _behind(INBOX, cursor), limit)
        views = await self._showing.views(caller, [(row, _offered_to([row])) for row in rows])
        items = [
            TaskRow.model_validate(task_shown(view))
            for view in views
            if view.shows("status") or provider is None
        ]
        await self._showing.record(views)
        return InboxPage(items=items, cursor=_following(INBOX, rows, limit))

    async def queue(
        self,
        caller: CallerOf,
        limit: Limit = 50,
        cursor: Cursor = None,
        mine: Annotated[
            bool, Query(description="Only what the caller's organisation itself must do.")
        ] = False,
    ) -> QueuePage:
        """What waits for somebody in the caller's referrals and tasks, overdue first, and what was escalated to it; for operations all."""
        everything = caller.has("operations")
        whose = Whose(caller.organisation, caller.has("agency"), caller.has("provider"), mine)
        rows = await self._queries.queue(
            None if everything else whose, _behind(QUEUE, cursor), limit, to_operations=everything and mine
        )
        views = await self._showing.views(caller, [(row, _waiting_at(row)) for row in rows], escalations=True)
        now = self._clock.now()
        items = [
            Waiting.model_validate(wait_shown(view, now))
            for view in views
            if view.shows("status") or everything
        ]
        await self._showing.record(views)
        return QueuePage(items=items, cursor=_following(QUEUE, rows, limit))

    async def waiting_list(
        self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None
    ) -> WaitingListPage:
        """The agency's referrals that wait for a place, each with its place in line; nothing of who else waits. For operations all, without
        their places."""
        agency = _own_or_all(caller, "agency")
        rows = await self._queries.waiting_list(agency, _behind(CASELOAD, cursor), limit)
        views = await self._showing.views(caller, [(row, ()) for row in rows])
        places = await self._queries.places([row["referral"] for row in rows if agency is not None])
        items = [
            WaitingInLine.model_validate(
                {
                    **view.referral,
                    "since": view.referral["reopened_at"] or view.referral["opened_at"],
                    "lines": [
                        PlaceInLine(service=service, place=places[view.referral["referral"], service])
                        for service in view.referral["waits_for"]
                        if (view.referral["referral"], service) in places
                    ]
                    if view.as_agency
                    else None,
                }
            )
            for view in views
            if view.shows("status") or agency is None
        ]
        await self._showing.record(views)
        return WaitingListPage(items=items, cursor=_following(CASELOAD, rows, limit))

    async def capacity(
        self,
        caller: CallerOf,
        limit: Limit = 50,
        cursor: Cursor = None,
        mine: Annotated[bool, Query(description="Only the units of the caller's organisation.")] = False,
    ) -> CapacityPage:
        """Units with their places: in all, taken, held and free, how old the count is and how far the service keeps to it. For every
        party: nothing of a person is in it."""
        whose = caller.organisation if mine else None
        rows = await self._queries.capacity(whose, _behind(CAPACITY, cursor), limit)
        now = self._clock.now()
        return CapacityPage(items=[_unit(row, now) for row in rows], cursor=_following(CAPACITY, rows, limit))

    async def submissions(self, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> SubmissionPage:
        """What the caller's organisation sent that was refused, or had to wait for what it refers to."""
        rows = await self._queries.submissions(caller.organisation, _behind(SUBMISSIONS, cursor), limit)
        return SubmissionPage(
            items=[SubmissionRow(**row, detail=REFUSALS.get(row["reason"] or "")) for row in rows],
            cursor=_following(SUBMISSIONS, rows, limit),
        )

    async def references(
        self,
        _: CallerOf,
        limit: Limit = 50,
        cursor: Cursor = None,
        kind: Annotated[ShownKind | None, Query()] = None,
        region: Annotated[Region | None, Query()] = None,
    ) -> ReferencePage:
        """What the regions decide by, in every version they adopted (policies, protocols, calendars, organisations, vocabularies), and the
        services that are published. For every party: nothing of a person is in it."""
        rows = await self._queries.references(kind, region, _behind(REFERENCE, cursor), limit)
        items = [ReferenceRow.model_validate(row) for row in rows]
        return ReferencePage(items=items, cursor=_following(REFERENCE, rows, limit))

    async def reference(
        self,
        _: CallerOf,
        kind: Annotated[ShownKind, Path()],
        name: Annotated[Code, Path()],
        region: Annotated[Region, Query()],
        version: Annotated[int | None, Query(ge=1, le=2_147_483_647)] = None,
    ) -> Reference:
        """One of what a region decides by, or a service, with its content: the latest version, unless another is asked for."""
        row = await self._queries.reference(kind, name, region, version)
        if row is None:
            raise Problem(
                404,
                "unknown_reference",
                f"{region} has adopted no {kind} {name}{'' if version is None else f' {version}'}. GET /v1/reference lists what it has.",
            )
        return Reference.model_validate(row)

    async def _open(
        self,
        view: View,
        timeline: Timeline,
        part_of: str | None,
        events: Sequence[Found],
        show: Sequence[Show],
    ) -> None:
        sections = await self._queries.sections(timeline.referral, part_of)
        for name in dict.fromkeys(show):
            if name == "matches":
                if not (view.as_agency and view.shows("facts")):
                    timeline.withheld[name] = "not_granted"
                elif timeline.erased:
                    timeline.withheld[name] = "erased"
                else:
                    timeline.matches = await self._explained(timeline.region, events)
                continue
            if name == "exchange":
                timeline.exchange = _written(await self._showing.said(view, name, sections))
                if not timeline.exchange:
                    timeline.withheld[name] = _why_nothing(view)
                continue
            field = "note" if name == "outcome" else name
            content = await self._showing.opened(view, name, sections)
            if isinstance(content, str):
                timeline.withheld[field] = content
            else:
                setattr(timeline, field, content)
            if name == "outcome" and content != "not_granted":
                timeline.notes = _written(await self._showing.said(view, name, sections))

    async def _explained(self, region: str, events: Sequence[Found]) -> list[Explained]:
        decided = [
            (Certificate.model_validate_json(event["certificate"]), event)
            for event in events
            if event["certificate"] is not None
        ]
        scorings = await self._queries.scorings(region)
        judged = {
            one.service for certificate, _ in decided for one in (*certificate.best, *certificate.misses)
        }
        names = await self._queries.service_names(judged)
        return [
            Explained(
                attempt=event["detail"]["attempt"],
                at=event["at"],
                policy=certificate.policy,
                policy_version=certificate.policy_version,
                drawn_after=None if certificate.drawn_after is None else certificate.drawn_after.hex(),
                lines=match_in_words(
                    certificate,
                    event["detail"]["service"],
                    scorings.get((certificate.policy, certificate.policy_version)),
                    lambda service: names.get(service, service),
                ),
            )
            for certificate, event in decided
        ]

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
    return [task["provider"] for task in tasks if is_offered(task)]


def _waiting_at(row: Found) -> list[str]:
    """To whom the task that waits is offered, while it is."""
    return [row["provider"]] if row["waits_for"] in ("acknowledge", "answer", "information") else []


def _written(said: Sequence[Said]) -> list[Written]:
    return [Written(**one._asdict()) for one in said]


def _why_nothing(view: View) -> str:
    return "none_given" if view.as_agency or view.as_provider else "not_granted"


def _unit(row: Found, now: int) -> UnitRow:
    # Matching counts the hours of the clock that have begun, and what is shown is what it decides by.
    hours = max(0, now // _HOUR_MS - row["counted_at"] // _HOUR_MS)
    steps = row["trust"] or []
    trust = 1000 if steps else None
    for since, thousandths in steps:
        trust = thousandths if hours >= since else trust
    return UnitRow.model_validate({**row, "stale_hours": hours, "trust": trust})


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
