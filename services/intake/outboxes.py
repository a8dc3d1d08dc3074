"""The Kafka door: what organisations put on their outboxes, sealed to intake, is admitted like everything else.

Offsets are committed once all before them is on the inbox, or its refusal on the organisation's feed: a crash repeats, and repeats are
recognised. What is refused comes back on the feed; what intake can't even open goes to the dead letters as well, and so does what hits
a fault of ours: the others go on without it, until the guard of the dead letters says that it hits all. A refusal that its feed will not
take goes there too.

Outboxes go on side by side: one that can't be handled, or rests, or is not there, holds up no other.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from referral_bus.contracts.feed import AdmissionRefused
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
from referral_bus.runtime.claims import Claims
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.runtime.health import Health
from referral_bus.runtime.joining import Membership, Unanswered
from referral_bus.sealing.jwe import JweError, open_with
from referral_bus.wire.cloudevents import CloudEvent, from_structured
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from referral_bus.wire.errors import WireError
from services.intake.admission import Admission, Speaker
from services.intake.answers import Admitted
from services.intake.checks import Presented
from services.intake.counting import count
from services.intake.outbox_lag import OutboxClaim, OutboxLag
from services.intake.presenting import correlation_of, presented, unreadable
from services.intake.quotas import Quotas
from services.intake.reference import ReferenceView
from services.intake.refusals import Refused

logger = logging.getLogger(__name__)

PART: Final = "outboxes"
SENDER: Final = "operations"
"""The source of what intake says itself."""
UNTOLD: Final = "untold"
"""Why a refusal is among the dead letters that its feed would not take."""

_LIMIT: Final = 200
_POLL_SECONDS: Final = 0.05
"""An outbox that was handled is polled again after so long at the most, whatever the poll that is under way waits for."""
_RETRY_SECONDS: Final = 1.0
_TRIES: Final = 5
"""So often the log may refuse a refusal, other than by not answering, before it is given up to tell it."""
_SETTLE_SECONDS: Final = 0.5
"""Organisations are published many at a time; the group is joined anew once no more have come for so long."""
_LONGEST_SETTLE_SECONDS: Final = 5.0
_LAG_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 30.0
"""Between two looks which outboxes there are."""
_FIRST_LOOK_SECONDS: Final = 2.0
"""A topic that was just made is not known to every broker at once."""
_BEHIND_SECONDS: Final = 60.0
"""So long a broker may lead that has not yet again all of an outbox that was handled."""
_BEAT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class _Read:
    """A record of an outbox: the event in it, as far as it could be read, and what it presents or why it is refused."""

    record: Record
    event: CloudEvent | None
    content: Presented | Refused


class Outboxes:
    """Reads the outboxes of all organisations there are, in the consumer group ``group``. ``intake_key`` is intake's private JWK.

    While the group has not said what it is given it is hindered, and intake ready all the same: whoever routes HTTP would else shut that
    door too, at all processes at once, whenever the group deals out its outboxes anew.
    """

    def __init__(
        self,
        *,
        log: Log,
        view: ReferenceView,
        admission: Admission,
        appender: Appender,
        dead_letters: DeadLetters,
        quotas: Quotas,
        codec: Codec,
        clock: Clock,
        health: Health,
        bus: str,
        group: str,
        intake_key: str,
    ) -> None:
        self._log = log
        self._view = view
        self._admission = admission
        self._appender = appender
        self._dead_letters = dead_letters
        self._quotas = quotas
        self._codec = codec
        self._clock = clock
        self._health = health
        self._bus = bus
        self._intake_key = intake_key
        self._membership = Membership(
            log, group, "the outboxes", assigned=self._assigned, revoked=self._revoked
        )
        self._claims = Claims(self._take, self._handle)
        self._lag = OutboxLag()

    async def run(self) -> None:
        """Until cancelled; outages are waited out, and a lost membership is joined anew."""
        await self._view.caught_up()
        try:
            while True:
                organisations = await self._known()
                try:
                    missing = await self._missing(organisations)
                    if missing == organisations:
                        self._health.ready(PART)  # there is nothing to have a share of
                        await self._until_others(organisations, missing)
                    else:
                        await self._follow(organisations, missing)
                except (LogError, Unanswered) as error:
                    logger.warning("the outboxes can't be read now, trying again: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._health.silent(PART)

    def _organisations(self) -> frozenset[str]:
        return frozenset(self._view.reference.organisations)

    async def _known(self) -> frozenset[str]:
        """The organisations, at least one, once no more have come for a moment."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _LONGEST_SETTLE_SECONDS
        while True:
            self._health.silent(PART)
            before, seen = self._organisations(), self._view.next
            if before:
                self._health.hindered(PART, self._membership.waits)
            came = await self._view.beyond(seen, _SETTLE_SECONDS)
            if before and (not came or loop.time() > until):
                return self._organisations()

    async def _missing(self, organisations: frozenset[str]) -> frozenset[str]:
        """Those whose outbox is not there. Publishing an organisation makes it, so somebody took it away."""
        there = await self._log.topics()
        return frozenset(one for one in organisations if topics.outbox(one) not in there)

    async def _until_others(self, organisations: frozenset[str], missing: frozenset[str]) -> None:
        """Returns once other outboxes are missing, or there are other organisations."""
        pause = _FIRST_LOOK_SECONDS
        while self._organisations() == organisations:
            await asyncio.sleep(pause)
            pause = _LOOK_SECONDS
            try:
                if await self._missing(organisations) != missing:
                    return
            except LogError as error:
                logger.warning("which outboxes there are is not known: %s", error)
                continue
            if missing:
                logger.warning(
                    "these organisations have no outbox: publish each again, as its next version, to make it: %s",
                    ", ".join(sorted(missing)),
                )

    async def _follow(self, organisations: frozenset[str], missing: frozenset[str]) -> None:
        member = await self._membership.try_to_join(topics.outbox(one) for one in organisations - missing)
        telling = asyncio.create_task(self._tell_lag(member))
        looking = asyncio.create_task(self._until_others(organisations, missing))
        try:
            while self._organisations() == organisations and not looking.done():
                self._health.beat(PART, _BEAT_SECONDS)
                await self._claims.poll(member, _LIMIT, _POLL_SECONDS)
                if telling.done():
                    await telling
        finally:
            telling.cancel()
            looking.cancel()
            await asyncio.wait([telling, looking])
            await self._claims.give_up()
            await self._membership.leave(member)

    async def _tell_lag(self, member: GroupMember) -> None:
        while True:
            try:
                lags = await member.lag()
            except LogError as error:
                logger.warning("the lag is not known: %s", error)
                lags = None
            self._lag.tell(lags, self._claims.held)
            await asyncio.sleep(_LAG_SECONDS)

    async def _assigned(self, member: GroupMember, partitions: frozenset[Partition]) -> None:
        self._claims.begin(member, partitions)
        self._health.ready(PART)

    async def _revoked(self, _: GroupMember, partitions: frozenset[Partition]) -> None:
        self._claims.end(partitions)
        self._health.hindered(PART, self._membership.waits)

    async def _take(self, member: GroupMember, partition: Partition) -> OutboxClaim:
        """Go on from what is stored; from the start of what is kept where that is not there."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                position = (await self._membership.answered("position", member.committed([partition])))[
                    partition
                ]
                kept = (await self._membership.answered("kept", member.kept([partition])))[partition]
                if position <= kept.end or loop.time() > began + _BEHIND_SECONDS:
                    break
            except LogUnavailable as error:
                logger.warning("%s can't be read yet: %s", partition.topic, error)
            await asyncio.sleep(_RETRY_SECONDS)
        if not kept.start <= position <= kept.end:
            # Where it was made anew all in it is new, and where a broker lost its end what was handled is recognised.
            logger.error(
                "%s was handled up to %d and keeps %d to %d: what is missing was deleted or lost, and it goes on from %d",
                partition.topic,
                position,
                kept.start,
                kept.end,
                kept.start,
            )
            position = kept.start
        return OutboxClaim(position, position)

    async def _handle(
        self, member: GroupMember, partition: Partition, claim: OutboxClaim, records: Sequence[Record]
    ) -> None:
        """All that was polled of one outbox; where its organisation sends more than its quota, it rests for a while."""
        await self._outbox(records)
        while True:
            try:
                await self._membership.answered("commit", member.commit({partition: claim.read}))
                break
            except LogUnavailable as error:
                logger.warning("how far %s is handled is not stored yet: %s", partition.topic, error)
                await asyncio.sleep(_RETRY_SECONDS)
        claim.handled = claim.read
        self._dead_letters.check()
        seconds = self._quotas.owe(_organisation(partition.topic), len(records))
        if seconds > 0:
            claim.rests = True
            await asyncio.sleep(seconds)
            claim.rests = False

    async def _outbox(self, records: Sequence[Record]) -> None:
        """Returns once each record is on the inbox, or its refusal on the feed or among the dead letters."""
        organisation = _organisation(records[0].topic)
        waiting = records
        while waiting:
            try:
                waiting = await self._settled(organisation, [self._read(record) for record in waiting])
            except Exception as error:
                # One by one it shows which of them it is; the others go on.
                logger.error("records of %s are taken one by one", records[0].topic, exc_info=error)
                waiting = [
                    record for record in waiting if not await self._settled_alone(organisation, record)
                ]
            if waiting:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _settled(self, organisation: str, read: Sequence[_Read]) -> list[Record]:
        """Admit or refuse these, and return those that can be neither now."""
        results = await self._admitted(organisation, read)
        later: list[Record] = []
        refused: list[tuple[_Read, Refused]] = []
        for one, result in zip(read, results, strict=True):
            if isinstance(result, Refused):
                if result.reason == "unavailable":
                    later.append(one.record)
                else:
                    refused.append((one, result))
        await self._refuse(organisation, refused)
        if len(later) < len(read):
            self._dead_letters.handled()
        return later

    async def _settled_alone(self, organisation: str, record: Record) -> bool:
        """The same for one record, which is refused and dead-lettered where it hits a fault of ours."""
        one = _Read(record, None, Refused("internal"))
        try:
            one = self._read(record)
            return not await self._settled(organisation, [one])
        except Exception as error:
            logger.error(
                "%s/%d/%d can't be admitted", record.topic, record.partition, record.offset, exc_info=error
            )
            fault = Refused("internal")
            count("outbox", organisation, fault)
            await self._refuse(organisation, [(one, fault)])
            return True

    def _read(self, record: Record) -> _Read:
        try:
            clear = open_with(self._intake_key, record.value or b"")
        except JweError:
            return _Read(record, None, Refused("not_sealed"))
        try:
            event = from_structured(json.loads(clear))
        except (ValueError, RecursionError) as error:
            refused = (
                unreadable(error) if isinstance(error, WireError) else Refused("malformed", "It is not JSON.")
            )
            return _Read(record, None, refused)
        try:
            return _Read(record, event, presented(event, "outbox", self._clock.now()))
        except Refused as refused:
            return _Read(record, event, refused)

    async def _admitted(self, organisation: str, read: Sequence[_Read]) -> list[Admitted | Refused]:
        known = self._view.reference.organisations[organisation]
        speaker = Speaker(organisation, frozenset(known.roles))
        fit = [(one, one.content) for one in read if isinstance(one.content, Presented)]
        admitted = iter(
            await self._admission.admit(
                [content for _, content in fit],
                speaker,
                [correlation_of(one.event) if one.event is not None else None for one, _ in fit],
            )
        )
        results: list[Admitted | Refused] = []
        for one in read:
            if isinstance(one.content, Refused):
                count("outbox", organisation, one.content)
                results.append(one.content)
            else:
                results.append(next(admitted))
        return results

    async def _refuse(self, organisation: str, refused: Sequence[tuple[_Read, Refused]]) -> None:
        if not refused:
            return
        told = await self._put(
            f"refusals of {organisation}",
            [self._refusal(organisation, one, why) for one, why in refused],
            tries=_TRIES,
        )
        letters = self._dead_letters.batch()
        put_away: list[Outgoing] = []
        for one, why in refused:
            record = one.record
            if not told:
                logger.error(
                    "%s/%d/%d was refused as %s, which its organisation was not told",
                    record.topic,
                    record.partition,
                    record.offset,
                    why.reason,
                )
            if why.reason == "internal":
                put_away.append(letters.fault(record, why.reason if told else UNTOLD))
            elif why.reason == "not_sealed" or not told:
                put_away.append(letters.letter(record, why.reason if told else UNTOLD))
        if put_away:
            await self._put("dead letters", put_away)
            letters.kept()

    async def _put(self, what: str, records: Sequence[Outgoing], tries: int | None = None) -> bool:
        """Whether the log took them, or refused to so many times. An outage is waited out, and without ``tries`` all else too."""
        refused = 0
        while refused != tries:
            try:
                await self._appender.append(records)
                return True
            except LogError as error:
                logger.warning("%s are not put yet: %s", what, error)
                refused += not isinstance(error, LogUnavailable)
            await asyncio.sleep(_RETRY_SECONDS)
        return False

    def _refusal(self, organisation: str, one: _Read, why: Refused) -> Outgoing:
        submission = _shown_id(one)
        now = self._clock.now()
        record = one.record
        message = AdmissionRefused(
            organisation=organisation,
            submission=submission,
            outbox_partition=record.partition,
            outbox_offset=record.offset,
            at=now,
            status=why.status,
            reason=why.reason,
            field=why.field,
            detail=why.detail,
        )
        envelope = Envelope(
            id=f"{record.topic}/{record.partition}/{record.offset}",
            source=source_of(SENDER),
            type=AdmissionRefused.event_type(),
            time=now,
            subject=organisation,
            schema_id=self._codec.schema_id(AdmissionRefused),
            partitionkey=organisation,
            dataclassification="internal",
            causationid=submission,
        )
        topic = topics.feed(self._bus, organisation)
        return Outgoing(topic, 0, organisation.encode(), self._codec.encode(message), envelope.to_headers())


def _organisation(topic: str) -> str:
    return topic.removeprefix("agency.").removesuffix(".outbox")


def _shown_id(one: _Read) -> str | None:
    """The event's id as its sender knows it, where it is one: what else stands there is repeated to nobody."""
    if isinstance(one.content, Presented):
        return one.content.id
    id = one.event.attributes["id"] if one.event is not None else ""
    return (
        id if one.content.field != "id" and 0 < len(id) <= 128 and id.isascii() and id.isprintable() else None
    )
