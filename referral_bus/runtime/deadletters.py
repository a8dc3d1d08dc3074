"""The dead-letter guard: what can't be handled is kept for operations, encrypted; and a service that can handle nothing stops.

Bad input from outside does not count towards the limit, so one agency can't stop the rest. Faults of our own do: after ``limit`` in a
row the service stops, rather than drain a topic into the dead letters after a bad deploy.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Final

from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.log import topics
from referral_bus.log.port import Outgoing, Record
from referral_bus.runtime import metrics
from referral_bus.runtime.clock import Clock
from referral_bus.sealing.jwe import seal_to
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of

LIMIT = 20

MOST_CLEAR: Final = 600_000
"""The most bytes of a record, as JSON, that one letter keeps: sealed, it stays below what a broker takes."""
_VALUE, _KEY, _HEADER, _HEADERS = 400_000, 1_024, 256, 64
"""What is kept of a longer one: so many bytes of each, and so many headers."""


class TooManyDeadLetters(Exception):
    """So many records in a row could not be handled that the fault is probably ours."""


class DeadLetters:
    """Makes dead letters of one service. ``operations_key`` is the public JWK of operations."""

    def __init__(
        self, bus: str, service: str, operations_key: str, codec: Codec, clock: Clock, limit: int = LIMIT
    ) -> None:
        self._topic = topics.deadletter(bus)
        self._service = service
        self._key = operations_key
        self._codec = codec
        self._clock = clock
        self._limit = limit
        self._in_a_row = 0
        self._last = ""

    def letter(self, record: Record, reason: str) -> Outgoing:
        """The record as a dead letter, which counts nowhere: see :meth:`batch`."""
        now = self._clock.now()
        letter = DeadLetter(
            service=self._service,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            tries=1,
            at=now,
            sealed=seal_to(self._key, _content(record)),
        )
        where = f"{record.topic}/{record.partition}/{record.offset}"
        envelope = Envelope(
            id=f"{self._service}/{where}",
            source=source_of("operations"),
            type=DeadLetter.event_type(),
            time=now,
            subject=where,
            schema_id=self._codec.schema_id(DeadLetter),
            partitionkey=record.topic,
            dataclassification="sealed",
        )
        return Outgoing(
            self._topic, 0, record.topic.encode(), self._codec.encode(letter), envelope.to_headers()
        )

    def batch(self) -> Letters:
        """For the letters of what is committed together."""
        return Letters(self)

    def failed(self, times: int, last: str) -> None:
        """So many more records in a row are among the dead letters for a fault of our own, the last at ``last``."""
        self._in_a_row += times
        self._last = last

    def handled(self) -> None:
        """A record was handled: the count starts anew."""
        self._in_a_row = 0

    def check(self) -> None:
        """Raises TooManyDeadLetters where the limit is reached."""
        if self._in_a_row >= self._limit:
            raise TooManyDeadLetters(
                f"{self._in_a_row} records in a row could not be handled, the last at {self._last}: the fault is probably in "
                f"{self._service}; mend it, then start it again"
            )


class Letters:
    """The dead letters of a batch, and what was handled beside them. Counted once they are kept: what was aborted is done again, and
    counted then."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters
        self._reasons: Counter[str] = Counter()
        self._handled = False
        self._in_a_row = 0
        """Faults of our own since then."""
        self._last = ""

    def letter(self, record: Record, reason: str) -> Outgoing:
        """The record as a dead letter, to be appended by the caller (inside a transaction, where there is one)."""
        self._reasons[reason] += 1
        return self._dead_letters.letter(record, reason)

    def fault(self, record: Record, reason: str) -> Outgoing:
        """The same for a fault of our own, which counts towards the limit."""
        self._in_a_row += 1
        self._last = f"{record.topic}/{record.partition}/{record.offset} ({reason})"
        return self.letter(record, reason)

    def handled(self) -> None:
        """A record was handled."""
        self._handled, self._in_a_row = True, 0

    def kept(self) -> None:
        """All of it is on the log for good. Then :meth:`DeadLetters.check`."""
        for reason, count in self._reasons.items():
            metrics.DEAD_LETTERS.labels(reason=reason).inc(count)
        if self._handled:
            self._dead_letters.handled()
        if self._in_a_row:
            self._dead_letters.failed(self._in_a_row, self._last)


def _content(record: Record) -> bytes:
    """The record as JSON. One that is too long for a letter is cut, and ``bytes`` says how long its value was: a sender whose
    records are large must not be able to stop the service that has to put them away."""
    content = json.dumps(
        {
            "key": _text(record.key),
            "value": _text(record.value),
            "headers": [[name, _text(value)] for name, value in record.headers],
        }
    ).encode()
    if len(content) <= MOST_CLEAR:
        return content
    return json.dumps(
        {
            "cut": True,
            "bytes": len(record.value or b""),
            "key": _text(record.key and record.key[:_KEY]),
            "value": _text(record.value and record.value[:_VALUE]),
            "headers": [
                [name[:_HEADER], _text(value and value[:_HEADER])]
                for name, value in record.headers[:_HEADERS]
            ],
        }
    ).encode()


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()
