"""The same life through the Kafka door: outboxes in, the feed and the views out. What is refused comes back on the feed."""

from __future__ import annotations

from uuid import uuid4

import pytest

from referral_bus.client.events import cloud_event
from referral_bus.client.outbox import Outbox
from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.ids import referral_id, task_id
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import (
    AcceptRequest,
    DeclineRequest,
    OutcomeRequest,
    StartRequest,
    WithdrawRequest,
)
from referral_bus.log import topics
from tests.support.whole_bus import WholeBus, new_need, now_ms, of, request, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Door:
    """An organisation that knows nothing of HTTP but the views."""

    def __init__(self, whole: WholeBus, organisation: str, outbox: Outbox) -> None:
        self._whole = whole
        self._organisation = organisation
        self._outbox = outbox

    async def say(self, said: Part, id: str | None = None) -> str:
        """Put a request on the outbox; its submission id."""
        id = id or f"door-{uuid4().hex}"
        await self._outbox.put([cloud_event(said, self._organisation, id, now_ms())])
        return id

    async def refused(self, id: str) -> AdmissionRefused:
        """What the feed says of a submission, once it says so."""
        feed = topics.feed(self._whole.name, self._organisation)

        async def found() -> AdmissionRefused | None:
            for message in await self._whole.messages(feed):
                if isinstance(message, AdmissionRefused) and message.submission == id:
                    return message
            return None

        refusal: AdmissionRefused = await until(found)
        return refusal


async def _door(whole: WholeBus, organisation: str) -> Door:
    return Door(whole, organisation, await whole.outbox(organisation))


async def _standing(whole: WholeBus, referral: str, *standings: str) -> dict[str, object]:
    """The referral as its agency sees it, once it stands so."""
    school = whole.party("school")

    async def there() -> dict[str, object] | None:
        page = await school.caseload(limit=200)
        if referral not in [row["referral"] for row in page.items]:
            return None
        seen = await school.timeline(referral)
        return seen if seen["standing"] in standings else None

    found: dict[str, object] = await until(there)
    return found


async def test_a_referral_lives_from_outbox_to_outcome(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("cedar", need)
    school, cedar = await _door(whole, "school"), await _door(whole, "cedar")
    id = await school.say(request(need))
    referral = referral_id("south", whole.name, "school", id)
    task = task_id(referral, 1)
    await _standing(whole, referral, "offered")

    await cedar.say(AcceptRequest(task=task))
    await _standing(whole, referral, "accepted")
    await cedar.say(StartRequest(referral=referral, started_at=now_ms()))
    await _standing(whole, referral, "started")
    await cedar.say(OutcomeRequest(referral=referral, result="partly_met", note="Half of it."))
    closed = await _standing(whole, referral, "closed")
    assert (closed["outcome"], closed["reason"]) == ("partly_met", "outcome_reported")
    shown = await whole.party("school").timeline(referral, show="outcome")
    assert shown["note"] == {"text": "Half of it."}


async def test_a_declined_and_an_expired_offer_go_on_and_a_withdrawal_ends_it(whole: WholeBus) -> None:
    need = new_need()
    services = {
        name: await whole.service(name, need, region="south") for name in ("cedar", "harbor", "maple")
    }
    doors = {name: await _door(whole, name) for name in services}
    school = await _door(whole, "school")
    referral = referral_id("south", whole.name, "school", await school.say(request(need, urgency="crisis")))

    def asked(timeline: dict[str, object]) -> str:
        [name] = [name for name, one in services.items() if one.service == timeline["service"]]
        return name

    first = await _standing(whole, referral, "offered")
    await doors[asked(first)].say(DeclineRequest(task=task_id(referral, 1), reason="other"))

    async def third() -> dict[str, object] | None:
        seen = await whole.party("school").timeline(referral)
        return seen if seen["task"] == task_id(referral, 3) else None

    last: dict[str, object] = await until(third)
    await school.say(WithdrawRequest(referral=referral, reason="need_met_elsewhere"))
    closed = await _standing(whole, referral, "closed")
    assert (closed["reason"], closed["status"]) == ("withdrawn", "revoked")
    types = [event["type"] for event in closed["events"]]  # type: ignore[attr-defined]
    assert [types.count(name) for name in ("OfferMade", "OfferDeclined", "OfferExpired")] == [3, 1, 1]
    assert asked(last) != asked(first)


async def test_what_is_refused_at_the_door_comes_back_on_the_feed_with_its_reason(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("cedar", need, places=3)
    school = await _door(whole, "school")
    said = request(need)
    id = await school.say(said)
    await _standing(whole, referral_id("south", whole.name, "school", id), "offered")

    await school.say(said.model_copy(update={"urgency": "urgent"}), id)
    reused = await school.refused(id)
    assert (reused.status, reused.reason, reused.field) == (409, "id_reused", "id")

    not_allowed = await school.say(
        AcceptRequest(task=task_id(referral_id("south", whole.name, "school", id), 1))
    )
    assert (await school.refused(not_allowed)).reason == "role_missing"

    for_another = f"door-{uuid4().hex}"
    outbox = await whole.outbox("school")
    await outbox.put([cloud_event(said, "hospital", for_another, now_ms())])
    assert (await school.refused(for_another)).reason == "not_yourself"

    malformed = f"door-{uuid4().hex}"
    event = cloud_event(said, "school", malformed, now_ms())
    event["data"]["urgency"] = "whenever"
    await outbox.put([event])
    invalid = await school.refused(malformed)
    assert (invalid.status, invalid.reason, invalid.field) == (422, "invalid", "data.urgency")
    assert "whenever" not in invalid.detail


async def test_what_nobody_sealed_is_refused_and_kept_for_operations_alone(whole: WholeBus) -> None:
    outbox = topics.outbox("school")
    text = f'{{"name": "nobody sealed this {uuid4().hex}"}}'.encode()
    await whole.put_bytes(outbox, text)
    offset = (await whole.records(outbox))[-1].offset
    feed = topics.feed(whole.name, "school")

    async def refusal() -> AdmissionRefused | None:
        for message in await whole.messages(feed):
            if isinstance(message, AdmissionRefused) and message.outbox_offset == offset:
                return message
        return None

    refused: AdmissionRefused = await until(refusal)
    assert (refused.reason, refused.submission) == ("not_sealed", None)

    async def letters() -> list[DeadLetter]:
        found = await whole.messages(topics.deadletter(whole.name))
        return [
            one
            for one in found
            if isinstance(one, DeadLetter) and (one.topic, one.offset) == (outbox, offset)
        ]

    [letter] = await until(letters)
    assert (letter.service, letter.reason) == ("intake", "not_sealed")
    assert text not in letter.sealed


async def test_a_repeat_on_the_outbox_opens_no_second_referral(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("cedar", need, places=3)
    outbox = await whole.outbox("school")
    id = f"door-{uuid4().hex}"
    event = cloud_event(request(need), "school", id, now_ms())
    await outbox.put([event, event])
    await outbox.put([event])
    # What comes after on the same outbox is decided after: then the repeats are decided too.
    last = await (await _door(whole, "school")).say(request(need))
    await _standing(whole, referral_id("south", whole.name, "school", last), "offered")
    seen = await whole.party("school").timeline(referral_id("south", whole.name, "school", id))
    assert [one["type"] for one in seen["events"]].count("ReferralOpened") == 1
    assert of((await whole.party("school").caseload(limit=200)).items, "referral", seen["referral"])
