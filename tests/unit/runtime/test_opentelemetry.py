"""What is told of the work to a collector: which spans there are, under which others, and what they never say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ids import part_id, referral_id, task_id
from referral_bus.contracts.inbox import AcceptOffer, ReportCapacity, SubmitReferral, Tick
from referral_bus.contracts.ledger import OfferMade, ReferralOpened
from referral_bus.log.port import Outgoing, Record
from referral_bus.runtime.tracing import (
    HEADER,
    HEAR,
    Place,
    carried,
    first_span_of,
    heard_span_of,
    parsed,
    trace_of,
)
from tests.support.traced import Kept, kept

REFERRAL, OTHER = (referral_id("north", "main", "police", id) for id in ("s-1", "s-2"))
TRACE, FIRST = trace_of(REFERRAL), first_span_of(REFERRAL)
NAME = "Wilhelmina Ashgrove-Tester"


@pytest.fixture
def seen() -> Iterator[Kept]:
    with kept() as here:
        yield here


def put(kind: Any, subject: str, id: str = NAME, topic: str = "inbox") -> Outgoing:
    """A record as the bus writes it. Who chooses the id of a submission may put anything into it."""
    named = {"ce_id": id, "ce_type": kind.event_type(), "ce_subject": subject}
    return Outgoing(topic, 1, b"north", b"", tuple((name, text.encode()) for name, text in named.items()))


def read(record: Outgoing, offset: int = 5) -> Record:
    return Record(record.topic, record.partition, offset, 1, record.key, record.value, record.headers)


def cause_of(record: Outgoing) -> Place:
    place = parsed(dict(record.headers)[HEADER].decode())
    assert place is not None
    return place


def test_a_referral_s_submission_is_the_first_span_of_its_trace(seen: Kept) -> None:
    asked = seen.tracer.asked(REFERRAL)
    with seen.tracer.appending([put(SubmitReferral, REFERRAL)], [asked]) as [record]:
        assert cause_of(record) == (TRACE, FIRST, True)
        assert seen.spans == []
    span = seen.one("admit SubmitReferral")
    assert (span.trace, span.id, span.parent) == (TRACE, FIRST, 0)


def test_what_is_said_of_it_later_hangs_from_that_whoever_says_it(seen: Kept) -> None:
    task = task_id(REFERRAL, 1)
    with seen.tracer.appending([put(AcceptOffer, task)], [seen.tracer.asked(task)]) as [record]:
        pass
    span = seen.one("admit AcceptOffer")
    assert (span.trace, span.parent) == (TRACE, FIRST)
    assert cause_of(record) == (TRACE, span.id, True)


def test_what_is_about_no_referral_stays_in_the_trace_of_its_request(seen: Kept) -> None:
    with seen.tracer.requesting("GET"):
        asked = seen.tracer.asked("un-north-beds")
        with seen.tracer.appending([put(ReportCapacity, "un-north-beds")], [asked]):
            pass
    request, span = seen.one("GET"), seen.one("admit ReportCapacity")
    assert (span.trace, span.parent) == (request.trace, request.id)


def test_a_decision_is_under_its_submission_and_its_events_under_the_decision(seen: Kept) -> None:
    inbox = carried(put(AcceptOffer, task_id(REFERRAL, 1)), Place(TRACE, 77, True))
    with seen.tracer.deciding(read(inbox)) as carry:
        [event] = carry([put(OfferMade, REFERRAL, "north.9", "ledger")])
    span = seen.one("decide AcceptOffer")
    assert (span.trace, span.parent) == (TRACE, 77)
    assert cause_of(event) == (TRACE, span.id, True)


def test_a_header_draws_no_referral_out_of_its_trace(seen: Kept) -> None:
    inbox = carried(put(AcceptOffer, task_id(REFERRAL, 1)), Place(123, 77, True))
    with seen.tracer.deciding(read(inbox)):
        pass
    span = seen.one("decide AcceptOffer")
    assert (span.trace, span.parent) == (TRACE, FIRST)


def test_a_decision_that_changes_another_referral_is_told_in_that_one_s_trace_too(seen: Kept) -> None:
    with seen.tracer.deciding(read(put(Tick, "north"))) as carry:
        events = carry([put(OfferMade, subject) for subject in (REFERRAL, OTHER, REFERRAL, "north")])
    spans = {span.trace: span for span in seen.named("decide Tick")}
    assert [cause_of(event).trace for event in events] == [
        TRACE,
        trace_of(OTHER),
        TRACE,
        (spans.keys() - {TRACE, trace_of(OTHER)}).pop(),
    ]
    tick = spans[cause_of(events[3]).trace]
    for referral in (REFERRAL, OTHER):
        span = spans[trace_of(referral)]
        assert (span.parent, span.links) == (first_span_of(referral), ((tick.trace, tick.id),))


def test_a_part_that_is_opened_by_a_decision_begins_its_trace_there(seen: Kept) -> None:
    part = part_id("north", "main", "police", "s-9", 1)
    inbox = carried(put(AcceptOffer, REFERRAL), Place(TRACE, 77, True))
    with seen.tracer.deciding(read(inbox)) as carry:
        [event] = carry([put(ReferralOpened, part)])
    assert cause_of(event) == (trace_of(part), first_span_of(part), True)
    [span] = [span for span in seen.spans if span.trace == trace_of(part)]
    assert (span.id, span.parent, len(span.links)) == (first_span_of(part), 0, 1)


def test_an_event_is_read_under_the_decision_it_came_from_with_the_sql_in_it(seen: Kept) -> None:
    event = carried(put(OfferMade, REFERRAL, "north.9", "ledger"), Place(TRACE, 78, True))
    with seen.tracer.reading("project", [read(event)]):
        _sql("select 1")
    span, statement = seen.one("project OfferMade"), seen.one("SELECT")
    assert (span.trace, span.parent) == (TRACE, 78)
    assert (statement.trace, statement.parent) == (TRACE, span.id)


def test_events_of_several_referrals_are_read_in_a_trace_of_their_own_that_theirs_link_to(seen: Kept) -> None:
    events = [
        read(carried(put(OfferMade, one, f"north.{number}", "ledger"), Place(trace_of(one), 78, True)))
        for number, one in enumerate((REFERRAL, OTHER))
    ]
    with seen.tracer.reading("project", events):
        _sql("select 1")
    batch, statement = seen.one("project batch"), seen.one("SELECT")
    assert (statement.trace, statement.parent) == (batch.trace, batch.id)
    assert batch.trace not in {TRACE, trace_of(OTHER)}
    assert set(batch.links) == {(TRACE, 78), (trace_of(OTHER), 78)}
    spans = seen.named("project OfferMade")
    assert [(span.trace, span.parent) for span in spans] == [(TRACE, 78), (trace_of(OTHER), 78)]
    assert all(span.links == ((batch.trace, batch.id),) for span in spans)


def test_what_is_done_at_once_for_one_referral_stays_in_its_trace(seen: Kept) -> None:
    events = [
        read(carried(put(OfferMade, REFERRAL, f"north.{n}", "ledger"), Place(TRACE, 78, True)))
        for n in (1, 2)
    ]
    with seen.tracer.reading("project", events):
        _sql("select 1")
    assert {span.trace for span in seen.spans} == {TRACE}
    assert seen.one("SELECT").parent == seen.one("project batch").id


def test_a_delivery_is_under_the_span_in_which_its_event_was_heard(seen: Kept) -> None:
    event = carried(put(OfferMade, REFERRAL, "north.9", "ledger"), Place(TRACE, 78, True))
    with seen.tracer.reading(HEAR, [read(event)]):
        pass
    with seen.tracer.delivering("webhook", [_Notice()]), seen.tracer.requesting("POST") as request:
        request.status = 503
    heard, told, asked = seen.one("hear OfferMade"), seen.one("deliver OfferMade"), seen.one("POST")
    assert heard.id == heard_span_of("north", 9)
    assert (told.trace, told.parent) == (TRACE, heard.id)
    assert (asked.trace, asked.parent) == (TRACE, told.id)
    assert request.headers == {"traceparent": Place(TRACE, asked.id, True).traceparent()}
    assert asked.failed and asked.attributes["http.response.status_code"] == 503


def test_a_notice_on_a_feed_comes_from_the_span_in_which_its_event_was_heard(seen: Kept) -> None:
    notice = put(Notice, REFERRAL, topic="feed")
    sent = seen.tracer.feeding(_Notice(), notice)
    assert cause_of(sent) == (TRACE, heard_span_of("north", 9), True)
    assert seen.tracer.feeding(_Notice(), notice) == sent
    assert seen.tracer.feeding(_Notice(referral=None), notice) is notice


def test_what_fails_is_told_by_the_kind_of_error_alone(seen: Kept) -> None:
    with pytest.raises(ValueError), seen.tracer.deciding(read(put(AcceptOffer, REFERRAL))):
        raise ValueError(NAME)
    span = seen.one("decide AcceptOffer")
    assert span.failed and span.attributes["error.type"] == "ValueError"
    assert NAME not in repr(seen.spans)


def test_a_statement_is_told_without_what_it_is_about(seen: Kept) -> None:
    with seen.tracer.requesting("GET"):
        _sql("select :name", name=NAME)
    assert seen.one("SELECT").attributes["db.query.text"] == "select ?"
    assert NAME not in repr(seen.spans)


def test_a_statement_that_fails_is_told_so(seen: Kept) -> None:
    with seen.tracer.requesting("GET"), pytest.raises(Exception, match="no such table"):
        _sql("select * from nowhere")
    assert seen.one("SELECT").failed


def test_statements_of_no_work_that_is_traced_are_not_told(seen: Kept) -> None:
    _sql("select 1")
    assert seen.spans == []


async def test_a_request_goes_on_with_its_caller_s_trace_and_is_named_by_its_route(seen: Kept) -> None:
    async def show(request: Request) -> PlainTextResponse:
        asked = seen.tracer.asked(REFERRAL)
        with seen.tracer.appending([put(SubmitReferral, REFERRAL)], [asked]):
            return PlainTextResponse("", 202)

    caller = Place(0xABC, 0xDEF, True)
    path = f"/v1/people/{NAME.replace(' ', '-')}"
    await _request(seen, show, path, traceparent=caller.traceparent())
    request, span = seen.one("GET /v1/people/{name}"), seen.one("admit SubmitReferral")
    assert (request.trace, request.parent) == (caller.trace, caller.span)
    assert request.attributes["http.response.status_code"] == 202
    assert span.trace == TRACE and span.links == ((request.trace, request.id),)
    assert "Wilhelmina" not in repr(seen.spans) and "secret" not in repr(seen.spans)


async def test_a_request_without_a_trace_begins_one_and_an_error_in_it_is_told_by_its_kind(
    seen: Kept,
) -> None:
    async def fail(request: Request) -> PlainTextResponse:
        raise RuntimeError(NAME)

    with pytest.raises(RuntimeError):
        await _request(seen, fail, "/v1/people/x", traceparent="nonsense")
    span = seen.one("GET /v1/people/{name}")
    assert span.parent == 0 and span.failed and NAME not in repr(seen.spans)


def test_of_a_share_all_spans_of_a_referral_are_kept_or_none() -> None:
    with kept(0.5) as here:
        for number in range(40):
            referral = referral_id("north", "main", "police", f"s-{number}")
            with here.tracer.appending([put(SubmitReferral, referral)], [here.tracer.asked(referral)]) as [
                inbox
            ]:
                pass
            with here.tracer.deciding(read(inbox)) as carry:
                [event] = carry([put(OfferMade, referral, f"north.{number}", "ledger")])
            with here.tracer.reading("project", [read(event)]):
                pass
        counts = {span.trace: 0 for span in here.spans}
        for span in here.spans:
            counts[span.trace] += 1
        assert set(counts.values()) == {3}
        assert 0 < len(counts) < 40


@pytest.mark.parametrize("sampled", [True, False])
def test_work_on_several_is_kept_where_any_of_them_is(sampled: bool) -> None:
    with kept(0.0) as here:
        events = [
            carried(put(OfferMade, one, "north.1"), Place(trace_of(one), 78, sampled))
            for one in (REFERRAL, OTHER)
        ]
        with here.tracer.reading("project", [read(one) for one in events]):
            pass
        assert len(here.named("project batch")) == sampled


@dataclass(frozen=True)
class _Notice:
    region: str = "north"
    sequence: int = 9
    type: str = "OfferMade"
    referral: str | None = REFERRAL


def _sql(statement: str, **values: str) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


async def _request(seen: Kept, endpoint: Any, path: str, **headers: str) -> None:
    app = Starlette(routes=[Route("/v1/people/{name}", endpoint)])
    seen.tracer.watch(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bus") as http:
        await http.get(path, params={"q": "secret"}, headers=headers)
