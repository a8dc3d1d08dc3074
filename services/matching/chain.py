"""A region's end of the ledger: its state, its sequence and the hash of its last event. Events get their place and their bytes here."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from referral_bus.contracts.ledger import Admitted, Entry, Event, Meta
from referral_bus.log.port import Outgoing
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope
from services.matching.core.fold import fold
from services.matching.core.state import Region


class LedgerDamaged(Exception):
    """The ledger is not what was written: an event is missing, out of place or changed. The message says where."""


class Written(NamedTuple):
    """An event as it is to stand on the ledger, and the hash that the next one names."""

    entry: Entry
    value: bytes
    hash: bytes


class Chain:
    """One region's chain. What is appended or taken changes its state at once."""

    def __init__(self, state: Region) -> None:
        self.state = state

    @property
    def prev_hash(self) -> bytes:
        """The hash of the region's last event."""
        return self.state.last_hash

    def take(self, entry: Entry, value: bytes) -> None:
        """The region's next event, as read. Raises LedgerDamaged where it doesn't follow the one before."""
        meta, state = entry.meta, self.state
        if meta.sequence != state.sequence + 1:
            raise LedgerDamaged(f"region {state.region}: sequence {meta.sequence} follows {state.sequence}")
        if meta.prev_hash != self.prev_hash:
            raise LedgerDamaged(
                f"region {state.region}: the event before sequence {meta.sequence} is not the one it was written after"
            )
        fold(state, entry)
        state.last_hash = sha256(value).digest()

    def written(
        self, codec: Codec, events: Sequence[Event], admitted: Admitted | None, decided_through: int, now: int
    ) -> list[Written]:
        """What was decided, stamped and encoded, and not folded yet: where one event can't be written, nothing of the decision is so.
        Only the first carries the submission. Raises WireError, and TooLarge."""
        written: list[Written] = []
        state, last = self.state, self.prev_hash
        for sequence, event in enumerate(events, state.sequence + 1):
            meta = Meta(
                region=state.region,
                sequence=sequence,
                prev_hash=last,
                decided_through=decided_through,
                now=now,
                rules=state.rules,
                submission=admitted,
            )
            entry = Entry(meta, event)
            value = codec.encode_entry(entry)
            last = sha256(value).digest()
            written.append(Written(entry, value, last))
            admitted = None
        return written

    def append(
        self, codec: Codec, events: Sequence[Event], admitted: Admitted | None, decided_through: int, now: int
    ) -> list[tuple[Entry, bytes]]:
        """The same, folded."""
        written = self.written(codec, events, admitted, decided_through, now)
        self.go_on(written)
        return [(one.entry, one.value) for one in written]

    def go_on(self, written: Sequence[Written]) -> None:
        """Fold what was written here, next after what is folded."""
        for one in written:
            fold(self.state, one.entry)
            self.state.last_hash = one.hash


def ledger_record(
    entry: Entry,
    value: bytes,
    *,
    bus: str,
    topic: str,
    partition: int,
    codec: Codec,
    cause: str,
    correlation: str | None,
) -> Outgoing:
    """The ledger record of an event. ``cause`` is the id of the submission it answers."""
    meta, event = entry.meta, entry.event
    region = meta.region
    envelope = Envelope(
        id=f"{region}.{meta.sequence}",
        source=f"/buses/{bus}/matching",
        type=event.event_type(),
        time=meta.now,
        subject=getattr(event, "referral", None) or region,
        schema_id=codec.schema_id(type(event)),
        partitionkey=region,
        dataclassification="sealed" if meta.submission is not None or event.holds_sealed() else "internal",
        correlationid=correlation,
        causationid=cause,
    )
    return Outgoing(topic, partition, region.encode(), value, envelope.to_headers())
