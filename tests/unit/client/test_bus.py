from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from referral_bus.client import (
    Answer,
    Bus,
    BusError,
    Conflict,
    NotYetVisible,
    Refused,
    RenewedToken,
    SyncBus,
    Unavailable,
    cloud_event,
)
from referral_bus.client import retry as retrying
from referral_bus.contracts.facts import Facts, Identity, Need
from referral_bus.contracts.requests import AcceptRequest, PartRequest, ReferralRequest
from referral_bus.protocols import OFFICE_HOURS

ANSWER = {
    "submission": "s-1",
    "region": "north",
    "token": "north.0.7",
    "referral": "rf-north-aaaaaaaaaaaaaaaaaaaa",
    "follow": "/v1/referrals/rf-north-aaaaaaaaaaaaaaaaaaaa",
}
REQUEST = ReferralRequest(
    subject="case-7",
    urgency="urgent",
    facts=Facts(needs=[Need(code="food")]),
    identity=Identity(name="A Person"),
)
REFERRAL = "rf-north-aaaaaaaaaaaaaaaaaaaa"
TASK = "tk-north-aaaaaaaaaaaaaaaaaaaa-1"

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_FIRST_SECONDS", 0.001)


def bus(handler: Handler, patience: float = 5.0) -> Bus:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return Bus(
        lambda: "token-1",
        intake="http://intake",
        queries="http://queries/",
        notifier="http://notifier",
        patience=patience,
        http=http,
    )


def problem(status: int, code: str, **more: object) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "code": code, "detail": "Do this.", **more})


async def test_a_submission_carries_token_and_idempotency_key_and_gives_the_answer() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json=ANSWER)

    answer = await bus(handler).submit(REQUEST, id="s-1")

    assert answer == Answer(**ANSWER)
    assert seen[0].headers["idempotency-key"] == "s-1"
    assert seen[0].headers["authorization"] == "Bearer token-1"
    assert ReferralRequest.model_validate_json(seen[0].content) == REQUEST


async def test_a_submission_is_tried_again_with_the_same_key_until_the_bus_takes_it() -> None:
    keys: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        match len(keys):
            case 1:
                raise httpx.ConnectError("refused", request=request)
            case 2:
                raise httpx.ReadTimeout("late", request=request)
            case 3:
                return problem(503, "unavailable")
            case 4:
                return problem(429, "quota_exceeded")
        return httpx.Response(202, json=ANSWER)

    await bus(handler).accept(TASK)

    assert len(keys) == 5
    assert len(set(keys)) == 1 and keys[0]


async def test_retry_after_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("referral_bus.client.bus.asyncio.sleep", sleep)
    answers = [httpx.Response(503, headers={"retry-after": "3"}), httpx.Response(202, json=ANSWER)]
    await bus(lambda _: answers.pop(0)).accept(TASK)

    assert waited == [3.0]


async def test_patience_ends_with_the_last_reason() -> None:
    with pytest.raises(Unavailable) as caught:
        await bus(lambda _: problem(503, "unavailable"), patience=0.0).accept(TASK)

    assert caught.value.code == "unavailable"


async def test_a_bus_out_of_reach_is_named_without_the_token() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable, match="intake can't be reached at http://intake") as caught:
        await bus(handler, patience=0.0).accept(TASK)
    assert "token-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(409, Conflict), (422, Refused), (400, Refused), (413, Refused), (504, NotYetVisible)],
)
async def test_a_problem_becomes_a_typed_error_and_is_not_tried_again(
    status: int, kind: type[BusError]
) -> None:
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return problem(status, "id_reused", field="facts.needs")

    with pytest.raises(kind) as caught:
        await bus(handler).submit(REQUEST)

    assert len(calls) == 1
    assert (caught.value.status, caught.value.code, caught.value.field) == (
        status,
        "id_reused",
        "facts.needs",
    )
    assert str(caught.value) == "Do this."


async def test_the_body_of_a_strange_error_page_is_not_repeated() -> None:
    with pytest.raises(Refused) as caught:
        await bus(lambda _: httpx.Response(418, text="<html>secret of a proxy</html>")).submit(REQUEST)

    assert "secret" not in str(caught.value)


async def test_a_batch_is_answered_event_by_event() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == "application/cloudevents-batch+json"
        assert [event["id"] for event in json.loads(request.content)] == ["a", "b"]
        refused = {"status": 409, "code": "id_reused", "detail": "Use a new id."}
        return httpx.Response(200, json=[{"status": 202, **ANSWER}, refused])

    events = [cloud_event(AcceptRequest(task=TASK), "food-bank", id, 1_700_000_000_000) for id in ("a", "b")]
    first, second = await bus(handler).send(events)

    assert isinstance(first, Answer) and first.token == "north.0.7"
    assert isinstance(second, Conflict) and second.code == "id_reused"


async def test_a_query_names_the_token_it_is_to_reflect() -> None:
    seen: list[httpx.URL] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        return httpx.Response(200, json={"items": [{"referral": "rf"}], "cursor": "next"})

    page = await bus(handler).inbox(after="north.0.7", limit=10)

    assert (page.items, page.cursor) == ([{"referral": "rf"}], "next")
    assert str(seen[0]) == "http://queries/v1/inbox?after=north.0.7&limit=10"


SAID: list[tuple[Callable[[Bus], Any], str, dict[str, Any]]] = [
    (lambda bus: bus.amend(REFERRAL, urgency="crisis"), "referrals/{}/amend", {"urgency": "crisis"}),
    (
        lambda bus: bus.hold(REFERRAL, "in_custody", 7),
        "referrals/{}/hold",
        {"reason": "in_custody", "until": 7},
    ),
    (lambda bus: bus.resume(REFERRAL), "referrals/{}/resume", {}),
    (lambda bus: bus.transfer(REFERRAL, "school"), "referrals/{}/transfer", {"agency": "school"}),
    (lambda bus: bus.withdraw(REFERRAL, "moved_away"), "referrals/{}/withdraw", {"reason": "moved_away"}),
    (lambda bus: bus.answer(TASK, "Yes."), "offers/{}/answer", {"answer": "Yes."}),
    (lambda bus: bus.acknowledge(TASK), "offers/{}/acknowledge", {}),
    (lambda bus: bus.accept(TASK), "offers/{}/accept", {}),
    (lambda bus: bus.accept(TASK, 7), "offers/{}/accept", {"starts_at": 7}),
    (lambda bus: bus.decline(TASK, "other"), "offers/{}/decline", {"reason": "other", "gives_back": False}),
    (
        lambda bus: bus.decline(TASK, "full_until", 7),
        "offers/{}/decline",
        {"reason": "full_until", "until": 7, "gives_back": False},
    ),
    (lambda bus: bus.ask(TASK, "Pets?"), "offers/{}/ask", {"question": "Pets?"}),
    (lambda bus: bus.propose(TASK, "sv-north-b"), "offers/{}/propose", {"service": "sv-north-b"}),
    (
        lambda bus: bus.contact(REFERRAL, "visit", True, 7),
        "referrals/{}/contacts",
        {"channel": "visit", "reached": True, "tried_at": 7},
    ),
    (lambda bus: bus.no_show(REFERRAL, 7), "referrals/{}/no-show", {"missed_at": 7}),
    (lambda bus: bus.start(REFERRAL, 7), "referrals/{}/start", {"started_at": 7}),
    (
        lambda bus: bus.outcome(REFERRAL, "not_met", "Left.", "person_left"),
        "referrals/{}/outcome",
        {"result": "not_met", "note": "Left.", "cause": "person_left"},
    ),
    (
        lambda bus: bus.confirm_handoff(REFERRAL, "phone", 7),
        "referrals/{}/handoff",
        {"means": "phone", "confirmed_at": 7},
    ),
    (
        lambda bus: bus.follow_up(REFERRAL, 90, "need_met"),
        "referrals/{}/follow-up",
        {"days": 90, "result": "need_met"},
    ),
    (lambda bus: bus.retract(REFERRAL, 17), "referrals/{}/retract", {"sequence": 17}),
]


@pytest.mark.parametrize(("say", "route", "body"), SAID, ids=[route for _, route, _ in SAID])
async def test_what_is_said_of_a_referral_or_an_offer_goes_to_its_route_and_nothing_unsaid_with_it(
    say: Callable[[Bus], Any], route: str, body: dict[str, Any]
) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json=ANSWER)

    await say(bus(handler))
    about = TASK if route.startswith("offers") else REFERRAL
    assert (seen[0].method, seen[0].url.path) == ("POST", "/v1/" + route.format(about))
    assert json.loads(seen[0].content) == body


async def test_a_split_gives_the_ids_of_its_parts_and_a_reopening_the_facts_anew() -> None:
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(202, json={**ANSWER, "parts": ["rf-north-b", "rf-north-c"]})

    facts = Facts(needs=[Need(code="food")])
    part = PartRequest(urgency="urgent", facts=facts)
    answer = await bus(handler).split(REFERRAL, [part, part])
    await bus(handler).reopen(REFERRAL, "need_returned", facts)

    assert answer.parts == ("rf-north-b", "rf-north-c")
    assert [PartRequest.model_validate(one) for one in seen[0]["parts"]] == [part, part]
    assert (seen[1]["reason"], Facts.model_validate(seen[1]["facts"])) == ("need_returned", facts)


def test_what_a_program_says_asynchronously_it_can_say_synchronously_too() -> None:
    said = {name for name in vars(Bus) if not name.startswith("_")} - {"close"}
    assert said <= set(vars(SyncBus))


async def test_each_kind_of_reference_data_is_published_as_what_it_is_and_nothing_else_is() -> None:
    seen: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(json.loads(request.content))
        return httpx.Response(201, json={})

    await bus(handler).publish(OFFICE_HOURS)
    assert seen == [{"kind": "calendar", "content": OFFICE_HOURS.model_dump(mode="json")}]
    with pytest.raises(TypeError, match="Facts"):
        await bus(handler).publish(REQUEST.facts)


async def test_an_address_that_was_not_given_is_said() -> None:
    with pytest.raises(Refused, match="pass queries="):
        await Bus(lambda: "t", intake="http://intake").caseload()


def test_a_cloud_event_names_organisation_type_id_and_time() -> None:
    event = cloud_event(AcceptRequest(task=TASK), "food-bank", "a-1", 0)

    assert event == {
        "specversion": "1.0",
        "id": "a-1",
        "source": "/organisations/food-bank",
        "type": "org.referralbus.inbox.AcceptOffer.v1",
        "time": "1970-01-01T00:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"task": TASK},
    }


def test_the_synchronous_client_answers_the_same() -> None:
    client = SyncBus(lambda: "token-1", intake="http://127.0.0.1:9", patience=0.0)
    with client, pytest.raises(Unavailable):
        client.submit(REQUEST)


def test_a_token_is_renewed_when_its_time_is_over() -> None:
    issued = iter(("first", "second"))
    token = RenewedToken(lambda: next(issued), seconds=1000.0)
    assert (token(), token()) == ("first", "first")

    short = RenewedToken(iter(("first", "second")).__next__, seconds=0.0)
    assert (short(), short()) == ("first", "second")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("99999", 300.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retrying.retry_after(header) == seconds


def test_pauses_grow_and_never_undercut_what_was_asked() -> None:
    assert all(0.0 < retrying.pause(tries, None) <= 5.0 for tries in range(1, 40))
    assert retrying.pause(1, 20.0) == 20.0
