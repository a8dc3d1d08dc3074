from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from referral_bus.client import Bus, Heard, NotRecognised, Unavailable
from referral_bus.client import retry as retrying
from referral_bus.client.sse import ServerSent, server_sent
from referral_bus.contracts.feed import Notice


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_SECONDS", 0.001)


def notice(sequence: int) -> Notice:
    return Notice(
        organisation="food-bank",
        type="org.referralbus.ledger.OfferMade.v1",
        region="north",
        sequence=sequence,
        at=1,
        disclosed=b"ey.sealed",
    )


def sent(sequence: int) -> str:
    return f"id: {sequence}\r\nevent: OfferMade\r\ndata: {notice(sequence).model_dump_json()}\r\n\r\n"


async def events(text: str) -> list[ServerSent]:
    async def lines() -> AsyncIterator[str]:
        for line in text.split("\n"):
            yield line

    return [event async for event in server_sent(lines())]


async def test_an_event_is_its_data_lines_joined() -> None:
    assert await events("id: 4\nevent: notice\ndata: a\ndata:b\n\n") == [ServerSent("4", "notice", "a\nb")]


async def test_comments_and_events_without_data_are_passed_over_and_the_id_stays() -> None:
    assert await events(": ping\nid: 4\n\ndata: a\n\n") == [ServerSent("4", "message", "a")]


async def test_an_event_cut_off_is_none() -> None:
    assert await events("data: a") == []


async def test_a_stream_that_breaks_is_resumed_after_the_last_event() -> None:
    asked: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        match len(asked):
            case 1:
                return httpx.Response(200, text=sent(1) + sent(2) + "id: 3\ndata: cut")
            case 2:
                raise httpx.ConnectError("refused", request=request)
            case 3:
                return httpx.Response(503, json={"code": "unavailable", "detail": "Later."})
        return httpx.Response(200, text=sent(3))

    bus = Bus(
        lambda: "t",
        notifier="http://notifier",
        http=httpx.AsyncClient(transport=httpx.MockTransport(handler)),
    )
    heard: list[Heard] = []
    async for one in bus.follow("provider"):
        heard.append(one)
        if len(heard) == 3:
            break

    assert [one.notice for one in heard] == [notice(1), notice(2), notice(3)]
    assert asked == [None, "2", "2", "2"]


async def test_a_stream_that_is_refused_is_not_tried_again() -> None:
    bus = Bus(
        lambda: "t",
        notifier="http://notifier",
        http=httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(401))),
    )
    with pytest.raises(NotRecognised):
        await anext(bus.follow())


async def test_a_notifier_that_stays_away_is_given_up() -> None:
    bus = Bus(
        lambda: "t",
        notifier="http://notifier",
        patience=0.05,
        http=httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(503))),
    )
    with pytest.raises(Unavailable):
        await anext(bus.follow())
