"""Each route over HTTP, as the SDK uses it: what is answered, and what is on the inbox then."""

from __future__ import annotations

import json

from referral_bus.client import cloud_event
from referral_bus.contracts.facts import Identity
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AcknowledgeOffer,
    AmendReferral,
    AnswerQuestion,
    AskForInformation,
    ConfirmHandoff,
    DeclineOffer,
    HoldReferral,
    ProposeService,
    PublishService,
    ReopenReferral,
    ReportCapacity,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    ReportOutcome,
    ReportServiceStart,
    ResumeReferral,
    RetractReport,
    SplitReferral,
    SubmitReferral,
    TransferReferral,
    WithdrawReferral,
)
from referral_bus.contracts.requests import PartRequest
from referral_bus.log import topics
from referral_bus.sealing.jwe import open_with, seal_to
from referral_bus.wire.envelope import Envelope
from tests.support.admitting import (
    FACTS,
    NAME,
    NOTE,
    REFERENCE,
    SERVICE,
    UNIT,
    World,
    definition,
    now,
    referral,
)


async def test_what_each_route_takes_is_on_the_inbox_before_it_is_answered(world: World) -> None:
    async with world.running():
        await world.publish()
        async with world.client("hospital") as hospital, world.client("shelter") as shelter:
            at = now()
            submitted = await hospital.submit(referral(), id="r-1")
            assert submitted.referral is not None
            opened = submitted.referral
            task = task_id(opened, 1)
            part = PartRequest(urgency="urgent", facts=FACTS)
            split = await hospital.split(opened, [part, part])
            answers = [
                submitted,
                split,
                await shelter.publish_service(definition()),
                await shelter.report_capacity(UNIT, 4, 3, at),
                await shelter.acknowledge(task),
                await shelter.ask(task, NOTE),
                await hospital.answer(task, NOTE),
                await shelter.propose(task, SERVICE),
                await shelter.accept(task, at),
                await shelter.decline(task, "full_until", at),
                await shelter.contact(opened, "phone", False, at),
                await shelter.no_show(opened, at),
                await shelter.confirm_handoff(opened, "phone", at),
                await shelter.start(opened, at),
                await shelter.hold(opened, "hospital_stay"),
                await shelter.resume(opened),
                await shelter.outcome(opened, "need_met", NOTE),
                await shelter.outcome(split.parts[1], "not_met", NOTE, "moved_away"),
                await shelter.follow_up(opened, 30, "need_met", NOTE),
                await shelter.retract(opened, 17),
                await hospital.amend(opened, urgency="crisis", identity=Identity(name=NAME)),
                await hospital.transfer(opened, "shelter"),
                await hospital.reopen(opened, "need_returned", FACTS),
                await hospital.withdraw(opened, "moved_away"),
            ]
        said = await world.said()
        records = await world.records(topics.inbox(world.bus))
    assert [type(body) for body in said] == [
        SubmitReferral,
        SplitReferral,
        PublishService,
        ReportCapacity,
        AcknowledgeOffer,
        AskForInformation,
        AnswerQuestion,
        ProposeService,
        AcceptOffer,
        DeclineOffer,
        ReportContact,
        ReportNoShow,
        ConfirmHandoff,
        ReportServiceStart,
        HoldReferral,
        ResumeReferral,
        ReportOutcome,
        ReportOutcome,
        ReportFollowUp,
        RetractReport,
        AmendReferral,
        TransferReferral,
        ReopenReferral,
        WithdrawReferral,
    ]
    assert all(answer.region == "north" and answer.token.startswith("north.0.") for answer in answers)
    assert submitted.submission == "r-1"
    assert submitted.follow == f"/v1/referrals/{opened}?after={submitted.token}"
    assert {answer.referral for answer in answers[4:]} == {opened, split.parts[1]}
    assert answers[3].follow == f"/v1/capacity?after={answers[3].token}"
    everything = repr(records)
    assert not any(clear in everything for clear in (NAME, REFERENCE, NOTE, FACTS.needs[0].code))
    by_offset = {f"north.0.{one.offset}": Envelope.from_headers(one.headers).type for one in records}
    assert by_offset[submitted.token] == SubmitReferral.event_type()


async def test_where_intake_is_told_the_query_apis_address_an_answer_links_to_it_at_either_door(
    world: World,
) -> None:
    event = cloud_event(referral(), "hospital", "r-1", now())
    async with world.running(queries="https://queries.example/v/"):
        await world.publish()
        async with world.client("hospital") as bus:
            first = await bus.submit(referral(), id="r-1")
            [again] = await bus.send([event])
        async with world.http() as http:
            answer = (await http.get("/openapi.json")).json()["components"]["schemas"]["Answer"]
    assert first == again
    assert first.follow == f"https://queries.example/v/v1/referrals/{first.referral}?after={first.token}"
    assert "REFBUS_QUERIES" in answer["description"]


async def test_a_request_is_followed_through_the_bus_by_its_correlation_id(world: World) -> None:
    async with world.running():
        await world.publish()
        async with world.http("hospital") as http:
            body = referral().model_dump(mode="json")
            answer = await http.post("/v1/referrals", json=body, headers={"x-correlation-id": "case.17"})
        [record] = [
            one
            for one in await world.records(topics.inbox(world.bus))
            if Envelope.from_headers(one.headers).type == SubmitReferral.event_type()
        ]
    assert answer.status_code == 202
    assert answer.headers["x-correlation-id"] == "case.17"
    assert Envelope.from_headers(record.headers).correlationid == "case.17"


async def test_what_is_sealed_to_the_key_intake_publishes_only_intake_opens(world: World) -> None:
    async with world.running(), world.http() as http:
        key = (await http.get("/v1/keys")).text
    assert "d" not in json.loads(key)
    assert open_with(world.intake_keys.private, seal_to(key, b"for intake")) == b"for intake"


async def test_the_documents_of_the_api_name_every_route_and_answer(world: World) -> None:
    async with world.running(), world.http() as http:
        document = (await http.get("/openapi.json")).json()
        page = await http.get("/docs")
    assert page.status_code == 200 and "swagger" in page.text.lower()
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes >= {
        ("POST", "/v1/events"),
        ("POST", "/v1/referrals"),
        ("POST", "/v1/referrals/{referral}/withdraw"),
        ("POST", "/v1/offers/{task}/accept"),
        ("POST", "/v1/offers/{task}/decline"),
        ("POST", "/v1/referrals/{referral}/start"),
        ("POST", "/v1/referrals/{referral}/outcome"),
        ("POST", "/v1/referrals/{referral}/split"),
        ("POST", "/v1/referrals/{referral}/no-show"),
        ("POST", "/v1/offers/{task}/ask"),
        ("PUT", "/v1/capacity/{unit}"),
        ("PUT", "/v1/services/{service}"),
        ("POST", "/v1/reference"),
        ("POST", "/v1/subjects/forget"),
        ("DELETE", "/v1/subjects/{subject}"),
        ("GET", "/v1/keys"),
    }
    submit = document["paths"]["/v1/referrals"]["post"]
    assert {"202", "400", "401", "403", "409", "413", "415", "422", "429", "503"} <= set(submit["responses"])
    assert "Idempotency-Key" in {parameter["name"] for parameter in submit["parameters"]}
