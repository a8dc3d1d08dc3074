"""Submissions as inbox records: who says it and under which id in the headers, what is said in the value."""

from __future__ import annotations

from typing import Final

from pydantic import TypeAdapter, ValidationError

from referral_bus.contracts.ids import Region
from referral_bus.contracts.inbox import Submission
from referral_bus.contracts.ledger import Admitted, Received
from referral_bus.log.port import LARGEST_VALUE, Outgoing, Record
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, organisation_of, source_of
from referral_bus.wire.errors import TooLarge, WireError

_ROOM: Final = 16_384
"""Bytes of an event besides what was submitted: its place, who said it and when, and whom it concerns."""
LARGEST_ANSWERED: Final = LARGEST_VALUE - _ROOM
"""Bytes of the largest submission that can be answered at all, be it by a refusal: the answer carries it."""
LARGEST_CONTENT: Final = LARGEST_ANSWERED // 2
"""Bytes of the largest submission that can be taken whatever it says: the event that takes it may say all of it again."""
_REGION: Final[TypeAdapter[str]] = TypeAdapter(Region)


def submission_record(
    body: Submission,
    *,
    codec: Codec,
    topic: str,
    partition: int,
    region: str,
    id: str,
    organisation: str,
    sent_at: int,
    digest: bytes,
    about: str,
    correlation: str | None = None,
) -> Outgoing:
    """The inbox record of a submission. ``about`` is the id it speaks of, ``sent_at`` the sender's time in epoch milliseconds."""
    envelope = Envelope(
        id=id,
        source=source_of(organisation),
        type=body.event_type(),
        time=sent_at,
        subject=about,
        schema_id=codec.schema_id(type(body)),
        partitionkey=region,
        dataclassification="sealed" if body.holds_sealed() else "internal",
        correlationid=correlation,
        bodydigest=digest,
    )
    return Outgoing(topic, partition, region.encode(), codec.encode(body), envelope.to_headers())


def can_be_taken(body: Submission, codec: Codec) -> bool:
    """Whether the event that takes the submission can be written, whatever it says."""
    try:
        return len(codec.encode(body)) <= LARGEST_CONTENT
    except TooLarge:
        return False


def received(record: Record, codec: Codec) -> tuple[str, Received]:
    """The region and the submission of an inbox record. Raises WireError where it is not one."""
    if record.value is not None and len(record.value) > LARGEST_ANSWERED:
        raise WireError(f"the value has {len(record.value)} bytes, and no answer could carry it")
    envelope = Envelope.from_headers(record.headers)
    body = codec.decode(record.value)
    if not isinstance(body, Submission) or body.event_type() != envelope.type:
        raise WireError("type: the headers name another message than the value holds")
    if record.key != envelope.partitionkey.encode():
        raise WireError("partitionkey: the headers name another region than the key")
    try:
        _REGION.validate_python(envelope.partitionkey)
    except ValidationError:
        raise WireError("partitionkey: not a region") from None
    try:
        admitted = Admitted(
            type=envelope.type,
            id=envelope.id,
            source=organisation_of(envelope.source),
            digest=envelope.bodydigest or b"",
            sent_at=envelope.time,
            partition=record.partition,
            offset=record.offset,
            append_time=record.timestamp,
            value=record.value or b"",
        )
    except ValidationError as error:
        fields = ", ".join(sorted({str(e["loc"][0]) for e in error.errors()}))
        raise WireError(f"the envelope is not valid: look at {fields}") from None
    return envelope.partitionkey, Received(admitted, body)


def admitted_again(admitted: Admitted, codec: Codec) -> Received:
    """A submission as the ledger carries it, decoded again. Raises WireError where its bytes are no submission."""
    body = codec.decode(admitted.value)
    if not isinstance(body, Submission):
        raise WireError("the ledger carries something else than a submission")
    return Received(admitted, body)
