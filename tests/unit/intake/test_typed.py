"""Each typed route says what its path and body say together, and the SDK uses them all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import get_args

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import Response

from referral_bus.access.caller import Caller
from referral_bus.contracts.criteria import Document, Trait
from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import REQUESTS, PartRequest, ReferralRequest, ServiceRequest, SplitBody
from referral_bus.web import problems
from referral_bus.web.caller import caller_of
from services.intake.api import LARGEST_SUBMISSION
from services.intake.typed import Typed
from tests.support.admitting import ROUTES, SAID, SERVICE, TASK, definition, referral


class Doors:
    """The typed routes alone, and what they were told."""

    def __init__(self) -> None:
        self.said: list[Part] = []
        self.app = FastAPI()
        problems.install(self.app)
        self.app.dependency_overrides[caller_of] = lambda: Caller("hospital", frozenset({"agency"}))
        router = APIRouter()
        Typed(self._say).install(router, {"status_code": 202})
        self.app.include_router(router)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://intake")

    async def _say(self, request: Part, caller: Caller, id: str | None) -> Response:
        assert (caller.organisation, id) == ("hospital", "s-1")
        self.said.append(request)
        return Response(status_code=202)

    async def put(self, route: str, body: object) -> httpx.Response:
        method, path = route.split(" ")
        return await self.http.request(method, path, json=body, headers={"idempotency-key": "s-1"})


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    doors = Doors()
    async with doors.http:
        yield doors


def test_every_request_has_a_route() -> None:
    assert {request.__name__ for request in REQUESTS} == set(ROUTES)


@pytest.mark.parametrize(
    ("about", "request_"),
    [("", referral()), *((about, request) for _, about, request in SAID)],
    ids=lambda one: type(one).__name__,
)
async def test_a_route_says_what_its_path_and_its_body_say(doors: Doors, about: str, request_: Part) -> None:
    said = request_.model_dump(mode="json")
    body = said["definition"] if isinstance(request_, ServiceRequest) else said
    if not isinstance(request_, ServiceRequest):
        body = {name: value for name, value in said.items() if value != about}
    answer = await doors.put(ROUTES[type(request_).__name__].format(about), body)
    assert answer.status_code == 202, answer.text
    assert doors.said == [request_]


def test_the_most_that_one_submission_can_say_fits_its_limit_even_written_in_escapes() -> None:
    text, code = "\U0001f600", "x" * 128
    facts = Facts.model_validate(
        {
            "languages": {"status": "stated", "values": [text * 64] * 20},
            "area": {"status": "stated", "value": text * 64},
            "needs": [{"vocabulary": code, "code": code}] * 10,
            "traits": [{"trait": trait, "answer": "unknown"} for trait in get_args(Trait)],
            "documents": [{"document": one, "answer": "unknown"} for one in get_args(Document)],
        }
    )
    whole = SplitBody(parts=[PartRequest(urgency="routine", facts=facts)] * 10)
    note = Identity(name=text * 200, address=text * 300, note=text * 4_000)
    person = ReferralRequest(subject=text * 128, urgency="routine", facts=facts, identity=note)
    for body in (whole, person):
        assert len(json.dumps(body.model_dump(mode="json"))) < LARGEST_SUBMISSION


@pytest.mark.parametrize("verb", ["accept", "acknowledge"])
async def test_where_nothing_more_need_be_said_no_body_need_be_sent(doors: Doors, verb: str) -> None:
    answer = await doors.http.post(f"/offers/{TASK}/{verb}", headers={"idempotency-key": "s-1"})
    assert answer.status_code == 202
    assert [one.model_dump(exclude_none=True) for one in doors.said] == [{"task": TASK}]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("POST /referrals", {**referral().model_dump(mode="json"), "mode": "direct"}),
        ("POST /referrals", {**referral().model_dump(mode="json"), "service": SERVICE}),
        ("POST /referrals/rf-north-aaaaaaaaaaaaaaaaaaaa/amend", {}),
        ("POST /referrals/rf-north-aaaaaaaaaaaaaaaaaaaa/split", {"parts": []}),
        ("POST /referrals/rf-north-aaaaaaaaaaaaaaaaaaaa/resume", {"until": 1}),
        ("POST /referrals/rf-north-aaaaaaaaaaaaaaaaaaaa/hold", {"reason": "bored"}),
        ("POST /referrals/rf-north-aaaaaaaaaaaaaaaaaaaa/follow-up", {"days": 31, "result": "need_met"}),
        (f"POST /offers/{TASK}/ask", {"question": ""}),
        ("PUT /services/sv-north-others", definition().model_dump(mode="json")),
    ],
)
async def test_what_says_too_much_or_too_little_is_refused_before_anybody_hears_it(
    doors: Doors, route: str, body: object
) -> None:
    answer = await doors.put(route, body)
    assert answer.status_code == 422, answer.text
    assert doors.said == []
