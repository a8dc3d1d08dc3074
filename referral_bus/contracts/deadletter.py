"""What could not be handled, kept for operations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from referral_bus.contracts.message import Code, Message, Millis


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
