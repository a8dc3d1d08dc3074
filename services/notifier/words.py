"""What became of deliveries, said on the delivery topic."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from referral_bus.contracts.delivery import Delivered, Delivery, DeliveryFailed, DeliveryGivenUp
from referral_bus.log import topics
from referral_bus.log.port import Appender, Outgoing
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from services.notifier.deliveries import Claimed
from services.notifier.notices import SENDER


class Words:
    """Writes the delivery topic; ``partitions`` is how many it has. One recipient's words stay in order."""

    def __init__(self, appender: Appender, bus: str, codec: Codec, partitions: int) -> None:
        self._appender = appender
        self._topic = topics.delivery(bus)
        self._codec = codec
        self._partitions = partitions

    async def delivered(self, claimed: Sequence[Claimed], at: int) -> None:
        """The recipient has these. Raises LogError."""
        await self._say([(one, Delivered(**_common(one, at))) for one in claimed])

    async def failed(self, claimed: Sequence[Claimed], at: int, reason: str, retry_at: int) -> None:
        """An attempt at these failed. Raises LogError."""
        await self._say(
            [(one, DeliveryFailed(**_common(one, at), reason=reason, retry_at=retry_at)) for one in claimed]
        )

    async def given_up(self, claimed: Sequence[Claimed], at: int, reason: str) -> None:
        """These are not tried again. Raises LogError."""
        await self._say([(one, DeliveryGivenUp(**_common(one, at), reason=reason)) for one in claimed])

    async def _say(self, words: Sequence[tuple[Claimed, Delivery]]) -> None:
        if words:
            await self._appender.append([self._record(claimed, word) for claimed, word in words])

    def _record(self, claimed: Claimed, word: Delivery) -> Outgoing:
        key = word.recipient.encode()
        envelope = Envelope(
            id=f"{word.delivery}.{word.attempts}",
            source=source_of(SENDER),
            type=type(word).event_type(),
            time=word.at,
            subject=claimed.notice.referral or word.delivery,
            schema_id=self._codec.schema_id(type(word)),
            partitionkey=word.recipient,
            dataclassification="internal",
        )
        partition = int.from_bytes(sha256(key).digest()[:4], "big") % self._partitions
        return Outgoing(self._topic, partition, key, self._codec.encode(word), envelope.to_headers())


def _common(claimed: Claimed, at: int) -> dict[str, Any]:
    return {
        "delivery": claimed.identity,
        "recipient": claimed.notice.organisation,
        "subscription": claimed.subscription,
        "region": claimed.notice.region,
        "sequence": claimed.notice.sequence,
        "attempts": claimed.attempts,
        "at": at,
    }
