"""Where the stream stands in a partition is counted within one ownership: another member may have handled what came in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from referral_bus.log.port import Record
from services.notifier.stream import LedgerStream, _App, _Place, _reading


async def _unused(_: Sequence[Record]) -> None:
    raise AssertionError("nothing is read here")


@pytest.fixture
async def started() -> AsyncIterator[tuple[LedgerStream, _App]]:
    stream = LedgerStream("localhost:9092", "notifier", "ledger", _unused)
    app = stream._new_app(asyncio.Queue())
    yield stream, app
    _reading(app).thread_loop.close()


async def test_a_partition_that_comes_back_stands_before_what_is_given_of_it_first(
    started: tuple[LedgerStream, _App],
) -> None:
    stream, app = started
    stream._following[0] = 100
    stream._on_revoked(app)
    back = _Place(end=5_002, position=5_001, first=5_000, given=5_001)
    assert stream._stand(0, back).handled == 5_000


async def test_a_batch_that_is_handled_after_its_partition_was_revoked_does_not_set_it_back(
    started: tuple[LedgerStream, _App],
) -> None:
    stream, app = started
    stream._on_revoked(app)
    stream._following[0] = 100
    back = _Place(end=5_002, position=5_001, first=5_000, given=5_001)
    assert stream._stand(0, back).handled == 5_000


async def test_where_a_partition_stands_is_not_known_before_it_has_a_position(
    started: tuple[LedgerStream, _App],
) -> None:
    stream, _ = started
    assert stream._stand(0, _Place(end=5_002, position=None, first=None, given=None)).handled is None


async def test_it_stands_where_the_consumer_does_once_all_that_was_given_is_handled(
    started: tuple[LedgerStream, _App],
) -> None:
    stream, _ = started
    stream._following[0] = 5_001
    assert stream._stand(0, _Place(end=5_002, position=5_002, first=5_000, given=5_001)).handled == 5_002
