"""Errors over HTTP: problem details that name the field and never repeat a value; and who is let in."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Literal

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from referral_bus.access.tokens import TokenVerifier, issue_token, jwks_of, new_signing_key
from referral_bus.runtime.logs import JsonLines
from referral_bus.web.app import new_app
from referral_bus.web.caller import CallerOf
from referral_bus.web.problems import Problem

NAME = "Quentin Featherstonehaugh"
SIGNING = new_signing_key()


class Person(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=5)]
    age: int = 0
    urgency: Literal["crisis", "routine"] = "routine"


class Said(BaseModel):
    people: list[Person]


@pytest.fixture
async def app(tmp_path: Path) -> FastAPI:
    (tmp_path / "jwks").write_text(jwks_of(SIGNING), encoding="utf-8")
    verifier = TokenVerifier(str(tmp_path / "jwks"), "main")
    await verifier.start()
    app = new_app("Door", "A door.", verifier)

    @app.post("/people")
    async def people(said: Said, limit: Annotated[int, Query(ge=1)] = 1) -> int:
        return len(said.people)

    @app.get("/busy")
    async def busy() -> None:
        raise Problem(503, "unavailable", "Try again shortly.", retry_after=7)

    @app.get("/broken/{name}")
    async def broken(name: str) -> None:
        raise ValueError(f"no such person: {name}")

    @app.get("/me")
    async def me(caller: CallerOf) -> str:
        return caller.organisation

    return app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        yield client


async def test_a_problem_says_what_where_and_when_to_come_again(http: httpx.AsyncClient) -> None:
    response = await http.get("/busy")
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.pop("correlation") == response.headers["x-correlation-id"]
    assert problem == {
        "type": "urn:referral-bus:problem:unavailable",
        "title": "Service Unavailable",
        "status": 503,
        "code": "unavailable",
        "detail": "Try again shortly.",
    }


@pytest.mark.parametrize(
    ("person", "field"),
    [
        ({}, "people.0.name"),
        ({"name": NAME}, "people.0.name"),
        ({"name": "Q", "age": NAME}, "people.0.age"),
        ({"name": "Q", "urgency": NAME}, "people.0.urgency"),
        ({"name": "Q", "surname": NAME}, "people.0.surname"),
        (NAME, "people.0"),
    ],
)
async def test_a_wrong_field_is_named_and_its_value_is_not_repeated(
    http: httpx.AsyncClient, person: object, field: str
) -> None:
    response = await http.post("/people", json={"people": [person]})
    problem = response.json()
    assert (response.status_code, problem["code"], problem["field"]) == (422, "invalid", field)
    assert problem["detail"].startswith(f"{field}: ")
    assert NAME not in response.text


async def test_the_number_of_other_faults_is_said(http: httpx.AsyncClient) -> None:
    problem = (await http.post("/people", json={"people": [{}, {"name": NAME}]}, params={"limit": 0})).json()
    assert problem["field"] == "limit"
    assert "2 more are wrong" in problem["detail"]


async def test_a_field_name_as_long_as_a_book_is_cut(http: httpx.AsyncClient) -> None:
    problem = (await http.post("/people", json={"people": [{"name": "Q", "x" * 5000: 1}]})).json()
    assert len(problem["field"]) == 200
    assert len(problem["detail"]) <= 500


@pytest.mark.parametrize("body", [b"{", b"not json", b"\xff\xfe", b'{"people": [' + NAME.encode()])
async def test_a_body_that_is_no_json_is_malformed(http: httpx.AsyncClient, body: bytes) -> None:
    response = await http.post("/people", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert NAME not in response.text


async def test_a_body_that_is_nested_too_deep_to_be_read_is_malformed(http: httpx.AsyncClient) -> None:
    response = await http.post(
        "/people", content=b"[" * 100_000, headers={"content-type": "application/json"}
    )
    problem = response.json()
    assert (response.status_code, problem["code"], problem["field"]) == (400, "malformed", "body")
    assert "not nested" in problem["detail"]


async def test_whoever_wants_to_know_is_told_of_each_problem_that_is_answered_once() -> None:
    heard: list[tuple[str, str]] = []
    app = new_app(
        "Door",
        "A door.",
        TokenVerifier("nowhere", "main"),
        100,
        lambda path, problem, _: heard.append((path, problem.code)),
    )

    @app.post("/people")
    async def people(said: Said) -> int:
        return len(said.people)

    @app.post("/raw")
    async def raw(request: Request) -> None:
        await request.body()
        raise ValueError

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 101

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        await client.post("/people", json={"people": []})
        await client.post("/people", json={})
        await client.post("/people", content=b"x" * 101)
        await client.post("/raw", content=pieces())
        await client.post("/raw")
        await client.get(f"/{NAME}")
    assert heard == [
        ("/people", "invalid"),
        ("/people", "too_large"),
        ("/raw", "too_large"),
        ("/raw", "internal"),
        (f"/{NAME}", "not_found"),
    ]


async def test_the_page_of_the_api_loads_nothing_from_elsewhere(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert (page.status_code, "swagger" in page.text.lower()) == (200, True)
    assert "//" not in re.sub(r"(?m)^\s*//.*$|<!--.*?-->", "", page.text)
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for path in loaded:
        answer = await http.get(path)
        assert (answer.status_code, len(answer.content) > 100) == (200, True)
    assert (await http.get("/redoc")).status_code == 404


async def test_nothing_there_and_the_wrong_method_are_problems_too(http: httpx.AsyncClient) -> None:
    missing, method = await http.get(f"/{NAME}"), await http.delete("/people")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert method.headers["allow"] == "POST"
    assert NAME not in missing.text


async def test_a_fault_of_ours_tells_nothing_and_is_logged_under_its_correlation_id_without_values(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caplog.handler, "formatter", JsonLines("door"))
    with caplog.at_level(logging.ERROR, "referral_bus.web.problems"):
        response = await http.get(f"/broken/{NAME}", headers={"x-correlation-id": "case-7"})
    assert (response.status_code, response.json()["code"], response.json()["correlation"]) == (
        500,
        "internal",
        "case-7",
    )
    assert NAME not in response.text
    [line] = [text for text in caplog.text.splitlines() if "failed" in text]
    assert '"correlation": "case-7"' in line
    assert '"error": "ValueError"' in line
    assert "/broken/{name} failed" in line
    assert NAME not in caplog.text


async def test_a_caller_is_known_by_its_token(http: httpx.AsyncClient) -> None:
    token = issue_token(SIGNING, "main", "hospital", ["agency"])
    response = await http.get("/me", headers={"authorization": f"Bearer {token}"})
    assert (response.status_code, response.json()) == (200, "hospital")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "no_token"),
        ({"authorization": "Basic aGk6aGk="}, "no_token"),
        ({"authorization": "Bearer"}, "no_token"),
        ({"authorization": "Bearer nonsense"}, "token_refused"),
        (
            {"authorization": f"Bearer {issue_token(SIGNING, 'exercise', 'hospital', ['agency'])}"},
            "token_refused",
        ),
    ],
)
async def test_without_a_good_token_it_is_a_401_that_says_how_to_come_in(
    http: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    response = await http.get("/me", headers=headers)
    problem = response.json()
    assert (response.status_code, problem["code"], problem["field"]) == (401, code, "Authorization")
    assert response.headers["www-authenticate"] == "Bearer"
