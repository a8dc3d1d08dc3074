"""Spans as a test sees them: kept in memory, or taken by a collector of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from referral_bus.runtime import tracing
from referral_bus.runtime.opentelemetry import OpenTelemetry


@dataclass(frozen=True, slots=True)
class Told:
    """A span. ``parent`` is 0 where it has none; ``links`` are pairs of trace and span."""

    service: str
    name: str
    trace: int
    id: int
    parent: int
    links: tuple[tuple[int, int], ...]
    attributes: dict[str, Any]
    failed: bool = False


class Kept:
    """A tracer whose spans stay here."""

    def __init__(self, share: float = 1.0) -> None:
        self._memory = InMemorySpanExporter()
        self.tracer = OpenTelemetry(Resource.create({"service.name": "test"}), share)
        self.tracer.provider.add_span_processor(SimpleSpanProcessor(self._memory))

    @property
    def spans(self) -> list[Told]:
        """Those that have ended, in that order."""
        return [
            Told(
                "test",
                span.name,
                span.context.trace_id,
                span.context.span_id,
                0 if span.parent is None else span.parent.span_id,
                tuple((link.context.trace_id, link.context.span_id) for link in span.links),
                dict(span.attributes or {}),
                not span.status.is_ok and span.status.status_code.name == "ERROR",
            )
            for span in self._memory.get_finished_spans()
        ]

    def named(self, name: str) -> list[Told]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Told:
        [span] = self.named(name)
        return span


@contextmanager
def kept(share: float = 1.0) -> Iterator[Kept]:
    """Traces are on inside."""
    here = Kept(share)
    tracing.use(here.tracer)
    try:
        yield here
    finally:
        tracing.use(tracing.Tracer())
        here.tracer.close()


@dataclass
class Collector:
    """What an OTLP collector was handed over: spans, and every byte of it."""

    address: str = ""
    spans: list[Told] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            self.spans += [_told(service, span) for scope in resource.scope_spans for span in scope.spans]


@contextmanager
def collector() -> Iterator[Collector]:
    """An OTLP collector over HTTP, in a thread."""
    taken = Collector()

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") is not None:
                raise AssertionError("the exporter was not asked to compress")
            taken.take(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    taken.address = f"http://127.0.0.1:{server.server_port}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _told(service: str, span: Any) -> Told:
    return Told(
        service,
        span.name,
        int.from_bytes(span.trace_id, "big"),
        int.from_bytes(span.span_id, "big"),
        int.from_bytes(span.parent_span_id, "big"),
        tuple((int.from_bytes(o.trace_id, "big"), int.from_bytes(o.span_id, "big")) for o in span.links),
        _values(span.attributes),
        span.status.code == 2,
    )


def _values(attributes: Sequence[Any]) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
