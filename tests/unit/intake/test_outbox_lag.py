"""What operations see of the Kafka door: how far behind it is, and whether it gets on, with each outbox."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import pytest
from prometheus_client import REGISTRY

from referral_bus.log.port import Partition
from services.intake import outboxes
from services.intake.outbox_lag import OutboxClaim, OutboxLag
from tests.support.admitting import until
from tests.unit.intake.test_outboxes import Doors, doors

__all__ = ["doors"]

ONE, OTHER = Partition("agency.police.outbox", 0), Partition("agency.school.outbox", 0)


class Door:
    """What is told of it, as time goes on."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._lag = OutboxLag(lambda: self._now)

    def after(
        self, seconds: float, lags: Mapping[Partition, int] | None, claims: Mapping[Partition, OutboxClaim]
    ) -> float | None:
        self._now += seconds
        self._lag.tell(lags, claims)
        return still()


def at(handled: int, read: int | None = None, rests: bool = False) -> OutboxClaim:
    return OutboxClaim(handled, handled if read is None else read, rests)


def still() -> float | None:
    return REGISTRY.get_sample_value("refbus_intake_outbox_still_seconds")


def lag_and_position() -> tuple[float | None, float | None]:
    told = {"topic": "outboxes", "partition": "all"}
    return (
        REGISTRY.get_sample_value("refbus_lag_records", told),
        REGISTRY.get_sample_value("refbus_position_offset", told),
    )


def test_a_door_that_does_not_get_on_is_seen_by_its_lag_and_its_position() -> None:
    Door().after(0, {ONE: 3, OTHER: 0}, {ONE: at(7), OTHER: at(40)})
    assert lag_and_position() == (3, 47)


def test_who_has_no_outbox_says_nothing_of_how_far_behind_they_are() -> None:
    door = Door()
    assert door.after(0, {}, {}) == 0
    assert lag_and_position() == (None, None)
    door.after(5, {ONE: 3}, {ONE: at(7)})
    assert lag_and_position() == (3, 7)
    assert door.after(400, {}, {}) == 0
    assert lag_and_position() == (None, None)


def test_an_outbox_that_stands_still_is_seen_though_another_gets_on(caplog: pytest.LogCaptureFixture) -> None:
    door = Door()
    assert door.after(0, {ONE: 1, OTHER: 9}, {ONE: at(7), OTHER: at(40)}) == 0
    assert door.after(200, {ONE: 2, OTHER: 9}, {ONE: at(7), OTHER: at(90)}) == 200
    with caplog.at_level(logging.WARNING):
        assert door.after(200, {ONE: 2, OTHER: 9}, {ONE: at(7), OTHER: at(140)}) == 400
        assert door.after(5, {ONE: 2, OTHER: 9}, {ONE: at(7), OTHER: at(140)}) == 405
    assert [line.getMessage() for line in caplog.records] == [
        "agency.police.outbox has stood still for 300 s, though records wait on it"
    ]
    assert door.after(5, {ONE: 1, OTHER: 0}, {ONE: at(8), OTHER: at(149)}) == 0


def test_an_outbox_on_which_nothing_waits_or_that_rests_by_right_does_not_stand_still() -> None:
    door = Door()
    for _ in range(3):
        assert door.after(400, {ONE: 0, OTHER: 5}, {ONE: at(7), OTHER: at(40, 45, rests=True)}) == 0


def test_what_was_read_and_can_not_be_handled_stands_still() -> None:
    door = Door()
    door.after(0, {ONE: 0}, {ONE: at(7, 9)})
    assert door.after(400, {ONE: 0}, {ONE: at(7, 9)}) == 400
    assert lag_and_position() == (2, 7)


def test_an_outbox_that_went_to_another_process_does_not_stand_still_here() -> None:
    door = Door()
    door.after(0, {ONE: 3, OTHER: 0}, {ONE: at(7), OTHER: at(40)})
    assert door.after(400, {ONE: 3, OTHER: 0}, {OTHER: at(40)}) == 0


def test_while_the_lag_is_not_known_what_stood_still_does_so_still_and_what_comes_to_is_seen() -> None:
    door = Door()
    door.after(0, {ONE: 3, OTHER: 0}, {ONE: at(7), OTHER: at(40)})
    assert door.after(400, None, {ONE: at(7), OTHER: at(40, 41)}) == 400
    assert door.after(400, None, {ONE: at(8), OTHER: at(40, 41)}) == 400


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
