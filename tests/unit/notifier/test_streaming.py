"""How many event streams an organisation may have open at once: each has its place from the moment it is asked for until it has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sse_starlette import EventSourceResponse

from referral_bus.web.problems import Problem
from services.notifier import streaming
from services.notifier.bell import Bell
from services.notifier.notices import Filter
from services.notifier.streaming import Streams

MOST = 3
SCOPE = {"type": "http", "method": "GET"}


class NoNotices:
    """An organisation that never heard anything; asking takes a moment."""

    async def span(self, _: str) -> tuple[int, int]:
        await asyncio.sleep(0)
        return 1, 0

    async def after(self, *_: Any) -> list[Any]:
        await asyncio.sleep(0)
        return []


class NothingShown:
    async def prepare(self, *_: Any) -> list[Any]:
        return []


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    monkeypatch.setattr(streaming, "MOST_EACH", MOST)
    parts: Any = NoNotices(), NothingShown()
    return Streams(*parts, Bell(), heartbeat=10.0)


def wanted(organisation: str = "hospital") -> Filter:
    return Filter(organisation, (("agency", None),))


async def opened(streams: Streams, count: int = MOST) -> list[EventSourceResponse]:
    return [await streams.open(wanted(), None) for _ in range(count)]


async def gone() -> dict[str, str]:
    """What a client sends that hangs up."""
    return {"type": "http.disconnect"}


async def silent() -> dict[str, str]:
    """What a client sends that stays."""
    await asyncio.Event().wait()
    raise AssertionError


async def nowhere(_: Any) -> None:
    """Where what is sent goes."""


class Stuck:
    """A client that takes no more once such a message comes."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.is_stuck = asyncio.Event()

    async def __call__(self, message: Any) -> None:
        if message["type"] == self._kind:
            self.is_stuck.set()
            await asyncio.Event().wait()


async def test_no_more_are_opened_than_there_may_be_however_many_are_asked_for_at_once(
    streams: Streams,
) -> None:
    asked = await asyncio.gather(*(streams.open(wanted(), None) for _ in range(10)), return_exceptions=True)
    refused = [one for one in asked if isinstance(one, Problem)]
    assert len(asked) - len(refused) == MOST
    assert {(one.status, one.code) for one in refused} == {(429, "too_many_streams")}
    assert isinstance(await streams.open(wanted("shelter"), None), EventSourceResponse)


async def test_one_that_could_not_be_opened_takes_no_place(streams: Streams) -> None:
    for _ in range(MOST + 1):
        with pytest.raises(Problem, match="resume_impossible"):
            await streams.open(wanted(), 7)
    assert len(await opened(streams)) == MOST


async def test_one_that_ended_leaves_its_place(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "LONGEST_SECONDS", 0.0)
    first, *_ = await opened(streams)
    await first(SCOPE, silent, nowhere)
    await opened(streams, 1)
    with pytest.raises(Problem, match="too_many_streams"):
        await opened(streams, 1)


async def test_one_whose_client_is_gone_before_the_first_event_leaves_its_place(streams: Streams) -> None:
    first, *_ = await opened(streams)
    await first(SCOPE, gone, Stuck("http.response.start"))
    assert len(await opened(streams, 1)) == 1


async def test_one_that_is_cancelled_while_it_sends_leaves_its_place(streams: Streams) -> None:
    first, *_ = await opened(streams)
    client = Stuck("http.response.body")
    running = asyncio.create_task(first(SCOPE, silent, client))
    await client.is_stuck.wait()
    with pytest.raises(Problem, match="too_many_streams"):
        await opened(streams, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(await opened(streams, 1)) == 1
