"""The life of a referral over HTTP, as agencies and providers see it in the views, each look with the token of what was just said."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import uuid4

import pytest

from referral_bus.client.answers import Row
from referral_bus.client.bus import Bus
from referral_bus.client.errors import Conflict, NotFound, Refused
from referral_bus.contracts.facts import Facts, ListFact, Need
from tests.support.whole_bus import PROTOCOL, WholeBus, new_need, now_ms, of, request, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_referral_is_offered_accepted_started_and_closed_with_its_outcome(whole: WholeBus) -> None:
    need = new_need()
    service = await whole.service("harbor", need, places=2)
    unit = service.units[0].unit
    hospital, harbor = whole.party("hospital"), whole.party("harbor")

    asked = await whole.refer("hospital", need)
    assert (asked.timeline["standing"], asked.timeline["service"]) == ("offered", service.service)
    token = asked.answer.token
    offered = of((await harbor.inbox(after=token)).items, "task", asked.task)
    assert (offered["business_status"], offered["referral"]) == ("offered", asked.referral)
    assert of((await harbor.queue(after=token)).items, "task", asked.task)["waits_for"] == "answer"
    places = of((await _capacity(whole, token)), "unit", unit)
    assert (places["total"], places["held"], places["taken"], places["free"]) == (2, 1, 0, 1)

    token = (await harbor.accept(asked.task)).token
    accepted = await hospital.timeline(asked.referral, after=token)
    assert (accepted["standing"], accepted["accepted_by"]) == ("accepted", "harbor")
    assert of((await hospital.queue(after=token)).items, "task", asked.task)["waits_for"] == "start"
    places = of((await _capacity(whole, token)), "unit", unit)
    assert (places["held"], places["taken"], places["free"]) == (0, 1, 1)

    token = (await harbor.start(asked.referral, now_ms())).token
    assert (await hospital.timeline(asked.referral, after=token))["standing"] == "started"
    assert of((await harbor.queue(after=token)).items, "task", asked.task)["waits_for"] == "outcome"

    token = (await harbor.outcome(asked.referral, "need_met", "Came every day.")).token
    closed = await hospital.timeline(asked.referral, after=token)
    assert (closed["status"], closed["standing"], closed["outcome"]) == ("completed", "closed", "need_met")
    assert [event["type"] for event in closed["events"]] == [
        "ReferralOpened",
        "MatchDecided",
        "OfferMade",
        "OfferAccepted",
        "ServiceStarted",
        "OutcomeReported",
        "ReferralClosed",
    ]
    assert asked.task not in [row["task"] for row in (await harbor.queue(after=token)).items]
    assert (
        of((await hospital.caseload(after=token)).items, "referral", asked.referral)["outcome"] == "need_met"
    )
    assert of((await harbor.inbox(after=token)).items, "task", asked.task)["status"] == "completed"
    places = of((await _capacity(whole, token)), "unit", unit)
    assert (places["held"], places["taken"], places["free"]) == (0, 0, 2)


async def test_an_agency_can_draw_the_lot_again_from_what_it_can_read(whole: WholeBus) -> None:
    need = new_need()
    for provider in ("harbor", "maple"):
        await whole.service(provider, need, region="north")
    asked = await whole.refer("hospital", need)
    hospital = whole.party("hospital")
    [match] = (await hospital.timeline(asked.referral, show="matches"))["matches"]
    policy = (await hospital.reference("policy", match["policy"], "north", match["policy_version"]))[
        "content"
    ]
    assert policy["rank_by"][-1] == "lottery"

    def lot(service: str) -> int:
        drawn = [policy["seed"].encode(), bytes.fromhex(match["drawn_after"]), asked.referral.encode()]
        return int.from_bytes(hashlib.sha256(b"\0".join([*drawn, service.encode()])).digest()[:6], "big")

    services = [
        row["name"]
        for row in await _all(hospital, kind="service", region="north")
        if need in [term["code"] for term in (await _service(hospital, row["name"]))["terms"]]
    ]
    assert len(services) == 2
    first = min(services, key=lot)
    assert asked.timeline["service"] == first
    assert f"lot {lot(first)}." in match["lines"][1]


async def test_what_regions_decide_by_is_read_by_every_party_and_in_every_version(whole: WholeBus) -> None:
    harbor = whole.party("harbor")
    listed = await _all(harbor, region="north")
    assert {("organisation", "hospital"), ("policy", "standard"), ("protocol", "standard")} <= {
        (row["kind"], row["name"]) for row in listed
    }
    assert {row["region"] for row in listed} == {"north"}
    latest = await harbor.reference("protocol", "standard", "north")
    assert latest["version"] == PROTOCOL.version
    assert latest["content"]["maximum_offers"] == PROTOCOL.maximum_offers
    with pytest.raises(NotFound, match="has adopted no policy nobodys"):
        await harbor.reference("policy", "nobodys", "north")
    with pytest.raises(NotFound):
        await harbor.reference("protocol", "standard", "north", version=99)


async def _all(party: Bus, **asked: Any) -> list[Row]:
    page = await party.references(limit=100, **asked)
    rows = list(page.items)
    while page.cursor is not None:
        page = await party.references(limit=100, cursor=page.cursor, **asked)
        rows += page.items
    return rows


async def _service(party: Bus, name: str) -> Row:
    content: Row = (await party.reference("service", name, "north"))["content"]
    return content


async def test_a_declined_referral_goes_to_the_next_best_service(whole: WholeBus) -> None:
    need = new_need()
    services = {name: (await whole.service(name, need, region="north")) for name in ("harbor", "maple")}
    asked = await whole.refer("hospital", need)
    first = of([s.model_dump() for s in services.values()], "service", asked.timeline["service"])[
        "organisation"
    ]
    [other] = services.keys() - {first}

    token = (await whole.party(first).decline(asked.task, "no_capacity")).token
    again = await whole.party("hospital").timeline(asked.referral, after=token)
    assert (again["standing"], again["service"]) == ("offered", services[other].service)
    assert again["task"] != asked.task
    assert again["attempts"] == 2
    declined = of(again["events"], "type", "OfferDeclined")
    assert declined["detail"] == {"provider": first, "reason": "no_capacity", "until": None}
    unit = services[first].units[0].unit
    places = of((await _capacity(whole, token)), "unit", unit)
    assert (places["held"], places["doubted"], places["free"]) == (0, 1, 0)
    token = (await whole.party(first).report_capacity(unit, 1, 1, now_ms())).token
    places = of((await _capacity(whole, token)), "unit", unit)
    assert (places["doubted"], places["doubted_until"], places["free"]) == (0, None, 1)

    token = (await whole.party(other).accept(again["task"])).token
    taken = await whole.party("hospital").timeline(asked.referral, after=token)
    assert (taken["standing"], taken["accepted_by"]) == ("accepted", other)


async def test_an_offer_nobody_answers_expires_and_goes_to_the_next_best_service(whole: WholeBus) -> None:
    need = new_need()
    services = {name: (await whole.service(name, need, region="north")) for name in ("harbor", "maple")}
    hospital = whole.party("hospital")
    asked = await whole.refer("hospital", need, urgency="crisis")
    [first] = [name for name, one in services.items() if one.service == asked.timeline["service"]]
    [other] = services.keys() - {first}

    async def next_offer() -> str | None:
        seen = await hospital.timeline(asked.referral)
        task: str = seen["task"]
        return task if seen["standing"] == "offered" and task != asked.task else None

    task = await until(next_offer)
    token = (await whole.party(other).accept(task)).token
    taken = await hospital.timeline(asked.referral, after=token)
    assert (taken["standing"], taken["accepted_by"]) == ("accepted", other)
    assert of(taken["events"], "type", "OfferExpired")["detail"] == {"provider": first}

    late = await whole.party(first).accept(asked.task)
    await whole.party(first).capacity(after=late.token)
    assert await _reason(whole, first, late.submission) in {"offer_expired", "offer_not_open"}
    assert (await hospital.timeline(asked.referral, after=late.token))["accepted_by"] == other


async def test_a_referral_with_no_one_left_to_ask_is_closed_and_says_so(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("harbor", need)
    asked = await whole.refer("hospital", need)
    token = (await whole.party("harbor").decline(asked.task, "not_eligible")).token
    closed = await whole.party("hospital").timeline(asked.referral, after=token)
    assert (closed["standing"], closed["status"], closed["reason"]) == (
        "closed",
        "revoked",
        "offers_exhausted",
    )


async def test_a_referral_withdrawn_before_an_answer_frees_the_place_and_refuses_the_answer(
    whole: WholeBus,
) -> None:
    need = new_need()
    service = await whole.service("harbor", need)
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    asked = await whole.refer("hospital", need)

    token = (await hospital.withdraw(asked.referral, "moved_away")).token
    withdrawn = await hospital.timeline(asked.referral, after=token)
    assert (withdrawn["status"], withdrawn["standing"], withdrawn["reason"]) == (
        "revoked",
        "closed",
        "withdrawn",
    )
    places = of((await _capacity(whole, token)), "unit", service.units[0].unit)
    assert (places["held"], places["free"]) == (0, 1)
    assert asked.task not in [row["task"] for row in (await harbor.inbox(after=token)).items]

    answer = await harbor.accept(asked.task)
    await harbor.capacity(after=answer.token)
    assert await _reason(whole, "harbor", answer.submission) in {"offer_not_open", "referral_closed"}


async def test_a_referral_withdrawn_after_its_acceptance_gives_the_place_back(whole: WholeBus) -> None:
    need = new_need()
    service = await whole.service("harbor", need)
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    asked = await whole.refer("hospital", need)
    await harbor.accept(asked.task)

    token = (await hospital.withdraw(asked.referral, "person_declined")).token
    withdrawn = await hospital.timeline(asked.referral, after=token)
    assert (withdrawn["status"], withdrawn["reason"]) == ("revoked", "withdrawn")
    places = of((await _capacity(whole, token)), "unit", service.units[0].unit)
    assert (places["taken"], places["held"], places["free"]) == (0, 0, 1)
    assert of((await harbor.inbox(after=token)).items, "task", asked.task)["business_status"] == "withdrawn"

    start = await harbor.start(asked.referral, now_ms())
    await harbor.capacity(after=start.token)
    assert await _reason(whole, "harbor", start.submission) == "referral_closed"


async def test_what_was_reported_wrongly_is_corrected_and_a_service_that_has_begun_outlives_the_withdrawal(
    whole: WholeBus,
) -> None:
    need = new_need()
    service = await whole.service("harbor", need)
    unit = service.units[0].unit
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    asked = await whole.refer("hospital", need)
    await harbor.accept(asked.task)

    token = (await harbor.no_show(asked.referral, now_ms())).token
    missed = (await harbor.timeline(asked.referral, after=token))["events"][-1]
    assert of((await harbor.inbox(after=token)).items, "task", asked.task)["business_status"] == "no-show"
    token = (await harbor.retract(asked.referral, missed["sequence"])).token
    assert of((await harbor.inbox(after=token)).items, "task", asked.task)["business_status"] == "accepted"

    began = now_ms()
    await harbor.start(asked.referral, began)
    token = (await harbor.start(asked.referral, began - 60_000)).token
    corrected = (await hospital.timeline(asked.referral, after=token))["events"][-1]
    assert (corrected["type"], corrected["correction"]) == ("ServiceStarted", True)

    token = (await hospital.withdraw(asked.referral, "moved_away")).token
    withdrawn = await hospital.timeline(asked.referral, after=token)
    assert (withdrawn["status"], withdrawn["standing"]) == ("revoked", "started")
    assert of((await _capacity(whole, token)), "unit", unit)["taken"] == 1
    token = (await harbor.outcome(asked.referral, "partly_met")).token
    ended = await hospital.timeline(asked.referral, after=token)
    assert (ended["standing"], ended["reason"], ended["outcome"]) == ("closed", "withdrawn", "partly_met")
    assert of((await _capacity(whole, token)), "unit", unit)["free"] == 1

    token = (await hospital.withdraw(asked.referral, "entered_in_error")).token
    never = await hospital.timeline(asked.referral, after=token)
    assert (never["status"], never["outcome"]) == ("entered-in-error", None)
    assert of((await harbor.inbox(after=token)).items, "task", asked.task)["status"] == "entered-in-error"


async def test_a_referral_nobody_can_take_is_closed_without_an_offer(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("harbor", need, languages=["fr"])
    asked = await whole.refer(
        "hospital",
        need,
        facts=Facts(languages=ListFact(status="stated", values=["uk"]), needs=[Need(code=need)]),
    )
    assert (asked.timeline["standing"], asked.timeline["reason"]) == ("closed", "no_match")
    assert [event["type"] for event in asked.timeline["events"]] == [
        "ReferralOpened",
        "MatchDecided",
        "ReferralClosed",
    ]


async def test_the_last_place_is_offered_once(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("harbor", need, places=1)
    first = await whole.refer("hospital", need)
    second = await whole.refer("police-team", need)
    assert first.timeline["standing"] == "offered"
    assert (second.timeline["standing"], second.timeline["reason"]) == ("closed", "no_match")


async def test_a_count_of_places_is_what_the_next_match_goes_by(whole: WholeBus) -> None:
    need = new_need()
    service = await whole.service("harbor", need, places=3)
    harbor, unit = whole.party("harbor"), service.units[0].unit
    token = (await harbor.report_capacity(unit, 3, 0, now_ms())).token
    assert of((await _capacity(whole, token)), "unit", unit)["free"] == 0
    assert (await whole.refer("hospital", need)).timeline["reason"] == "no_match"
    await harbor.report_capacity(unit, 3, 1, now_ms())
    assert (await whole.refer("hospital", need)).timeline["standing"] == "offered"


async def test_a_repeat_is_answered_like_the_first_and_another_body_is_a_conflict(whole: WholeBus) -> None:
    need, id = new_need(), f"once-{uuid4().hex}"
    await whole.service("harbor", need, places=5)
    hospital, said = whole.party("hospital"), request(need)
    first = await hospital.submit(said, id=id)
    assert await hospital.submit(said, id=id) == first
    with pytest.raises(Conflict) as conflict:
        await hospital.submit(said.model_copy(update={"urgency": "urgent"}), id=id)
    assert (conflict.value.code, conflict.value.field) == ("id_reused", "Idempotency-Key")
    assert first.referral is not None
    opened = await hospital.timeline(first.referral, after=first.token)
    assert [event["type"] for event in opened["events"]].count("ReferralOpened") == 1
    followed = await whole.http.get(
        first.follow, headers={"authorization": f"Bearer {whole.token('hospital')}"}
    )
    assert (followed.status_code, followed.json()["referral"]) == (200, first.referral)


async def test_nobody_speaks_for_another_and_nobody_hears_of_anothers(whole: WholeBus) -> None:
    need = new_need()
    await whole.service("harbor", need)
    asked = await whole.refer("hospital", need)
    with pytest.raises(NotFound):
        await whole.party("school").timeline(asked.referral, after=asked.answer.token)
    with pytest.raises(Refused) as refused:
        await whole.party("hospital", ["agency"]).accept(asked.task)
    assert (refused.value.status, refused.value.code) == (403, "role_missing")
    by_maple = await whole.party("maple").accept(asked.task)
    await whole.party("maple").capacity(after=by_maple.token)
    assert await _reason(whole, "maple", by_maple.submission) == "not_your_offer"
    seen = await whole.party("hospital").timeline(asked.referral, after=by_maple.token)
    assert seen["standing"] == "offered"


async def _capacity(whole: WholeBus, token: str) -> list[dict[str, object]]:
    """Every unit, page by page."""
    rows: list[dict[str, object]] = []
    page = await whole.party("harbor").capacity(after=token, limit=200)
    while True:
        rows += page.items
        if page.cursor is None:
            return rows
        page = await whole.party("harbor").capacity(limit=200, cursor=page.cursor)


async def _reason(whole: WholeBus, organisation: str, submission: str) -> str:
    """Why a submission was refused, as its sender is told by the query API."""
    response = await whole.http.get(
        f"{whole.bus.addresses.queries}/v1/submissions", headers=whole.authorization(organisation)
    )
    response.raise_for_status()
    reason: str = of(response.json()["items"], "submission", submission)["reason"]
    return reason
