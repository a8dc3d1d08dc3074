"""What is wrong costs its sender as much as what is right, and the bus a bounded part of that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from referral_bus.access.caller import Caller
from referral_bus.client import cloud_event
from referral_bus.web import problems
from referral_bus.web.bodies import MOST_FAULTS
from referral_bus.web.caller import caller_of
from referral_bus.wire.cloudevents import BATCH, STRUCTURED
from services.intake.api import Doors
from services.intake.quotas import Quotas
from services.intake.reach import Reach
from tests.support.admitting import REFERRAL, SERVICE, TASK, UNIT, definition, referral
from tests.unit.intake.test_admission import Border

IDS = {"referral": REFERRAL, "task": TASK, "unit": UNIT, "service": SERVICE}
BODY = referral().model_dump(mode="json")
WRONG = {f"a{n}": 0 for n in range(MOST_FAULTS + 1)}
BURST = 3


class Reachable(Reach):
    """Says what the test says."""

    def __init__(self) -> None:
        self.said: str | None = None

    def away(self) -> str | None:
        return self.said


class Door:
    """Intake's routes for an organisation whose quota does not come back."""

    def __init__(self, border: Border, burst: int = BURST) -> None:
        self.border = border
        self.reach = Reachable()
        self.app = FastAPI()
        problems.install(self.app)
        self.app.dependency_overrides[caller_of] = lambda: Caller("hospital", frozenset({"agency"}))
        unused = cast("Any", None)
        Doors(
            admission=border.admission,
            publishing=unused,
            forgetting=unused,
            quotas=Quotas(0.001, burst, lambda: 0.0),
            reach=self.reach,
            clock=border.clock,
            public_key="{}",
            maximum_batch=BURST,
        ).install(self.app)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://intake")

    def event(self, id: str, **changed: Any) -> dict[str, Any]:
        return {**cloud_event(referral(), "hospital", id, self.border.clock.now()), **changed}

    async def events(self, content: object, media: str = BATCH) -> httpx.Response:
        return await self.http.post(
            "/v1/events", content=json.dumps(content), headers={"content-type": media}
        )

    async def submit(self, body: object = BODY) -> int:
        return (await self.http.post("/v1/referrals", json=body)).status_code


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with Border() as border:
        await border.open()
        door = Door(border)
        async with door.http:
            yield door


async def test_of_very_many_wrong_fields_every_route_says_how_many_and_looks_at_none() -> None:
    async with Border() as border, (door := Door(border, burst=1_000)).http:
        await _asked_of_every_route(door)


async def _asked_of_every_route(door: Door) -> None:
    asked = 0
    for path, methods in door.app.openapi()["paths"].items():
        for method, route in methods.items():
            if "requestBody" not in route or path == "/v1/events":
                continue
            answer = await door.http.request(method, path.format(**IDS), json=WRONG)
            assert answer.status_code == 422, path
            assert answer.json()["field"] == "body", path
            assert "fields are wrong, too many to name one" in answer.json()["detail"], path
            asked += 1
    assert asked > 20


async def test_of_very_many_wrong_fields_of_an_event_it_is_said_how_many(door: Door) -> None:
    answer = await door.events(door.event("one", data={**BODY, **WRONG}), STRUCTURED)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "invalid", "data")
    assert problem["detail"].startswith(f"data: {len(WRONG)} fields are wrong, too many to name one.")


async def test_as_many_wrong_fields_as_are_looked_at_are_named_by_the_first(door: Door) -> None:
    wrong = dict(list(WRONG.items())[:MOST_FAULTS])
    alone = (await door.http.post("/v1/referrals", json={**BODY, **wrong})).json()
    event = (await door.events(door.event("one", data={**BODY, **wrong}), STRUCTURED)).json()
    assert (alone["field"], event["field"]) == ("a0", "data.a0")
    assert f"{MOST_FAULTS - 1} more" in alone["detail"]
    assert f"{MOST_FAULTS - 1} more" in event["detail"]


async def test_of_a_border_s_wrong_points_one_is_looked_at(door: Door) -> None:
    ring = {"points": [[]] * (MOST_FAULTS + 1)}
    body = {**definition().model_dump(mode="json"), "polygons": [{"rings": [ring, ring]}]}
    answer = await door.http.put(f"/v1/services/{SERVICE}", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "polygons.0.rings.0.points.0")
    assert "more are wrong" not in answer.json()["detail"]


async def test_a_wrong_body_costs_as_much_as_a_good_one(door: Door) -> None:
    assert [await door.submit({**BODY, "more": 1}) for _ in range(BURST + 1)] == [422] * BURST + [429]
    assert await door.submit() == 429


async def test_a_good_one_costs_one_at_every_route(door: Door) -> None:
    assert await door.submit() == 202
    assert (await door.events(door.event("two"), STRUCTURED)).status_code == 202
    assert (await door.events([door.event("three")])).status_code == 207
    assert await door.submit() == 429


async def test_a_batch_costs_its_events_whether_good_or_wrong(door: Door) -> None:
    answer = await door.events([door.event("one"), door.event("two", data={}), {}])
    assert [one["status"] for one in answer.json()["results"]] == [202, 422, 400]
    assert (await door.events([{}])).status_code == 429


@pytest.mark.parametrize(
    ("content", "media", "status"),
    [
        ({}, STRUCTURED, 400),
        ({}, BATCH, 400),
        ([{}] * (BURST + 1), BATCH, 413),
        ({}, "text/plain", 415),
    ],
)
async def test_what_is_no_event_or_no_batch_costs_one(
    door: Door, content: object, media: str, status: int
) -> None:
    answers = [(await door.events(content, media)).status_code for _ in range(BURST + 1)]
    assert answers == [status] * BURST + [429]


async def test_what_can_not_be_taken_since_a_part_is_away_costs_nothing(door: Door) -> None:
    door.reach.said = "Kafka does not answer."
    for _ in range(BURST):
        assert await door.submit() == 503
        assert (await door.events([door.event("one")] * BURST)).status_code == 503
    door.reach.said = None
    assert [await door.submit() for _ in range(BURST + 1)] == [202] * BURST + [429]


async def test_a_batch_that_is_more_than_is_left_costs_nothing(door: Door) -> None:
    assert await door.submit() == 202
    assert (await door.events([door.event("one")] * BURST)).status_code == 429
    assert [await door.submit() for _ in range(BURST)] == [202] * (BURST - 1) + [429]
