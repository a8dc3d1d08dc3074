"""Faust asks for nothing while no partition is its own, and aiokafka takes who asks for nothing out of the group for good."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from referral_bus.log.port import Record
from services.notifier.stream import LedgerStream, _CommittedConsumer


async def _unused(_: Sequence[Record]) -> None:
    raise AssertionError("nothing is read here")


async def test_a_notifier_without_partitions_stays_in_its_group_for_more_than_a_day() -> None:
    app = LedgerStream("localhost:9092", "notifier", "ledger", _unused)._new_app(asyncio.Queue())
    thread = cast(_CommittedConsumer, app.consumer).reading
    member = thread._create_worker_consumer(cast(_CommittedConsumer, app.consumer).transport)
    longest = member._max_poll_interval_ms
    thread.thread_loop.close()
    await member.stop()
    assert longest > 86_400_000
