"""What each event of the whole protocol makes of the views' rows."""

from __future__ import annotations

from typing import Any

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityFreed,
    CapacityLent,
    CapacityRequested,
    CapacityTaken,
    ContactReported,
    Escalated,
    FollowUpDue,
    HandoffConfirmed,
    HandoffRetracted,
    InformationAsked,
    InformationGiven,
    KeyDestroyed,
    NoShowReported,
    OfferAcknowledged,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralReopened,
    ReferralResumed,
    ReferralSplit,
    ReferralTransferred,
    ReferralWaitlisted,
    ReferralWithdrawn,
    Reminded,
    ReportRetracted,
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.reference import OfferLimits, Protocol, Step
from referral_bus.contracts.vocabulary import CancelReason, Mode, OutcomeResult
from referral_bus.store.rows import Put
from services.projections.known import Known
from tests.support.viewing import START, Region, Views, accepted, completed, declined, expired, started

HOUR = 3_600_000
DAY = 24 * HOUR
LIMITS = OfferLimits(crisis=HOUR, urgent=2 * HOUR, routine=3 * HOUR)
PROTOCOL = Protocol(
    protocol="standard",
    offer_limits=OfferLimits(crisis=9 * HOUR, urgent=9 * HOUR, routine=9 * HOUR),
    maximum_offers=5,
    parking_ms=0,
    steps=[
        Step(step="acknowledge", limits=LIMITS),
        Step(step="handoff", limits=LIMITS),
        Step(step="start", limits=LIMITS),
        Step(step="outcome", limits=LIMITS),
    ],
)
IN_OFFICE_HOURS = PROTOCOL.model_copy(update={"business_time": True, "calendar": "weekdays"})


class World:
    """One region with two services, and its views."""

    def __init__(self) -> None:
        self.region = Region()
        self.views = Views()

    async def begin(self, protocol: Protocol) -> None:
        region = self.region
        parties = [region.adopted(name) for name in ("hospital", "police", "shelter", "clinic")]
        await self.see(
            *parties, region.follows(protocol), region.published(), region.published("cots", "clinic")
        )

    async def see(self, *events: Any) -> None:
        await self.views.of(self.region, *events)

    async def offered(self) -> tuple[ReferralOpened, OfferMade]:
        opened = self.region.opened()
        offer = self.region.offered(opened)
        await self.see(opened, offer)
        return opened, offer

    def referral(self, name: str) -> dict[str, Any]:
        return self.views.row("referrals", referral=name)

    def task(self, offer: OfferMade) -> tuple[Any, Any]:
        row = self.views.row("tasks", task=offer.task)
        return row["status"], row["business_status"]

    def waiting(self, referral: str) -> dict[tuple[Any, Any], Any]:
        """What waits of a referral, and whose it is, and by when."""
        return {
            (row["waits_for"], row["whose"]): row["due_at"]
            for row in self.views.table("waits")
            if row["referral"] == referral and row["done_at"] is None
        }


@pytest.fixture
async def world() -> World:
    world = World()
    await world.begin(PROTOCOL)
    return world


# What waits, for whom and until when


async def test_an_offer_is_to_be_acknowledged_within_the_limit_for_its_urgency(world: World) -> None:
    opened, offer = await world.offered()
    due = world.region.now + 2 * HOUR
    assert world.waiting(opened.referral) == {
        ("answer", "provider"): offer.expires_at,
        ("acknowledge", "provider"): due,
    }
    await world.see(OfferAcknowledged(referral=opened.referral, task=offer.task, provider="shelter"))
    assert world.waiting(opened.referral) == {("answer", "provider"): offer.expires_at}
    assert world.task(offer) == ("requested", "acknowledged")


async def test_a_question_waits_for_the_agency_as_long_as_the_offer_is_open(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task, "provider": "shelter"}
    await world.see(InformationAsked(**task, sealed_question=b"q1"))
    assert world.task(offer) == ("requested", "screening")
    assert world.waiting(opened.referral)["information", "agency"] == offer.expires_at
    await world.see(InformationGiven(**task, sealed_answer=b"a1"))
    assert ("information", "agency") not in world.waiting(opened.referral)
    await world.see(InformationAsked(**task, sealed_question=b"q2"))
    assert ("information", "agency") in world.waiting(opened.referral)
    await world.see(expired(offer))
    assert world.waiting(opened.referral) == {}
    kept = [(row["section"].partition(".")[0], row["sealed"]) for row in world.views.table("sections")]  # type: ignore[attr-defined]
    assert sorted(kept)[:1] + sorted(kept)[3:] == [
        ("answer", b"a1"),
        ("question", b"q1"),
        ("question", b"q2"),
    ]


async def test_an_offer_waits_for_its_agency_until_every_question_is_answered(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task, "provider": "shelter"}
    await world.see(InformationAsked(**task, sealed_question=b"q1"))
    since = world.region.now
    await world.see(
        InformationAsked(**task, sealed_question=b"q2"), InformationGiven(**task, sealed_answer=b"a1")
    )
    assert world.task(offer) == ("requested", "screening")
    assert ("information", "agency") in world.waiting(opened.referral)
    assert [row["since"] for row in world.views.table("waits") if row["waits_for"] == "information"] == [
        since
    ]
    await world.see(InformationGiven(**task, sealed_answer=b"a2"))
    assert world.task(offer) == ("requested", "acknowledged")
    assert ("information", "agency") not in world.waiting(opened.referral)


async def test_a_handoff_waits_for_each_party_until_both_have_confirmed(world: World) -> None:
    opened, offer = await world.offered()
    await world.see(accepted(offer))
    due = world.region.now + 2 * HOUR
    handoffs = {("handoff", "provider"): due, ("handoff", "agency"): due}
    assert world.waiting(opened.referral) == {("start", "provider"): due, **handoffs}
    said = {"referral": opened.referral, "task": offer.task, "means": "phone", "confirmed_at": START}
    await world.see(HandoffConfirmed(**said, by="hospital", complete=False))
    assert set(world.waiting(opened.referral)) == {("start", "provider"), ("handoff", "provider")}
    await world.see(
        ReferralTransferred(referral=opened.referral, former="hospital", agency="police"),
    )
    # Who follows the referral now has confirmed nothing.
    assert ("handoff", "agency") in world.waiting(opened.referral)
    await world.see(HandoffConfirmed(**said, by="police", complete=False))
    await world.see(HandoffConfirmed(**said, by="shelter", complete=True))
    assert set(world.waiting(opened.referral)) == {("start", "provider")}
    assert world.task(offer) == ("accepted", "handed-over")
    await world.see(ReferralTransferred(referral=opened.referral, former="police", agency="hospital"))
    assert set(world.waiting(opened.referral)) == {("start", "provider")}


async def test_what_is_counted_in_business_time_is_due_when_a_reminder_says(world: World) -> None:
    world = World()
    await world.begin(IN_OFFICE_HOURS)
    opened, offer = await world.offered()
    assert world.waiting(opened.referral)["acknowledge", "provider"] is None
    await world.see(
        Reminded(
            referral=opened.referral,
            task=offer.task,
            step="acknowledge",
            party="shelter",
            percent=50,
            due=START + HOUR,
        )
    )
    assert world.waiting(opened.referral)["acknowledge", "provider"] == START + HOUR
    assert world.views.row("waits", task=offer.task, waits_for="acknowledge")["reminded"] == 50


async def test_an_escalation_waits_until_the_step_is_taken(world: World) -> None:
    opened, offer = await world.offered()
    await world.see(accepted(offer), started(offer))
    late = Escalated(referral=opened.referral, task=offer.task, step="outcome", to="police", due=START + 7)
    await world.see(late)
    row = world.views.row("waits", task=offer.task, waits_for="escalation")
    assert (row["target"], row["step"], row["due_at"]) == ("police", "outcome", START + 7)
    assert world.views.row("waits", task=offer.task, waits_for="outcome")["escalated_at"] == world.region.now
    await world.see(*completed(offer))
    assert world.waiting(opened.referral) == {}


async def test_an_escalation_about_what_is_done_waits_no_longer_though_the_task_goes_on(world: World) -> None:
    opened, offer = await world.offered()
    late = Escalated(referral=opened.referral, task=offer.task, step="acknowledge", due=START + 7)
    await world.see(late)
    assert ("escalation", "target") in world.waiting(opened.referral)
    await world.see(OfferAcknowledged(referral=opened.referral, task=offer.task, provider="shelter"))
    assert set(world.waiting(opened.referral)) == {("answer", "provider")}


async def test_who_gives_a_person_back_has_no_part_in_the_referral_and_who_lost_it_by_withdrawal_keeps_it(
    world: World,
) -> None:
    first, offer = await world.offered()
    await world.see(accepted(offer), _ended(offer, "given_back"))
    row = world.referral(first.referral)
    assert (row["standing"], row["accepted_by"], row["task"]) == ("opened", None, None)
    assert world.task(offer) == ("cancelled", "given-back")
    second, other = await world.offered()
    await world.see(accepted(other), _ended(other, "withdrawn"))
    assert world.referral(second.referral)["accepted_by"] == "shelter"
    assert world.views.row("units", unit="un-north-beds")["taken"] == 0


async def test_a_service_that_rests_waits_to_be_resumed_and_its_time_begins_anew(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(accepted(offer), TaskHeld(**task, reason="in_custody"))
    assert world.task(offer) == ("on-hold", "on-hold")
    assert world.referral(opened.referral)["standing"] == "on-hold"
    waiting = world.waiting(opened.referral)
    assert waiting["resume", "provider"] is None and ("start", "provider") not in waiting
    await world.see(TaskResumed(**task))
    assert world.task(offer) == ("in-progress", "accepted")
    assert world.waiting(opened.referral)["start", "provider"] == world.region.now + 2 * HOUR
    await world.see(started(offer), TaskHeld(**task, reason="in_custody", until=START + HOUR))
    # It goes on by itself: nobody has to resume it.
    assert set(world.waiting(opened.referral)) == {("handoff", "provider"), ("handoff", "agency")}
    await world.see(TaskResumed(**task))
    assert world.task(offer) == ("in-progress", "started")
    assert world.waiting(opened.referral)["outcome", "provider"] == world.region.now + 2 * HOUR


async def test_a_referral_on_hold_without_an_end_waits_for_its_agency(world: World) -> None:
    opened, offer = await world.offered()
    held = ReferralHeld(referral=opened.referral, reason="person_asked")
    await world.see(_ended(offer, "held"), held)
    assert world.task(offer) == ("cancelled", "withdrawn")
    row = world.referral(opened.referral)
    assert (row["status"], row["standing"], row["hold_reason"]) == ("on-hold", "on-hold", "person_asked")
    assert world.waiting(opened.referral) == {("resume", "agency"): None}
    await world.see(ReferralResumed(referral=opened.referral))
    row = world.referral(opened.referral)
    assert (row["status"], row["standing"], row["hold_reason"]) == ("active", "opened", None)
    assert world.waiting(opened.referral) == {}


async def test_a_referral_that_is_held_anew_shows_the_reason_and_the_date_said_last(world: World) -> None:
    opened, offer = await world.offered()
    until = world.region.now + HOUR
    parked = ReferralHeld(referral=opened.referral, reason="declined", until=until)
    await world.see(_ended(offer, "held"), parked)
    await world.see(ReferralHeld(referral=opened.referral, reason="hospital_stay"))
    row = world.referral(opened.referral)
    assert (row["hold_reason"], row["held_until"]) == ("hospital_stay", None)
    assert world.waiting(opened.referral) == {("resume", "agency"): None}
    await world.see(ReferralHeld(referral=opened.referral, reason="in_custody", until=until))
    row = world.referral(opened.referral)
    assert (row["hold_reason"], row["held_until"]) == ("in_custody", until)
    assert world.waiting(opened.referral) == {}


async def test_a_service_that_is_held_anew_waits_for_its_provider_only_while_it_has_no_date(
    world: World,
) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(accepted(offer), TaskHeld(**task, reason="person_asked"))
    assert ("resume", "provider") in world.waiting(opened.referral)
    until = world.region.now + HOUR
    await world.see(TaskHeld(**task, reason="hospital_stay", until=until))
    assert ("resume", "provider") not in world.waiting(opened.referral)
    assert world.views.row("tasks", task=offer.task)["held_until"] == until
    await world.see(TaskHeld(**task, reason="hospital_stay"))
    assert ("resume", "provider") in world.waiting(opened.referral)


# Where referrals stand


async def test_an_amended_referral_has_what_was_given_and_keeps_the_rest(world: World) -> None:
    opened, _ = await world.offered()
    await world.see(ReferralAmended(referral=opened.referral, urgency="crisis", sealed_facts=b"anew"))
    assert world.referral(opened.referral)["urgency"] == "crisis"
    sections = {row["section"]: row["sealed"] for row in world.views.table("sections")}
    assert sections == {"facts": b"anew", "identity": opened.sealed_identity}
    event = world.views.row("events", referral=opened.referral, type="ReferralAmended")
    assert event["detail"] == {"urgency": "crisis", "facts": True, "identity": False}


async def test_a_transferred_referral_is_the_other_agencys(world: World) -> None:
    opened, _ = await world.offered()
    await world.see(ReferralTransferred(referral=opened.referral, former="hospital", agency="police"))
    assert world.referral(opened.referral)["agency"] == "police"


async def test_a_closed_part_that_is_transferred_with_its_whole_is_the_other_agencys_and_stays_closed(
    world: World,
) -> None:
    opened, offer = await world.offered()
    reported = OutcomeReported(referral=opened.referral, task=offer.task, result="need_met", sealed_note=None)
    closed = ReferralClosed(referral=opened.referral, status="completed", reason="outcome_reported")
    await world.see(accepted(offer), reported, closed)
    before = world.referral(opened.referral)
    await world.see(ReferralTransferred(referral=opened.referral, former="hospital", agency="police"))
    after = world.referral(opened.referral)
    assert {name for name in after if after[name] != before[name]} <= {"agency", "changed_at", "sequence"}
    assert after["agency"] == "police" and after["standing"] == "closed"


@pytest.mark.parametrize("ended", ["started", "reached", "taken back", "held", "given back"])
async def test_after_a_no_show_its_agency_is_to_find_out_until_the_service_goes_on_or_the_person_was_reached(
    world: World, ended: str
) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(accepted(offer), NoShowReported(**task, missed_at=START))
    missed = world.region.sequence
    assert world.waiting(opened.referral)["no_show", "agency"] == world.region.now
    await world.see(ContactReported(**task, tried_at=START, channel="phone", reached=False))
    assert ("no_show", "agency") in world.waiting(opened.referral)
    ends = {
        "started": ServiceStarted(**task, started_at=START),
        "reached": ContactReported(**task, tried_at=START, channel="phone", reached=True),
        "taken back": ReportRetracted(**task, report="no_show", corrects=missed),
        "held": TaskHeld(**task, reason="in_custody", until=START + DAY),
        "given back": _ended(offer, "given_back"),
    }
    await world.see(ends[ended])
    assert ("no_show", "agency") not in world.waiting(opened.referral)


async def test_who_takes_a_referral_over_is_to_confirm_its_handoff_when_the_provider_is(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    confirmed = HandoffConfirmed(
        **task, by="hospital", means="phone", confirmed_at=START, complete=False, late=False
    )
    due = world.region.now + 2 * HOUR
    await world.see(accepted(offer), Escalated(**task, step="handoff", to=None, due=due), confirmed)
    held = TaskHeld(**task, reason="in_custody", until=world.region.now + DAY)
    handed_on = ReferralTransferred(referral=opened.referral, former="hospital", agency="police")
    await world.see(held, handed_on)
    rows = [
        row for row in world.views.table("waits") if row["waits_for"] == "handoff" and row["done_at"] is None
    ]
    assert {(row["whose"], row["due_at"], row["escalated_at"]) for row in rows} == {
        ("agency", None, None),
        ("provider", None, None),
    }


async def test_a_split_referral_stands_with_its_parts_until_they_are_closed(world: World) -> None:
    opened, offer = await world.offered()
    parts = [
        world.region.opened(identity=None).model_copy(update={"part_of": opened.referral}) for _ in range(2)
    ]
    split = ReferralSplit(referral=opened.referral, parts=[part.referral for part in parts])
    await world.see(_ended(offer, "split"), split, *parts)
    row = world.referral(opened.referral)
    assert (row["standing"], row["status"], row["parts"]) == ("split", "active", split.parts)
    assert {world.referral(part.referral)["part_of"] for part in parts} == {opened.referral}
    await world.see(
        ReferralClosed(
            referral=opened.referral, status="completed", reason="parts_closed", result="partly_met"
        )
    )
    row = world.referral(opened.referral)
    assert (row["standing"], row["status"], row["outcome"]) == ("closed", "completed", "partly_met")


async def test_the_first_acceptance_of_a_broadcast_counts_and_the_others_are_taken_elsewhere(
    world: World,
) -> None:
    opened, offer = await world.offered()
    other = world.region.offered(opened, "clinic", 2, "cots")
    await world.see(other)
    assert world.referral(opened.referral)["standing"] == "offered"
    await world.see(accepted(offer), _ended(other, "taken_elsewhere"))
    row = world.referral(opened.referral)
    assert (row["standing"], row["task"], row["accepted_by"]) == ("accepted", offer.task, "shelter")
    assert world.task(other) == ("cancelled", "taken-elsewhere")
    cots = world.views.row("units", unit="un-north-cots")
    assert (cots["held"], cots["taken"]) == (0, 0)


async def test_a_declined_branch_of_a_broadcast_leaves_the_others_offered(world: World) -> None:
    opened, offer = await world.offered()
    other = world.region.offered(opened, "clinic", 2, "cots")
    await world.see(other, declined(other))
    row = world.referral(opened.referral)
    assert (row["standing"], row["task"], row["service"]) == ("offered", offer.task, offer.service)


async def test_a_person_who_is_moved_stays_with_the_former_service_until_the_other_accepts(
    world: World,
) -> None:
    opened, offer = await world.offered()
    proposed = ServiceProposed(
        referral=opened.referral, task=offer.task, provider="shelter", service="sv-north-cots"
    )
    other = world.region.offered(opened, "clinic", 2, "cots").model_copy(update={"transfer": True})
    await world.see(accepted(offer), started(offer), proposed, other)
    row = world.referral(opened.referral)
    assert (row["standing"], row["task"], row["accepted_by"]) == ("started", offer.task, "shelter")
    assert world.task(offer) == ("in-progress", "started")
    await world.see(accepted(other), _ended(offer, "transferred"))
    row = world.referral(opened.referral)
    assert (row["standing"], row["task"], row["accepted_by"]) == ("accepted", other.task, "clinic")
    assert world.task(offer) == ("cancelled", "transferred")
    assert world.views.row("units", unit="un-north-beds")["taken"] == 0


async def test_a_proposal_instead_of_an_answer_ends_the_offer(world: World) -> None:
    opened, offer = await world.offered()
    proposed = ServiceProposed(
        referral=opened.referral, task=offer.task, provider="shelter", service="sv-north-cots"
    )
    await world.see(proposed)
    assert world.task(offer) == ("rejected", "proposed-elsewhere")
    assert world.waiting(opened.referral) == {}
    assert world.views.row("units", unit="un-north-beds")["held"] == 0


async def test_who_waits_for_a_place_stands_on_the_waiting_list(world: World) -> None:
    opened = world.region.opened()
    line = ReferralWaitlisted(referral=opened.referral, services=["sv-north-beds"], review=START + HOUR)
    await world.see(opened, line)
    row = world.referral(opened.referral)
    assert (row["standing"], row["waits_for"], row["review_at"]) == (
        "waitlisted",
        ["sv-north-beds"],
        START + HOUR,
    )
    await world.see(ReferralClosed(referral=opened.referral, status="revoked", reason="time_over"))
    assert world.referral(opened.referral)["waits_for"] is None


# Reports


@pytest.mark.parametrize(
    ("result", "status"),
    [("need_met", "completed"), ("partly_met", "completed"), ("not_met", "failed"), ("no_show", "failed")],
)
async def test_a_task_is_completed_only_where_the_need_was_met_at_least_partly(
    world: World, result: OutcomeResult, status: str
) -> None:
    opened, offer = await world.offered()
    await world.see(
        accepted(offer), OutcomeReported(referral=opened.referral, task=offer.task, result=result)
    )
    assert world.task(offer) == (status, status)
    assert world.views.row("units", unit="un-north-beds")["taken"] == 0


async def test_what_is_reported_late_corrects_the_record_and_nothing_else(world: World) -> None:
    opened, offer = await world.offered()
    await world.see(accepted(offer), *completed(offer))
    first = world.referral(opened.referral)["outcome_at"]
    await world.see(
        ServiceStarted(referral=opened.referral, task=offer.task, started_at=START, late=True),
        NoShowReported(referral=opened.referral, task=offer.task, missed_at=START, late=True),
        OutcomeReported(referral=opened.referral, task=offer.task, result="not_met", corrects=first),
    )
    row = world.referral(opened.referral)
    assert (row["standing"], row["outcome"], row["corrected"]) == ("closed", "not_met", True)
    assert world.task(offer) == ("completed", "completed")
    assert world.views.row("tasks", task=offer.task)["started_at"] == START
    assert world.views.row("units", unit="un-north-beds")["taken"] == 0
    corrections = [row["type"] for row in world.views.table("events") if row["correction"]]
    assert corrections == ["ServiceStarted", "NoShowReported", "OutcomeReported"]


async def test_a_corrected_end_is_the_tasks_and_who_never_came_is_asked_after_no_more(world: World) -> None:
    opened, offer = await world.offered()
    await world.see(accepted(offer), *completed(offer))
    first = world.referral(opened.referral)["outcome_at"]
    await world.see(FollowUpDue(referral=opened.referral, days=30, provider="shelter"))
    about = {"referral": opened.referral, "task": offer.task, "corrects": first}
    await world.see(OutcomeReported(**about, result="not_met", ended_at=START))
    assert world.views.row("tasks", task=offer.task)["ended_at"] == START
    assert ("follow_up", "provider") in world.waiting(opened.referral)
    await world.see(OutcomeReported(**about, result="no_show"))
    assert world.views.row("tasks", task=offer.task)["ended_at"] == START
    assert world.waiting(opened.referral) == {}


async def test_a_correction_of_before_a_reopening_says_nothing_of_what_comes_of_it_since(
    world: World,
) -> None:
    opened, offer = await world.offered()
    await world.see(accepted(offer), *completed(offer))
    first = world.referral(opened.referral)["outcome_at"]
    reopened = ReferralReopened(
        referral=opened.referral, reason="need_returned", sealed_facts=opened.sealed_facts
    )
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(reopened, OutcomeReported(**task, result="not_met", corrects=first))
    row = world.referral(opened.referral)
    assert (row["standing"], row["outcome"], row["outcome_at"]) == ("opened", None, None)


@pytest.mark.parametrize(("mode", "again"), [("direct", "match"), ("waitlist", "waitlist")])
async def test_a_reopened_referral_shows_the_mode_it_goes_on_in(
    world: World, mode: Mode, again: Mode
) -> None:
    opened = world.region.opened().model_copy(update={"mode": mode, "service": "sv-north-beds"})
    offer = world.region.offered(opened)
    await world.see(opened, offer, accepted(offer), *completed(offer))
    await world.see(
        ReferralReopened(referral=opened.referral, reason="need_returned", sealed_facts=opened.sealed_facts)
    )
    assert world.referral(opened.referral)["mode"] == again


async def test_the_start_waits_from_when_the_provider_said_that_it_takes_the_person(world: World) -> None:
    opened, offer = await world.offered()
    starts_at = world.region.now + 9 * HOUR
    await world.see(accepted(offer).model_copy(update={"starts_at": starts_at}))
    assert world.waiting(opened.referral)["start", "provider"] == starts_at + 2 * HOUR
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(TaskHeld(**task, reason="in_custody"), TaskResumed(**task))
    assert world.waiting(opened.referral)["start", "provider"] == starts_at + 2 * HOUR
    assert world.task(offer) == ("in-progress", "scheduled")


async def test_a_reminder_is_that_of_the_party_that_was_told(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    told = {**task, "party": "police", "percent": 50}
    await world.see(
        InformationAsked(**task, provider="shelter", sealed_question=b"q1"),
        Reminded(**told, step="accept", due=offer.expires_at),
    )
    rows = {row["waits_for"]: row["reminded"] for row in world.views.table("waits")}
    assert (rows["information"], rows["answer"]) == (50, None)
    await world.see(accepted(offer), Reminded(**told, step="handoff", due=START + HOUR))
    handoffs = {
        row["whose"]: row["reminded"] for row in world.views.table("waits") if row["waits_for"] == "handoff"
    }
    assert handoffs == {"agency": 50, "provider": None}


async def test_the_time_for_the_handoff_stands_still_while_the_service_rests(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    late = Escalated(**task, step="handoff", due=START + 7)
    await world.see(accepted(offer), late, TaskHeld(**task, reason="in_custody", until=START + HOUR))
    assert world.waiting(opened.referral) == {("handoff", "provider"): None, ("handoff", "agency"): None}
    await world.see(TaskResumed(**task))
    due = world.region.now + 2 * HOUR
    waiting = world.waiting(opened.referral)
    assert (waiting["handoff", "provider"], waiting["handoff", "agency"]) == (due, due)


async def test_a_no_show_that_is_taken_back_is_not_counted(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(
        accepted(offer), NoShowReported(**task, missed_at=START), NoShowReported(**task, missed_at=1)
    )
    second = world.region.sequence
    await world.see(ReportRetracted(**task, report="no_show", corrects=second))
    assert (world.task(offer), world.views.row("tasks", task=offer.task)["missed"]) == (
        ("accepted", "no-show"),
        1,
    )
    await world.see(ReportRetracted(**task, report="no_show", corrects=second - 1))
    assert (world.task(offer), world.views.row("tasks", task=offer.task)["missed"]) == (
        ("accepted", "accepted"),
        0,
    )
    assert [row["correction"] for row in world.views.table("events")][-2:] == [True, True]


async def test_a_start_that_is_corrected_is_shown_with_its_time_and_as_a_correction(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(accepted(offer), ServiceStarted(**task, started_at=START))
    wrong, waiting = world.region.sequence, world.waiting(opened.referral)
    await world.see(TaskHeld(**task, reason="in_custody", until=START + HOUR))
    await world.see(ServiceStarted(**task, started_at=START - 5, corrects=wrong))
    assert world.task(offer) == ("on-hold", "on-hold")
    assert world.referral(opened.referral)["standing"] == "on-hold"
    assert world.views.row("tasks", task=offer.task)["started_at"] == START - 5
    assert [row["sequence"] for row in world.views.table("events") if row["correction"]] == [
        world.region.sequence
    ]
    assert waiting.keys() >= {("outcome", "provider")}


@pytest.mark.parametrize("by", ["hospital", "shelter"])
async def test_a_handoff_that_was_done_waits_anew_for_who_took_it_back(world: World, by: str) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    said = {**task, "means": "phone", "confirmed_at": START}
    first = HandoffConfirmed(**said, by="hospital", complete=False)
    await world.see(accepted(offer), first, HandoffConfirmed(**said, by="shelter", complete=True))
    world.region.now += HOUR
    await world.see(HandoffRetracted(**task, by=by, corrects=world.region.sequence))
    whose = "agency" if by == "hospital" else "provider"
    waiting = world.waiting(opened.referral)
    assert {name: due for name, due in waiting.items() if name[0] == "handoff"} == {
        ("handoff", whose): world.region.now + 2 * HOUR
    }
    assert world.task(offer) == ("accepted", "accepted")
    await world.see(HandoffConfirmed(**said, by=by, complete=True))
    assert set(world.waiting(opened.referral)) == {("start", "provider")}
    assert world.task(offer) == ("accepted", "handed-over")


async def test_half_a_handoff_that_is_taken_back_is_due_when_the_other_half_is(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(accepted(offer))
    due = world.waiting(opened.referral)["handoff", "provider"]
    said = {**task, "means": "phone", "confirmed_at": START}
    await world.see(HandoffConfirmed(**said, by="hospital", complete=False))
    world.region.now += HOUR
    await world.see(HandoffRetracted(**task, by="hospital", corrects=world.region.sequence))
    waiting = world.waiting(opened.referral)
    assert (waiting["handoff", "agency"], waiting["handoff", "provider"]) == (due, due)


async def test_a_no_show_is_counted_and_a_contact_is_in_the_timeline(world: World) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task}
    await world.see(
        accepted(offer),
        NoShowReported(**task, missed_at=START),
        ContactReported(**task, tried_at=START, channel="text", reached=True),
    )
    assert world.task(offer) == ("accepted", "no-show")
    assert world.views.row("tasks", task=offer.task)["missed"] == 1
    event = world.views.row("events", referral=opened.referral, type="ContactReported")
    assert event["detail"] == {"tried_at": START, "channel": "text", "reached": True, "late": False}


async def test_a_referral_that_never_should_have_been_is_entered_in_error(world: World) -> None:
    opened, offer = await world.offered()
    withdrawn = ReferralWithdrawn(referral=opened.referral, reason="entered_in_error", task=offer.task)
    closed = ReferralClosed(referral=opened.referral, status="entered-in-error", reason="withdrawn")
    await world.see(withdrawn, closed)
    assert world.task(offer) == ("entered-in-error", "withdrawn")
    assert world.referral(opened.referral)["status"] == "entered-in-error"


async def test_a_service_that_goes_on_after_the_withdrawal_is_shown_as_started_until_its_outcome(
    world: World,
) -> None:
    opened, offer = await world.offered()
    await world.see(accepted(offer), started(offer))
    withdrawn = ReferralWithdrawn(referral=opened.referral, reason="moved_away", serving=offer.task)
    await world.see(withdrawn)
    row = world.referral(opened.referral)
    assert (row["status"], row["standing"], row["accepted_by"]) == ("revoked", "started", "shelter")
    assert world.task(offer) == ("in-progress", "started")
    assert world.views.row("units", unit="un-north-beds")["taken"] == 1
    assert ("outcome", "provider") in world.waiting(opened.referral)
    assert world.views.row("events", referral=opened.referral, type="ReferralWithdrawn")["task"] == offer.task
    about = {"referral": opened.referral, "result": "partly_met"}
    await world.see(
        OutcomeReported(**about, task=offer.task),
        ReferralClosed(**about, status="revoked", reason="withdrawn"),
    )
    row = world.referral(opened.referral)
    assert (row["status"], row["standing"], row["outcome"]) == ("revoked", "closed", "partly_met")
    assert world.task(offer) == ("completed", "completed")
    assert world.views.row("units", unit="un-north-beds")["taken"] == 0


async def test_a_closed_referral_that_was_entered_in_error_has_no_outcome_and_waits_for_nobody(
    world: World,
) -> None:
    opened, offer = await world.offered()
    about = {"referral": opened.referral, "task": offer.task, "provider": offer.provider}
    await world.see(accepted(offer), *completed(offer))
    due = FollowUpDue(referral=opened.referral, days=30, provider="shelter")
    await world.see(due)
    over = world.views.row("tasks", task=offer.task)["ended_at"]
    places = world.views.row("units", unit="un-north-beds")
    assert world.waiting(opened.referral)
    wrong = ReferralWithdrawn(referral=opened.referral, reason="entered_in_error")
    await world.see(wrong, TaskEnteredInError(**about))
    row = world.referral(opened.referral)
    assert (row["status"], row["standing"], row["reason"]) == ("entered-in-error", "closed", "withdrawn")
    assert (row["outcome"], row["outcome_at"]) == (None, None)
    task = world.views.row("tasks", task=offer.task)
    assert world.task(offer) == ("entered-in-error", "withdrawn")
    assert (task["reason"], task["ended_at"]) == ("entered_in_error", over)
    assert world.views.row("units", unit="un-north-beds") == places
    assert world.waiting(opened.referral) == {}


async def test_what_was_asked_of_an_erased_person_is_gone_and_what_is_asked_later_is_not_kept(
    world: World,
) -> None:
    opened, offer = await world.offered()
    task = {"referral": opened.referral, "task": offer.task, "provider": "shelter"}
    await world.see(InformationAsked(**task, sealed_question=b"q"), KeyDestroyed(subject=opened.subject))
    await world.see(InformationGiven(**task, sealed_answer=b"a"))
    assert [row["sealed"] for row in world.views.table("sections")] == [None, None, None]


# Places


async def test_a_count_is_carried_from_when_it_was_true_to_now(world: World) -> None:
    _, offer = await world.offered()
    before = world.region.now
    await world.see(accepted(offer))
    heard = world.region.now
    await world.see(world.region.counted(total=5, available=5).model_copy(update={"true_at": before}))
    row = world.views.row("units", unit="un-north-beds")
    assert (row["taken"], row["free"], row["counted_at"]) == (1, 4, before)
    assert row["reported_at"] > heard > before


async def test_overbooking_adds_to_what_may_be_promised(world: World) -> None:
    published = world.region.published()
    units = [published.definition.units[0].model_copy(update={"overbook": 2})]
    definition = published.definition.model_copy(update={"units": units})
    await world.see(published.model_copy(update={"definition": definition}))
    row = world.views.row("units", unit="un-north-beds")
    assert (row["total"], row["overbook"], row["free"]) == (5, 2, 7)


async def test_a_service_keeps_its_word_by_accepting_and_breaks_it_by_having_no_place_or_no_answer(
    world: World,
) -> None:
    for end in (accepted, declined, expired):
        _, offer = await world.offered()
        await world.see(end(offer))
    _, offer = await world.offered()
    await world.see(declined(offer).model_copy(update={"reason": "person_declined"}))
    row = world.views.row("reliability", service="sv-north-beds")
    assert (row["kept"], row["broken"]) == (1, 2)


async def test_an_acceptance_that_is_given_back_for_want_of_a_place_counts_as_not_kept_alone(
    world: World,
) -> None:
    for because in ("no_capacity", "full_until", "person_declined"):
        _, offer = await world.offered()
        await world.see(accepted(offer))
        await world.see(
            TaskCancelled(
                referral=offer.referral,
                task=offer.task,
                provider=offer.provider,
                reason="given_back",
                because=because,
            )
        )
    row = world.views.row("reliability", service="sv-north-beds")
    assert (row["kept"], row["broken"]) == (1, 2)


async def test_an_offer_that_expires_while_the_agency_owes_an_answer_says_nothing_of_the_service(
    world: World,
) -> None:
    _, offer = await world.offered()
    await world.see(accepted(offer))
    _, offer = await world.offered()
    await world.see(
        InformationAsked(
            referral=offer.referral, task=offer.task, provider=offer.provider, sealed_question=b"sealed"
        )
    )
    await world.see(expired(offer))
    row = world.views.row("reliability", service="sv-north-beds")
    assert (row["kept"], row["broken"]) == (1, 0)


# Services of other regions


def _requested(opened: ReferralOpened, attempt: int = 1) -> CapacityRequested:
    return CapacityRequested(
        referral=opened.referral,
        task=task_id(opened.referral, attempt),
        service="sv-south-beds",
        unit="un-south-beds",
        provider="shelter",
        until=START + HOUR,
    )


def _made(asked: CapacityRequested) -> OfferMade:
    return OfferMade(
        referral=asked.referral,
        task=asked.task,
        service=asked.service,
        unit=asked.unit,
        provider=asked.provider,
        expires_at=asked.until,
    )


async def test_an_attempt_in_another_region_is_no_offer_until_its_place_is_held(world: World) -> None:
    opened = world.region.opened()
    asked = _requested(opened)
    await world.see(opened, asked)
    offer = _made(asked)
    assert world.task(offer) == ("requested", "reserving")
    assert world.referral(opened.referral)["standing"] == "opened"
    assert world.waiting(opened.referral) == {}
    await world.see(offer)
    assert world.task(offer) == ("requested", "offered")
    assert world.referral(opened.referral)["standing"] == "offered"
    assert world.waiting(opened.referral)["answer", "provider"] == offer.expires_at
    claimed = AcceptanceClaimed(
        referral=opened.referral, task=offer.task, provider="shelter", unit=offer.unit
    )
    await world.see(claimed)
    assert world.task(offer) == ("requested", "accepting")
    assert world.waiting(opened.referral) == {}
    await world.see(accepted(offer))
    assert world.task(offer) == ("accepted", "accepted")
    assert world.referral(opened.referral)["accepted_by"] == "shelter"
    # The other region's places are counted on its own ledger.
    assert {row["unit"] for row in world.views.table("units")} == {"un-north-beds", "un-north-cots"}
    await world.see(*completed(offer))
    assert world.task(offer) == ("completed", "completed")


@pytest.mark.parametrize(("reason", "word"), [("no_place", "no-place"), ("no_answer", "no-answer")])
async def test_an_attempt_for_which_the_other_region_holds_no_place_is_over(
    world: World, reason: CancelReason, word: str
) -> None:
    opened = world.region.opened()
    asked = _requested(opened)
    await world.see(opened, asked, _ended(_made(asked), reason))
    assert world.task(_made(asked)) == ("cancelled", word)
    row = world.referral(opened.referral)
    assert (row["standing"], row["task"], row["offers"]) == ("opened", None, [])


async def test_places_that_are_lent_are_held_taken_and_freed_like_the_regions_own(world: World) -> None:
    def counts() -> tuple[Any, ...]:
        row = world.views.row("units", unit="un-north-beds")
        return row["taken"], row["held"], row["free"]

    first, second = (task_id(world.region.opened().referral.replace("north", "south"), n) for n in (1, 2))
    known = {"unit": "un-north-beds", "total": 5, "room": 5}
    for task in (first, second):
        await world.see(CapacityLent(task=task, until=START + HOUR, **known))
    assert counts() == (0, 2, 3)
    await world.see(CapacityTaken(task=first, **known))
    assert counts() == (1, 1, 3)
    await world.see(CapacityFreed(task=second, because="expired", **known))
    assert counts() == (1, 0, 4)
    await world.see(CapacityFreed(task=first, because="returned", **known))
    assert counts() == (0, 0, 5)


# The rows a batch goes on from


def test_rows_are_found_by_the_value_they_have_now() -> None:
    known = Known()
    row = {"task": "tk-a", "unit": "un-a", "region": "north", "until": 1, "state": "held"}
    known.take("lent", row)
    assert list(known.rows("lent", "unit", "un-a")) == [row]
    known.put(Put("lent", {**row, "unit": "un-b"}))
    known.put(Put("lent", {**row, "task": "tk-b"}))
    assert [one["task"] for one in known.rows("lent", "unit", "un-a")] == ["tk-b"]
    assert [one["task"] for one in known.rows("lent", "unit", "un-b")] == ["tk-a"]


def _ended(offer: OfferMade, reason: CancelReason) -> TaskCancelled:
    return TaskCancelled(referral=offer.referral, task=offer.task, provider=offer.provider, reason=reason)
