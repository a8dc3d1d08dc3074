"""Traces by OpenTelemetry. Imported only when they are on (see :mod:`referral_bus.runtime.tracing`).

A span says which kind of thing was done, to which referral, and how long it took. It holds no ids that parties choose, no text of an
error, and of SQL the statement without its parameters: nothing that a header of the bus does not show.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceFlags, TraceState
from opentelemetry.util.types import Attributes, AttributeValue
from sqlalchemy import event
from sqlalchemy.engine import Engine
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.ledger import ReferralOpened
from referral_bus.log.port import Outgoing, Record
from referral_bus.runtime.tracing import (
    HEADER,
    HEAR,
    Asked,
    Carry,
    Notified,
    Place,
    Request,
    Tracer,
    carried,
    first_span_of,
    heard_span_of,
    parsed,
    referral_in,
    trace_of,
)

_EXPORT_SECONDS: Final = 5.0
"""For one hand-over to the collector; a collector that is away costs spans, never work."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST_STATEMENT: Final = 4_000
_SPAN: Final = "refbus-span"
_BATCH: Final = "messaging.batch.message_count"
_SERVER_ERROR: Final = 500
_CLIENT_ERROR: Final = 400


def to_collector(endpoint: str, share: float, *, service: str, bus: str) -> OpenTelemetry:
    """Traces to an OTLP collector over HTTP. ``share``, from 0 to 1, of the referrals are traced, the same ones in every service."""
    resource = Resource.create({"service.name": f"refbus-{service}", "service.namespace": bus})
    traced = OpenTelemetry(resource, share)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)
    traced.provider.add_span_processor(BatchSpanProcessor(exporter))
    return traced


class _Item(NamedTuple):
    """One of several that are worked on at once. ``span`` is the id its span is to have, where that is settled."""

    name: str
    parent: Place | None
    attributes: Mapping[str, AttributeValue]
    span: int | None = None


class OpenTelemetry(Tracer):
    """The tracer on an SDK of its own, so that nothing else in the process is traced by it."""

    def __init__(self, resource: Resource, share: float) -> None:
        self._ids = _Ids()
        self._sampler = _ByTrace(share)
        self.provider = TracerProvider(
            resource=resource, sampler=self._sampler, id_generator=self._ids, shutdown_on_exit=False
        )
        self._tracer = self.provider.get_tracer("referral_bus")
        self._statements = _Statements(self._tracer)
        self._statements.listen()

    def close(self) -> None:
        self._statements.end()
        self.provider.shutdown()

    def watch(self, app: Starlette) -> None:
        app.add_middleware(_Requests, tracer=self._tracer)

    def asked(self, about: str) -> Asked:
        return Asked(about, time.time_ns(), _place(trace.get_current_span()))

    @contextmanager
    def together(self, what: str, causes: Sequence[Record | Asked | None]) -> Iterator[None]:
        places = {place for cause in causes if (place := self._parent(cause)) is not None}
        # Nobody's work, a tick's perhaps, is in no trace; nor in that of the request whose task happens to do it.
        batch = self._batch(what, len(causes), places) if places else trace.INVALID_SPAN
        with _current(batch):
            yield

    @contextmanager
    def appending(self, records: list[Outgoing], asked: Sequence[Asked | None]) -> Iterator[list[Outgoing]]:
        spans = [self._admitted(record, one) for record, one in zip(records, asked, strict=True)]
        with _ended(spans):
            yield [_carried(record, span) for record, span in zip(records, spans, strict=True)]

    @contextmanager
    def deciding(self, record: Record) -> Iterator[Carry]:
        began = time.time_ns()
        name = f"decide {_short(_named(record, 'ce_type'))}"
        span = self._start(name, self._parent(record), SpanKind.CONSUMER, _of(record), began=began)
        others: dict[str, Span] = {}

        def carry(outcome: list[Outgoing]) -> list[Outgoing]:
            return [_carried(one, self._span_for(one, span, others, name, began)) for one in outcome]

        with _ended(others.values()), _current(span):
            yield carry

    def _span_for(self, record: Outgoing, span: Span, others: dict[str, Span], name: str, began: int) -> Span:
        """A decision can change another referral than was spoken of: the next in line for a place, or a part. That one's trace is told
        of it too."""
        referral = referral_in(_named(record, "ce_subject"))
        if referral is None or trace_of(referral) == span.get_span_context().trace_id:
            return span
        if referral not in others:
            opened = _named(record, "ce_type") == ReferralOpened.event_type()
            others[referral] = self._start(
                name,
                None if opened else self._first(referral),
                SpanKind.CONSUMER,
                {"refbus.referral": referral},
                began=began,
                links=[Link(span.get_span_context())],
                ids=(trace_of(referral), first_span_of(referral)) if opened else None,
            )
        return others[referral]

    def passing(self, cause: Record, record: Outgoing) -> Outgoing:
        place = self._parent(cause)
        return record if place is None else carried(record, place)

    @contextmanager
    def reading(self, what: str, records: Sequence[Record]) -> Iterator[None]:
        items = []
        for record in records:
            region, _, sequence = _named(record, "ce_id").rpartition(".")
            heard = heard_span_of(region, int(sequence)) if what == HEAR and sequence.isdecimal() else None
            name = f"{what} {_short(_named(record, 'ce_type'))}"
            items.append(_Item(name, self._parent(record), _of(record), heard))
        with self._working(what, items, SpanKind.CONSUMER):
            yield

    @contextmanager
    def delivering(self, channel: str, notices: Sequence[Notified]) -> Iterator[None]:
        items = [
            _Item(f"deliver {_short(one.type)}", self._heard(one), _told(one, channel)) for one in notices
        ]
        with self._working("deliver", items, SpanKind.INTERNAL):
            yield

    def feeding(self, notice: Notified, record: Outgoing) -> Outgoing:
        # Not the attempt's own span: one that is repeated writes the same record again.
        place = self._heard(notice)
        return record if place is None else carried(record, place)

    @contextmanager
    def requesting(self, method: str) -> Iterator[Request]:
        request = Request()
        span = self._tracer.start_span(
            method, kind=SpanKind.CLIENT, attributes={"http.request.method": method}
        )
        with _current(span):
            TraceContextTextMapPropagator().inject(request.headers)
            yield request
            if request.status is not None:
                _answered(span, request.status, _CLIENT_ERROR)

    @contextmanager
    def _working(self, what: str, items: Sequence[_Item], kind: SpanKind) -> Iterator[None]:
        """One alone is its own span, with the SQL in it; several have a span each, linked to the one that has their SQL."""
        if len(items) == 1:
            with _current(self._item(items[0], kind)):
                yield
            return
        batch = self._batch(what, len(items), {one.parent for one in items if one.parent is not None})
        spans = [self._item(one, kind, [Link(batch.get_span_context())]) for one in items]
        with _ended(spans), _current(batch):
            yield

    def _item(self, item: _Item, kind: SpanKind, links: Sequence[Link] = ()) -> Span:
        ids = None if item.span is None else (None, item.span)
        return self._start(item.name, item.parent, kind, item.attributes, links=links, ids=ids)

    def _batch(self, what: str, count: int, places: set[Place]) -> Span:
        attributes = {_BATCH: count}
        traces = {place.trace for place in places}
        parent = min(places) if len(traces) == 1 else None
        links = [_link(place) for place in sorted(places) if place != parent]
        return self._start(f"{what} batch", parent, SpanKind.INTERNAL, attributes, links=links)

    def _admitted(self, record: Outgoing, asked: Asked | None) -> Span:
        opens = _named(record, "ce_type") == SubmitReferral.event_type()
        referral = referral_in(_named(record, "ce_subject"))
        request = None if asked is None else asked.request
        return self._start(
            f"admit {_short(_named(record, 'ce_type'))}",
            None if opens else self._parent(asked),
            SpanKind.PRODUCER,
            _of(record),
            began=None if asked is None else asked.began,
            links=[] if request is None or referral is None else [_link(request)],
            ids=(trace_of(referral), first_span_of(referral)) if opens and referral is not None else None,
        )

    def _parent(self, cause: Record | Asked | None) -> Place | None:
        """The span that a cause comes from. What is about a referral stays in its trace, whatever a header says."""
        if cause is None:
            return None
        if isinstance(cause, Asked):
            referral = referral_in(cause.about)
            return cause.request if referral is None else self._first(referral)
        given = parsed(_named(cause, HEADER))
        referral = referral_in(_named(cause, "ce_subject"))
        if referral is None or (given is not None and given.trace == trace_of(referral)):
            return given
        return self._first(referral)

    def _first(self, referral: str) -> Place:
        found = trace_of(referral)
        return Place(found, first_span_of(referral), self._sampler.keeps(found))

    def _heard(self, notice: Notified) -> Place | None:
        if notice.referral is None:
            return None
        found = trace_of(notice.referral)
        return Place(found, heard_span_of(notice.region, notice.sequence), self._sampler.keeps(found))

    def _start(
        self,
        name: str,
        parent: Place | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        *,
        began: int | None = None,
        links: Sequence[Link] = (),
        ids: tuple[int | None, int] | None = None,
    ) -> Span:
        """A span under ``parent`` and no other; ``ids`` are those it is to have, where they are settled."""
        context = Context()
        if parent is not None:
            context = trace.set_span_in_context(NonRecordingSpan(_context(parent)), context)
        with self._ids.settled(ids):
            return self._tracer.start_span(
                name, context, kind, attributes, links, began, record_exception=False
            )


@contextmanager
def _current(span: Span) -> Iterator[None]:
    """What is done inside is part of the span, which ends with it."""
    token = contexts.attach(trace.set_span_in_context(span, Context()))
    try:
        with _ended([span]):
            yield
    finally:
        contexts.detach(token)


@contextmanager
def _ended(spans: Collection[Span]) -> Iterator[None]:
    """The spans end with what is inside, and say where it failed by what kind of error: its text may quote a value."""
    try:
        yield
    except BaseException as error:
        for span in spans:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(Status(StatusCode.ERROR))
        raise
    finally:
        for span in spans:
            span.end()


class _Ids(RandomIdGenerator):
    """Random ids, but for those that are settled."""

    def __init__(self) -> None:
        self._trace: int | None = None
        self._span: int | None = None

    @contextmanager
    def settled(self, ids: tuple[int | None, int] | None) -> Iterator[None]:
        """For the one span that is started inside. A service starts its spans in one thread."""
        self._trace, self._span = (None, None) if ids is None else ids
        try:
            yield
        finally:
            self._trace = self._span = None

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self._trace is None else self._trace

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self._span is None else self._span


class _ByTrace(Sampler):
    """Keeps a share of the traces, chosen by their ids: every service keeps the same. What was kept before is kept on, and work on several
    at once where any of them is."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._bound = TraceIdRatioBased.get_bound_for_rate(share)

    def keeps(self, trace_id: int) -> bool:
        """Whether a trace that begins with this id is kept."""
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        if parent.is_valid:
            kept = bool(parent.trace_flags & TraceFlags.SAMPLED)
        elif attributes is not None and _BATCH in attributes and links:
            kept = any(link.context.trace_flags & TraceFlags.SAMPLED for link in links)
        else:
            kept = self.keeps(trace_id)
        return SamplingResult(
            Decision.RECORD_AND_SAMPLE if kept else Decision.DROP, attributes, parent.trace_state
        )

    def get_description(self) -> str:
        return f"ByTrace({self._share})"


class _Requests:
    """A span for each request. It is named by its route: a path holds ids, and a query may hold anything."""

    def __init__(self, app: ASGIApp, tracer: trace.Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        caller = TraceContextTextMapPropagator().extract(given, Context())
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = self._tracer.start_span(
            method, caller, SpanKind.SERVER, {"http.request.method": method}, record_exception=False
        )

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _answered(span, message["status"], _SERVER_ERROR)
            await send(message)

        with _current(span):
            try:
                await self._app(scope, receive, answer)
            finally:
                if "route" in scope:
                    span.update_name(f"{method} {scope['route'].path}")
                    span.set_attribute("http.route", scope["route"].path)


class _Statements:
    """A span for each SQL statement of work that is traced. What no span is around, a poll of a queue perhaps, has none."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._heard = (
            ("before_cursor_execute", self._before),
            ("after_cursor_execute", self._after),
            ("handle_error", self._failed),
        )

    def listen(self) -> None:
        for name, hear in self._heard:
            event.listen(Engine, name, hear)

    def end(self) -> None:
        for name, hear in self._heard:
            event.remove(Engine, name, hear)

    def _before(
        self, connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if not trace.get_current_span().is_recording():
            return
        operation = statement.lstrip().partition(" ")[0].strip().upper()[:20]
        connection.info[_SPAN] = self._tracer.start_span(
            operation,
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": "postgresql",
                "db.operation.name": operation,
                "db.query.text": statement[:_LONGEST_STATEMENT],
            },
        )

    def _after(self, connection: Any, *_: Any) -> None:
        span = connection.info.pop(_SPAN, None)
        if span is not None:
            span.end()

    def _failed(self, failure: Any) -> None:
        connection = failure.connection
        span = None if connection is None or connection.closed else connection.info.pop(_SPAN, None)
        if span is not None:
            span.set_attribute("error.type", type(failure.original_exception).__name__)
            span.set_status(Status(StatusCode.ERROR))
            span.end()


def _named(record: Record | Outgoing, name: str) -> str:
    """A header's text; empty where there is none."""
    return next((value.decode(errors="replace") for key, value in record.headers if key == name), "")


def _short(type_: str) -> str:
    """``org.referralbus.ledger.OfferMade.v1`` is an OfferMade."""
    return (type_.split(".") or [""])[-2:][0]


def _of(record: Record | Outgoing) -> dict[str, AttributeValue]:
    """Where a record stands and what it is about. The id of a submission is left out: its sender chose it."""
    found: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "cloudevents.event_type": _named(record, "ce_type"),
    }
    if isinstance(record, Record):
        found["messaging.kafka.offset"] = record.offset
    referral = referral_in(_named(record, "ce_subject"))
    if referral is not None:
        found["refbus.referral"] = referral
    return found


def _told(notice: Notified, channel: str) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "refbus.channel": channel,
        "refbus.event": f"{notice.region}.{notice.sequence}",
    }
    if notice.referral is not None:
        found["refbus.referral"] = notice.referral
    return found


def _answered(span: Span, status: int, bad: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= bad:
        span.set_status(Status(StatusCode.ERROR))


def _place(span: Span) -> Place | None:
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return Place(context.trace_id, context.span_id, bool(context.trace_flags & TraceFlags.SAMPLED))


def _carried(record: Outgoing, span: Span) -> Outgoing:
    place = _place(span)
    return record if place is None else carried(record, place)


def _context(place: Place) -> SpanContext:
    flags = TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT
    return SpanContext(place.trace, place.span, is_remote=True, trace_flags=TraceFlags(flags))


def _link(place: Place) -> Link:
    return Link(_context(place))
