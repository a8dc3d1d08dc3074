"""The record of releases: on the disclosure topic, acknowledged by all replicas, before anything leaves."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from referral_bus.contracts.disclosure import Disclosed
from referral_bus.log import topics
from referral_bus.log.port import Appender, Outgoing
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of


class Releases:
    """Writes releases. ``partitions`` is that of the disclosure topic: one person's releases stay in order."""

    def __init__(self, appender: Appender, bus: str, codec: Codec, partitions: int) -> None:
        self._appender = appender
        self._topic = topics.disclosure(bus)
        self._codec = codec
        self._partitions = partitions

    async def record(self, releases: Sequence[Disclosed]) -> None:
        """Returns once every release is recorded. Raises LogError where it is not: then nothing may leave."""
        if releases:
            await self._appender.append([self._outgoing(release) for release in releases])

    def _outgoing(self, release: Disclosed) -> Outgoing:
        value = self._codec.encode(release)
        envelope = Envelope(
            id=sha256(value).hexdigest()[:32],
            source=source_of(release.recipient),
            type=Disclosed.event_type(),
            time=release.at,
            subject=release.referral,
            schema_id=self._codec.schema_id(Disclosed),
            partitionkey=release.subject,
            dataclassification="internal",
        )
        partition = int.from_bytes(sha256(release.subject.encode()).digest()[:4], "big") % self._partitions
        return Outgoing(self._topic, partition, release.subject.encode(), value, envelope.to_headers())
