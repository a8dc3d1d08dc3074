"""How a part of a service comes into its group, and whether it is in: it waits for a log that is away, as it does later on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, TypeVar

from referral_bus.log.port import GroupMember, Log, LogUnavailable, Partition, Rebalanced
from referral_bus.runtime.health import Health

logger = logging.getLogger(__name__)

REST_SECONDS: Final = 0.5
"""Between two tries, each of which already waits for a broker as long as the log allows."""
BEAT_SECONDS: Final = 120.0
"""Far above what one try may take, with giving up what it was given."""
UNANSWERED_SECONDS: Final = 45.0
"""So long a member may go without an answer: a broker that hangs is waited out in less, by one client as by another."""
_Got = TypeVar("_Got")


class Unanswered(Exception):
    """The log has long answered this member nothing. It may answer another client: after a broker was cut off, one went without answers
    for minutes that others had at once. So who catches it leaves, and joins anew."""


async def following(follow: Callable[[], Awaitable[None]]) -> None:
    """Join and follow again each time the member is left without answers, until cancelled. Raises what ``follow`` does but Unanswered."""
    while True:
        with suppress(Unanswered):
            await follow()


class Membership:
    """A part's place in a group. ``read`` names what the group reads."""

    def __init__(self, log: Log, group: str, read: str, *, assigned: Rebalanced, revoked: Rebalanced) -> None:
        self.waits: Final = f"waits for its share of {read}"
        """Why the part can't serve while the place is not held."""
        self._log = log
        self._group = group
        self._assigned = assigned
        self._revoked = revoked
        self._given: tuple[GroupMember, frozenset[Partition]] | None = None
        self._silent_since: dict[str, float] = {}

    @property
    def is_held(self) -> bool:
        """Whether the group has said what is this member's own, which may be nothing, and has not taken it back since."""
        return self._given is not None

    async def join(self, topics: Iterable[str], health: Health, part: str) -> GroupMember:
        """A member of the group, once the log is there. Raises LogError where waiting does not help."""
        try:
            while True:
                health.beat(part, BEAT_SECONDS)
                try:
                    return await self.try_to_join(topics)
                except LogUnavailable as error:
                    logger.warning(
                        "the group %s is joined again in %.1f s: %s", self._group, REST_SECONDS, error
                    )
                await asyncio.sleep(REST_SECONDS)
        except BaseException:
            health.silent(part)
            raise

    async def try_to_join(self, topics: Iterable[str]) -> GroupMember:
        """A member of the group. Raises LogError; what was assigned on the way to a join that failed is revoked."""
        try:
            return await self._log.join(self._group, topics, assigned=self._come, revoked=self._gone)
        except BaseException:
            if self._given is not None:
                await self._gone(*self._given)
            raise

    async def answered(self, asked: str, question: Awaitable[_Got]) -> _Got:
        """The answer to what only the member itself can ask. Raises LogError, and Unanswered once what is ``asked`` has long had none."""
        now = asyncio.get_running_loop().time
        try:
            answer = await question
        except LogUnavailable as error:
            if now() < self._silent_since.setdefault(asked, now()) + UNANSWERED_SECONDS:
                raise
            logger.warning("the group %s is left, to be joined by another client: %s", self._group, error)
            raise Unanswered(str(error)) from error
        self._silent_since.pop(asked, None)
        return answer

    async def leave(self, member: GroupMember) -> None:
        """Give the place up. ``revoked`` is told nothing; the group can be joined again."""
        self._given = None
        self._silent_since.clear()
        await member.close()

    async def _come(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        self._given = member, partitions
        await self._assigned(member, partitions)

    async def _gone(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        self._given = None
        await self._revoked(member, partitions)
