"""CloudEvents over HTTP: binary, structured and batch, through the SDK and by hand."""

from __future__ import annotations

import json
from typing import Any

from referral_bus.client import Answer, BusError, cloud_event
from referral_bus.contracts.inbox import AcceptOffer, SubmitReferral
from referral_bus.contracts.requests import AcceptRequest
from referral_bus.log import topics
from referral_bus.wire.cloudevents import BATCH, STRUCTURED
from referral_bus.wire.envelope import Envelope
from tests.integration.intake.test_refusals import told
from tests.support.admitting import NAME, TASK, World, now, referral


def event(id: str, **changed: Any) -> dict[str, Any]:
    return {**cloud_event(referral(), "hospital", id, now()), **changed}


async def test_one_event_is_taken_alike_in_binary_and_structured_mode_and_by_the_typed_route(
    world: World,
) -> None:
    sent = event("e-1", correlationid="case.17")
    attributes = {
        f"ce-{name}": str(value) for name, value in sent.items() if name not in ("data", "datacontenttype")
    }
    async with world.running():
        await world.publish()
        async with world.http("hospital") as http:
            binary = await http.post("/v1/events", json=sent["data"], headers=attributes)
            structured = await http.post(
                "/v1/events",
                content=json.dumps(sent),
                headers={"content-type": f"{STRUCTURED}; charset=utf-8"},
            )
            typed = await http.post("/v1/referrals", json=sent["data"], headers={"idempotency-key": "e-1"})
        [record] = [
            one
            for one in await world.records(topics.inbox(world.bus))
            if Envelope.from_headers(one.headers).type == SubmitReferral.event_type()
        ]
    assert [answer.status_code for answer in (binary, structured, typed)] == [202, 202, 202]
    assert binary.json() == structured.json() == typed.json()
    assert Envelope.from_headers(record.headers).correlationid == "case.17"


async def test_a_batch_is_answered_one_by_one_in_order_and_a_bad_one_takes_no_other_along(
    world: World,
) -> None:
    good, accept = event("b-1"), cloud_event(AcceptRequest(task=TASK), "shelter", "b-5", now())
    batch = [
        good,
        event("b-2", data={"urgency": NAME}),
        {"id": "no event"},
        good,
        accept,
        event("b-1", data={**good["data"], "urgency": "crisis"}),
        event("b-6", type="com.example.other"),
        event("b-7"),
    ]
    async with world.running():
        await world.publish()
        async with world.client("hospital") as bus:
            answers = await bus.send(batch)
            again = await bus.send(batch)
        said = await world.said()
    seen = [
        "taken" if isinstance(answer, Answer) else (answer.status, answer.code, answer.field)
        for answer in answers
    ]
    assert seen == [
        "taken",
        (422, "invalid", "data.subject"),
        (400, "malformed", "specversion"),
        "taken",
        (403, "not_yourself", "source"),
        (409, "id_reused", "id"),
        (422, "unknown_type", "type"),
        "taken",
    ]
    assert answers[0] == answers[3]
    assert len(said) == 2
    assert [one if isinstance(one, Answer) else one.code for one in again] == [
        one if isinstance(one, Answer) else one.code for one in answers
    ]
    assert all(NAME not in str(one) for one in answers if isinstance(one, BusError))


async def test_a_batch_keeps_its_order_on_the_inbox(world: World) -> None:
    async with world.running():
        await world.publish()
        async with world.client("shelter") as bus:
            tasks = [f"{TASK[:-1]}{number}" for number in range(1, 101)]
            await bus.send(
                [cloud_event(AcceptRequest(task=task), "shelter", f"a-{task}", now()) for task in tasks]
            )
        assert [body.task for body in await world.said() if isinstance(body, AcceptOffer)] == tasks


async def test_what_is_no_event_is_refused_and_the_attribute_named(world: World) -> None:
    structured = {"content-type": STRUCTURED}
    async with world.running(maximum_batch=3):
        await world.publish()
        async with world.http("hospital") as http:

            async def post(content: Any, headers: dict[str, str]) -> tuple[int, str, str | None]:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                return told(await http.post("/v1/events", content=body, headers=headers))

            assert await post(b"{", structured) == (400, "malformed", "the body")
            assert await post([], structured) == (400, "malformed", "the event")
            assert await post(event("e-1", specversion="0.3"), structured) == (
                400,
                "malformed",
                "specversion",
            )
            assert await post(event("e-1", source="/x"), structured) == (400, "malformed", "source")
            assert await post(event("e-1", time="now"), structured) == (400, "malformed", "time")
            assert await post(event("e-1", data_base64="AA=="), structured) == (
                415,
                "unsupported_media_type",
                "data_base64",
            )
            assert await post(b"<xml/>", {"content-type": "application/xml", "ce-id": "1"}) == (
                415,
                "unsupported_media_type",
                "content-type",
            )
            assert await post({}, {"content-type": BATCH}) == (400, "malformed", "the batch")
            assert await post([event("e-1")] * 4, {"content-type": BATCH}) == (413, "too_large", "body")
            assert await post(event("e-1", source="/organisations/shelter"), structured) == (
                403,
                "not_yourself",
                "source",
            )
            empty = await http.post("/v1/events", content=b"[]", headers={"content-type": BATCH})
        assert (empty.status_code, empty.json()) == (207, {"results": []})
        assert await world.said() == []
