"""Notices as records of an organisation's own Kafka feed."""

from __future__ import annotations

from collections.abc import Sequence

from referral_bus.contracts.feed import Notice
from referral_bus.log import topics
from referral_bus.log.port import Appender, Outgoing
from referral_bus.runtime import tracing
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from services.notifier.deliveries import Claimed
from services.notifier.notices import SENDER, classification, subject


class Feeds:
    """Appends to feeds. ``ce_id`` is the delivery's identity: a repeat after a crash is recognised by it."""

    def __init__(self, appender: Appender, bus: str, codec: Codec) -> None:
        self._appender = appender
        self._bus = bus
        self._codec = codec

    async def write(self, notices: Sequence[tuple[Claimed, Notice]]) -> None:
        """Returns once all are acknowledged. Raises LogError; some may have been written then."""
        if notices:
            await self._appender.append([self.record(claimed, notice) for claimed, notice in notices])

    def record(self, claimed: Claimed, notice: Notice) -> Outgoing:
        """The record of one notice, keyed by its referral."""
        kept = claimed.notice
        key = kept.referral or kept.organisation
        envelope = Envelope(
            id=claimed.identity,
            source=source_of(SENDER),
            type=Notice.event_type(),
            time=kept.at,
            subject=subject(kept),
            schema_id=self._codec.schema_id(Notice),
            partitionkey=key,
            dataclassification=classification(notice),
            causationid=kept.submission,
        )
        record = Outgoing(
            topics.feed(self._bus, kept.organisation),
            0,
            key.encode(),
            self._codec.encode(notice),
            envelope.to_headers(),
        )
        return tracing.tracer().feeding(kept, record)
