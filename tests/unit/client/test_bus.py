from __future__ import annotations

import json
from collections.abc import Callable

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
from referral_bus.contracts.requests import AcceptRequest, ReferralRequest

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
