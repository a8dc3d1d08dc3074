"""What operations see of the Kafka door: how far behind it is, and whether it gets on, with each outbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import cast

import pytest
from prometheus_client import REGISTRY

from referral_bus.log.port import GroupMember, LogUnavailable, Partition
from services.intake import outboxes
from services.intake.outbox_lag import OutboxLag
from tests.support.admitting import until
from tests.unit.intake.test_outboxes import Doors, doors

__all__ = ["doors"]

ONE, OTHER = Partition("agency.police.outbox", 0), Partition("agency.school.outbox", 0)


class Behind:
    """A member that has read some of two outboxes."""

    def __init__(self, lag: Mapping[Partition, int], committed: Mapping[Partition, int]) -> None:
        self._lag, self._committed = lag, committed

    async def lag(self) -> Mapping[Partition, int]:
        return self._lag

    async def committed(self, partitions: Mapping[Partition, int]) -> Mapping[Partition, int]:
        return {partition: self._committed[partition] for partition in partitions}


class Away:
    async def lag(self) -> Mapping[Partition, int]:
        raise LogUnavailable("no broker")


class Door:
    """What is told of it, as time goes on."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._lag = OutboxLag(lambda: self._now)

    async def after(
        self,
        seconds: float,
        member: Behind | Away,
        under_way: Collection[Partition] = (),
        resting: Collection[Partition] = (),
    ) -> float | None:
        self._now += seconds
        await self._lag.tell(cast(GroupMember, member), under_way, resting)
        return still()


def still() -> float | None:
    return REGISTRY.get_sample_value("refbus_intake_outbox_still_seconds")


async def test_a_door_that_does_not_get_on_is_seen_by_its_lag_and_its_position() -> None:
    await Door().after(0, Behind({ONE: 3, OTHER: 0}, {ONE: 7, OTHER: 40}))
    told = {"topic": "outboxes", "partition": "all"}
    assert REGISTRY.get_sample_value("refbus_lag_records", told) == 3
    assert REGISTRY.get_sample_value("refbus_position_offset", told) == 47


async def test_an_outbox_that_stands_still_is_seen_though_another_gets_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = Door()
    assert await door.after(0, Behind({ONE: 1, OTHER: 9}, {ONE: 7, OTHER: 40})) == 0
    assert await door.after(200, Behind({ONE: 2, OTHER: 9}, {ONE: 7, OTHER: 90})) == 200
    with caplog.at_level(logging.WARNING):
        assert await door.after(200, Behind({ONE: 2, OTHER: 9}, {ONE: 7, OTHER: 140})) == 400
        assert await door.after(5, Behind({ONE: 2, OTHER: 9}, {ONE: 7, OTHER: 140})) == 405
    assert [line.getMessage() for line in caplog.records] == [
        "agency.police.outbox has stood still for 300 s, though records wait on it"
    ]
    assert await door.after(5, Behind({ONE: 1, OTHER: 0}, {ONE: 8, OTHER: 149})) == 0


async def test_an_outbox_on_which_nothing_waits_or_that_rests_by_right_does_not_stand_still() -> None:
    door = Door()
    for _ in range(3):
        assert await door.after(400, Behind({ONE: 0, OTHER: 5}, {ONE: 7, OTHER: 40}), resting=[OTHER]) == 0


async def test_what_was_read_and_can_not_be_handled_stands_still() -> None:
    door = Door()
    await door.after(0, Behind({ONE: 0}, {ONE: 7}), under_way=[ONE])
    assert await door.after(400, Behind({ONE: 0}, {ONE: 7}), under_way=[ONE]) == 400


async def test_what_stood_still_before_nobody_could_be_asked_is_taken_to_do_so_still() -> None:
    door = Door()
    await door.after(0, Behind({ONE: 3}, {ONE: 7}))
    assert await door.after(400, Away()) == 400


async def test_the_lag_is_told_while_records_can_not_be_handled(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "_LAG_SECONDS", 0.02)
    handled = asyncio.Event()

    async def hangs(*_: object) -> None:
        await handled.wait()

    monkeypatch.setattr(outboxes.Outboxes, "_outbox", hangs)
    await doors.put("clinic-a", ("k-1", "one"))
    async with doors.read():

        async def seen() -> bool:
            return (still() or 0) > 0.1

        await until(seen)
        handled.set()

        async def over() -> bool:
            return still() == 0

        await until(over)
