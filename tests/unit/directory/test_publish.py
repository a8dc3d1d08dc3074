"""Publishing against an intake that is made up of its contract."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import httpx
import pytest

from referral_bus.client import retry
from referral_bus.contracts.vocabularies import Taxonomy
from referral_bus.contracts.vocabulary import Role
from referral_bus.demo.county import County
from referral_bus.directory import publish as publishing
from referral_bus.directory.publish import PublishError, publish
from referral_bus.directory.taxonomy import open_eligibility

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_SECONDS", 0.0001)
    monkeypatch.setattr(retry, "_LONGEST_SECONDS", 0.0001)


@pytest.fixture(scope="module")
def county() -> County:
    return County.make(seed=3)


def token(organisation: str, roles: list[Role]) -> str:
    return f"{organisation}:{'+'.join(roles)}"


def taken(request: httpx.Request) -> httpx.Response:
    return httpx.Response(202, json={"token": f"north.0.{request.url.path.rpartition('-')[2]}"})


def problem(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "No.", "field": "units"})


async def put(county: County, answer: Answer, own: Sequence[Taxonomy] = ()) -> publishing.Published:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        return await publish(http, "http://intake/", county.organisations, county.services, token, own)


async def test_organisations_go_as_operations_and_services_as_their_organisation(county: County) -> None:
    seen: list[httpx.Request] = []

    def intake(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return taken(request)

    published = await put(county, intake)
    assert (published.organisations, published.unchanged, published.refused) == (40, 0, [])
    assert published.tokens.keys() == {service.service for service in county.services}
    reference, services = seen[:40], seen[40:]
    assert {(r.method, r.url.path, r.headers["Authorization"]) for r in reference} == {
        ("POST", "/v1/reference", "Bearer operations:operations")
    }
    assert [json.loads(r.content)["content"]["organisation"] for r in reference] == [
        one.organisation for one in county.organisations
    ]
    for request, service in zip(services, county.services, strict=True):
        assert (request.method, request.url.path) == ("PUT", f"/v1/services/{service.service}")
        assert request.headers["Authorization"] == f"Bearer {service.organisation}:provider"
        assert json.loads(request.content) == service.model_dump(mode="json")


async def test_what_was_not_taken_for_now_is_put_again_under_the_same_id(county: County) -> None:
    tries: Counter[str] = Counter()
    refusals = [httpx.Response(503, headers={"Retry-After": "0"}), problem(403, "unknown_organisation")]

    def intake(request: httpx.Request) -> httpx.Response:
        key = request.headers["Idempotency-Key"]
        tries[key] += 1
        return refusals[tries[key] - 1] if tries[key] <= len(refusals) else taken(request)

    published = await put(county, intake)
    assert len(published.tokens) == 200
    assert set(tries.values()) == {3}
    assert len(tries) == 240


async def test_an_organisation_the_bus_has_already_is_no_refusal(county: County) -> None:
    published = await put(
        county, lambda r: problem(409, "reference_outdated") if r.method == "POST" else taken(r)
    )
    assert (published.organisations, published.unchanged, published.refused) == (0, 40, [])


async def test_taxonomies_are_published_as_operations_before_the_services_and_a_known_one_is_no_refusal(
    county: County,
) -> None:
    own = [open_eligibility(), open_eligibility().model_copy(update={"taxonomy": "house-words"})]
    asked: list[str] = []

    def intake(request: httpx.Request) -> httpx.Response:
        content = json.loads(request.content).get("content", {})
        asked.append("taxonomy" if "taxonomy" in content else request.method)
        if content.get("taxonomy") == "house-words":
            return problem(409, "version_not_risen")
        return taken(request)

    published = await put(county, intake, own)
    assert asked == ["POST"] * 40 + ["taxonomy"] * 2 + ["PUT"] * 200
    assert (published.taxonomies, published.known_taxonomies, published.refused) == (1, 1, [])


async def test_a_refused_service_is_told_with_its_reason_and_stops_no_other(county: County) -> None:
    refused = county.services[5].service
    published = await put(
        county, lambda r: problem(422, "invalid") if r.url.path.endswith(refused) else taken(r)
    )
    assert [(one.id, one.reason) for one in published.refused] == [(refused, "422 invalid: No. (units)")]
    assert len(published.tokens) == 199


async def test_an_intake_that_stays_away_is_said(county: County, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_PATIENCE_SECONDS", 0.0)

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(PublishError, match="can't be reached"):
        await put(county, away)
