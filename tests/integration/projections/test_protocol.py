"""The whole life of a referral in the query API: who sees what of questions, transfers, splits, escalations, corrections and lines."""

from __future__ import annotations

from typing import Any

from referral_bus.contracts.ledger import (
    CapacityChanged,
    ContactReported,
    Escalated,
    Event,
    FollowedUp,
    FollowUpDue,
    InformationAsked,
    InformationGiven,
    NoShowReported,
    OfferMade,
    OutcomeReported,
    ReferralCalled,
    ReferralHeld,
    ReferralOpened,
    ReferralReopened,
    ReferralSplit,
    ReferralTransferred,
    ReferralWaitlisted,
    ServiceStarted,
    TaskCancelled,
    TaskHeld,
)
from referral_bus.log.port import Outgoing
from referral_bus.runtime.clock import SystemClock
from services.projections.rebuild import rebuild
from tests.support.lives import Lives
from tests.support.served_views import NAME, NOTE, World
from tests.support.viewing import CODEC, START, accepted, completed, declined, started

OPERATIONS = ["operations"]


async def ask(world: World, organisation: str, path: str, roles: Any = None, **params: Any) -> Any:
    async with world.http(organisation, roles) as http:
        return await http.get(path, params={"after": world.after(world.north), "wait": 10, **params})


async def seen(world: World, organisation: str, referral: str, *show: str) -> Any:
    answer = await ask(world, organisation, f"/v1/referrals/{referral}", show=list(show))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def items(world: World, organisation: str, view: str, roles: Any = None, **params: Any) -> list[Any]:
    answer = await ask(world, organisation, f"/v1/{view}", roles, **params)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["items"]
    return found


async def offered(
    world: World, agency: str = "hospital", number: int = 1
) -> tuple[ReferralOpened, OfferMade]:
    opened = await world.opened(agency, number)
    offer = world.north.offered(opened)
    await world.put(world.north, opened, world.north.matched(opened), offer)
    return opened, offer


def asked(offer: OfferMade, question: bytes) -> InformationAsked:
    return InformationAsked(
        referral=offer.referral, task=offer.task, provider=offer.provider, sealed_question=question
    )


def given(offer: OfferMade, answer: bytes) -> InformationGiven:
    return InformationGiven(
        referral=offer.referral, task=offer.task, provider=offer.provider, sealed_answer=answer
    )


def types(timeline: Any) -> list[str]:
    return [event["type"] for event in timeline["events"]]


async def test_everything_the_protocol_knows_is_in_postgres_as_a_fresh_fold_gives_it(world: World) -> None:
    lives = Lives(CODEC, 5, windows=True)
    lives.steps(600)
    ledger = [Outgoing(world.ledger, 0, b"north", value) for _, value in lives.world.entries]
    half = len(ledger) // 2
    async with world.running(batch_records=70):
        await world.append(ledger[:half])
        assert (await world.compared()).equal
        await world.append(ledger[half:])
        found = await world.compared()
        assert found.equal, found.differences
        assert min(found.rows[table] for table in ("waits", "reliability", "protocols", "sections")) > 0
        await rebuild(world.engine, world.log, world.ledger, world.codec)
        assert (await world.compared()).equal


async def test_a_question_and_its_answer_are_for_the_agency_and_the_provider_that_asked_alone(
    world: World,
) -> None:
    async with world.running():
        await world.begin()
        await world.put(world.north, world.north.published("cots", "clinic"))
        opened, offer = await offered(world)
        other = world.north.offered(opened, "clinic", 2, "cots")
        await world.put(world.north, other, asked(offer, await world.note()))
        [question] = [
            row for row in await items(world, "hospital", "queue") if row["waits_for"] == "information"
        ]
        assert (question["party"], question["task"], question["due_at"]) == (
            "hospital",
            offer.task,
            offer.expires_at,
        )
        assert [row["waits_for"] for row in await items(world, "hospital", "queue", mine=True)] == [
            "information"
        ]
        assert [row["waits_for"] for row in await items(world, "shelter", "queue", mine=True)] == ["answer"]
        await world.put(world.north, given(offer, await world.note()))
        assert await items(world, "hospital", "queue", mine=True) == []
        for party in ("hospital", "shelter"):
            view = await seen(world, party, opened.referral, "exchange")
            assert [(one["kind"], one["task"], one["text"]) for one in view["exchange"]] == [
                ("question", offer.task, NOTE),
                ("answer", offer.task, NOTE),
            ]
        stranger = await seen(world, "clinic", opened.referral, "exchange")
        assert (stranger["exchange"], stranger["withheld"]) == ([], {"exchange": "none_given"})
        assert not {"InformationAsked", "InformationGiven"} & set(types(stranger))
        await world.put(world.north, declined(offer))
        assert (
            await ask(world, "shelter", f"/v1/referrals/{opened.referral}", show="exchange")
        ).status_code == 404
    grants = {(one.recipient, one.grant) for one in await world.releases() if "exchange" in one.data_classes}
    assert grants == {("hospital", "own_referral"), ("shelter", "asked")}


async def test_a_transferred_referral_is_in_the_other_agencys_caseload_and_not_in_the_formers(
    world: World,
) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        moved = ReferralTransferred(referral=opened.referral, former="hospital", agency="police")
        await world.put(world.north, moved, asked(offer, await world.note()))
        assert await items(world, "hospital", "caseload") == []
        assert await items(world, "hospital", "queue") == []
        answer = await ask(world, "hospital", f"/v1/referrals/{opened.referral}")
        assert answer.status_code == 404
        [row] = await items(world, "police", "caseload")
        assert row["agency"] == "police"
        view = await seen(world, "police", opened.referral, "identity")
        assert view["identity"]["name"] == NAME
        assert view["events"][-2]["detail"] == {"former": "hospital", "agency": "police"}
        assert [row["waits_for"] for row in await items(world, "police", "queue", mine=True)] == [
            "information"
        ]


async def test_a_part_has_the_identity_of_the_whole_and_its_provider_does_not_learn_of_other_parts(
    world: World,
) -> None:
    async with world.running():
        await world.begin()
        whole = await world.opened()
        parts = [(await world.opened()).model_copy(update={"part_of": whole.referral}) for _ in range(2)]
        parts = [part.model_copy(update={"sealed_identity": None}) for part in parts]
        offer = world.north.offered(parts[0])
        split = ReferralSplit(referral=whole.referral, parts=[part.referral for part in parts])
        await world.put(world.north, whole, split, *parts, offer, accepted(offer))
        view = await seen(world, "hospital", whole.referral)
        assert (view["standing"], view["status"], view["parts"]) == ("split", "active", split.parts)
        assert (await seen(world, "hospital", parts[1].referral))["part_of"] == whole.referral
        served = await seen(world, "shelter", parts[0].referral, "identity")
        assert served["identity"]["name"] == NAME
        assert served["part_of"] is None and whole.referral not in str(served)


async def test_a_provider_that_gave_the_person_back_sees_the_referral_no_more(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        back = TaskCancelled(
            referral=offer.referral,
            task=offer.task,
            provider="shelter",
            reason="given_back",
            because="person_not_ready",
        )
        held = ReferralHeld(referral=opened.referral, reason="declined", until=START + 9_000_000_000)
        await world.put(world.north, accepted(offer), back, held)
        assert (await ask(world, "shelter", f"/v1/referrals/{opened.referral}")).status_code == 404
        assert await items(world, "shelter", "inbox") == []
        view = await seen(world, "hospital", opened.referral)
        assert (view["status"], view["standing"], view["accepted_by"]) == ("on-hold", "on-hold", None)
        assert (view["hold_reason"], view["held_until"]) == ("declined", held.until)
        assert view["events"][-2]["detail"]["because"] == "person_not_ready"


async def test_who_takes_up_a_reopened_referral_sees_nothing_of_who_served_before(world: World) -> None:
    async with world.running():
        await world.begin()
        await world.put(world.north, world.north.published("cots", "clinic"))
        opened, offer = await offered(world)
        done = completed(offer, await world.note())
        back = FollowedUp(referral=opened.referral, days=30, by="shelter", result="not_met")
        again = ReferralReopened(
            referral=opened.referral, reason="need_returned", sealed_facts=opened.sealed_facts
        )
        second = world.north.offered(opened, "clinic", 2, "cots")
        await world.put(world.north, accepted(offer), *done, back, again)
        assert (await ask(world, "shelter", f"/v1/referrals/{opened.referral}")).status_code == 404
        await world.put(world.north, second, accepted(second))
        view = await seen(world, "clinic", opened.referral, "outcome")
        assert types(view) == ["ReferralOpened", "OfferMade", "OfferAccepted"]
        assert (view["outcome"], view["note"], view["notes"]) == (None, None, [])
        assert "shelter" not in str(view)
        agency = await seen(world, "hospital", opened.referral, "outcome")
        assert (agency["standing"], agency["status"], agency["outcome"]) == ("accepted", "active", None)
        assert [one["text"] for one in agency["notes"]] == [NOTE]


async def test_a_corrected_outcome_counts_and_both_are_seen_the_later_as_a_correction(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        await world.put(world.north, accepted(offer), *completed(offer, await world.note()))
        first = world.north.sequence - 1
        await world.put(
            world.north,
            ServiceStarted(referral=opened.referral, task=offer.task, started_at=START, late=True),
            OutcomeReported(referral=opened.referral, task=offer.task, result="not_met", corrects=first),
        )
        view = await seen(world, "hospital", opened.referral, "outcome")
        assert (view["outcome"], view["corrected"], view["note"]) == ("not_met", True, None)
        assert view["withheld"] == {"note": "none_given"}
        assert [one["sequence"] for one in view["notes"]] == [first]
        assert [(one["type"], one["correction"]) for one in view["events"][-4:]] == [
            ("OutcomeReported", False),
            ("ReferralClosed", False),
            ("ServiceStarted", True),
            ("OutcomeReported", True),
        ]
        assert view["events"][-1]["detail"]["corrects"] == first
        [task] = await items(world, "shelter", "inbox")
        assert (task["status"], task["started_at"], task["outcome"]) == ("completed", START, "not_met")


async def test_police_do_not_see_how_it_goes_with_the_service(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world, "police")
        served: list[Event] = [
            accepted(offer),
            ContactReported(
                referral=opened.referral, task=offer.task, tried_at=START, channel="phone", reached=False
            ),
            NoShowReported(referral=opened.referral, task=offer.task, missed_at=START),
            TaskHeld(referral=opened.referral, task=offer.task, reason="hospital_stay"),
        ]
        await world.put(world.north, *served)
        view = await seen(world, "police", opened.referral)
        assert types(view)[-2:] == ["OfferAccepted", "TaskHeld"]
        assert view["events"][-1]["detail"]["reason"] is None
        await world.put(world.north, *completed(offer, await world.note()))
        followed = FollowedUp(referral=opened.referral, days=30, by="shelter", result="not_met")
        await world.put(
            world.north, FollowUpDue(referral=opened.referral, days=30, provider="shelter"), followed
        )
        view = await seen(world, "police", opened.referral, "outcome")
        assert types(view)[-1] == "ReferralClosed" and view["events"][-1]["detail"]["result"] is None
        assert (view["note"], view["notes"], view["withheld"]) == (None, None, {"note": "not_granted"})
        told = await seen(world, "shelter", opened.referral, "outcome")
        assert types(told)[-2:] == ["FollowUpDue", "FollowedUp"]
        assert "NoShowReported" in types(told)


async def test_an_escalation_waits_for_whom_it_was_escalated_to_and_shows_nothing_but_where_it_stands(
    world: World,
) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        other, second = await offered(world, number=2)
        due = offer.expires_at
        await world.put(
            world.north,
            Escalated(referral=opened.referral, task=offer.task, step="accept", to="clinic", due=due),
            Escalated(referral=other.referral, task=second.task, step="accept", due=due),
        )
        [told] = await items(world, "clinic", "queue")
        assert (told["waits_for"], told["step"], told["party"], told["overdue"]) == (
            "escalation",
            "answer",
            "clinic",
            True,
        )
        assert (told["task"], told["service"]) == (offer.task, None)
        assert (await ask(world, "clinic", f"/v1/referrals/{opened.referral}")).status_code == 404
        [release] = [one for one in await world.releases() if one.recipient == "clinic"]
        assert (release.grant, release.data_classes) == ("escalated", ["status"])
        [own] = await items(world, "operations", "queue", OPERATIONS, mine=True)
        assert (own["task"], own["party"]) == (second.task, None)
        for party in ("hospital", "shelter"):
            rows = await items(world, party, "queue")
            assert {row["waits_for"] for row in rows} == {"answer"}
            assert all(row["escalated_at"] is not None for row in rows)
        await world.put(world.north, accepted(offer))
        assert await items(world, "clinic", "queue") == []


async def test_a_follow_up_waits_for_the_provider_until_it_is_reported(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        await world.put(world.north, accepted(offer), started(offer), *completed(offer))
        assert await items(world, "shelter", "queue") == []
        await world.put(world.north, FollowUpDue(referral=opened.referral, days=30, provider="shelter"))
        for party in ("shelter", "hospital"):
            [row] = await items(world, party, "queue")
            assert (row["waits_for"], row["party"], row["task"]) == ("follow_up", "shelter", offer.task)
        followed = FollowedUp(
            referral=opened.referral,
            days=30,
            by="hospital",
            result="need_met",
            sealed_note=await world.note(),
        )
        await world.put(world.north, followed)
        assert await items(world, "shelter", "queue") == []
        view = await seen(world, "shelter", opened.referral, "outcome")
        assert [one["text"] for one in view["notes"]] == [NOTE]


async def test_a_part_is_in_line_where_the_whole_was(world: World) -> None:
    async with world.running():
        await world.begin()
        beds = "sv-north-beds"
        whole, other, part, later = [
            (await world.opened("police", number)).model_copy(
                update={"urgency": "routine", "mode": "waitlist"}
            )
            for number in range(4)
        ]
        part = part.model_copy(update={"part_of": whole.referral})
        for opened in (whole, other):
            await world.put(world.north, opened)
        split = ReferralSplit(referral=whole.referral, parts=[part.referral, later.referral])
        await world.put(world.north, split, part, later)
        for opened in (other, part, later):
            line = ReferralWaitlisted(referral=opened.referral, services=[beds], review=START + 9_000_000)
            await world.put(world.north, line)
        places = {
            row["referral"]: row["lines"][0]["place"] for row in await items(world, "police", "waiting-list")
        }
        assert places == {part.referral: 1, other.referral: 2, later.referral: 3}


async def test_an_agency_sees_its_own_place_in_line_and_nothing_of_who_else_waits(world: World) -> None:
    async with world.running():
        await world.begin()
        beds, cots = "sv-north-beds", "sv-north-cots"
        first = (await world.opened("police", 1)).model_copy(
            update={"urgency": "routine", "mode": "waitlist"}
        )
        second = (await world.opened("hospital", 2)).model_copy(
            update={"urgency": "routine", "mode": "waitlist"}
        )
        third = (await world.opened("police", 3)).model_copy(update={"urgency": "crisis", "mode": "waitlist"})
        for opened, services in ((first, [beds, cots]), (second, [beds]), (third, [beds])):
            line = ReferralWaitlisted(referral=opened.referral, services=services, review=START + 9_000_000)
            await world.put(world.north, opened, line)
        [mine] = await items(world, "hospital", "waiting-list")
        assert (mine["referral"], mine["lines"]) == (second.referral, [{"service": beds, "place": 3}])
        assert first.referral not in str(mine) and "police" not in str(mine)
        others = {
            row["referral"]: {one["service"]: one["place"] for one in row["lines"]}
            for row in await items(world, "police", "waiting-list")
        }
        assert others == {first.referral: {beds: 2, cots: 1}, third.referral: {beds: 1}}
        everyone = await items(world, "operations", "waiting-list", OPERATIONS)
        assert len(everyone) == 3 and all(row["lines"] is None for row in everyone)
        assert (await ask(world, "shelter", "/v1/waiting-list")).status_code == 403
        view = await seen(world, "hospital", second.referral)
        assert (view["standing"], view["waits_for"]) == ("waitlisted", [beds])
        await world.put(world.north, ReferralCalled(referral=third.referral, service=beds))
        assert (await items(world, "hospital", "waiting-list"))[0]["lines"][0]["place"] == 2


async def test_the_capacity_board_says_how_old_a_count_is_and_how_far_the_service_keeps_to_it(
    world: World,
) -> None:
    async with world.running():
        await world.begin()
        _, one = await offered(world, number=1)
        _, two = await offered(world, number=2)
        await world.put(world.north, accepted(one), declined(two))
        [unit] = await items(world, "clinic", "capacity")
        assert (unit["overbook"], unit["free"]) == (0, 4)
        assert (unit["kept"], unit["broken"], unit["trust"]) == (1, 1, None)
        assert unit["stale_hours"] > 24
        await world.put(world.north, world.north.trusts((1, 900), (24, 400), (8760, 0)))
        [unit] = await items(world, "clinic", "capacity")
        assert unit["trust"] == (0 if unit["stale_hours"] >= 8760 else 400)
        fresh = CapacityChanged(
            unit=unit["unit"], service=unit["service"], total=5, available=5, true_at=SystemClock().now()
        )
        await world.put(world.north, fresh)
        [unit] = await items(world, "clinic", "capacity")
        assert (unit["stale_hours"], unit["trust"]) == (0, 1000)
        assert unit["counted_at"] == fresh.true_at
