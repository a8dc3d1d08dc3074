from __future__ import annotations

from typing import Any

import pytest

from referral_bus.client.events import cloud_event
from referral_bus.contracts.inbox import RetractReport
from referral_bus.contracts.requests import AcceptRequest, RetractRequest
from referral_bus.wire.cloudevents import CloudEvent, from_structured
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from services.intake.checks import Presented
from services.intake.presenting import correlation_of, presented, unreadable
from services.intake.refusals import Refused
from tests.support.admitting import NAME, REFERRAL, TASK, referral

NOW = 1_700_000_000_000


def event(**changed: Any) -> CloudEvent:
    given = {**cloud_event(referral(), "hospital", "s-1", NOW - 5), **changed}
    return from_structured({name: value for name, value in given.items() if value is not None})


def refusal(**changed: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        presented(event(**changed), "events", NOW)
    return refused.value


def test_an_event_made_by_the_sdk_is_the_request_it_was_made_of() -> None:
    assert presented(event(), "events", NOW) == Presented("s-1", "hospital", NOW - 5, referral(), "events")


def test_an_event_without_a_time_is_taken_as_sent_now() -> None:
    assert presented(event(time=None), "outbox", NOW).sent_at == NOW


@pytest.mark.parametrize(
    ("changed", "reason", "status", "field"),
    [
        ({"type": "org.referralbus.inbox.Tick.v1"}, "unknown_type", 422, "type"),
        ({"type": "org.referralbus.inbox.AdoptReference.v1"}, "unknown_type", 422, "type"),
        ({"source": "hospital"}, "malformed", 400, "source"),
        ({"time": "yesterday"}, "malformed", 400, "time"),
        ({"time": "2026-01-01T00:00:00"}, "malformed", 400, "time"),
        ({"id": "a b"}, "invalid", 422, "id"),
        ({"id": "x" * 129}, "invalid", 422, "id"),
        ({"id": "\ud800"}, "invalid", 422, "id"),
        ({"data": {"urgency": "urgent"}}, "invalid", 422, "data.subject"),
        ({"data": "text"}, "invalid", 422, "data"),
        ({"data": None}, "invalid", 422, "data"),
    ],
)
def test_what_is_wrong_is_named(changed: dict[str, Any], reason: str, status: int, field: str) -> None:
    refused = refusal(**changed)
    assert (refused.reason, refused.status) == (reason, status)
    assert refused.field == field


def test_a_sequence_that_no_ledger_could_have_is_refused_and_not_written_as_another() -> None:
    largest = RetractRequest(referral=REFERRAL, sequence=2**63 - 1)
    body = RetractReport(**largest.model_dump())
    assert Codec.load().decode(Codec.load().encode(body)) == body
    for sequence in (2**63, 2**64 + 17, 2**80):
        refused = refusal(type=RetractReport.event_type(), data={"referral": REFERRAL, "sequence": sequence})
        assert (refused.reason, refused.field) == ("invalid", "data.sequence")


def test_a_refusal_repeats_no_value() -> None:
    refused = refusal(data={**referral().model_dump(mode="json"), "urgency": NAME, "purpose": NAME})
    assert refused.field == "data.urgency"
    assert "1 more" in refused.detail
    assert NAME not in refused.detail


def test_half_a_character_is_refused_in_words_that_can_be_sent() -> None:
    for data in ({"\ud800": NAME}, {**referral().model_dump(mode="json"), "subject": "\ud800"}):
        refused = refusal(data=data)
        f"{refused.field} {refused.detail}".encode()


@pytest.mark.parametrize(
    ("given", "followed"),
    [("case.17_a-b", "case.17_a-b"), ("Quentin F", None), ("x" * 65, None), ("a\n", None), ("", None)],
)
def test_an_event_is_followed_by_its_own_correlation_where_that_is_fit_for_a_log(
    given: str, followed: str | None
) -> None:
    assert correlation_of(event(correlationid=given)) == followed


def test_an_event_of_a_wrong_media_type_is_told_apart_from_one_that_is_garbled() -> None:
    assert unreadable(WireError("content-type: only JSON data is taken")).status == 415
    assert unreadable(WireError("the body: not JSON")).status == 400
    assert presented(event(**cloud_event(AcceptRequest(task=TASK), "shelter", "s-2", NOW)), "events", NOW)
