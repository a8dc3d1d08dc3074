"""Dead letters after the fault is mended: which there are, what is in them, and back to where they came from.

A record that is sent again is the same to the byte, its id too: whatever reads it recognises a repeat, so that a second resending decides
nothing a second time. The record goes out first and the note that it did after it; what dies between the two is resent once more.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from referral_bus.contracts.deadletter import DeadLetter, Handling, LetterHandled
from referral_bus.contracts.inbox import Tick
from referral_bus.log import topics
from referral_bus.log.port import Appender, Headers, Log, Outgoing, Partition
from referral_bus.log.reading import everything_in
from referral_bus.runtime.clock import Clock
from referral_bus.sealing.jwe import JweError, open_with
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of

MEANINGS: Final[Mapping[str, str]] = {
    "undecidable": "deciding it failed, which is a fault of the bus",
    "unreadable": "it is no submission that matching can read",
    "internal": "admitting it failed, which is a fault of the bus; the organisation was told on its feed",
    "not_sealed": "intake can't open it with its key; the organisation was told on its feed",
    "untold": "intake refused it, and could not put that on the organisation's feed; the log of intake says why it was refused",
}
"""Every reason a service gives, in words."""

_OUTBOX: Final = re.compile(r"agency\.[a-z0-9-]+\.outbox")
_JWE: Final = re.compile(rb"[\w-]+(\.[\w-]*){4}")


class NotOpened(Exception):
    """A letter can't be opened; the message says why."""


class NotResendable(Exception):
    """Sending a letter again would not help; the message says why, and what does."""


class Place(NamedTuple):
    """Where a letter stands on the topic of dead letters."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def read(cls, text: str) -> Place:
        """The place that :meth:`__str__` wrote. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,18})", text, re.ASCII)
        if found is None:
            raise ValueError(text)
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter that is kept, and what was done with it, in order."""

    place: Place
    letter: DeadLetter
    handled: tuple[Handling, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether nobody has resent or discarded it."""
        return not {"resent", "discarded"} & set(self.handled)

    @property
    def origin(self) -> str:
        return f"{self.letter.topic}/{self.letter.partition}/{self.letter.offset}"


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a letter. ``cut`` is how long the value was, where not all of it could be kept."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    cut: int | None = None


async def kept(log: Log, bus: str, codec: Codec) -> dict[Place, Kept]:
    """Every letter that is still kept, in the order in which the records stood where they came from. Raises LogError and WireError."""
    found: dict[Place, Kept] = {}
    topic = topics.deadletter(bus)
    for number in range(await log.partitions(topic)):
        async for record in everything_in(log, Partition(topic, number)):
            match codec.decode(record.value):
                case DeadLetter() as letter:
                    place = Place(number, record.offset)
                    found[place] = Kept(place, letter)
                case LetterHandled() as done:
                    of = found.get(Place(done.partition, done.offset))
                    if of is not None:  # else the letter is older than the topic keeps
                        found[of.place] = Kept(of.place, of.letter, (*of.handled, done.handling))
                case _:
                    pass
    in_order = sorted(
        found.values(), key=lambda one: (one.letter.topic, one.letter.partition, one.letter.offset, one.place)
    )
    return {one.place: one for one in in_order}


def opened(letter: DeadLetter, operations_key: str) -> Content:
    """What the letter keeps, opened with the private JWK of operations. Raises NotOpened."""
    try:
        content = json.loads(open_with(operations_key, letter.sealed))
        return Content(
            key=_bytes(content["key"]),
            value=_bytes(content["value"]),
            headers=tuple((name, _bytes(value) or b"") for name, value in content["headers"]),
            cut=int(content["bytes"]) if content.get("cut") else None,
        )
    except JweError as error:
        raise NotOpened(str(error)) from None
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise NotOpened("what it holds is no record") from None


def way_back(letter: DeadLetter, bus: str) -> str:
    """What can be done with a letter, as far as its outside tells. Raises NotResendable."""
    if letter.topic == topics.inbox(bus):
        if letter.reason == "unreadable":
            return "resend it once a matching runs that can read it; where it came from no service of the bus, discard it"
        return "resend it once matching is mended: it is decided as of then, under its own id"
    if _OUTBOX.fullmatch(letter.topic):
        if letter.reason == "internal":
            return "resend it once intake is mended"
        if letter.reason == "untold":
            return "resend it once the organisation's feed can be written: what is refused again is told it there"
        return (
            "resend it where intake had the wrong key; otherwise its organisation seals it and sends it again"
        )
    if letter.topic == topics.ledger(bus):
        raise NotResendable(
            "only matching writes the ledger, and its readers read on from where they stopped: mend and start the reader"
        )
    raise NotResendable(f"nothing takes up again what stands on {letter.topic}: discard it")


def record_of(letter: DeadLetter, content: Content, bus: str) -> Outgoing:
    """The record as it was, for where it came from. Raises NotResendable."""
    way_back(letter, bus)
    if content.cut is not None:
        raise NotResendable(
            f"of its {content.cut} bytes only the first were kept: its sender has to send it again"
        )
    if letter.topic == topics.inbox(bus):
        if (Tick.event_type().encode()) in (value for name, value in content.headers if name == "ce_type"):
            raise NotResendable("it is a tick, and matching puts a new one for all that is due: discard it")
    elif not _JWE.fullmatch(content.value or b""):
        raise NotResendable(
            "it was never sealed, so intake can't take it: its organisation has to seal it and send it again"
        )
    return Outgoing(letter.topic, letter.partition, content.key, content.value, content.headers)


async def note(
    appender: Appender, one: Kept, handling: Handling, bus: str, codec: Codec, clock: Clock
) -> None:
    """Record what is done with a letter. Raises LogError."""
    now = clock.now()
    message = LetterHandled(partition=one.place.partition, offset=one.place.offset, handling=handling, at=now)
    envelope = Envelope(
        id=f"{handling}/{one.place}/{now}",
        source=source_of("operations"),
        type=LetterHandled.event_type(),
        time=now,
        subject=one.origin,
        schema_id=codec.schema_id(LetterHandled),
        partitionkey=one.letter.topic,
        dataclassification="internal",
    )
    topic, key = topics.deadletter(bus), one.letter.topic.encode()
    await appender.append(
        [Outgoing(topic, one.place.partition, key, codec.encode(message), envelope.to_headers())]
    )


async def resend(
    appender: Appender, one: Kept, operations_key: str, bus: str, codec: Codec, clock: Clock
) -> None:
    """Put a letter's record back to where it came from, and note it. Raises NotResendable, NotOpened and LogError."""
    await appender.append([record_of(one.letter, opened(one.letter, operations_key), bus)])
    await note(appender, one, "resent", bus, codec, clock)


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
