"""Notices reach their organisations by webhook and feed, show what they may, and are given up in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook

from referral_bus.client.feed import Feed
from referral_bus.contracts.delivery import Delivered, DeliveryFailed, DeliveryGivenUp
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.inbox import AcceptOffer
from referral_bus.contracts.ledger import Admitted, KeyDestroyed, OfferExpired, SubmissionRefused
from referral_bus.log import topics
from referral_bus.runtime.clock import SystemClock
from referral_bus.store.engine import new_engine
from referral_bus.wire.envelope import Envelope
from services.notifier.deliveries import _CLAIM, FEED_BATCH, Deliveries
from services.notifier.subscriptions import MOST_EACH
from services.notifier.webhook import WebhookSender
from tests.support.notifying import NAME, REGION, SUBJECT, Receiver, World, until
from tests.support.slow_names import ZONE, slow_names
from tests.support.whole_bus import now_ms


async def subscribe(world: World, organisation: str, **request: Any) -> dict[str, Any]:
    async with world.http(organisation) as http:
        response = await http.post("/v1/subscriptions", json=request)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def kind(notice: Notice) -> str:
    return notice.type.split(".")[-2]


class Ahead(SystemClock):
    """Ten minutes ahead of every other."""

    def now(self) -> int:
        return super().now() + 600_000


async def test_a_notifier_whose_clock_was_ahead_leaves_nothing_that_waits_for_that_time(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    receiver.otherwise = 503
    async with world.running(clock=Ahead()):
        await subscribe(world, "shelter", channel="webhook", role="provider", url=receiver.url)
        await world.adopt()
        opened = await world.opened()
        await world.ledger.put(opened, world.offered(opened))
        await world.reflected()
        await until(lambda: len(receiver.received) >= 1)
    receiver.otherwise, tried = 204, len(receiver.received)
    async with world.running():
        await until(lambda: len(receiver.received) > tried)


async def test_a_webhook_is_signed_and_shows_facts_when_offered_and_identity_when_accepted(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    async with world.running():
        made = await subscribe(world, "shelter", channel="webhook", role="provider", url=receiver.url)
        await world.adopt()
        opened = await world.opened()
        offer = world.offered(opened)
        await world.ledger.put(opened, offer)
        await until(lambda: len(receiver.received) == 1)
        await world.ledger.put(world.accepted(offer))
        await until(lambda: len(receiver.received) == 2)
    events = [Webhook(made["secret"]).verify(one.body, one.headers) for one in receiver.received]
    first, second = (Notice.model_validate(event["data"]) for event in events)
    assert [kind(first), kind(second)] == ["OfferMade", "OfferAccepted"]
    assert receiver.received[0].headers["webhook-id"] == events[0]["id"]
    assert receiver.received[0].headers["content-type"].startswith("application/cloudevents+json")
    assert set(world.shown("shelter", first.disclosed)) == {"referral", "facts"}
    assert world.shown("shelter", second.disclosed)["identity"]["name"] == NAME
    assert all(NAME.encode() not in one.body for one in receiver.received)
    released = [message for _, message in await world.messages(topics.disclosure(world.bus))]
    assert [(r.grant, r.data_classes, r.channel) for r in released if isinstance(r, Disclosed)] == [
        ("offered", ["status", "facts"], "webhook"),
        ("accepted", ["status", "facts", "identity"], "webhook"),
    ]


async def test_a_webhook_is_tried_again_after_an_error_under_the_same_identity(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    receiver.statuses = [500, 302]
    async with world.running():
        await subscribe(world, "hospital", channel="webhook", role="agency", url=receiver.url)
        await world.adopt()
        await world.ledger.put(await world.opened())
        await until(lambda: len(receiver.received) == 3)

        async def said() -> bool:
            return len(await world.messages(topics.delivery(world.bus))) == 3

        await until(said)
        async with world.http("hospital") as http:
            [delivery] = (await http.get("/v1/deliveries")).json()["deliveries"]
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 3)
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
    words = [message for _, message in await world.messages(topics.delivery(world.bus))]
    assert [type(word) for word in words] == [DeliveryFailed, DeliveryFailed, Delivered]
    assert [word.reason for word in words if isinstance(word, DeliveryFailed)] == ["http_500", "http_302"]


async def test_an_organisation_whose_names_are_looked_up_slowly_holds_up_nobody_else(
    world: World, receivers: Callable[[], Any]
) -> None:
    """With all the webhooks it may have, and as many attempts at each as there may be."""
    receiver: Receiver = await receivers()
    hosts = [f"{number}.{ZONE}" for number in range(MOST_EACH)]
    with slow_names() as zone:
        async with world.running(webhook_timeout_seconds=2.0):
            for host in hosts:
                await subscribe(
                    world, "shelter", channel="webhook", role="provider", url=f"https://{host}/hook"
                )
            await subscribe(world, "hospital", channel="webhook", role="agency", url=receiver.url)
            await world.adopt()
            for _ in range(world.settings.webhook_concurrency):
                opened = await world.opened()
                await world.ledger.put(opened, world.offered(opened))
            await until(lambda: set(zone.asked) == set(hosts))
            opened = await world.opened()
            await world.ledger.put(opened)
            await until(lambda: any(opened.referral.encode() in one.body for one in receiver.received))
        assert len(zone.asked) == len(hosts)


async def test_a_webhook_that_never_answers_well_is_given_up_and_said_so(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    receiver.otherwise = 503
    async with world.running(webhook_give_up_seconds=2.0):
        made = await subscribe(world, "hospital", channel="webhook", role="agency", url=receiver.url)
        await world.adopt()
        await world.ledger.put(await world.opened())

        async def given_up() -> bool:
            words = [message for _, message in await world.messages(topics.delivery(world.bus))]
            return any(isinstance(word, DeliveryGivenUp) for word in words)

        await until(given_up)
        words = [message for _, message in await world.messages(topics.delivery(world.bus))]
    last = words[-1]
    assert isinstance(last, DeliveryGivenUp)
    assert (last.recipient, last.subscription, last.reason) == ("hospital", made["subscription"], "http_503")
    assert last.attempts == len(receiver.received) > 1
    rows = await world.rows("select result, last_reason from notifier.deliveries")
    assert [tuple(row) for row in rows] == [("given_up", "http_503")]


async def test_an_organisation_has_what_was_given_up_sent_again_once_its_receiver_is_mended(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver, foreign = await receivers(), await receivers()
    receiver.otherwise, foreign.otherwise = 410, 410
    async with (
        world.running(
            webhook_first_retry_seconds=3600.0,
            webhook_longest_retry_seconds=3600.0,
            resend_pause_seconds=0.001,
        ),
        world.http("hospital") as http,
    ):
        await subscribe(world, "hospital", channel="webhook", role="agency", url=receiver.url)
        await subscribe(world, "shelter", channel="webhook", role="provider", url=foreign.url)
        await subscribe(world, "hospital", channel="feed", role="agency")
        await world.adopt()
        opened = await world.opened()
        await world.ledger.put(opened, world.offered(opened))
        await _ends(world, given_up=3, delivered=2)
        # As if Kafka had been away for three days.
        await world.rows("update notifier.deliveries set result = 'given_up' where result = 'delivered'")
        receiver.otherwise = 500
        assert (await http.post("/v1/deliveries/resend")).json() == {"resent": 2}
        await _ends(world, given_up=3, waiting=2)
        receiver.otherwise, so_far = 204, len(receiver.received)
        assert (await http.post("/v1/deliveries/resend")).json() == {"resent": 2}
        await _ends(world, given_up=3, delivered=2)
        assert (await http.post("/v1/deliveries/resend")).json() == {"resent": 0}
    assert len(foreign.received) == 1 and len(receiver.received) == so_far + 2
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 2


async def test_who_asks_for_it_again_at_once_is_told_when_it_may(world: World) -> None:
    async with world.running(), world.http("hospital") as http, world.http("shelter") as other:
        assert (await http.post("/v1/deliveries/resend")).json() == {"resent": 0}
        refused = await http.post("/v1/deliveries/resend")
        assert (await other.post("/v1/deliveries/resend")).status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (429, "resent_just_now")
    assert 50 < int(refused.headers["retry-after"]) <= 60


async def _ends(world: World, **wanted: int) -> None:
    """Wait until so many deliveries are given up, delivered, or waiting for another attempt after one that failed."""

    async def so() -> bool:
        rows = await world.rows(
            "select coalesce(result, 'waiting'), count(*) from notifier.deliveries "
            "where done_at is not null or due_at > enqueued_at + 1000 group by 1"
        )
        return {state: count for state, count in rows} == wanted

    await until(so)


async def test_a_delivery_is_late_once_it_is_due_and_nobody_is_at_it(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    receiver.open.clear()
    deliveries = Deliveries(new_engine(world.database))
    async with world.running():
        await subscribe(world, "hospital", channel="webhook", role="agency", url=receiver.url)
        await world.adopt()
        await world.ledger.put(await world.opened())
        await until(lambda: receiver.received)
        now = now_ms()
        # Somebody is at it; after the lease nobody is; and what is tried again later is not late until then.
        assert await deliveries.waiting(now) == (1, 0, 0)
        count, late, _ = await deliveries.waiting(now + 60_000)
        assert count == 1 and late >= 59_000
        await world.rows(f"update notifier.deliveries set leased_until = 0, due_at = {now + 60_000}")
        assert await deliveries.waiting(now + 59_000) == (1, 0, 0)
        assert await deliveries.waiting(now + 61_000) == (1, 1_000, 0)
        receiver.open.set()
    await deliveries._engine.dispose()


async def test_a_slow_receiver_holds_up_nobody_else(world: World, receivers: Callable[[], Any]) -> None:
    slow, quick = await receivers(), await receivers()
    slow.open.clear()
    async with world.running(webhook_concurrency=2):
        await subscribe(world, "hospital", channel="webhook", role="agency", url=slow.url)
        await subscribe(world, "hospital", channel="webhook", role="agency", url=quick.url)
        await world.adopt()
        await world.ledger.put(*[await world.opened() for _ in range(6)])
        await until(lambda: len(quick.received) == 6)
        assert len(slow.received) == 2
        slow.open.set()
        await until(lambda: len(slow.received) == 6)


async def test_an_aborted_offer_is_heard_by_nobody(world: World, receivers: Callable[[], Any]) -> None:
    receiver: Receiver = await receivers()
    async with world.running():
        await subscribe(world, "shelter", channel="webhook", role="provider", url=receiver.url)
        await subscribe(world, "clinic", channel="feed", role="provider")
        await world.adopt()
        opened = await world.opened()
        await world.ledger.put(opened)
        await world.abort(world.offered(opened))
        await world.abort(world.offered(opened, "clinic"))
        real = world.offered(opened, attempt=2)
        await world.ledger.put(real)
        await until(lambda: receiver.received)
        await world.reflected()
    heard = [Notice.model_validate(json.loads(one.body)["data"]) for one in receiver.received]
    assert [one.task for one in heard] == [real.task]
    assert await world.messages(topics.feed(world.bus, "clinic")) == []
    notices = await world.rows("select organisation, task from notifier.notices where role = 'provider'")
    assert [tuple(row) for row in notices] == [("shelter", real.task)]


async def test_a_feed_record_decodes_and_carries_its_identity(world: World) -> None:
    async with world.running():
        made = await subscribe(world, "shelter", channel="feed", role="provider")
        await world.adopt()
        opened = await world.opened()
        offer = world.offered(opened)
        await world.ledger.put(opened, offer, world.accepted(offer))

        async def there() -> bool:
            return len(await world.messages(topics.feed(world.bus, "shelter"))) == 2

        await until(there)
    records = await world.messages(topics.feed(world.bus, "shelter"))
    envelopes = [Envelope.from_headers(record.headers) for record, _ in records]
    assert [envelope.id for envelope in envelopes] == [
        f"{made['subscription']}.north.{number}"
        for number in (world.ledger.sequence - 1, world.ledger.sequence)
    ]
    assert {record.key for record, _ in records} == {opened.referral.encode()}
    assert {envelope.dataclassification for envelope in envelopes} == {"sealed"}
    following = Feed(world.log, world.bus, "shelter", world.codec).read(1)
    _, notice = await anext(following)
    await following.aclose()
    assert isinstance(notice, Notice)
    assert world.shown("shelter", notice.disclosed)["identity"]["name"] == NAME


async def test_an_offer_that_expired_before_it_was_delivered_shows_nothing(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    receiver.statuses = [500]
    receiver.open.clear()
    async with world.running(webhook_concurrency=1):
        await subscribe(
            world,
            "shelter",
            channel="webhook",
            role="provider",
            url=receiver.url,
            types=["org.referralbus.ledger.OfferMade.v1"],
        )
        await world.adopt()
        opened = await world.opened()
        offer = world.offered(opened)
        await world.ledger.put(opened, offer)
        await until(lambda: receiver.received)
        await world.ledger.put(OfferExpired(referral=offer.referral, task=offer.task, provider="shelter"))
        await world.reflected()
        receiver.open.set()
        await until(lambda: len(receiver.received) == 2)
    before, after = (Notice.model_validate(json.loads(one.body)["data"]) for one in receiver.received)
    assert before.disclosed is not None
    assert after.disclosed is None


async def test_a_refusal_reaches_its_sender_with_the_id_of_what_it_sent(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    async with world.running():
        await subscribe(world, "clinic", channel="webhook", role="provider", url=receiver.url)
        await world.adopt()
        opened = await world.opened()
        offer = world.offered(opened)
        await world.ledger.put(opened, offer)
        admitted = Admitted(
            type=AcceptOffer.event_type(),
            id="mine-1",
            source="clinic",
            digest=b"",
            sent_at=1,
            partition=0,
            offset=1,
            append_time=1,
            value=b"x",
        )
        await world.ledger.put(
            SubmissionRefused(reason="not_your_offer", about=offer.task), admitted=admitted
        )
        await until(lambda: receiver.received)
    event = json.loads(receiver.received[0].body)
    assert (event["causationid"], event["data"]["reason"]) == ("mine-1", "not_your_offer")
    assert event["data"]["disclosed"] is None


async def test_a_forgotten_person_leaves_no_sealed_bytes_and_is_shown_no_more(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    async with world.running():
        await subscribe(world, "shelter", channel="webhook", role="provider", url=receiver.url)
        await world.adopt()
        opened = await world.opened()
        await world.keys.destroy([SUBJECT])
        await world.ledger.put(opened, KeyDestroyed(subject=SUBJECT), world.offered(opened))
        await until(lambda: receiver.received)
    notice = Notice.model_validate(json.loads(receiver.received[0].body)["data"])
    assert (kind(notice), notice.disclosed) == ("OfferMade", None)
    rows = await world.rows("select sealed_facts, sealed_identity from notifier.standings")
    assert [tuple(row) for row in rows] == [(None, None)]


async def test_a_fault_of_our_own_counts_as_a_failure_and_is_given_up_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(WebhookSender, "send", broken)
    async with world.running(webhook_give_up_seconds=0.3):
        await subscribe(world, "hospital", channel="webhook", role="agency", url="http://127.0.0.1:1/")
        await world.adopt()
        await world.ledger.put(await world.opened())

        async def given_up() -> bool:
            rows = await world.rows("select result, last_reason from notifier.deliveries")
            return [tuple(row) for row in rows] == [("given_up", "internal_error")]

        await until(given_up)


async def test_a_claim_looks_at_what_waits_a_few_times_however_much_it_is(
    world: World, receivers: Callable[[], Any]
) -> None:
    receiver: Receiver = await receivers()
    async with world.running():
        made = await subscribe(world, "shelter", channel="webhook", role="provider", url=receiver.url)
    waiting = 600
    await world.rows(
        "insert into notifier.notices (organisation, number, region, sequence, role, type, at) "
        f"select 'shelter', n, '{REGION}', n, 'provider', 'x', 1 from generate_series(1, {waiting}) n"
    )
    await world.rows(
        "insert into notifier.deliveries (subscription, region, sequence, organisation, number, enqueued_at, due_at) "
        f"select '{made['subscription']}', '{REGION}', n, 'shelter', n, 1, 1 from generate_series(1, {waiting}) n"
    )
    engine = new_engine(world.database)
    try:
        async with engine.begin() as connection:
            plan = await connection.scalar(
                text(f"explain (analyze, format json) {_CLAIM.text}"),
                {
                    "now": 10,
                    "until": 20,
                    "each": 4,
                    "most": 64,
                    "batch": FEED_BATCH,
                    "ours": [made["subscription"]],
                },
            )
    finally:
        await engine.dispose()
    assert _looked_at(plan[0]["Plan"]) < 10 * waiting


def _looked_at(node: dict[str, Any]) -> float:
    """How many rows the plan came across in all."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    mine = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return float(mine) + sum(_looked_at(one) for one in node.get("Plans", ()))
