"""A member that wants nothing for now is a member all the same."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from referral_bus.log.kafka import KafkaMember
from referral_bus.log.port import GroupMember, LogError, Partition


async def ignore(_: GroupMember, partitions: frozenset[Partition]) -> None:
    return None


async def test_who_reads_nothing_hears_what_ended_its_membership() -> None:
    """aiokafka keeps it until the next poll, and does nothing more for the group before."""
    consumer = AsyncMock()
    consumer.getmany.side_effect = GroupAuthorizationFailedError("the group")
    with pytest.raises(LogError, match="GroupAuthorizationFailed"):
        await KafkaMember("the group", consumer, ignore, ignore).poll()
