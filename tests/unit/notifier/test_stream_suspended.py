"""A record that meets a suspended flow is given up: the fetcher is the same before and after a rebalance, so what it waits for then
would be put to its stream after the seek, and set what was read to where it stood before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest

from referral_bus.log.port import Record
from services.notifier.stream import LedgerStream, _CommittedConsumer


async def _unused(_: Sequence[Record]) -> None:
    raise AssertionError("nothing is read here")


@pytest.fixture
async def consumer() -> AsyncIterator[_CommittedConsumer]:
    app = LedgerStream("localhost:9092", "notifier", "ledger", _unused)._new_app(asyncio.Queue())
    found = cast(_CommittedConsumer, app.consumer)
    yield found
    found.reading.thread_loop.close()


async def test_a_record_is_not_held_over_a_rebalance(consumer: _CommittedConsumer) -> None:
    put: list[str] = []
    flow = consumer.app.flow_control

    async def to_the_stream() -> None:
        await flow.acquire()
        put.append("record")

    flow.suspend()
    consumer.stop_flow()
    meeting = asyncio.create_task(consumer.wait_first(to_the_stream(), consumer.suspend_flow.wait()))
    await asyncio.wait([meeting], timeout=1.0)
    given_up = meeting.done()
    flow.resume()
    consumer.resume_flow()
    await asyncio.wait([meeting])
    assert given_up
    assert put == []


async def test_a_record_is_put_while_the_flow_goes_on(consumer: _CommittedConsumer) -> None:
    put: list[str] = []

    async def to_the_stream() -> None:
        await consumer.app.flow_control.acquire()
        put.append("record")

    consumer.app.flow_control.resume()
    consumer.resume_flow()
    await consumer.wait_first(to_the_stream(), consumer.suspend_flow.wait())
    assert put == ["record"]
