"""Every message that has a schema, by folder of ``schemas/avro``."""

from __future__ import annotations

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.deadletter import DeadLetter, LetterHandled
from referral_bus.contracts.delivery import DELIVERIES
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.facts import Facts, Identity, Note
from referral_bus.contracts.feed import FEED
from referral_bus.contracts.inbox import SUBMISSIONS
from referral_bus.contracts.ledger import EVENTS
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import Agreement, Organisation, Policy, Protocol, RegionTable, Rules
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy

MESSAGES: tuple[type[Message], ...] = (
    Facts,
    Identity,
    Note,
    *SUBMISSIONS,
    *EVENTS,
    Organisation,
    Agreement,
    Calendar,
    Taxonomy,
    Crosswalk,
    Protocol,
    Policy,
    RegionTable,
    Rules,
    *DELIVERIES,
    *FEED,
    Disclosed,
    DeadLetter,
    LetterHandled,
)

BY_NAME: dict[str, type[Message]] = {message.schema_name(): message for message in MESSAGES}
"""Messages by their Avro full name."""
