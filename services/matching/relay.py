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
from referral_bus.runtime.by_partition import UnderWay
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import Membership
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
class _Claim:
    """One ownership of one partition. A new one is a new object, so that what was polled under a former one is recognised."""

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
            log, f"refbus-{bus}-relay", self._ledger, assigned=self._assigned, revoked=self._revoked
        )
        self._claims: dict[Partition, _Claim] = {}
        self._positions: dict[Partition, int] = {}
        """The offset of the next event to be seen to; also while the partition rests and is not claimed."""
        self._fetched: dict[Partition, int] = {}
        self._under_way = UnderWay()
        self._failures: Counter[Partition] = Counter()
        self._faults: Counter[Partition] = Counter()

    async def run(self) -> None:
        """Until cancelled; outages of the log are waited out. Raises LogError where the membership is lost for good or the log refused
        the same ``_FAULTS`` times in a row, and WireError for an event this version does not know: it must not pass over one."""
        self._health.starting(PART, "joins the ledger's readers")
        member = await self._membership.join([self._ledger], self._health, PART)
        watching = asyncio.create_task(self._watch(member), name="relay-lag")
        try:
            while True:
                self._health.beat(PART, _BEAT_SECONDS)
                before = dict(self._claims)
                for partition, records in (await member.poll(BATCH, _POLL_SECONDS)).items():
                    claim = self._claims.get(partition)
                    if claim is None or not records:
                        continue
                    if claim is before.get(partition):
                        self._fetched[partition] = records[-1].offset + 1
                        member.pause([partition])
                        self._under_way.start(partition, self._relay(member, partition, claim, records))
                    else:
                        # It may have been fetched before this claim sought its position.
                        member.seek({partition: self._positions[partition]})
                self._under_way.raise_failures()
        finally:
            self._health.silent(PART)
            watching.cancel()
            await self._under_way.give_up()
            await asyncio.gather(watching, return_exceptions=True)
            await member.close()

    async def _assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            self._under_way.start(partition, self._take(member, partition, 0.0))
        self._health.ready(PART)

    async def _revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        for partition in partitions:
            self._claims.pop(partition, None)
            self._positions.pop(partition, None)
            self._fetched.pop(partition, None)
            self._failures.pop(partition, None)
            self._faults.pop(partition, None)
            metrics.LAG.labels(partition.topic, str(partition.number)).set(0)
            self._under_way.cancel(partition)
        self._health.starting(PART, self._membership.waits)

    async def _take(self, member: GroupMember, partition: Partition, rest: float) -> None:
        """Go on from what is stored."""
        while True:
            await asyncio.sleep(rest)
            try:
                position = (await member.committed([partition]))[partition]
                break
            except LogError as error:
                rest = self._rest(partition, error)
        self._claims[partition] = _Claim()
        self._positions[partition] = self._fetched[partition] = position
        member.seek({partition: position})
        member.resume([partition])

    async def _relay(
        self, member: GroupMember, partition: Partition, claim: _Claim, records: Sequence[Record]
    ) -> None:
        """Put what the events say to other regions, and then store that they were seen to."""
        try:
            said = await self._put(records)
            if said or time.monotonic() >= claim.stored_at + _STORE_SECONDS:
                await member.commit({partition: records[-1].offset + 1})
                claim.stored_at = time.monotonic()
            self._positions[partition] = records[-1].offset + 1
        except LogError as error:
            rest = self._rest(partition, error)
            self._claims.pop(partition, None)
            await self._take(member, partition, rest)
            return
        self._failures.pop(partition, None)
        self._faults.pop(partition, None)
        member.resume([partition])

    def _rest(self, partition: Partition, error: LogError) -> float:
        """How long to rest after the error. Raises it where that would not mend it."""
        if not isinstance(error, LogUnavailable):
            self._faults[partition] += 1
            if self._faults[partition] >= _FAULTS:
                raise error
        rest: float = min(_LONGEST_REST_SECONDS, _REST_SECONDS * 2 ** min(10, self._failures[partition]))
        self._failures[partition] += 1
        logger.warning("%s/%d is relayed again in %.1f s: %s", partition.topic, partition.number, rest, error)
        return rest

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
                position = self._positions.get(partition)
                if position is not None:
                    # What was fetched is not put yet: an inbox that takes nothing must not hide it.
                    not_put = lag + max(0, self._fetched[partition] - position)
                    metrics.LAG.labels(partition.topic, str(partition.number)).set(not_put)
                    metrics.POSITION.labels(partition.topic, str(partition.number)).set(position)


def digest_of(message: Message) -> bytes:
    """What a repeat is recognised by besides its id. It needs no key, since nothing in it concerns a person."""
    return sha256(message.body.event_type().encode() + b"\0" + canonical(message.body)).digest()
