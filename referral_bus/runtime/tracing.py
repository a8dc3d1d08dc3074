"""Traces, off unless a setting turns them on: the seam that the services know, and how one referral comes to be one trace.

A referral is told by many parties in requests of their own, over days. So the id of its trace is not handed from one to the next: it
follows from the referral's id, which stands in every header, and so does the id of the trace's first span. What led to what is carried in
the header ``ce_traceparent`` (CloudEvents' distributed tracing extension), beside what is said and never in it: values, ids, hashes and
decisions are the same with traces and without.

While traces are off the :class:`Tracer` here stands in for the real one and does nothing; nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from referral_bus.contracts.ids import referral_of
from referral_bus.log.port import Headers, Outgoing, Record
from referral_bus.runtime.settings import Settings, SettingsError, variable

if TYPE_CHECKING:
    from starlette.applications import Starlette

HEADER: Final = "ce_traceparent"
HEAR: Final = "hear"
"""What the notifier does with an event. Its span is found again from the event's place alone: a delivery waits in SQL, for days perhaps."""

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED: Final = 1


class Place(NamedTuple):
    """A span as others name it: the ids of trace and span, and whether it is kept."""

    trace: int
    span: int
    sampled: bool

    def traceparent(self) -> str:
        """As W3C Trace Context writes it."""
        return f"00-{self.trace:032x}-{self.span:016x}-{int(self.sampled):02x}"


def parsed(traceparent: str) -> Place | None:
    """The place a traceparent names; None where it names none."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    trace, span, flags = (int(part, 16) for part in found.groups())
    return Place(trace, span, bool(flags & _SAMPLED)) if trace and span else None


def trace_of(referral: str) -> int:
    """The id of a referral's trace."""
    return _number("trace", referral, 16)


def first_span_of(referral: str) -> int:
    """The id of the span in which a referral was opened: what is said later hangs from it, whoever says it."""
    return _number("first", referral, 8)


def heard_span_of(region: str, sequence: int) -> int:
    """The id of the span in which the notifier heard the event at this place of the ledger."""
    return _number(HEAR, f"{region}.{sequence}", 8)


def _number(purpose: str, of: str, size: int) -> int:
    digest = sha256(f"refbus {purpose} {of}".encode()).digest()
    # None of the ids may be zero.
    return int.from_bytes(digest[:size], "big") or 1


def referral_in(subject: str) -> str | None:
    """The referral that a record's subject is or belongs to."""
    if subject.startswith("rf-"):
        return subject
    return referral_of(subject) if subject.startswith("tk-") else None


def carried(record: Outgoing, place: Place) -> Outgoing:
    """The record with its cause beside it."""
    headers: Headers = (*record.headers, (HEADER, place.traceparent().encode()))
    return Outgoing(record.topic, record.partition, record.key, record.value, headers)


class Asked(NamedTuple):
    """A submission on its way in: what it is about, when it came (epoch nanoseconds), and the span of the request that brought it."""

    about: str
    began: int
    request: Place | None


class Notified(Protocol):
    """A notice: of which event, about which referral."""

    @property
    def region(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def referral(self) -> str | None: ...


@dataclass(slots=True)
class Request:
    """A request that is being made: the headers to send along, and the status that was answered."""

    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None


Carry = Callable[[list[Outgoing]], list[Outgoing]]
_NOTHING: Final = nullcontext()


def _as_it_is(outcome: list[Outgoing]) -> list[Outgoing]:
    return outcome


_AS_IT_IS: Final = nullcontext(_as_it_is)


class Tracer:
    """What the services tell of their work. This one tells nobody, and costs nothing."""

    def watch(self, app: Starlette) -> None:
        """Give each request of an app a span: in its caller's trace, or in one of its own."""

    def asked(self, about: str) -> Asked | None:
        """A submission that has just come, in the request that is being answered."""
        return None

    def together(self, what: str, causes: Sequence[Record | Asked | None]) -> AbstractContextManager[object]:
        """Work on several at once, and the SQL in it. Where all belong to one trace it is a span of that; else a trace of its own that is
        linked to theirs."""
        return _NOTHING

    def appending(
        self, records: list[Outgoing], asked: Sequence[Asked | None]
    ) -> AbstractContextManager[list[Outgoing]]:
        """Submissions are put on the inbox, each a span in its referral's trace. Gives the records to put."""
        return nullcontext(records)

    def deciding(self, record: Record) -> AbstractContextManager[Carry]:
        """A submission is decided. Gives what is to be applied to the outcome, in whose headers the cause travels on."""
        return _AS_IT_IS

    def passing(self, cause: Record, record: Outgoing) -> Outgoing:
        """An event leads to a submission of the bus's own. Gives the record to put."""
        return record

    def reading(self, what: str, records: Sequence[Record]) -> AbstractContextManager[object]:
        """Events are reflected, each a span under the decision it came from; the SQL as in :meth:`together`."""
        return _NOTHING

    def delivering(self, channel: str, notices: Sequence[Notified]) -> AbstractContextManager[object]:
        """Notices are delivered, each a span under that in which its event was heard; the SQL as in :meth:`together`."""
        return _NOTHING

    def feeding(self, notice: Notified, record: Outgoing) -> Outgoing:
        """A notice is put on a feed. Gives the record to put, from whose cause its reader goes on."""
        return record

    def requesting(self, method: str) -> AbstractContextManager[Request]:
        """A request to another system."""
        return nullcontext(Request())

    def close(self) -> None:
        """Hand over what is still to be handed over."""


_tracer = Tracer()


def tracer() -> Tracer:
    """The tracer of this process."""
    return _tracer


def use(chosen: Tracer) -> None:
    """Make this the tracer of the process, from now on."""
    global _tracer
    _tracer = chosen


def configure(settings: Settings) -> None:
    """Turn traces on where the settings say so. Raises SettingsError where OpenTelemetry is not installed."""
    if settings.traces is None:
        return
    try:
        from referral_bus.runtime.opentelemetry import to_collector
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{variable('traces')} is set, but {error.name} is not installed: install referral-bus[tracing], or unset it"
        ) from None
    use(to_collector(settings.traces, settings.traces_share, service=settings.service, bus=settings.bus))
