"""What operations see of the Kafka door: how far behind it is, and whether it gets on."""

from __future__ import annotations

from typing import cast

from prometheus_client import REGISTRY

from referral_bus.log.port import GroupMember, Partition
from services.intake.outboxes import _report_lag

ONE, OTHER = Partition("agency.police.outbox", 0), Partition("agency.school.outbox", 0)


class Behind:
    """A member that has read some of two outboxes."""

    async def lag(self) -> dict[Partition, int]:
        return {ONE: 3, OTHER: 0}

    async def committed(self, partitions: dict[Partition, int]) -> dict[Partition, int]:
        return {ONE: 7, OTHER: 40} if partitions.keys() == {ONE, OTHER} else {}


async def test_a_door_that_does_not_get_on_is_seen_by_its_lag_and_its_position() -> None:
    await _report_lag(cast(GroupMember, Behind()))
    told = {"topic": "outboxes", "partition": "all"}
    assert REGISTRY.get_sample_value("refbus_lag_records", told) == 3
    assert REGISTRY.get_sample_value("refbus_position_offset", told) == 47
