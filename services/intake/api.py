"""Intake's HTTP API: typed routes for people, CloudEvents for programs, and what operations publish and forget."""

import json
import logging
import math
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from referral_bus.access.caller import Caller
from referral_bus.client.events import new_id
from referral_bus.contracts.ids import OrganisationId, SubjectId
from referral_bus.contracts.message import Part
from referral_bus.contracts.published import PublishedKind
from referral_bus.contracts.requests import SubjectReference
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.logs import correlation
from referral_bus.web.bodies import Given
from referral_bus.web.caller import CallerOf
from referral_bus.web.problems import Problem
from referral_bus.wire.cloudevents import (
    BATCH,
    STRUCTURED,
    BatchTooLong,
    CloudEvent,
    batch,
    from_http,
    from_structured,
    media_type,
)
from referral_bus.wire.errors import WireError
from services.intake.admission import Admission, Speaker
from services.intake.answers import Admitted, Answer
from services.intake.checks import Door, Presented
from services.intake.counting import count
from services.intake.forgetting import Forgetting
from services.intake.outages import OUTAGES, RETRY_SECONDS
from services.intake.presenting import correlation_of, presented, unreadable
from services.intake.publishing import Publishing
from services.intake.quotas import Quotas
from services.intake.reach import Reach
from services.intake.reference import identity
from services.intake.refusals import Counted, Refused, problem
from services.intake.typed import Typed

logger = logging.getLogger(__name__)

_ACCEPTED: Final = 202
_MULTI_STATUS: Final = 207
LARGEST_SUBMISSION: Final = 262_144
"""Bytes of a body that says one thing of a person or a unit. The longest, a split into ten parts, has 80,471, or 228,311 in escapes."""
LARGER: Final = ("/v1/events", "/v1/services/", "/v1/reference")
"""Where there are batches, services with the borders of their areas, or whole vocabularies."""


class PublicationRequest(BaseModel):
    """A version of reference data. ``content`` is an object of the kind; see the contracts of reference data."""

    model_config = ConfigDict(extra="forbid")

    kind: PublishedKind
    content: dict[str, Any]


class PublicationAnswer(BaseModel):
    """It counts from now on, and every region is put to it."""

    kind: str
    reference: str
    version: int


class ForgetRequest(BaseModel):
    """An agency's own reference for a person. Operations name the ``organisation`` whose reference it is."""

    model_config = ConfigDict(extra="forbid")

    subject: SubjectReference
    organisation: OrganisationId | None = None


class ForgetAnswer(BaseModel):
    """The person's keys are destroyed. ``tokens``, by region, are for ``?after=`` of the queries."""

    subject: str
    tokens: dict[str, str]


class ProblemDetails(BaseModel):
    """RFC 9457. ``code`` is for programs, ``detail`` says what to do, ``field`` names what is wrong."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    correlation: str | None = None


class BatchAnswer(BaseModel):
    """For each event in order: ``status`` 202 with the fields of an answer, or another with those of problem details."""

    results: list[dict[str, Any]]


_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemDetails, "content": {"application/problem+json": {}}, "description": said}
    for status, said in (
        (400, "It can't be read."),
        (401, "The token is missing or refused."),
        (403, "This organisation or role may not do this."),
        (409, "It contradicts what was said before."),
        (413, "It is too large."),
        (415, "It is not JSON."),
        (422, "A field is wrong; it is named."),
        (429, "The organisation's quota is used up; see Retry-After."),
        (503, "Kafka or PostgreSQL does not answer; nothing is lost. See Retry-After."),
    )
}
_EVENT_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            STRUCTURED: {"schema": {"type": "object"}},
            BATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}


class _KeyResponse(JSONResponse):
    media_type = "application/jwk+json"


async def json_only(request: Request) -> None:
    """Refuses a body that says it is something else than JSON."""
    given = request.headers.get("content-type")
    media = "" if given is None else media_type(given)
    empty = (
        request.headers.get("content-length") in (None, "0") and "transfer-encoding" not in request.headers
    )
    if not empty and media != "application/json" and not media.endswith("+json"):
        raise problem(Refused("unsupported_media_type", field="content-type"))


class Doors:
    """The routes, on the parts they need. ``maximum_batch`` is the most events of one batch."""

    def __init__(
        self,
        *,
        admission: Admission,
        publishing: Publishing,
        forgetting: Forgetting,
        quotas: Quotas,
        reach: Reach,
        clock: Clock,
        public_key: str,
        maximum_batch: int,
    ) -> None:
        self._admission = admission
        self._publishing = publishing
        self._forgetting = forgetting
        self._quotas = quotas
        self._reach = reach
        self._clock = clock
        self._public_key = json.loads(public_key)
        self._maximum_batch = maximum_batch

    def install(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        taken: dict[str, Any] = {
            "status_code": _ACCEPTED,
            "response_model": Answer,
            "responses": _PROBLEMS,
            "dependencies": [Depends(json_only), Depends(self.enter)],
        }
        router = APIRouter(prefix="/v1")
        Typed(self._say).install(router, taken)
        router.add_api_route(
            "/events",
            self.events,
            methods=["POST"],
            tags=["programs"],
            status_code=_ACCEPTED,
            response_model=Answer,
            responses={
                **_PROBLEMS,
                _MULTI_STATUS: {"model": BatchAnswer, "description": "What became of each."},
            },
            openapi_extra=_EVENT_BODY,
        )
        router.add_api_route(
            "/keys",
            self.keys,
            methods=["GET"],
            tags=["programs"],
            response_model=None,
            response_class=_KeyResponse,
        )
        router.add_api_route(
            "/reference",
            self.publish,
            methods=["POST"],
            tags=["operations"],
            status_code=201,
            responses=_PROBLEMS,
            dependencies=[Depends(json_only)],
        )
        router.add_api_route(
            "/subjects/forget",
            self.forget,
            methods=["POST"],
            tags=["agencies", "operations"],
            responses=_PROBLEMS,
            dependencies=[Depends(json_only)],
        )
        router.add_api_route(
            "/subjects/{subject}",
            self.forget_subject,
            methods=["DELETE"],
            tags=["operations"],
            responses=_PROBLEMS,
        )
        app.include_router(router)

    async def enter(self, caller: CallerOf) -> None:
        """Of the routes for one submission: its quota is taken before its fields are looked at, so that a wrong one costs as much as a
        good one. What is no JSON is refused before that."""
        self._enter(caller, "api", 1)

    async def events(self, request: Request, caller: CallerOf) -> Response:
        """CloudEvents 1.0 over HTTP in binary, structured or batch mode. The event's id is the submission's; of a batch each event
        gets its own result, and a bad one takes no other along. Where a batch as a whole can't be taken now, it is answered 429 or
        503: send it again as it is."""
        body = await request.body()
        if media_type(request.headers.get("content-type", "")) == BATCH:
            return await self._batch(body, caller)
        self._enter(caller, "events", 1)
        try:
            event = from_http(request.headers.items(), body)
            one = presented(event, "events", self._clock.now())
        except WireError as error:
            raise self._turned_away(caller, unreadable(error)) from None
        except Refused as refused:
            raise self._turned_away(caller, refused) from None
        [result] = await self._admit([one], caller, [correlation_of(event) or correlation()])
        return _answered(result)

    async def keys(self) -> Response:
        """Intake's public key, a JWK (RFC 7517): what goes to an outbox is sealed to it."""
        return _KeyResponse(self._public_key)

    async def publish(self, body: Given[PublicationRequest], caller: CallerOf) -> PublicationAnswer:
        """Publish a version of reference data. Operations only."""
        self._reachable()
        try:
            message = await self._publishing.publish(body.kind, body.content, caller)
        except Refused as refused:
            raise problem(refused) from None
        except OUTAGES:
            raise problem(Refused("unavailable", retry_after=RETRY_SECONDS)) from None
        kind, reference = identity(message)
        return PublicationAnswer(kind=kind, reference=reference, version=message.version)

    async def forget(self, body: Given[ForgetRequest], caller: CallerOf) -> ForgetAnswer:
        """Destroy the keys of a person: nothing sealed of them can be opened any more. It can't be undone."""
        try:
            subject = self._forgetting.subject_of(body.subject, body.organisation, caller)
        except Refused as refused:
            raise problem(refused) from None
        return await self._forgotten(subject, caller)

    async def forget_subject(self, subject: SubjectId, caller: CallerOf) -> ForgetAnswer:
        """The same by the bus's pseudonym, which does not say whose person it is: operations only."""
        if not caller.has("operations"):
            raise problem(
                Refused(
                    "role_missing",
                    "An agency forgets by its own reference: POST /v1/subjects/forget.",
                    field="Authorization",
                )
            )
        return await self._forgotten(subject, caller)

    async def _forgotten(self, subject: str, caller: Caller) -> ForgetAnswer:
        self._reachable()
        # Each region writes it down for ever.
        wait = self._quotas.take(caller.organisation, self._forgetting.regions)
        if wait > 0:
            raise problem(Refused("quota_exceeded", retry_after=math.ceil(wait)))
        try:
            tokens = await self._forgetting.forget(subject, caller)
        except Refused as refused:
            raise problem(refused) from None
        except OUTAGES:
            raise problem(Refused("unavailable", retry_after=RETRY_SECONDS)) from None
        return ForgetAnswer(subject=subject, tokens=tokens)

    async def _say(self, request: Part, caller: Caller, key: str | None) -> Response:
        one = Presented(key or new_id(), caller.organisation, self._clock.now(), request, "api")
        [result] = await self._admit([one], caller, [correlation()])
        return _answered(result)

    async def _batch(self, body: bytes, caller: Caller) -> Response:
        try:
            events = batch(body, self._maximum_batch)
        except BatchTooLong as error:
            self._enter(caller, "events", 1)
            raise self._turned_away(caller, Refused("too_large", f"{error}.", field="body")) from None
        except WireError as error:
            self._enter(caller, "events", 1)
            raise self._turned_away(caller, unreadable(error)) from None
        self._enter(caller, "events", len(events))
        results: list[Admitted | Refused | None] = []
        fit: list[tuple[Presented, str | None]] = []
        for given in events:
            try:
                event: CloudEvent = from_structured(given)
                fit.append(
                    (presented(event, "events", self._clock.now()), correlation_of(event) or correlation())
                )
                results.append(None)
            except WireError as error:
                results.append(unreadable(error))
            except Refused as refused:
                results.append(refused)
        for refused_one in results:
            if refused_one is not None:
                count("events", caller.organisation, refused_one)
        admitted = iter(await self._together_or_alone(fit, caller))
        done = [next(admitted) if result is None else result for result in results]
        for result in done:
            if isinstance(result, Refused) and result.reason == "unavailable":
                raise problem(result, Counted)
        return JSONResponse({"results": [_result(result) for result in done]}, _MULTI_STATUS)

    async def _together_or_alone(
        self, events: Sequence[tuple[Presented, str | None]], caller: Caller
    ) -> list[Admitted | Refused]:
        """What becomes of the events of a batch: one that hits a fault of ours takes no other along."""
        try:
            return await self._admit([one for one, _ in events], caller, [about for _, about in events])
        except Exception:
            logger.warning("a batch of %d hit a fault: its events are admitted one by one", len(events))
        results: list[Admitted | Refused] = []
        speaker = Speaker(caller.organisation, caller.roles)
        for one, about in events:
            try:
                results += await self._admission.admit([one], speaker, [about])
            except Exception as error:
                logger.error("an event of a batch can't be admitted", exc_info=error)
                fault = Refused("internal")
                count("events", caller.organisation, fault)
                results.append(fault)
        return results

    async def _admit(
        self, requests: Sequence[Presented], caller: Caller, correlations: Sequence[str | None]
    ) -> list[Admitted | Refused]:
        speaker = Speaker(caller.organisation, caller.roles)
        return await self._admission.admit(requests, speaker, correlations)

    def _enter(self, caller: Caller, door: Door, submissions: int) -> None:
        """Take the quota of so many that are still to be read. Raises Counted where they can't be taken now."""
        if not submissions:
            return
        refused = self._away()
        if refused is None:
            wait = self._quotas.take(caller.organisation, submissions)
            if wait <= 0:
                return
            refused = Refused("quota_exceeded", retry_after=math.ceil(wait))
        for _ in range(submissions):
            count(door, caller.organisation, refused)
        raise problem(refused, Counted)

    def _reachable(self) -> None:
        refused = self._away()
        if refused is not None:
            raise problem(refused)

    def _away(self) -> Refused | None:
        away = self._reach.away()
        return None if away is None else Refused("unavailable", away, retry_after=RETRY_SECONDS)

    def _turned_away(self, caller: Caller, refused: Refused) -> Problem:
        """The refusal of an event, or of a batch as a whole, counted for the organisation that sent it."""
        count("events", caller.organisation, refused)
        return problem(refused, Counted)


def _answered(result: Admitted | Refused) -> Response:
    if isinstance(result, Refused):
        raise problem(result, Counted)
    return Response(
        result.answer.model_dump_json(exclude_none=True), _ACCEPTED, media_type="application/json"
    )


def _result(result: Admitted | Refused) -> dict[str, Any]:
    if isinstance(result, Refused):
        return problem(result).body()
    return {"status": _ACCEPTED, **result.answer.model_dump(exclude_none=True)}
