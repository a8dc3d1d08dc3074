"""The event stream: resumes where it was, shows the caller's own only, and says that it is alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from referral_bus.client.sse import ServerSent, server_sent
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import OutcomeReported, ReferenceAdopted, ReferralClosed, ServiceStarted
from referral_bus.contracts.reference import Agreement
from referral_bus.log import topics
from services.notifier import streaming
from services.notifier.notices import Notices
from services.notifier.subscriptions import Subscriptions
from tests.support.notifying import SECONDS, World

AGREEMENT = Agreement(
    agreement="mou-1",
    recipient="police",
    data_classes=["outcome"],
    purposes=["care_coordination"],
    legal_basis="An agreement between the parties",
    valid_from=0,
    valid_until=253_402_300_799_999,
)


@asynccontextmanager
async def stream(
    http: httpx.AsyncClient, last: str | None = None, **params: str
) -> AsyncIterator[AsyncIterator[ServerSent]]:
    headers = {} if last is None else {"last-event-id": last}
    async with http.stream("GET", "/v1/stream", params=params, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield server_sent(response.aiter_lines())


async def take(events: AsyncIterator[ServerSent], count: int) -> list[ServerSent]:
    async with asyncio.timeout(SECONDS):
        return [await anext(events) for _ in range(count)]


async def test_a_stream_resumes_behind_the_last_event_id_with_nothing_missed_or_doubled(world: World) -> None:
    seen: list[ServerSent] = []
    async with world.running(), world.http("hospital") as http:
        await world.adopt()
        async with stream(http) as events:
            await world.ledger.put(*[await world.opened() for _ in range(5)])
            seen += await take(events, 3)
        await world.ledger.put(*[await world.opened() for _ in range(3)])
        await world.reflected()
        async with stream(http, seen[-1].id) as events:
            seen += await take(events, 4)
            await world.ledger.put(*[await world.opened() for _ in range(2)])
            seen += await take(events, 3)
    notices = [Notice.model_validate_json(event.data) for event in seen]
    assert [notice.sequence for notice in notices] == list(
        range(len(world.organisation_keys) + 1, world.ledger.sequence + 1)
    )
    assert [event.id for event in seen] == [str(number) for number in range(1, 11)]
    assert {event.event for event in seen} == {"ReferralOpened"}


async def test_a_stream_survives_a_restart_of_the_notifier(world: World) -> None:
    async with world.http("hospital") as http:
        async with world.running():
            await world.adopt()
            async with stream(http) as events:
                await world.ledger.put(await world.opened(), await world.opened())
                first = await take(events, 1)
        await world.ledger.put(await world.opened())
        async with world.running(), stream(http, first[-1].id) as events:
            rest = await take(events, 2)
    assert [event.id for event in first + rest] == ["1", "2", "3"]


async def test_a_stream_ends_when_the_notifier_stops(world: World) -> None:
    async with world.http("hospital") as http:
        async with world.running():
            opened = await http.send(http.build_request("GET", "/v1/stream"), stream=True)
        async with asyncio.timeout(2.0):
            await opened.aread()


async def test_an_organisation_sees_its_own_notices_only_and_each_release_is_recorded(world: World) -> None:
    async with world.running(), world.http("shelter") as http, world.http("clinic") as other:
        await world.adopt()
        async with stream(http) as events, stream(other) as nothing:
            first, second = await world.opened(), await world.opened()
            await world.ledger.put(first, world.offered(first), second, world.offered(second, "clinic"))
            [heard] = await take(events, 1)
            [theirs] = await take(nothing, 1)
    notice = Notice.model_validate_json(heard.data)
    assert (notice.referral, Notice.model_validate_json(theirs.data).referral) == (
        first.referral,
        second.referral,
    )
    assert set(world.shown("shelter", notice.disclosed)) == {"referral", "facts"}
    released = [message for _, message in await world.messages(topics.disclosure(world.bus))]
    assert {(r.recipient, r.channel, r.grant) for r in released if isinstance(r, Disclosed)} == {
        ("shelter", "sse", "offered"),
        ("clinic", "sse", "offered"),
    }


@pytest.mark.parametrize(
    ("agency", "agreed", "hears"),
    [("hospital", False, True), ("police", False, False), ("police", True, True)],
)
async def test_the_outcome_reaches_a_hospital_but_the_police_only_under_an_agreement(
    world: World, agency: str, agreed: bool, hears: bool
) -> None:
    async with world.running(), world.http(agency) as http:
        await world.adopt()
        if agreed:
            await world.ledger.put(
                ReferenceAdopted(kind="agreement", reference="mou-1", version=1, agreement=AGREEMENT)
            )
        async with stream(http) as events:
            opened = await world.opened(agency)
            offer = world.offered(opened)
            await world.ledger.put(opened, offer, world.accepted(offer))
            await world.ledger.put(
                ServiceStarted(referral=opened.referral, task=offer.task, started_at=1),
                OutcomeReported(referral=opened.referral, task=offer.task, result="need_met"),
                ReferralClosed(referral=opened.referral, status="completed", reason="outcome_reported"),
            )
            heard = await take(events, 6 if hears else 5)
    kinds = [event.event for event in heard]
    expected = [
        "ReferralOpened",
        "OfferMade",
        "OfferAccepted",
        "ServiceStarted",
        "OutcomeReported",
        "ReferralClosed",
    ]
    assert kinds == [kind for kind in expected if hears or kind != "OutcomeReported"]
    closed = Notice.model_validate_json(heard[-1].data)
    assert closed.reason == ("outcome_reported" if hears else None)
    if hears:
        shown = Notice.model_validate_json(heard[-2].data)
        assert world.shown(agency, shown.disclosed)["outcome"] == "need_met"
        released = [message for _, message in await world.messages(topics.disclosure(world.bus))]
        [grant] = [r.grant for r in released if isinstance(r, Disclosed) and "outcome" in r.data_classes]
        assert grant == ("agreement:mou-1" if agreed else "own_referral")


async def test_an_sse_subscription_narrows_the_stream(world: World) -> None:
    async with world.running(), world.http("hospital") as http:
        made = await http.post(
            "/v1/subscriptions",
            json={"channel": "sse", "role": "agency", "types": ["org.referralbus.ledger.OfferAccepted.v1"]},
        )
        assert made.status_code == 201
        await world.adopt()
        async with stream(http) as events:
            opened = await world.opened()
            offer = world.offered(opened)
            await world.ledger.put(opened, offer, world.accepted(offer))
            [heard] = await take(events, 1)
    assert (heard.event, heard.id) == ("OfferAccepted", "3")


async def test_a_silent_stream_says_that_it_is_alive(world: World) -> None:
    async with (
        world.running(stream_heartbeat_seconds=0.1),
        world.http("hospital") as http,
        http.stream("GET", "/v1/stream") as response,
        asyncio.timeout(SECONDS),
    ):
        async for line in response.aiter_lines():
            if line.startswith(": ping"):
                break


async def test_a_stream_that_cannot_resume_or_is_one_too_many_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MOST_EACH", 1)
    async with world.running(), world.http("hospital") as http:
        beyond = await http.get("/v1/stream", headers={"last-event-id": "7"})
        async with stream(http, "0") as events:
            await world.adopt()
            await world.ledger.put(await world.opened())
            await take(events, 1)
            another = await http.get("/v1/stream")
        await world.rows("delete from notifier.notices")
        before = await http.get("/v1/stream", headers={"last-event-id": "0"})
    assert [(one.status_code, one.json()["code"]) for one in (beyond, another, before)] == [
        (410, "resume_impossible"),
        (429, "too_many_streams"),
        (410, "resume_impossible"),
    ]


async def test_a_role_that_the_token_does_not_carry_is_refused(world: World) -> None:
    async with world.running(), world.http("hospital") as http:
        refused = [await http.get("/v1/stream", params={"role": role}) for role in ("provider", "operations")]
    assert [one.status_code for one in refused] == [403, 403]


async def test_a_database_that_fails_ends_the_stream_and_is_said_to_be_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("select", {}, Exception("gone"))

    async with world.running(), world.http("hospital") as http:
        response = await http.send(http.build_request("GET", "/v1/stream"), stream=True)
        monkeypatch.setattr(Notices, "after", away)
        monkeypatch.setattr(Subscriptions, "of", away)
        async with asyncio.timeout(SECONDS):
            await response.aread()
        refused = [await http.get("/v1/stream"), await http.get("/v1/subscriptions")]
    assert [(one.status_code, one.json()["code"]) for one in refused] == [(503, "unavailable")] * 2
    assert all(one.headers["retry-after"] for one in refused)
