"""Messages as Confluent-framed Avro: a zero byte, the schema id in four bytes, the Avro body.

Decoding uses the writer's schema named in the frame and resolves it to the reader's own, so an old record reads as a new one.

While an older version of the code reads beside this one, messages can be written by the schemas that one knows. What these have no word for
is refused then, never left out: whoever wrote it would go on with what was meant, and whoever reads it with what was written.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, TypeVar, cast

import fastavro
from pydantic import BaseModel, ValidationError

from referral_bus.contracts.ledger import Entry, Event, Meta
from referral_bus.contracts.message import Message
from referral_bus.log.port import LARGEST_RECORD, LARGEST_VALUE
from referral_bus.wire.catalogue import BY_NAME, MESSAGES
from referral_bus.wire.errors import TooLarge, WireError
from referral_bus.wire.schemas import registered
from referral_bus.wire.writer import writer_of, writer_of_event

Model = TypeVar("Model", bound=BaseModel)

_FRAME = 5
_MAGIC = b"\x00"
MAXIMUM_BYTES = LARGEST_RECORD
"""No message of the bus is larger; what is larger is refused before it is parsed."""


class Codec:
    """Encodes and decodes every message of the bus. Immutable once made; share one per process."""

    def __init__(
        self, writers: dict[int, tuple[type[Message], Any]], current: dict[type[Message], int]
    ) -> None:
        self._writers = writers
        self._ids = current
        self._newest = {message: number for number, (message, _) in sorted(writers.items())}
        self._held = {message for message, number in current.items() if number != self._newest[message]}
        self._frames = {message: _MAGIC + number.to_bytes(4, "big") for message, number in current.items()}
        written = {message: writers[number][1] for message, number in current.items()}
        self._messages = {
            message: writer_of(schema)
            for message, schema in written.items()
            if not issubclass(message, Event)
        }
        self._events = {
            message: writer_of_event(schema)
            for message, schema in written.items()
            if issubclass(message, Event)
        }

    @classmethod
    def load(cls, write_up_to: int | None = None) -> Codec:
        """Read the schema files. Every schema is read; a message is written by its newest, or, while an older version of the code reads
        beside this one, by its newest whose id is not above ``write_up_to``. A message that has none so old can't be written then.
        Raises WireError where a message has no schema: run ``make schemas``."""
        writers: dict[int, tuple[type[Message], Any]] = {}
        current: dict[type[Message], int] = {}
        for schema in registered():
            message = BY_NAME.get(schema.name)
            if message is not None:
                writers[schema.id] = (message, fastavro.parse_schema(schema.parsed(), named_schemas={}))
                if write_up_to is None or schema.id <= write_up_to:
                    current[message] = schema.id
        known = {message for message, _ in writers.values()}
        for message in MESSAGES:
            if message not in known:
                raise WireError(f"{message.schema_name()} has no schema in schemas/avro: run 'make schemas'")
        return cls(writers, current)

    def schema_id(self, message: type[Message]) -> int:
        """The id under which new records of this message are written. Raises WireError where it can't be written yet."""
        if message not in self._ids:
            raise _too_new(message)
        return self._ids[message]

    def encode(self, message: Message) -> bytes:
        """Any message but an event, framed. Raises WireError where older code reads beside that does not know what it says, and TooLarge
        where no record can hold it."""
        kind = type(message)
        if kind not in self._ids:
            raise _too_new(kind)
        out = bytearray(self._frames[kind])
        self._messages[kind](out, message)
        written = _fitting(kind, out)
        if kind in self._held and self.decode(written) != message:
            raise _too_new(kind, self._ids[kind])
        return written

    def encode_entry(self, entry: Entry, like: bytes | None = None) -> bytes:
        """An event with its meta, framed: the bytes the hash chain is made of. ``like`` is a value of the same event whose schema is
        to be used instead of the current one, so that what was written long ago can be written again; what that one has no field
        for is written by the current one, and so never comes out as the same. Raises WireError where older code reads beside that does
        not know what it says, and TooLarge where no record can hold it."""
        kind = type(entry.event)
        if like is not None and like[:_FRAME] != self._frames.get(kind):
            known = self._writers.get(int.from_bytes(like[1:_FRAME], "big"))
            if known is not None and known[0] is kind:
                written = _written_as(like[:_FRAME], known[1], entry)
                if self.decode_entry(written) == entry:
                    return written
        if kind not in self._ids:
            raise _too_new(kind)
        out = bytearray(self._frames[kind])
        write_meta, write_event = self._events[kind]
        write_meta(out, entry.meta)
        write_event(out, entry.event)
        written = _fitting(kind, out)
        if kind in self._held and self.decode_entry(written) != entry:
            raise _too_new(kind, self._ids[kind])
        return written

    def decode(self, data: bytes | None) -> Message:
        """Any message but an event. Raises WireError on anything that is not one."""
        message, datum = self._read(data)
        if issubclass(message, Event):
            raise WireError(f"{message.__name__} is an event: it is read with its meta")
        return self._validated(message, datum)

    def decode_entry(self, data: bytes | None) -> Entry:
        """An event with its meta. Raises WireError on anything else; a fold that meets one it does not know stops."""
        message, datum = self._read(data)
        if not issubclass(message, Event):
            raise WireError(f"{message.__name__} is not an event")
        meta = self._validated(Meta, datum.pop("meta"))
        return Entry(meta, self._validated(message, datum))

    def _read(self, data: bytes | None) -> tuple[type[Message], dict[str, Any]]:
        if data is None or len(data) < _FRAME or data[:1] != _MAGIC:
            raise WireError(
                "the value is not Confluent-framed Avro: it lacks the zero byte and the schema id"
            )
        if len(data) > MAXIMUM_BYTES:
            raise WireError(f"the value has {len(data)} bytes; at most {MAXIMUM_BYTES} are taken")
        number = int.from_bytes(data[1:_FRAME], "big")
        known = self._writers.get(number)
        if known is None:
            raise WireError(
                f"schema id {number} is not in schemas/avro/ids.json: upgrade readers before writers"
            )
        message, writer = known
        newest = self._newest[message]
        reader = None if newest == number else self._writers[newest][1]
        stream = BytesIO(data)
        stream.seek(_FRAME)
        try:
            datum = fastavro.schemaless_reader(stream, writer, reader)
        except Exception as error:  # fastavro raises many kinds on hostile bytes, and all mean the same
            raise WireError(f"the value is not a {message.__name__} under schema id {number}") from error
        if stream.tell() != len(data):
            raise WireError(f"bytes are left over behind a {message.__name__}")
        return message, cast("dict[str, Any]", datum)

    @staticmethod
    def _validated(model: type[Model], datum: dict[str, Any]) -> Model:
        try:
            return model.model_validate(datum)
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, e["loc"])) or "the whole" for e in error.errors()}))
            raise WireError(f"a {model.__name__} is not valid: look at {fields}") from None


def _written_as(frame: bytes, schema: Any, entry: Entry) -> bytes:
    """The entry under a former schema, which may lack fields the models have now."""
    datum = {**entry.event.model_dump(), "meta": entry.meta.model_dump()}
    out = BytesIO(frame)
    out.seek(_FRAME)
    fastavro.schemaless_writer(out, schema, datum)
    return out.getvalue()


def _fitting(message: type[Message], written: bytearray) -> bytes:
    if len(written) > LARGEST_VALUE:
        raise TooLarge(
            f"a {message.__name__} of {len(written)} bytes can't be written: a record holds at most {LARGEST_VALUE}"
        )
    return bytes(written)


def _too_new(message: type[Message], schema: int | None = None) -> WireError:
    known = "the schemas that may be written now" if schema is None else f"schema {schema}"
    return WireError(
        f"{known} can't say this {message.__name__}: older code still reads beside. Take REFBUS_WRITE_SCHEMAS_UP_TO away once nothing "
        "of it runs any more"
    )
