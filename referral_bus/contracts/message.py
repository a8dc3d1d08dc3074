"""What all messages share: immutability, strictness, and the name they carry on the wire."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

Millis = Annotated[int, Field(ge=0, le=253_402_300_799_999, description="Epoch milliseconds, UTC")]
"""A moment: epoch milliseconds, UTC, up to the end of year 9999."""

Code = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
"""A code out of a vocabulary, or an id somebody else gave."""

NUL: Final = "\0"
ESCAPED_NUL: Final = json.dumps(NUL)[1:-1]
"""As JSON has it: a document that lacks this has none."""
NO_NUL: Final[dict[str, Any]] = {"pattern": rf"^[^{ESCAPED_NUL}]*$"}
"""What JSON schemas, and so OpenAPI, say of a text besides its length. It is not for the types to refuse: a ledger that has NUL can be read
all the same. :func:`nul_in` finds it at the border."""

Text = Annotated[str, Field(min_length=1, max_length=512, json_schema_extra=NO_NUL)]
"""A short human text that says nothing about a person."""


class Part(BaseModel):
    """A value inside a message. Unknown fields are refused, so that a misspelt field is an error and not a loss."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Message(Part):
    """A message with a schema of its own: ``schemas/avro/<folder>/<ClassName>.avsc``."""

    folder: ClassVar[str]

    @classmethod
    @cache
    def schema_name(cls) -> str:
        """The Avro full name, which is the schema registry's subject too (TopicRecordName's record part)."""
        return f"org.referralbus.{cls.folder}.{cls.__name__}"

    @classmethod
    @cache
    def holds_sealed(cls) -> bool:
        """Whether anything in it is sealed, at any depth: by its field's name, which then begins with ``sealed_``."""
        return "'sealed_" in str(cls.model_json_schema())

    @classmethod
    @cache
    def event_type(cls) -> str:
        """The CloudEvents ``type``."""
        return f"{cls.schema_name()}.v1"


def nul_in(part: Part) -> str | None:
    """The field, dotted, of the first text that holds NUL, which PostgreSQL takes in no text, nor in JSON. None where none does."""
    # Found in C: hardly any has one, and none is to be walked through for it.
    return _nul_in(part.model_dump(mode="json"), "") if ESCAPED_NUL in part.model_dump_json() else None


def _nul_in(value: Any, at: str) -> str | None:
    if isinstance(value, str):
        return at if NUL in value else None
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_nul_in(one, f"{at}.{name}" if at else str(name)) for name, one in inner)
    return next((field for field in found if field is not None), None)
