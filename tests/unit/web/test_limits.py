"""The border: how large a request may be, the correlation id it is followed by, and that nobody keeps the answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from referral_bus.access.tokens import TokenVerifier
from referral_bus.runtime.logs import correlation
from referral_bus.web.app import new_app

MAXIMUM = 1_000
LARGER = 2_000


class Said(BaseModel):
    text: str


@pytest.fixture
def app() -> FastAPI:
    app = new_app(
        "Door",
        "A door.",
        TokenVerifier("nowhere", "main"),
        maximum_body=MAXIMUM,
        larger={"/raw/many": LARGER},
    )

    @app.post("/model")
    async def model(said: Said) -> int:
        return len(said.text)

    @app.post("/raw")
    @app.post("/raw/many/{what}")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.get("/correlation")
    async def about() -> str | None:
        return correlation()

    @app.get("/kept")
    async def kept(response: Response) -> None:
        response.headers["cache-control"] = "max-age=60"

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError

    return app


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door") as client:
        yield client


def pieces(size: int) -> Any:
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, size, 100):
            yield b"x" * min(100, size - start)

    return stream()


def is_too_large(response: httpx.Response) -> bool:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["field"] == "body"
    return (response.status_code, problem["code"]) == (413, "too_large") and str(MAXIMUM) in problem["detail"]


async def test_a_body_of_just_the_limit_is_taken(http: httpx.AsyncClient) -> None:
    assert (await http.post("/raw", content=b"x" * MAXIMUM)).json() == MAXIMUM
    assert (await http.post("/raw", content=pieces(MAXIMUM))).json() == MAXIMUM


@pytest.mark.parametrize("path", ["/raw", "/model"])
async def test_a_larger_one_is_refused_declared_or_not(http: httpx.AsyncClient, path: str) -> None:
    assert is_too_large(await http.post(path, content=b"x" * (MAXIMUM + 1)))
    assert is_too_large(await http.post(path, content=pieces(MAXIMUM + 1)))


async def test_where_more_is_sent_at_once_another_limit_holds(http: httpx.AsyncClient) -> None:
    assert (await http.post("/raw/many/things", content=b"x" * LARGER)).json() == LARGER
    assert (await http.post("/raw/many/things", content=pieces(LARGER))).json() == LARGER
    for content in (b"x" * (LARGER + 1), pieces(LARGER + 1)):
        refused = await http.post("/raw/many/things", content=content)
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert str(LARGER) in refused.json()["detail"]


async def test_a_length_that_says_less_than_comes_does_not_help(app: FastAPI) -> None:
    sent: list[dict[str, Any]] = []
    chunks: Iterator[bytes] = iter([b"x" * 900, b"x" * 900])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(chunks), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    for length in (b"10", b"\xb2", b"-1", b"", b"9" * 5_000):
        sent.clear()
        chunks = iter([b"x" * 900, b"x" * 900])
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/raw",
            "raw_path": b"/raw",
            "query_string": b"",
            "headers": [(b"content-length", length)],
            "http_version": "1.1",
            "scheme": "http",
            "server": ("door", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }
        await app(scope, receive, send)
        assert sent[0]["status"] == 413


async def test_every_answer_carries_a_correlation_id_refusals_too(http: httpx.AsyncClient) -> None:
    for response in (
        await http.get("/correlation"),
        await http.get("/nothing"),
        await http.post("/raw", content=b"x" * (MAXIMUM + 1)),
        await http.post("/raw", content=pieces(MAXIMUM + 1)),
    ):
        about = response.headers["x-correlation-id"]
        assert len(about) == 32
        if response.status_code >= 400:
            assert response.json()["correlation"] == about
        else:
            assert response.json() == about


async def test_no_cache_keeps_an_answer_unless_its_route_says_so(http: httpx.AsyncClient) -> None:
    """An identity and a webhook's secret are among them; what is kept by a proxy or on a disk is out of the bus's hands."""
    for response in (
        await http.get("/correlation"),
        await http.get("/nothing"),
        await http.post("/raw", content=b"x" * (MAXIMUM + 1)),
        await http.get("/fails"),
    ):
        assert response.headers.get_list("cache-control") == ["no-store"]
    assert (await http.get("/kept")).headers.get_list("cache-control") == ["max-age=60"]


async def test_a_correlation_id_that_is_given_is_kept(http: httpx.AsyncClient) -> None:
    response = await http.get("/correlation", headers={"x-correlation-id": "case.7_a-b"})
    assert (response.json(), response.headers["x-correlation-id"]) == ("case.7_a-b", "case.7_a-b")


@pytest.mark.parametrize(
    "given", ["", " ", "a" * 65, "Quentin Featherstonehaugh", 'a"b', "é".encode().decode("latin-1")]
)
async def test_one_that_could_say_anything_is_replaced(http: httpx.AsyncClient, given: str) -> None:
    response = await http.get("/correlation", headers={"x-correlation-id": given.encode("latin-1")})  # type: ignore[dict-item]
    assert response.json() != given
    assert len(response.json()) == 32
    assert given.strip() == "" or given not in json.dumps(dict(response.headers))
