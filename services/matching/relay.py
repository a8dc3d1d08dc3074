"""The relay between regions: what one decided that concerns another is put on the other's inbox.

It follows the ledger's committed events, each partition in order, and stores how far it came once what it put is acknowledged. So nothing
is lost, and what is put twice is recognised by its id as any repeat is. It decides nothing.

Partitions go on side by side: one that can't be put what it is to get holds up only those that have something for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from referral_bus.log import topics
from referral_bus.log.port import (
    Appender,
    GroupMember,
    Log,
    LogError,
    LogUnavailable,
    Outgoing,
    Partition,
    Record,
)
from referral_bus.runtime import metrics, tracing
from referral_bus.runtime.claims import Claim, Claims
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import Membership, following
from referral_bus.sealing.digest import canonical
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import correlation_of
from referral_bus.wire.inbox import submission_record
from services.matching.messages import CONCERNING, Message, messages
from services.matching.regions import Regions

logger = logging.getLogger(__name__)

SOURCE: Final = "relay"
PART: Final = "relay"
"""Its name in the health report."""
BATCH: Final = 500
"""Ledger events taken at once, of all partitions."""

_POLL_SECONDS: Final = 0.25
_BEAT_SECONDS: Final = 120.0
_LAG_SECONDS: Final = 5.0
_STORE_SECONDS: Final = 5.0
"""How often the position is stored where nothing was put: reading some events again costs little."""
_REST_SECONDS: Final = 0.5
"""After a failure; doubled with each one in a row."""
_LONGEST_REST_SECONDS: Final = 15.0
_FAULTS: Final = 5
"""So many failures in a row that waiting does not mend stop the relay."""
_TYPES: Final = frozenset(event.event_type().encode() for event in CONCERNING)
_TYPE: Final = "ce_type"


@dataclass(slots=True, eq=False)
class _Claim(Claim):
    stored_at: float = 0.0


class Relay:
    """Relays as a member of the group ``refbus-<bus>-relay``, beside the other processes of matching. It is not ready while the group has
    not said what it is given."""

    def __init__(
        self,
        log: Log,
        appender: Appender,
        regions: Regions,
        codec: Codec,
        clock: Clock,
        health: Health,
        *,
        bus: str,
    ) -> None:
        self._appender = appender
        self._regions = regions
        self._codec = codec
        self._clock = clock
        self._health = health
        self._ledger = topics.ledger(bus)
        self._inbox = topics.inbox(bus)
        self._membership = Membership(
            log,
            topics.group(bus, "relay"),
            self._ledger,
            assigned=self._assigned,
            revoked=self._revoked,
        )
        self._claims = Claims(self._take, self._relay)
        self._failures: Counter[Partition] = Counter()
        self._faults: Counter[Partition] = Counter()

    async def run(self) -> None:
        """Until cancelled; outages of the log are waited out. Raises LogError where the membership is lost for good or the log refused
        the same ``_FAULTS`` times in a row, and WireError for an event this version does not know: it must not pass over one."""
        await following(self._follow)

    async def _follow(self) -> None:
        """Until cancelled, or raises what ``run`` does, and Unanswered."""
        self._health.starting(PART, "joins the ledger's readers")
        member = await self._membership.join([self._ledger], self._health, PART)
        watching = asyncio.create_task(self._watch(member), name="relay-lag")
        try:
            while True:
                self._health.beat(PART, _BEAT_SECONDS)
                await self._claims.poll(member, BATCH, _POLL_SECONDS)
        finally:
            self._health.silent(PART)
            watching.cancel()
            await self._claims.give_up()
            await asyncio.gather(watching, return_exceptions=True)
            await self._membership.leave(member)

    async def _assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        self._claims.begin(member, partitions)
        self._health.ready(PART)

    async def _revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self._claims.end(partitions)
        for partition in partitions:
            self._failures.pop(partition, None)
            self._faults.pop(partition, None)
            metrics.LAG.labels(partition.topic, str(partition.number)).set(0)
        self._health.starting(PART, self._membership.waits)

    async def _take(self, member: GroupMember, partition: Partition) -> _Claim:
        """Go on from what is stored."""
        while True:
            try:
                position = (await self._membership.answered("position", member.committed([partition])))[
                    partition
                ]
                return _Claim(position, position)
            except LogError as error:
                await self._rest(partition, error)

    async def _relay(
        self, member: GroupMember, partition: Partition, claim: _Claim, records: Sequence[Record]
    ) -> None:
        """Put what the events say to other regions, and then store that they were seen to."""
        try:
            said = await self._put(records)
            if said or time.monotonic() >= claim.stored_at + _STORE_SECONDS:
                await self._membership.answered("commit", member.commit({partition: claim.read}))
                claim.stored_at = time.monotonic()
            claim.handled = claim.read
        except LogError as error:
            await self._rest(partition, error)
            await self._claims.take(member, partition)
            return
        self._failures.pop(partition, None)
        self._faults.pop(partition, None)

    async def _rest(self, partition: Partition, error: LogError) -> None:
        """Rest after the error. Raises it where that would not mend it."""
        if not isinstance(error, LogUnavailable):
            self._faults[partition] += 1
            if self._faults[partition] >= _FAULTS:
                raise error
        rest: float = min(_LONGEST_REST_SECONDS, _REST_SECONDS * 2 ** min(10, self._failures[partition]))
        self._failures[partition] += 1
        logger.warning("%s/%d is relayed again in %.1f s: %s", partition.topic, partition.number, rest, error)
        await asyncio.sleep(rest)

    async def _put(self, records: Sequence[Record]) -> int:
        """Append what is to be said, in the order of the events; returns how many messages that were."""
        heard = [
            (record, message)
            for record in records
            if dict(record.headers).get(_TYPE) in _TYPES
            for message in messages(self._codec.decode_entry(record.value or b""))
        ]
        if not heard:
            return 0
        partitions = await self._regions.partitions_of({message.region for _, message in heard})
        outgoing: list[Outgoing] = []
        said: Counter[str] = Counter()
        for record, message in heard:
            target = partitions.get(message.region)
            if target is None:
                logger.error(
                    "%s/%d/%d is for region %s, which the region table does not name: it is not put",
                    record.topic,
                    record.partition,
                    record.offset,
                    message.region,
                )
                metrics.REGION_MESSAGES.labels(type="unroutable").inc()
                continue
            put = self._record(message, target, correlation_of(record.headers))
            outgoing.append(tracing.tracer().passing(record, put))
            said[type(message.body).__name__] += 1
        if outgoing:
            await self._appender.append(outgoing)
        for kind, count in said.items():
            metrics.REGION_MESSAGES.labels(type=kind).inc(count)
        return len(outgoing)

    def _record(self, message: Message, partition: int, correlation: str | None) -> Outgoing:
        body = message.body
        return submission_record(
            body,
            codec=self._codec,
            topic=self._inbox,
            partition=partition,
            region=message.region,
            id=message.id,
            organisation=SOURCE,
            # When it is put: what was long on its way is not too old to be heard.
            sent_at=self._clock.now(),
            digest=digest_of(message),
            about=message.about,
            correlation=correlation,
        )

    async def _watch(self, member: GroupMember) -> None:
        while True:
            await asyncio.sleep(_LAG_SECONDS)
            try:
                lags: Mapping[Partition, int] = await member.lag()
            except LogError as error:
                logger.warning("the relay's lag is not known: %s", error)
                continue
            for partition, lag in lags.items():
                if (claim := self._claims.held.get(partition)) is not None:
                    # What was fetched is not put yet: an inbox that takes nothing must not hide it.
                    not_put = lag + claim.read - claim.handled
                    metrics.LAG.labels(partition.topic, str(partition.number)).set(not_put)
                    metrics.POSITION.labels(partition.topic, str(partition.number)).set(claim.handled)


def digest_of(message: Message) -> bytes:
    """What a repeat is recognised by besides its id. It needs no key, since nothing in it concerns a person."""
    return sha256(message.body.event_type().encode() + b"\0" + canonical(message.body)).digest()
