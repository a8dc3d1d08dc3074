"""What could not be handled, kept for operations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from referral_bus.contracts.message import Code, Message, Millis

Handling = Literal["opened", "resent", "discarded"]
"""What operations do with a dead letter."""


class DeadLetter(Message):
    """The bytes (value and headers as JSON, as a JWE to the operations key), where they came from, and why they are here."""

    folder = "deadletter"

    service: Code
    topic: Code
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    reason: Code
    tries: Annotated[int, Field(ge=1)]
    at: Millis
    sealed: bytes


class LetterHandled(Message):
    """What operations did with the dead letter that stands at this place of the same topic. Opening one is recorded before it is shown."""

    folder = "deadletter"

    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    handling: Handling
    at: Millis
