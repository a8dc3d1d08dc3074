"""Subscriptions over HTTP: one's own only, with the secret shown once, and within limits."""

from __future__ import annotations

from typing import Any

from services.notifier.subscriptions import MOST_EACH
from tests.support.notifying import NAME, World


async def test_a_secret_is_shown_once_and_kept_sealed(world: World) -> None:
    request = {"channel": "webhook", "role": "provider", "url": "https://example.org/hook"}
    async with world.running(), world.http("shelter") as http:
        made = (await http.post("/v1/subscriptions", json=request)).json()
        [listed] = (await http.get("/v1/subscriptions")).json()["subscriptions"]
    assert made["secret"].startswith("whsec_")
    assert "secret" not in listed
    assert listed == {name: content for name, content in made.items() if name != "secret"}
    [row] = await world.rows("select sealed_secret from notifier.subscriptions")
    assert made["secret"].encode() not in bytes(row.sealed_secret)


async def test_a_subscription_is_seen_and_ended_by_its_own_organisation_only(world: World) -> None:
    async with world.running(), world.http("shelter") as http, world.http("clinic") as other:
        made = (await http.post("/v1/subscriptions", json={"channel": "feed", "role": "provider"})).json()
        path = f"/v1/subscriptions/{made['subscription']}"
        assert (await other.get("/v1/subscriptions")).json() == {"subscriptions": []}
        assert (await other.delete(path)).status_code == 404
        assert (await http.delete(path)).status_code == 204
        assert (await http.delete(path)).status_code == 404
        assert (await http.get("/v1/subscriptions")).json() == {"subscriptions": []}


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"channel": "webhook", "role": "provider"}, 422, "body"),
    ({"channel": "feed", "role": "provider", "url": "https://example.org/"}, 422, "body"),
    ({"channel": "webhook", "role": "provider", "url": "https://10.0.0.1/"}, 422, "url"),
    ({"channel": "webhook", "role": "provider", "url": "http://example.org/"}, 422, "url"),
    ({"channel": "pigeon", "role": "provider"}, 422, "channel"),
    ({"channel": "feed", "role": "provider", "types": ["nonsense"]}, 422, "types"),
    ({"channel": "feed", "role": "provider", "more": 1}, 422, "more"),
    ({"channel": "feed", "role": "agency"}, 403, "role"),
]


async def test_a_wrong_request_is_told_which_field_is_wrong(world: World) -> None:
    async with world.running(), world.http("shelter") as http:
        answers = [await http.post("/v1/subscriptions", json=request) for request, _, _ in WRONG]
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    told = [(answer.status_code, answer.json()["field"]) for answer in answers]
    assert told == [(status, field) for _, status, field in WRONG]


async def test_an_organisation_has_only_so_many_subscriptions_and_without_a_token_there_is_nothing(
    world: World,
) -> None:
    async with world.running(), world.http("shelter") as http:
        for _ in range(MOST_EACH):
            made = await http.post("/v1/subscriptions", json={"channel": "feed", "role": "provider"})
            assert made.status_code == 201
        refused = await http.post("/v1/subscriptions", json={"channel": "feed", "role": "provider"})
        for method, path in [
            ("GET", "/v1/subscriptions"),
            ("POST", "/v1/subscriptions"),
            ("DELETE", "/v1/subscriptions/sb-aaaaaaaaaaaaaaaaaaaa"),
            ("GET", "/v1/stream"),
            ("GET", "/v1/deliveries"),
        ]:
            response = await http.request(method, path, headers={"authorization": ""})
            assert response.status_code == 401, path
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_subscriptions")


async def test_deliveries_are_listed_by_pages_and_no_table_holds_a_name(world: World) -> None:
    async with world.running(), world.http("hospital") as http, world.http("police") as other:
        for _ in range(2):
            await http.post("/v1/subscriptions", json={"channel": "feed", "role": "agency"})
        await world.adopt()
        await world.ledger.put(*[await world.opened() for _ in range(5)])
        await world.reflected()
        seen: list[str] = []
        cursor: str | None = None
        while True:
            params = {"limit": "3"} | ({} if cursor is None else {"cursor": cursor})
            page = (await http.get("/v1/deliveries", params=params)).json()
            seen += [delivery["delivery"] for delivery in page["deliveries"]]
            cursor = page["cursor"]
            if cursor is None:
                break
        assert (await other.get("/v1/deliveries")).json() == {"deliveries": [], "cursor": None}
    assert len(seen) == len(set(seen)) == 10
    for table in ("standings", "notices", "deliveries", "subscriptions"):
        rows = await world.rows(f"select to_jsonb(t)::text as row from notifier.{table} t")
        assert rows
        assert not any(NAME in row.row or NAME.encode().hex() in row.row for row in rows)
