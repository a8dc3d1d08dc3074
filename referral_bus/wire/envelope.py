"""The CloudEvents 1.0 envelope in Kafka's binary content mode: attributes in ``ce_`` headers, the value is only the data.

Nothing about a person stands in a header or a key.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from referral_bus.log.port import Headers
from referral_bus.wire.errors import WireError

CONTENT_TYPE: Final = "application/vnd.confluent.avro"
SPEC_VERSION: Final = "1.0"
DataClassification = Literal["sealed", "internal", "public"]

_CLASSIFICATIONS: Final[dict[str, DataClassification]] = {
    "sealed": "sealed",
    "internal": "internal",
    "public": "public",
}
_SCHEMA: Final = "urn:referral-bus:schema:"
_SOURCE = re.compile(r"^/organisations/([a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?)$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST = 512


_SPECVERSION: Final = ("ce_specversion", SPEC_VERSION.encode())
_CONTENT_TYPE: Final = ("content-type", CONTENT_TYPE.encode())


@lru_cache(maxsize=256)
def _time_bytes(millis: int) -> bytes:
    """The events of a decision have the same time, and so have many decisions of a batch."""
    return format_time(millis).encode()


def format_time(millis: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=millis)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """RFC 3339 as epoch milliseconds. Raises WireError where it is no time or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("no zone")
        millis = (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise WireError("time: not an RFC 3339 time with a zone") from None
    if millis < 0:
        raise WireError("time: before 1970")
    return millis


def source_of(organisation: str) -> str:
    """The CloudEvents source of an organisation."""
    return f"/organisations/{organisation}"


def organisation_of(source: str) -> str:
    """The organisation in a CloudEvents source. Raises WireError on any other source."""
    found = _SOURCE.match(source)
    if found is None:
        raise WireError("source: expected /organisations/<id>")
    return found.group(1)


def dataschema_of(schema_id: int) -> str:
    """The CloudEvents dataschema of a registered schema: an absolute URI, as the type of that attribute wants. The schema itself is at
    intake's ``/schemas/ids/<schema_id>``."""
    return f"{_SCHEMA}{schema_id}"


class Envelope(NamedTuple):
    """The attributes of one message. ``time`` is epoch milliseconds UTC; ``bodydigest`` stands on the inbox only."""

    id: str
    source: str
    type: str
    time: int
    subject: str
    schema_id: int
    partitionkey: str
    dataclassification: DataClassification
    correlationid: str | None = None
    causationid: str | None = None
    bodydigest: bytes | None = None

    def to_headers(self) -> Headers:
        """As Kafka headers, in a fixed order."""
        headers = [
            _SPECVERSION,
            ("ce_id", self.id.encode()),
            ("ce_source", self.source.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", _time_bytes(self.time)),
            ("ce_subject", self.subject.encode()),
            ("ce_dataschema", dataschema_of(self.schema_id).encode()),
            ("ce_partitionkey", self.partitionkey.encode()),
            ("ce_dataclassification", self.dataclassification.encode()),
        ]
        if self.correlationid is not None:
            headers.append(("ce_correlationid", self.correlationid.encode()))
        if self.causationid is not None:
            headers.append(("ce_causationid", self.causationid.encode()))
        if self.bodydigest is not None:
            headers.append(("ce_bodydigest", self.bodydigest.hex().encode()))
        headers.append(_CONTENT_TYPE)
        return tuple(headers)

    @classmethod
    def from_headers(cls, headers: Headers) -> Envelope:
        """Read the headers of one of the bus's own messages. Raises WireError naming the attribute that is wrong."""
        given = attributes(headers)
        if given.get("specversion") != SPEC_VERSION:
            raise WireError("specversion: expected 1.0 in the header ce_specversion")
        for name in (
            "id",
            "source",
            "type",
            "time",
            "subject",
            "dataschema",
            "partitionkey",
            "dataclassification",
        ):
            if not given.get(name):
                raise WireError(f"{name}: the header ce_{name} is missing or empty")
        urn, _, schema_id = given["dataschema"].rpartition(":")
        if f"{urn}:" != _SCHEMA or not (schema_id.isascii() and schema_id.isdigit()):
            raise WireError(f"dataschema: expected {_SCHEMA}<number>")
        classification = _CLASSIFICATIONS.get(given["dataclassification"])
        if classification is None:
            raise WireError("dataclassification: expected sealed, internal or public")
        return cls(
            id=given["id"],
            source=given["source"],
            type=given["type"],
            time=parse_time(given["time"]),
            subject=given["subject"],
            schema_id=int(schema_id),
            partitionkey=given["partitionkey"],
            dataclassification=classification,
            correlationid=given.get("correlationid"),
            causationid=given.get("causationid"),
            bodydigest=_digest(given.get("bodydigest")),
        )


def attributes(headers: Headers) -> dict[str, str]:
    """The CloudEvents attributes in Kafka headers. Raises WireError on one that is not short UTF-8 text."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith("ce_"):
            try:
                text = value.decode()
            except (UnicodeDecodeError, AttributeError):
                raise WireError(f"{name[3:][:20]}: the header is not UTF-8 text") from None
            if len(text) > _LONGEST:
                raise WireError(f"{name[3:][:20]}: longer than {_LONGEST} characters")
            found[name[3:]] = text
    return found


def correlation_of(headers: Headers) -> str | None:
    """What a record of the bus's own is followed by, without reading its other attributes."""
    return next((value.decode() for name, value in headers if name == "ce_correlationid"), None)


def _digest(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise WireError("bodydigest: not hexadecimal") from None
