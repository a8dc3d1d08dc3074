"""Every way to be refused over HTTP: the status, the reason, and the field that is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from referral_bus.client import cloud_event
from referral_bus.contracts.vocabulary import Role
from referral_bus.runtime.metrics import REFUSED_AT_BORDER, SUBMISSIONS
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.wire.cloudevents import BATCH, STRUCTURED
from services.intake.checks import CLOCK_SKEW_MS, HORIZON_MS
from services.intake.refusals import REASONS
from tests.support.admitting import (
    NAME,
    OPERATIONS,
    REFERRAL,
    SERVICE,
    TASK,
    UNIT,
    World,
    definition,
    now,
    organisation,
    referral,
)
from tests.support.holding import held

BODY = referral().model_dump(mode="json")
DEFINITION = definition().model_dump(mode="json")

Case = tuple[str, str, str, Any, int, str, str | None]
"""Who, method, path, body (bytes as they are, else JSON), status, code, field."""

LIMITS = {"crisis": 60_000, "urgent": 60_000, "routine": 60_000}
PROTOCOL = {"protocol": "round", "version": 1, "offer_limits": LIMITS, "maximum_offers": 3, "parking_ms": 0}
OFF_THE_EARTH = {"status": "stated", "latitude": 90_000_001, "longitude": 0}

HALF = json.dumps({**BODY, "subject": "\ud800"}).encode()

WRONG: list[Case] = [
    (
        "hospital",
        "POST",
        "/v1/referrals",
        {**BODY, "facts": {**BODY["facts"], "place": OFF_THE_EARTH}},
        422,
        "invalid",
        "facts.place.latitude",
    ),
    (
        OPERATIONS,
        "POST",
        "/v1/reference",
        {
            "kind": "protocol",
            "content": {
                **PROTOCOL,
                "steps": [{"step": one, "limits": LIMITS} for one in ("start", "handoff", "start")],
            },
        },
        422,
        "invalid",
        "content",
    ),
    (
        "shelter",
        "PUT",
        f"/v1/services/{SERVICE}",
        {**DEFINITION, "units": [{**DEFINITION["units"][0], "unit": "un-south-beds"}]},
        422,
        "region_mismatch",
        "units",
    ),
    ("hospital", "POST", "/v1/referrals", b"{", 400, "malformed", "body"),
    ("hospital", "POST", "/v1/referrals", b"[" * 100_000, 400, "malformed", "body"),
    ("hospital", "POST", "/v1/referrals", {**BODY, "urgency": NAME}, 422, "invalid", "urgency"),
    ("hospital", "POST", "/v1/referrals", {**BODY, "more": 1}, 422, "invalid", "more"),
    ("hospital", "POST", "/v1/referrals", {**BODY, "region": "west"}, 422, "unknown_region", "region"),
    ("hospital", "POST", "/v1/referrals", [BODY], 422, "invalid", "body"),
    ("shelter", "POST", "/v1/referrals", BODY, 403, "role_missing", "Authorization"),
    ("hospital", "POST", f"/v1/offers/{TASK}/accept", {}, 403, "role_missing", "Authorization"),
    ("shelter", "POST", "/v1/offers/nonsense/accept", {}, 422, "invalid", "task"),
    ("shelter", "POST", f"/v1/offers/{TASK}/accept", {"more": 1}, 422, "invalid", "more"),
    ("shelter", "POST", f"/v1/offers/{TASK}/decline", {"reason": "mood"}, 422, "invalid", "reason"),
    ("shelter", "POST", f"/v1/offers/{TASK}/decline", {}, 422, "invalid", "reason"),
    ("shelter", "POST", f"/v1/referrals/{REFERRAL}/start", {"started_at": -1}, 422, "invalid", "started_at"),
    (
        "shelter",
        "POST",
        f"/v1/referrals/{REFERRAL}/outcome",
        {"result": "need_met", "note": "x"},
        422,
        "unknown_referral",
        "referral",
    ),
    ("hospital", "POST", f"/v1/referrals/{REFERRAL}/withdraw", {"reason": "mood"}, 422, "invalid", "reason"),
    ("shelter", "PUT", f"/v1/capacity/{UNIT}", {"total": 1, "available": 1}, 422, "invalid", "true_at"),
    ("shelter", "PUT", "/v1/services/sv-north-other", DEFINITION, 422, "invalid", "service"),
    ("shelter", "PUT", f"/v1/services/{SERVICE}", {**DEFINITION, "name": "\0"}, 422, "invalid", "name"),
    ("hospital", "POST", "/v1/referrals", {**BODY, "subject": "\0"}, 422, "invalid", "subject"),
    ("hospital", "POST", "/v1/referrals", HALF, 422, "invalid", "subject"),
    (
        OPERATIONS,
        "POST",
        "/v1/reference",
        {"kind": "organisation", "content": {**organisation("clinic").model_dump(), "name": "\0"}},
        422,
        "invalid",
        "content.name",
    ),
    (
        "shelter",
        "PUT",
        f"/v1/services/{SERVICE}",
        {**DEFINITION, "organisation": "hospital"},
        403,
        "not_yourself",
        "organisation",
    ),
    (
        "hospital",
        "POST",
        "/v1/reference",
        {"kind": "rules", "content": {}},
        403,
        "role_missing",
        "Authorization",
    ),
    (OPERATIONS, "POST", "/v1/reference", {"kind": "weather", "content": {}}, 422, "invalid", "kind"),
    (OPERATIONS, "POST", "/v1/reference", {"kind": "rules", "content": {}}, 422, "invalid", "content.rules"),
    ("hospital", "DELETE", "/v1/subjects/sj-" + "a" * 26, None, 403, "role_missing", "Authorization"),
    (OPERATIONS, "DELETE", "/v1/subjects/nobody", None, 422, "invalid", "subject"),
    (OPERATIONS, "POST", "/v1/subjects/forget", {"subject": "x"}, 422, "invalid", "organisation"),
    (
        "hospital",
        "POST",
        "/v1/subjects/forget",
        {"subject": "x", "organisation": "shelter"},
        403,
        "not_yourself",
        "organisation",
    ),
    ("shelter", "POST", "/v1/subjects/forget", {"subject": "x"}, 403, "role_missing", "Authorization"),
    ("hospital", "GET", "/v1/nothing", None, 404, "not_found", None),
    ("hospital", "GET", "/v1/referrals", None, 405, "method_not_allowed", None),
]


async def ask(http: httpx.AsyncClient, method: str, path: str, body: Any) -> httpx.Response:
    if isinstance(body, bytes):
        return await http.request(method, path, content=body, headers={"content-type": "application/json"})
    return await http.request(method, path, json=body)


def told(answer: httpx.Response) -> tuple[int, str, str | None]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    assert problem["correlation"] == answer.headers["x-correlation-id"]
    assert NAME not in answer.text
    return answer.status_code, problem["code"], problem.get("field")


async def test_what_is_wrong_is_refused_by_status_reason_and_field_and_nothing_is_on_the_inbox(
    world: World, subtests: Any
) -> None:
    async with world.running():
        await world.publish()
        for who, method, path, body, *expected in WRONG:
            with subtests.test(f"{method} {path} {expected}"):
                async with world.http(who) as http:
                    assert told(await ask(http, method, path, body)) == tuple(expected)
        assert await world.said() == []


async def test_who_shows_no_token_or_a_wrong_one_is_not_let_in(world: World) -> None:
    async with world.running():
        await world.publish()
        path = "/v1/referrals"
        async with world.http() as http:
            nobody = await http.post(path, json=BODY)
            forged = await http.post(path, json=BODY, headers={"authorization": "Bearer a.b.c"})
        stranger: list[Role] = ["agency"]
        async with world.http("stranger", stranger) as http:
            unknown = await http.post(path, json=BODY)
    assert told(nobody) == (401, "no_token", "Authorization")
    assert told(forged) == (401, "token_refused", "Authorization")
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert told(unknown) == (403, "unknown_organisation", "Authorization")


async def test_what_is_not_json_or_too_large_is_told_so(world: World) -> None:
    async with world.running(maximum_body=20_000):
        await world.publish()
        async with world.http("hospital") as http:
            text = await http.post("/v1/referrals", content=b"hello", headers={"content-type": "text/plain"})
            bare = await http.post("/v1/referrals", content=b"{}")
            large = await http.post("/v1/referrals", json={**BODY, "subject": "x" * 20_000})
            id = await http.post("/v1/referrals", json=BODY, headers={"idempotency-key": "a b"})
    assert told(text) == (415, "unsupported_media_type", "content-type")
    assert told(bare) == (415, "unsupported_media_type", "content-type")
    assert told(large) == (413, "too_large", "body")
    assert told(id) == (422, "invalid", "Idempotency-Key")


async def test_an_organisation_that_sends_too_much_waits_and_the_others_do_not(world: World) -> None:
    async with world.running(quota_per_second=1.0, quota_burst=2, maximum_batch=2):
        await world.publish()
        async with world.http("hospital") as http:
            answers = [await http.post("/v1/referrals", json=BODY) for _ in range(4)]
        async with world.http("shelter") as other:
            assert (await other.post(f"/v1/offers/{TASK}/accept", json={})).status_code == 202
    assert [answer.status_code for answer in answers[:2]] == [202, 202]
    assert told(answers[-1]) == (429, "quota_exceeded", None)
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_reference_data_that_would_do_harm_is_not_published(world: World) -> None:
    private = organisation("clinic", encryption_key=new_encryption_keys().private)
    unusable = organisation("clinic", encryption_key='{"kty": "oct"}')
    wrong: list[tuple[str, dict[str, Any], str, str]] = [
        ("organisation", private.model_dump(), "invalid", "content.encryption_key"),
        ("organisation", organisation("relay").model_dump(), "invalid", "content.organisation"),
        ("organisation", unusable.model_dump(), "invalid", "content.encryption_key"),
        (
            "organisation",
            organisation("clinic", region="west").model_dump(),
            "unknown_region",
            "content.home_region",
        ),
        ("organisation", organisation("shelter").model_dump(), "version_not_risen", "content.version"),
        ("regions", {"version": 1, "partitions": {"north": 0}}, "version_not_risen", "content.version"),
        ("regions", {"version": 2, "partitions": {"north": 0}}, "invalid", "content.partitions.south"),
        (
            "regions",
            {"version": 2, "partitions": {"north": 1, "south": 1}},
            "invalid",
            "content.partitions.north",
        ),
        (
            "regions",
            {"version": 2, "partitions": {"north": 0, "south": 1, "west": 2}},
            "invalid",
            "content.partitions.west",
        ),
        ("rules", {"rules": "r" * 65, "version": 1}, "invalid", "content.rules"),
    ]
    async with world.running():
        await world.publish()
        async with world.http(OPERATIONS) as http:
            for kind, content, code, field in wrong:
                answer = await http.post("/v1/reference", json={"kind": kind, "content": content})
                assert told(answer) == (409 if code == "version_not_risen" else 422, code, field)
                assert "BEGIN" not in answer.text and '"d"' not in answer.text


HELD_ELSEWHERE = {
    "not_sealed": (
        "integration/intake/test_outboxes.py",
        "test_what_is_not_sealed_to_intake_is_refused_and_kept_for_operations",
    ),
    "unavailable": (
        "integration/intake/test_outages.py",
        "test_while_the_broker_is_away_it_says_so_and_afterwards_the_same_is_taken",
    ),
    "internal": (
        "unit/intake/test_outboxes.py",
        "test_a_record_that_hits_a_fault_of_ours_is_refused_and_kept_and_all_others_go_on",
    ),
}
"""What only the Kafka door says, what is said while something is away, and what is said of a fault of ours."""


async def test_every_reason_the_border_has_is_reached(world: World) -> None:
    reached = {code for *_, code, _ in WRONG}
    async with world.running(maximum_body=20_000, quota_per_second=0.1, quota_burst=9, maximum_batch=8):
        await world.publish()
        async with world.client("hospital") as bus:
            await bus.submit(referral(), id="r-1")
            await bus.forget(BODY["subject"])
        async with world.http("hospital") as http:

            async def said(content: Any, **headers: str) -> None:
                answer = await http.post("/v1/events", content=content, headers=headers)
                code = answer.json()["code"]
                assert REASONS[code][0] == answer.status_code
                reached.add(code)

            def event(id: str, time: int = 0, **changed: Any) -> str:
                return json.dumps({**cloud_event(referral(), "hospital", id, now() + time), **changed})

            structured = {"content-type": STRUCTURED}
            await said(event("r-1", data={**BODY, "urgency": "crisis"}), **structured)
            await said(event("r-2"), **structured)
            await said(event("r-3", time=-HORIZON_MS - 60_000), **structured)
            await said(event("r-4", time=CLOCK_SKEW_MS + 60_000), **structured)
            await said(event("r-5", type="com.example.other"), **structured)
            await said(b"x" * 30_000, **structured)
            await said(b"hello", **{"content-type": "text/plain"})
            for number in range(6, 20):
                if "quota_exceeded" not in reached:
                    await said(event(f"r-{number}"), **structured)
        stranger: list[Role] = ["agency"]
        async with world.http("stranger", stranger) as http:
            reached.add((await http.post("/v1/referrals", json=BODY)).json()["code"])
        async with world.http(OPERATIONS) as http:
            again = {"kind": "organisation", "content": organisation("shelter").model_dump()}
            reached.add((await http.post("/v1/reference", json=again)).json()["code"])
    tests = Path(__file__).parents[2]
    for reason, (file, test) in HELD_ELSEWHERE.items():
        assert held(tests / file, test, reason)
    assert reached & REASONS.keys() == REASONS.keys() - HELD_ELSEWHERE.keys()


def refused_total() -> dict[str, float]:
    """``refbus_intake_refused_total`` by reason."""
    [metric] = REFUSED_AT_BORDER.collect()
    return {one.labels["reason"]: one.value for one in metric.samples if one.name.endswith("_total")}


def submissions_total(door: str) -> float:
    """``refbus_intake_submissions_total`` of what was refused at a door."""
    return SUBMISSIONS.labels(door=door, result="refused")._value.get()


async def test_whatever_is_refused_is_counted_once_by_its_reason_whoever_refuses_it(world: World) -> None:
    large = {**BODY, "subject": "x" * 20_000}
    path, json_type = "/v1/referrals", {"content-type": "application/json"}
    async with world.running(maximum_body=20_000, maximum_batch=2):
        await world.publish()
        before, doors = refused_total(), [submissions_total(door) for door in ("api", "events")]
        async with world.http() as nobody:
            await nobody.post(path, json=BODY)
            await nobody.post(path, json=BODY, headers={"authorization": "Bearer a.b.c"})
        async with world.http("hospital") as http:
            await http.post(path, content=b"{", headers=json_type)
            await http.post(path, content=b"[" * 10_000, headers=json_type)
            await http.post(path, json={**BODY, "urgency": NAME})
            await http.post(path, content=b"hello", headers={"content-type": "text/plain"})
            await http.post(path, json=large)
            await http.post(path, json={**BODY, "region": "west"})
            await http.post(f"/v1/offers/{TASK}/accept", json={})
            await http.post("/v1/events", content=b"{", headers={"content-type": STRUCTURED})
            await http.post("/v1/events", content=b"[{}, {}, {}]", headers={"content-type": BATCH})
            await http.post("/v1/events", content=b"[{}, {}]", headers={"content-type": BATCH})
            await http.post("/v1/reference", json={"kind": "rules", "content": {}})
            await http.get(f"/v1/{NAME}")
        after = refused_total()
        counted = [submissions_total(door) for door in ("api", "events")]
    assert {reason: after[reason] - before.get(reason, 0.0) for reason in after} == {
        **dict.fromkeys(before, 0.0),
        "no_token": 1,
        "token_refused": 1,
        "malformed": 5,
        "invalid": 1,
        "unsupported_media_type": 1,
        "too_large": 2,
        "unknown_region": 1,
        "role_missing": 2,
    }
    assert [now_ - then for now_, then in zip(counted, doors, strict=True)] == [9, 4]
