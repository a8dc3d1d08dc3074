"""What stands on the organisations' feeds, read as they would: what comes again is recognised by its identity."""

from __future__ import annotations

from typing import Any

from referral_bus.contracts.feed import Notice
from referral_bus.contracts.message import Message
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Record
from referral_bus.wire.envelope import Envelope
from tests.simulation.world import PARTIES, codec
from tests.support.deciding import BUS

Told = tuple[str, str, Message]
"""Whose feed it is, under which identity it came, and what is said."""


def told(log: MemoryLog) -> list[Told]:
    """All of it, in order, repeats included."""
    return [
        (name, Envelope.from_headers(record.headers).id, codec().decode(record.value))
        for name in PARTIES
        for record in log.records(topics.feed(BUS, name))
    ]


def notices(log: MemoryLog) -> dict[str, dict[str, Any]]:
    """The notices, by the identity under which they came."""
    return {id: said.model_dump() for _, id, said in told(log) if isinstance(said, Notice)}


def of_an_outbox(letter: Record) -> bool:
    """Whether a dead letter is of what somebody put on its outbox."""
    return letter.key in {topics.outbox(name).encode() for name in PARTIES}
