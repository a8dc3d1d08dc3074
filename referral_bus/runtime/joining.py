"""How a part of a service comes into its group: it waits for a log that is away, as it does later on."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from referral_bus.log.port import GroupMember, Log, LogUnavailable, Partition, Rebalanced
from referral_bus.runtime.health import Health

logger = logging.getLogger(__name__)

REST_SECONDS: Final = 0.5
"""Between two tries, each of which already waits for a broker as long as the log allows."""
BEAT_SECONDS: Final = 120.0
"""Far above what one try may take, with giving up what it was given."""


async def joined(
    log: Log, group: str, topic: str, *, assigned: Rebalanced, revoked: Rebalanced, health: Health, part: str
) -> GroupMember:
    """A member of the group, once the log is there. Raises LogError where waiting does not help. What was assigned on the way to a
    join that failed is revoked."""
    given: tuple[GroupMember, frozenset[Partition]] | None = None

    async def come(member: GroupMember, partitions: frozenset[Partition]) -> None:
        nonlocal given
        given = member, partitions
        await assigned(member, partitions)

    async def gone(member: GroupMember, partitions: frozenset[Partition]) -> None:
        nonlocal given
        given = None
        await revoked(member, partitions)

    try:
        while True:
            health.beat(part, BEAT_SECONDS)
            try:
                return await log.join(group, [topic], assigned=come, revoked=gone)
            except BaseException as error:
                if given is not None:
                    await gone(*given)
                if not isinstance(error, LogUnavailable):
                    raise
                logger.warning("the group %s is joined again in %.1f s: %s", group, REST_SECONDS, error)
            await asyncio.sleep(REST_SECONDS)
    except BaseException:
        health.silent(part)
        raise
