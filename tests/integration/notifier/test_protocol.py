"""What the parties of a referral hear of it, and are shown, over its whole life: each by its own event stream, from the beginning."""

from __future__ import annotations

import asyncio

import pytest

from referral_bus.client.sse import server_sent
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.inbox import AnswerQuestion, HoldReferral
from referral_bus.contracts.ledger import (
    Admitted,
    ContactReported,
    Escalated,
    FollowedUp,
    FollowUpDue,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    KeyDestroyed,
    NoShowReported,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralClosed,
    ReferralOpened,
    ReferralSplit,
    ReferralTransferred,
    ReferralWithdrawn,
    Reminded,
    ReportRetracted,
    ServiceStarted,
    SubmissionRefused,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
)
from referral_bus.log import topics
from referral_bus.store.engine import new_engine
from services.notifier.notices import Notices
from tests.support.notifying import NAME, SECONDS, SUBJECT, World

QUESTION = "Does the person come with a dog?"
ANSWER = "A small one, and it is quiet."
LAST = "capacity_outdated"
NOTE = "Stayed three nights and moved in with a sister."


async def heard(world: World, organisation: str) -> list[Notice]:
    """All that an organisation hears when it reads its stream from the beginning now: up to the refusal of something it sends."""
    await world.ledger.put(SubmissionRefused(reason=LAST), admitted=_sent(HoldReferral, organisation))
    end = world.ledger.sequence
    kept: list[Notice] = []
    async with world.http(organisation) as http, asyncio.timeout(SECONDS):
        await world.reflected()
        async with http.stream("GET", "/v1/stream", headers={"last-event-id": "0"}) as response:
            assert response.status_code == 200, await response.aread()
            async for sent in server_sent(response.aiter_lines()):
                notice = Notice.model_validate_json(sent.data) if sent.data else None
                if notice is not None and notice.sequence == end:
                    return kept
                if notice is not None and notice.reason != LAST:
                    kept.append(notice)
    raise AssertionError("the stream ended early")


def kinds(notices: list[Notice]) -> list[str]:
    return [notice.type.split(".")[-2] for notice in notices]


def the(notices: list[Notice], kind: type) -> Notice:
    [one] = [notice for notice in notices if notice.type == kind.event_type()]
    return one


async def released(world: World, recipient: str) -> list[tuple[str, set[str]]]:
    messages = [message for _, message in await world.messages(topics.disclosure(world.bus))]
    return [
        (one.grant, set(one.data_classes))
        for one in messages
        if isinstance(one, Disclosed) and one.recipient == recipient
    ]


async def offered_to_both(
    world: World, agency: str = "hospital"
) -> tuple[ReferralOpened, OfferMade, OfferMade]:
    await world.adopt()
    opened = await world.opened(agency)
    first, second = world.offered(opened), world.offered(opened, "clinic", 2)
    await world.ledger.put(opened, first, second)
    return opened, first, second


async def test_the_losers_of_a_broadcast_hear_at_once_that_it_is_taken_and_never_by_whom(
    world: World,
) -> None:
    async with world.running():
        _, first, second = await offered_to_both(world)
        [offer] = await heard(world, "clinic")
        assert set(world.shown("clinic", offer.disclosed)) == {"referral", "facts"}
        await world.ledger.put(
            world.accepted(first),
            TaskCancelled(
                referral=first.referral, task=second.task, provider="clinic", reason="taken_elsewhere"
            ),
        )
        late_offer, lost = await heard(world, "clinic")
        winner = await heard(world, "shelter")
    assert (kinds([lost]), lost.task, lost.reason) == (["TaskCancelled"], second.task, "taken_elsewhere")
    assert late_offer.disclosed is None and lost.disclosed is None
    assert "shelter" not in lost.model_dump_json()
    assert kinds(winner) == ["OfferMade", "OfferAccepted"]
    assert await released(world, "clinic") == [
        ("offered", {"status", "facts"}),
        ("was_offered", {"status"}),
        ("was_offered", {"status"}),
    ]


async def test_a_question_is_shown_to_the_agency_and_its_answer_to_who_asked_and_to_nobody_else(
    world: World,
) -> None:
    async with world.running():
        _, first, _ = await offered_to_both(world)
        asked = InformationAsked(
            referral=first.referral,
            task=first.task,
            provider="shelter",
            sealed_question=await world.sealed_text(QUESTION),
        )
        given = InformationGiven(
            referral=first.referral,
            task=first.task,
            provider="shelter",
            sealed_answer=await world.sealed_text(ANSWER),
        )
        await world.ledger.put(asked, given)
        agency, asker, other = [await heard(world, one) for one in ("hospital", "shelter", "clinic")]
        grants = {one: await released(world, one) for one in ("hospital", "shelter")}
        await world.ledger.put(
            TaskCancelled(referral=first.referral, task=first.task, provider="shelter", reason="held")
        )
        afterwards = await heard(world, "shelter")
    question, answer = the(agency, InformationAsked), the(asker, InformationGiven)
    assert world.shown("hospital", question.disclosed) == {"referral": first.referral, "question": QUESTION}
    assert world.shown("shelter", answer.disclosed) == {"referral": first.referral, "answer": ANSWER}
    assert the(agency, InformationGiven).disclosed is None
    assert the(asker, InformationAsked).disclosed is None
    assert kinds(other) == ["OfferMade"]
    assert ("own_referral", {"status", "exchange"}) in grants["hospital"]
    assert ("asked", {"exchange"}) in grants["shelter"]
    assert the(afterwards, InformationGiven).disclosed is None


async def test_a_former_agency_hears_of_the_transfer_and_nothing_more_and_the_new_one_what_an_agency_hears(
    world: World,
) -> None:
    async with world.running():
        await world.adopt()
        opened = await world.opened("police")
        offer = world.offered(opened)
        await world.ledger.put(opened, offer)
        assert kinds(await heard(world, "police")) == ["ReferralOpened", "OfferMade"]
        await world.ledger.put(
            ReferralTransferred(referral=opened.referral, former="police", agency="hospital"),
            world.accepted(offer),
            ServiceStarted(referral=opened.referral, task=offer.task, started_at=1),
            OutcomeReported(
                referral=opened.referral,
                task=offer.task,
                result="need_met",
                cause="service_completed",
                sealed_note=await world.sealed_text(NOTE),
            ),
        )
        former, new = await heard(world, "police"), await heard(world, "hospital")
    [transferred] = former
    assert (kinds(former), transferred.reason) == (["ReferralTransferred"], "transferred_away")
    assert transferred.disclosed is None
    assert (await released(world, "police"))[-1] == ("was_own", {"status"})
    assert kinds(new) == ["ReferralTransferred", "OfferAccepted", "ServiceStarted", "OutcomeReported"]
    assert new[0].reason == "transferred_here"
    shown = world.shown("hospital", new[0].disclosed)
    assert set(shown) == {"referral", "facts", "identity"} and shown["identity"]["name"] == NAME
    assert world.shown("hospital", new[-1].disclosed) == {
        "referral": opened.referral,
        "outcome": "need_met",
        "cause": "service_completed",
        "note": NOTE,
    }


@pytest.mark.parametrize(
    ("to", "told"), [(None, "operations"), ("clinic", "clinic"), ("hospital", "hospital")]
)
async def test_an_escalation_reaches_whom_it_goes_to_and_shows_nothing_of_the_person(
    world: World, to: str | None, told: str
) -> None:
    async with world.running():
        await world.adopt()
        opened = await world.opened()
        offer = world.offered(opened)
        await world.ledger.put(
            opened, offer, Escalated(referral=opened.referral, task=offer.task, step="accept", to=to, due=77)
        )
        everyone = {one: await heard(world, one) for one in world.organisation_keys}
    hearing = {one for one, notices in everyone.items() if "Escalated" in kinds(notices)}
    # An offer that nobody answers and that stays open is the agency's concern whoever else is told.
    assert hearing == {told, "hospital"}
    escalated = the(everyone[told], Escalated)
    assert (escalated.referral, escalated.task) == (opened.referral, offer.task)
    assert (escalated.reason, escalated.expires_at, escalated.disclosed) == ("accept", 77, None)
    grant = "own_referral" if told == "hospital" else "escalated"
    assert (await released(world, told))[-1] == (grant, {"status"})


async def test_a_part_of_a_split_referral_shows_whom_it_is_about_to_who_accepts_it(world: World) -> None:
    async with world.running():
        await world.adopt()
        whole = await world.opened()
        parts = [await world.opened(part_of=whole.referral) for _ in range(2)]
        offer = world.offered(parts[0], "clinic")
        await world.ledger.put(
            whole, ReferralSplit(referral=whole.referral, parts=[part.referral for part in parts]), *parts
        )
        await world.ledger.put(offer, world.accepted(offer).model_copy(update={"provider": "clinic"}))
        accepted = (await heard(world, "clinic"))[-1]
    assert world.shown("clinic", accepted.disclosed)["identity"]["name"] == NAME


async def test_amended_facts_reach_who_holds_an_offer_and_a_new_identity_who_has_accepted(
    world: World,
) -> None:
    async with world.running():
        opened, first, second = await offered_to_both(world)
        amended = ReferralAmended(
            referral=opened.referral, sealed_facts=await world.sealed_facts("food-pantry")
        )
        await world.ledger.put(amended)
        while_offered = the(await heard(world, "clinic"), ReferralAmended)
        await world.ledger.put(
            world.accepted(first),
            TaskCancelled(
                referral=first.referral, task=second.task, provider="clinic", reason="taken_elsewhere"
            ),
            amended,
        )
        once_accepted = (await heard(world, "shelter"))[-1]
        others = await heard(world, "clinic")
    shown = world.shown("clinic", while_offered.disclosed)
    assert set(shown) == {"referral", "facts"} and shown["facts"]["needs"][0]["code"] == "food-pantry"
    assert while_offered.task == second.task
    assert set(world.shown("shelter", once_accepted.disclosed)) == {"referral", "facts", "identity"}
    assert kinds(others).count("ReferralAmended") == 1


@pytest.mark.parametrize("agency", ["hospital", "police"])
async def test_an_agency_hears_how_it_goes_afterwards_and_the_police_that_the_person_was_taken_up(
    world: World, agency: str
) -> None:
    async with world.running():
        await world.adopt()
        opened = await world.opened(agency)
        offer = world.offered(opened)
        of = {"referral": opened.referral, "task": offer.task}
        note = await world.sealed_text(NOTE)
        await world.ledger.put(
            opened,
            offer,
            world.accepted(offer),
            HandoffConfirmed(**of, by="shelter", means="phone", confirmed_at=1, complete=False),
            NoShowReported(**of, missed_at=1),
            ContactReported(**of, tried_at=1, channel="phone", reached=True),
            ReportRetracted(**of, report="no_show", corrects=world.ledger.sequence + 5),
            HandoffRetracted(**of, by="shelter", corrects=world.ledger.sequence + 4),
            ServiceStarted(**of, started_at=1),
            TaskHeld(**of, reason="in_custody"),
            OutcomeReported(**of, result="not_met", sealed_note=note),
            ReferralClosed(referral=opened.referral, status="completed", reason="outcome_reported"),
            OutcomeReported(**of, result="partly_met", corrects=world.ledger.sequence + 11),
            FollowUpDue(referral=opened.referral, days=30, provider="shelter"),
            FollowedUp(referral=opened.referral, days=30, by="shelter", result="need_met", sealed_note=note),
        )
        told, provider = await heard(world, agency), await heard(world, "shelter")
    taken_up = ["ReferralOpened", "OfferMade", "OfferAccepted", "HandoffConfirmed"]
    if agency == "police":
        assert kinds(told) == [*taken_up, "HandoffRetracted", "ServiceStarted", "TaskHeld", "ReferralClosed"]
        assert [one.reason for one in told[-2:]] == [None, None]
        assert not any("outcome" in classes for _, classes in await released(world, "police"))
        return
    assert kinds(told) == [
        *taken_up,
        "NoShowReported",
        "ContactReported",
        "ReportRetracted",
        "HandoffRetracted",
        "ServiceStarted",
        "TaskHeld",
        "OutcomeReported",
        "ReferralClosed",
        "OutcomeReported",
        "FollowUpDue",
        "FollowedUp",
    ]
    first, corrected, later = (world.shown(agency, told[place].disclosed) for place in (-5, -3, -1))
    assert (first["outcome"], first["note"]) == ("not_met", NOTE)
    assert (corrected["outcome"], corrected["corrects"]) == ("partly_met", told[-5].sequence)
    assert (later["outcome"], later["days"], later["note"]) == ("need_met", 30, NOTE)
    assert kinds(provider)[-2:] == ["FollowUpDue", "FollowedUp"]
    assert all(one.disclosed is None for one in provider[2:])


async def test_each_provider_hears_that_its_attempt_was_entered_in_error_long_after_it_was_over(
    world: World,
) -> None:
    async with world.running():
        opened, first, second = await offered_to_both(world)
        referral = opened.referral
        about = [
            {"referral": referral, "task": one.task, "provider": one.provider} for one in (first, second)
        ]
        await world.ledger.put(
            world.accepted(first),
            TaskCancelled(**about[1], reason="taken_elsewhere"),
            OutcomeReported(referral=referral, task=first.task, result="need_met"),
            ReferralClosed(referral=referral, status="completed", reason="outcome_reported"),
            ReferralWithdrawn(referral=referral, reason="entered_in_error"),
            *(TaskEnteredInError(**one) for one in about),
        )
        told = {name: await heard(world, name) for name in ("shelter", "clinic", opened.agency)}
    for name, task in (("shelter", first.task), ("clinic", second.task)):
        last = told[name][-1]
        assert (kinds([last]), last.task, last.disclosed) == (["TaskEnteredInError"], task, None)
    assert kinds(told[opened.agency])[-3:] == [
        "ReferralWithdrawn",
        "TaskEnteredInError",
        "TaskEnteredInError",
    ]
    assert "ReferralWithdrawn" not in kinds(told["clinic"])


async def test_a_reminder_reaches_only_who_must_act(world: World) -> None:
    async with world.running():
        _, first, _ = await offered_to_both(world)
        await world.ledger.put(
            Reminded(
                referral=first.referral, task=first.task, step="accept", party="shelter", percent=50, due=99
            )
        )
        everyone = {one: kinds(await heard(world, one)) for one in world.organisation_keys}
    assert {one for one, notices in everyone.items() if "Reminded" in notices} == {"shelter"}


async def test_what_either_party_may_send_is_refused_in_the_role_it_has(world: World) -> None:
    async with world.running():
        await world.adopt()
        refused = SubmissionRefused(reason="unknown_referral", about="rf-north-" + "a" * 20)
        for source in ("hospital", "shelter"):
            await world.ledger.put(refused, admitted=_sent(HoldReferral, source))
        await world.ledger.put(refused, admitted=_sent(AnswerQuestion, "hospital"))
        agency, provider = await heard(world, "hospital"), await heard(world, "shelter")
    assert [one.reason for one in agency] == ["unknown_referral"] * 2
    assert [one.reason for one in provider] == ["unknown_referral"]


async def test_what_was_said_goes_with_a_forgotten_person_and_with_its_notices(world: World) -> None:
    other = "sj-" + "b" * 26
    async with world.running():
        await world.adopt()
        for subject in (SUBJECT, other):
            opened = await world.opened(subject=subject)
            offer = world.offered(opened)
            asked = InformationAsked(
                referral=opened.referral,
                task=offer.task,
                provider="shelter",
                sealed_question=await world.sealed_text(QUESTION, subject),
            )
            await world.ledger.put(opened, offer, asked)
        await world.keys.destroy([SUBJECT])
        await world.ledger.put(KeyDestroyed(subject=SUBJECT))
        questions = [one for one in await heard(world, "hospital") if one.type == asked.event_type()]
    assert [one.disclosed is None for one in questions] == [True, False]
    assert await world.rows("select subject from notifier.reports") == [(other,)]
    engine = new_engine(world.database)
    try:
        await Notices(engine).prune(253_402_300_799_999)
    finally:
        await engine.dispose()
    assert await world.rows("select subject from notifier.reports") == []


def _sent(kind: type, source: str) -> Admitted:
    return Admitted(
        type=kind.event_type(),
        id=f"{kind.__name__}-{source}",
        source=source,
        digest=b"",
        sent_at=1,
        partition=0,
        offset=1,
        append_time=1,
        value=b"x",
    )
