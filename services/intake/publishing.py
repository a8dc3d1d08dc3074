"""Publishing reference data: checked, given its topics, and put on the reference topic, where the first of a version counts."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from pydantic import ValidationError

from referral_bus.access.caller import Caller
from referral_bus.contracts.ids import OF_THE_BUS
from referral_bus.contracts.message import nul_in
from referral_bus.contracts.published import PUBLISHED, Published, PublishedKind
from referral_bus.contracts.reference import Organisation, RegionTable
from referral_bus.log import topics
from referral_bus.log.port import Appender, Log, Outgoing
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.logs import correlation
from referral_bus.sealing.jwe import JweError, key_id
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from referral_bus.wire.inbox import can_be_taken
from services.intake.outages import RETRY_SECONDS
from services.intake.reference import LONGEST_ID, ReferenceView, adoption, identity, needed
from services.intake.refusals import Refused, faults_of, holds_nul, invalid, too_large

_SEEN_SECONDS: Final = 10.0


class Publishing:
    """Puts versions on the reference topic. ``replication`` is that of the topics made for a new organisation."""

    def __init__(
        self,
        *,
        log: Log,
        appender: Appender,
        view: ReferenceView,
        codec: Codec,
        clock: Clock,
        bus: str,
        replication: int,
    ) -> None:
        self._log = log
        self._appender = appender
        self._view = view
        self._codec = codec
        self._clock = clock
        self._bus = bus
        self._replication = replication

    async def publish(self, kind: PublishedKind, content: Any, caller: Caller) -> Published:
        """Publish a version; it counts, and this process goes by it, once this returns. Raises Refused, and LogError."""
        if not caller.has("operations"):
            raise Refused(
                "role_missing", "Publishing reference data takes the role operations.", field="Authorization"
            )
        if not self._view.ready:
            raise Refused(
                "unavailable", "Intake has not read the reference data yet.", retry_after=RETRY_SECONDS
            )
        try:
            message = PUBLISHED[kind].model_validate(content)
        except ValidationError as error:
            raise invalid(faults_of(error), "content.") from None
        await self._check(message)
        if isinstance(message, Organisation):
            # Before it is published: whoever hears of an organisation finds its topics.
            await self._make_topics(message.organisation)
        [position] = await self._appender.append([self._record(message, caller.organisation)])
        await self._seen(position.offset)
        current = self._view.reference.current[identity(message)]
        if current.offset != position.offset:
            # Another process published this version, or a later one, at the same time.
            raise Refused("version_not_risen", field="content.version")
        return message

    async def _make_topics(self, organisation: str) -> None:
        wanted = topics.of_organisations(self._bus, self._replication, [organisation])
        if organisation in self._view.reference.organisations:
            # Operators may have changed the settings of its topics since; those that somebody took away are made again.
            there = await self._log.topics()
            wanted = [spec for spec in wanted if spec.name not in there]
        if wanted:
            await self._log.ensure(wanted)

    async def _check(self, message: Published) -> None:
        held_by = nul_in(message)
        if held_by is not None:
            raise holds_nul(f"content.{held_by}")
        kind, id = identity(message)
        if len(id) > LONGEST_ID:
            raise Refused(
                "invalid", f"content.{kind}: longer than {LONGEST_ID} characters.", field=f"content.{kind}"
            )
        former = self._view.reference.current.get((kind, id))
        if former is not None and former.message.version >= message.version:
            raise Refused("version_not_risen", field="content.version")
        for field, named in needed(message).items():
            if named not in self._view.reference.current:
                # Every region would refuse it, where nobody looks.
                raise Refused(
                    "invalid",
                    f"content.{field}: no such {named[0]} is published. Publish that first.",
                    field=f"content.{field}",
                )
        body = adoption(message)
        if body is not None and not can_be_taken(body, self._codec):
            raise too_large("content")
        if isinstance(message, Organisation):
            self._check_organisation(message)
        elif isinstance(message, RegionTable):
            await self._check_table(message)

    def _check_organisation(self, message: Organisation) -> None:
        if message.organisation in OF_THE_BUS:
            raise Refused(
                "invalid",
                "content.organisation: the bus itself speaks under this id. Choose another.",
                field="content.organisation",
            )
        if self._view.reference.partition_of(message.home_region) is None:
            raise Refused("unknown_region", field="content.home_region")
        if message.encryption_key is None:
            return
        field = "content.encryption_key"
        try:
            key_id(message.encryption_key)
        except JweError as error:
            raise Refused("invalid", f"{field}: {error}.", field=field) from None
        if "d" in json.loads(message.encryption_key):
            raise Refused(
                "invalid",
                f"{field}: this is a private key. Make a new one, and publish its public part.",
                field=field,
            )

    async def _check_table(self, message: RegionTable) -> None:
        count = await self._log.partitions(topics.inbox(self._bus))
        for region, partition in message.partitions.items():
            if partition >= count:
                field = f"content.partitions.{region}"
                raise Refused(
                    "invalid", f"{field}: the inbox has the partitions 0 to {count - 1}.", field=field
                )
        for region, partition in self._view.reference.regions.items():
            if message.partitions.get(region) != partition:
                # What a region decided so far is on its partition; another would begin from nothing.
                field = f"content.partitions.{region}"
                raise Refused(
                    "invalid", f"{field}: a region stays on its partition, {partition}.", field=field
                )

    async def _seen(self, offset: int) -> None:
        try:
            async with asyncio.timeout(_SEEN_SECONDS):
                await self._view.reached(offset)
        except TimeoutError:
            raise Refused(
                "unavailable",
                "It was put on the log and could not be read back in time.",
                retry_after=RETRY_SECONDS,
            ) from None

    def _record(self, message: Published, publisher: str) -> Outgoing:
        kind, id = identity(message)
        key = f"{kind}/{id}"
        envelope = Envelope(
            id=f"{kind}.{id}.v{message.version}",
            source=source_of(publisher),
            type=message.event_type(),
            time=self._clock.now(),
            subject=key,
            schema_id=self._codec.schema_id(type(message)),
            partitionkey=key,
            dataclassification="internal",
            correlationid=correlation(),
        )
        topic = topics.reference(self._bus)
        return Outgoing(topic, 0, key.encode(), self._codec.encode(message), envelope.to_headers())
