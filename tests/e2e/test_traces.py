"""Traces, on a bus of their own that hands them to a collector: one referral is one trace, and a trace tells nothing of the person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from referral_bus.client.events import cloud_event
from referral_bus.client.outbox import Outbox
from referral_bus.contracts.ids import referral_id, region_of, task_id
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import AcceptRequest, OutcomeRequest, ReferralRequest, StartRequest
from referral_bus.log import topics
from referral_bus.log.port import Record
from referral_bus.runtime.tracing import HEADER, first_span_of, parsed, trace_of
from tests.support.notifying import Receiver
from tests.support.traced import Collector, Told, collector
from tests.support.whole_bus import WholeBus, new_need, now_ms, request, until, whole_bus

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SERVICES = {"refbus-intake", "refbus-matching", "refbus-projections", "refbus-notifier"}
NOTE = "Came every day but one."
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The traceparent of an agency that traces too."""


Traced = tuple[WholeBus, Collector]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    """A bus, and the collector it hands its traces to."""
    with collector() as taken:
        soon = {"REFBUS_TRACES": taken.address, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        async with whole_bus(tmp_path_factory.mktemp("traced"), **soon) as whole:
            yield whole, taken


async def test_one_referral_is_one_trace_from_the_door_to_the_webhook(
    traced: Traced, receiver: Receiver
) -> None:
    whole, taken = traced
    await whole.subscribe("harbor", channel="webhook", role="provider", url=receiver.url)
    need = new_need()
    await whole.service("harbor", need)
    person = request(need)
    referral = await _lived(whole, person, {"traceparent": CALLER})
    other = await _lived(whole, request(need), {})
    await until(lambda: _complete(taken, referral) and _complete(taken, other))
    for one in (referral, other):
        spans = _of(taken, one)
        assert {span.service for span in spans} == SERVICES
        _holds_together(spans, one)
        _tells_of_each_step(spans)
        assert ("refbus-notifier", "POST") in {(span.service, span.name) for span in spans}
        _hangs_from_what_caused_it(spans)
    spans = _of(taken, referral)
    _goes_on_at_the_provider(receiver, referral)
    _tells_of_its_caller(taken, spans)
    _says_nothing_of(taken, person.subject)
    assert not {span.id for span in spans} & {span.id for span in _of(taken, other)}


async def test_a_referral_that_comes_by_outbox_and_is_told_by_feed_is_one_trace_too(traced: Traced) -> None:
    whole, taken = traced
    await whole.subscribe("cedar", channel="feed", role="provider")
    need = new_need()
    await whole.service("cedar", need)
    person = request(need)
    referral = await _lived_by_outbox(whole, person)
    await until(lambda: _complete(taken, referral))
    spans = _of(taken, referral)
    assert {span.service for span in spans} == SERVICES
    _holds_together(spans, referral)
    _tells_of_each_step(spans)
    _hangs_from_what_caused_it(spans)
    await _goes_on_at_the_reader_of_the_feed(whole, spans, referral)
    _says_nothing_of(taken, person.subject)


DELIVERED = ("OfferMade", "OfferAccepted", "ServiceStarted", "OutcomeReported", "ReferralClosed")
"""What the provider hears of a referral."""


async def _lived(whole: WholeBus, person: Any, headers: dict[str, str]) -> str:
    """A referral's life; its id."""
    answer = await whole.http.post(
        f"{whole.bus.addresses.intake}/v1/referrals",
        json=person.model_dump(mode="json"),
        headers={**whole.authorization("hospital"), **headers},
    )
    answer.raise_for_status()
    referral, token = answer.json()["referral"], answer.json()["token"]
    harbor = whole.party("harbor")
    timeline = await whole.party("hospital").timeline(referral, after=token, wait=20.0)
    await harbor.accept(timeline["task"])
    await harbor.start(referral, now_ms())
    await harbor.outcome(referral, "need_met", NOTE)
    assert region_of(referral) == "north"
    return str(referral)


async def _lived_by_outbox(whole: WholeBus, person: ReferralRequest) -> str:
    """The life of a referral whose agency and provider speak by their outboxes alone; its id."""
    school, cedar = await whole.outbox("school"), await whole.outbox("cedar")

    async def say(outbox: Outbox, organisation: str, said: Part) -> str:
        id = f"door-{uuid4().hex}"
        await outbox.put([cloud_event(said, organisation, id, now_ms())])
        return id

    referral = referral_id("south", whole.name, "school", await say(school, "school", person))
    task = task_id(referral, 1)
    await until(lambda: _fed(whole, "cedar", referral))
    await say(cedar, "cedar", AcceptRequest(task=task))
    await say(cedar, "cedar", StartRequest(referral=referral, started_at=now_ms()))
    await say(cedar, "cedar", OutcomeRequest(referral=referral, result="need_met", note=NOTE))
    return referral


async def _fed(whole: WholeBus, organisation: str, referral: str) -> list[Record]:
    """What is on the organisation's feed of a referral."""
    records = await whole.records(topics.feed(whole.name, organisation))
    return [record for record in records if dict(record.headers).get("ce_subject") == referral.encode()]


def _of(taken: Collector, referral: str) -> list[Told]:
    return [span for span in taken.spans if span.trace == trace_of(referral)]


def _complete(taken: Collector, referral: str) -> bool:
    """Whether the last that is done about a referral was handed over, and what it hangs from: each service hands over in its own time. What
    is under way when the bus stops, fails."""
    spans = _of(taken, referral)
    heard = {f"deliver {event}" for event in DELIVERED}
    last = {"project ReferralClosed", "hear ReferralClosed", *heard}
    return last <= {span.name for span in spans} and not _in_the_air(spans)


def _in_the_air(spans: list[Told]) -> list[str]:
    """Those that hang from a span nobody has handed over."""
    ids = {span.id for span in spans}
    return [span.name for span in spans if span.parent and span.parent not in ids]


def _holds_together(spans: list[Told], referral: str) -> None:
    """Each span hangs from another of the trace, and in the end from the one in which the referral was opened."""
    assert len({span.id for span in spans}) == len(spans)
    assert [span.id for span in spans if not span.parent] == [first_span_of(referral)]
    assert _in_the_air(spans) == []
    assert [span.name for span in spans if span.failed] == []


def _tells_of_each_step(spans: list[Told]) -> None:
    names = {(span.service, span.name) for span in spans}
    for service, name in (
        ("matching", "decide SubmitReferral"),
        ("matching", "decide AcceptOffer"),
        ("matching", "decide ReportOutcome"),
        ("projections", "project ReferralOpened"),
        ("projections", "project OfferMade"),
        ("notifier", "hear OfferMade"),
        ("notifier", "deliver OfferMade"),
    ):
        assert (f"refbus-{service}", name) in names
    asked = {span.service for span in spans if span.attributes.get("db.system.name") == "postgresql"}
    assert asked >= SERVICES


def _hangs_from_what_caused_it(spans: list[Told]) -> None:
    """Which a header of the record in between says: without one each would hang from the span in which the referral was opened."""
    by_id = {span.id: span for span in spans}
    for service, name, cause in (
        ("matching", "decide AcceptOffer", ("refbus-intake", "admit AcceptOffer")),
        ("projections", "project OfferAccepted", ("refbus-matching", "decide AcceptOffer")),
        ("notifier", "hear OfferAccepted", ("refbus-matching", "decide AcceptOffer")),
    ):
        causes = [
            by_id[span.parent] for span in spans if (span.service, span.name) == (f"refbus-{service}", name)
        ]
        assert [(span.service, span.name) for span in causes] == [cause]


def _goes_on_at_the_provider(receiver: Receiver, referral: str) -> None:
    places = [parsed(one.headers.get("traceparent", "")) for one in receiver.received]
    assert trace_of(referral) in {place.trace for place in places if place is not None}


async def _goes_on_at_the_reader_of_the_feed(whole: WholeBus, spans: list[Told], referral: str) -> None:
    """Each notice names the span in which the notifier heard of its event."""
    heard = {(span.trace, span.id) for span in spans if span.name.startswith("hear ")}
    told = await _fed(whole, "cedar", referral)
    places = [parsed(dict(record.headers).get(HEADER, b"").decode()) for record in told]
    assert len(told) == len(DELIVERED)
    assert {place and (place.trace, place.span) for place in places} <= heard


def _tells_of_its_caller(taken: Collector, spans: list[Told]) -> None:
    """The request is in its caller's trace; the referral's, which many callers have a part in, is linked to it."""
    caller = parsed(CALLER)
    assert caller is not None
    requests = [span for span in taken.spans if (span.trace, span.parent) == (caller.trace, caller.span)]
    assert {span.name for span in requests} == {"POST /v1/referrals"}
    [first] = [span for span in spans if not span.parent]
    assert [link for link in first.links if link in {(span.trace, span.id) for span in requests}]


def _says_nothing_of(taken: Collector, subject: str) -> None:
    told = b"".join(taken.bodies)
    assert b"refbus-intake" in told
    for secret in (subject, NOTE, "Wilhelmina", "Ashgrove", "+1 555 555 0142", "00011", "Bearer"):
        assert secret.encode() not in told, secret
