"""What each event makes of the views' rows."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from referral_bus.contracts.ledger import (
    CapacityChanged,
    KeyDestroyed,
    ReferralClosed,
    ServicePublished,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
)
from referral_bus.demo import audit as independent
from services.projections.known import Damaged
from tests.support.viewing import (
    CODEC,
    SEALED,
    START,
    Region,
    Story,
    Views,
    accepted,
    admitted,
    completed,
    declined,
    expired,
    records,
    started,
    subject,
    withdrawn,
)


class World:
    """One region with a service of five beds, and its views."""

    def __init__(self) -> None:
        self.region = Region()
        self.views = Views()

    async def begin(self) -> None:
        region = self.region
        await self.views.of(
            region, *(region.adopted(name) for name in ("hospital", "police", "shelter")), region.published()
        )

    async def see(self, *events: Any) -> None:
        await self.views.of(self.region, *events)

    def waiting(self, task: str) -> dict[str, Any]:
        """What waits of a task, and by when."""
        rows = [row for row in self.views.table("waits") if row["task"] == task and row["done_at"] is None]
        return {str(row["waits_for"]): row["due_at"] for row in rows}

    def places(self, unit: str = "beds") -> tuple[Any, ...]:
        row = self.views.row("units", unit=f"un-north-{unit}")
        return tuple(row[name] for name in ("total", "taken", "held", "free"))


@pytest.fixture
async def world() -> World:
    world = World()
    await world.begin()
    return world


# Where a referral stands, and its tasks


async def test_an_opened_referral_is_active_and_in_its_agencys_caseload(world: World) -> None:
    opened = world.region.opened()
    await world.see(opened)
    row = world.views.row("referrals", referral=opened.referral)
    assert (row["agency"], row["status"], row["standing"], row["subject"]) == (
        "hospital",
        "active",
        "opened",
        opened.subject,
    )
    assert row["opened_at"] == row["changed_at"] == world.region.now


async def test_an_offer_waits_for_the_providers_answer_until_it_expires(world: World) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, world.region.matched(opened), offer)
    task = world.views.row("tasks", task=offer.task)
    assert (task["status"], task["business_status"]) == ("requested", "offered")
    assert world.waiting(offer.task) == {"answer": offer.expires_at}
    assert world.views.row("referrals", referral=opened.referral)["standing"] == "offered"


async def test_an_accepted_task_waits_for_its_start_and_a_started_one_for_its_outcome(world: World) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer, accepted(offer))
    task = world.views.row("tasks", task=offer.task)
    assert (task["status"], world.waiting(offer.task)) == ("accepted", {"start": None})
    referral = world.views.row("referrals", referral=opened.referral)
    assert (referral["standing"], referral["accepted_by"]) == ("accepted", "shelter")
    await world.see(started(offer))
    task = world.views.row("tasks", task=offer.task)
    assert (task["status"], task["started_at"]) == ("in-progress", START)
    assert world.waiting(offer.task) == {"outcome": None}


async def test_a_completed_task_waits_for_nobody_and_its_referral_keeps_who_served(world: World) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer, accepted(offer), started(offer), *completed(offer, SEALED))
    task = world.views.row("tasks", task=offer.task)
    assert (task["status"], task["business_status"]) == ("completed", "completed")
    assert world.waiting(offer.task) == {}
    referral = world.views.row("referrals", referral=opened.referral)
    assert (referral["status"], referral["reason"], referral["outcome"]) == (
        "completed",
        "outcome_reported",
        "need_met",
    )
    assert (referral["standing"], referral["accepted_by"]) == ("closed", "shelter")
    note = world.views.row("sections", referral=opened.referral, section=f"note.{referral['outcome_at']}")
    assert (note["sealed"], note["task"]) == (SEALED, offer.task)


@pytest.mark.parametrize(
    ("end", "status", "word", "reason"),
    [(declined, "rejected", "declined", "no_capacity"), (expired, "cancelled", "expired", None)],
)
async def test_an_offer_that_came_to_nothing_leaves_the_referral_open(
    world: World, end: Any, status: str, word: str, reason: str | None
) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer, end(offer))
    task = world.views.row("tasks", task=offer.task)
    assert (task["status"], task["business_status"], task["reason"]) == (status, word, reason)
    assert world.waiting(offer.task) == {}
    row = world.views.row("referrals", referral=opened.referral)
    assert (row["standing"], row["task"], row["accepted_by"]) == ("opened", None, None)


async def test_a_withdrawn_referral_ends_its_task(world: World) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer, *withdrawn(opened.referral, offer.task))
    task = world.views.row("tasks", task=offer.task)
    assert (task["status"], task["business_status"]) == ("cancelled", "withdrawn")
    assert world.waiting(offer.task) == {}
    row = world.views.row("referrals", referral=opened.referral)
    assert (row["status"], row["standing"], row["reason"]) == ("revoked", "closed", "withdrawn")


async def test_the_timeline_has_a_row_for_each_event_of_the_referral_and_nothing_sealed(world: World) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    other = world.region.opened()
    await world.see(opened, world.region.matched(opened), other, offer, declined(offer))
    rows = [row for row in world.views.table("events") if row["referral"] == opened.referral]
    assert [row["type"] for row in rows] == ["ReferralOpened", "MatchDecided", "OfferMade", "OfferDeclined"]
    assert rows[-1]["detail"] == {"provider": "shelter", "reason": "no_capacity", "until": None}
    assert "sealed" not in str(rows) and opened.subject not in str(rows)


# Places


async def test_an_offer_holds_a_place_and_an_acceptance_takes_it(world: World) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer)
    assert world.places() == (5, 0, 1, 4)
    await world.see(accepted(offer))
    assert world.places() == (5, 1, 0, 4)


@pytest.mark.parametrize("end", [declined, expired])
async def test_a_place_that_is_not_wanted_is_free_again(world: World, end: Any) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer, end(offer))
    assert world.places() == (5, 0, 0, 5)


async def test_a_withdrawn_offer_and_a_withdrawn_acceptance_each_free_their_place_once(world: World) -> None:
    first, second = world.region.opened(), world.region.opened()
    one, other = world.region.offered(first), world.region.offered(second)
    await world.see(first, one, second, other, accepted(other))
    assert world.places() == (5, 1, 1, 3)
    await world.see(*withdrawn(first.referral, one.task))
    assert world.places() == (5, 1, 0, 4)
    await world.see(*withdrawn(second.referral, other.task))
    assert world.places() == (5, 0, 0, 5)


async def test_a_place_is_free_when_the_service_is_over_though_not_below_what_was_counted(
    world: World,
) -> None:
    opened = world.region.opened()
    offer = world.region.offered(opened)
    await world.see(opened, offer, accepted(offer), started(offer))
    await world.see(world.region.counted(total=5, available=5))
    assert world.places() == (5, 0, 0, 5)
    await world.see(*completed(offer))
    assert world.places() == (5, 0, 0, 5)


async def test_a_count_replaces_total_and_taken_and_keeps_what_is_held(world: World) -> None:
    opened = world.region.opened()
    await world.see(opened, world.region.offered(opened), world.region.counted(total=10, available=7))
    assert world.places() == (10, 3, 1, 6)
    assert world.views.row("units", unit="un-north-beds")["counted_at"] == world.region.now - 1 - 2


async def test_publishing_again_keeps_the_counts_and_takes_up_new_units(world: World) -> None:
    opened = world.region.opened()
    await world.see(opened, world.region.offered(opened))
    await world.see(world.region.published(total=99, units=["beds", "cots"]))
    assert world.places() == (5, 0, 1, 4)
    assert world.places("cots") == (99, 0, 0, 99)
    beds, cots = (world.views.row("units", unit=f"un-north-{name}") for name in ("beds", "cots"))
    assert beds["reported_at"] < cots["reported_at"]


async def test_a_published_count_is_shown_as_old_as_it_says(world: World) -> None:
    definition = world.region.published(units=["cots", "rooms"]).definition
    ages = [0, world.region.now + 9_000]
    units = [
        unit.model_copy(update={"counted_at": at}) for unit, at in zip(definition.units, ages, strict=True)
    ]
    await world.see(ServicePublished(definition=definition.model_copy(update={"units": units})))
    assert world.views.row("units", unit="un-north-cots")["counted_at"] == 0
    rooms = world.views.row("units", unit="un-north-rooms")
    assert rooms["counted_at"] < ages[1]
    assert world.views.row("units", unit="un-north-cots")["reported_at"] == rooms["reported_at"] > 0


async def test_a_unit_that_is_no_longer_named_is_not_offered(world: World) -> None:
    await world.see(world.region.published(units=["cots"]))
    assert world.views.row("units", unit="un-north-beds")["offered"] is False
    assert world.views.row("units", unit="un-north-cots")["offered"] is True
    definition = world.region.published(units=["cots"]).definition.model_copy(update={"active": False})
    await world.see(world.region.published().model_copy(update={"definition": definition}))
    assert world.views.row("units", unit="un-north-cots")["offered"] is False


# Parties, erasure, submissions, regions


async def test_the_latest_adopted_version_of_an_organisation_counts_in_its_region(world: World) -> None:
    await world.see(world.region.adopted("hospital", version=4))
    row = world.views.row("organisations", region="north", organisation="hospital")
    assert (row["version"], row["kind"], row["name"]) == (4, "hospital", "Hospital")


async def test_an_agreement_is_kept_as_it_was_adopted(world: World) -> None:
    agreed = world.region.agreed("police", ["outcome"])
    await world.see(agreed)
    row = world.views.row("agreements", agreement="mou-police")
    assert agreed.agreement is not None
    assert (row["recipient"], row["content"]) == ("police", agreed.agreement.model_dump(mode="json"))


async def test_a_destroyed_key_takes_the_person_out_of_every_row_of_its_region(world: World) -> None:
    person = subject(7)
    first, second, other = (
        world.region.opened(of=person),
        world.region.opened(of=person),
        world.region.opened(of=subject(8)),
    )
    offer = world.region.offered(first)
    await world.see(first, offer, accepted(offer), other)
    await world.see(second, KeyDestroyed(subject=person))
    await world.see(*completed(offer, SEALED))
    for opened in (first, second):
        row = world.views.row("referrals", referral=opened.referral)
        assert (row["erased"], row["subject"]) == (True, None)
    left = [row for row in world.views.table("sections") if row["sealed"] is not None]
    assert {row["referral"] for row in left} == {other.referral}
    assert person not in str(world.views.table("sections")) + str(world.views.table("referrals"))


async def test_what_comes_of_an_erased_person_later_is_not_kept_either(world: World) -> None:
    await world.see(KeyDestroyed(subject=subject(3)))
    late = world.region.opened(of=subject(3))
    await world.see(late)
    assert world.views.row("referrals", referral=late.referral)["erased"] is True
    assert world.views.table("sections") == []


async def test_an_erasure_in_one_region_waits_for_the_other_regions_own(world: World) -> None:
    south = Region("south", 1)
    opened = south.opened(of=subject(1))
    await world.views.of(south, south.adopted("hospital"), opened)
    await world.see(KeyDestroyed(subject=subject(1)))
    assert world.views.row("referrals", referral=opened.referral)["erased"] is False
    await world.views.of(south, KeyDestroyed(subject=subject(1)))
    assert world.views.row("referrals", referral=opened.referral)["erased"] is True


async def test_a_refusal_is_kept_for_its_sender(world: World) -> None:
    record = world.region.put(
        SubmissionRefused(reason="unknown_unit", about="un-north-none"), admitted("shelter", "count-1")
    )
    await world.views.feed(records([record]))
    row = world.views.row("submissions", organisation="shelter")
    assert (row["submission"], row["state"], row["reason"], row["about"]) == (
        "count-1",
        "refused",
        "unknown_unit",
        "un-north-none",
    )


@pytest.mark.parametrize(
    ("end", "state", "reason"),
    [
        (lambda at: SubmissionResumed(parked=at), "decided", None),
        (lambda at: SubmissionRefused(reason="unknown_unit", parked=at), "refused", "unknown_unit"),
    ],
)
async def test_a_parked_submission_says_what_became_of_it(
    world: World, end: Any, state: str, reason: str | None
) -> None:
    parked = world.region.put(
        SubmissionParked(waiting_for="un-north-late", until=START + 99), admitted("shelter", "count-1")
    )
    sequence = world.region.sequence
    await world.views.feed(records([parked]))
    row = world.views.row("submissions", organisation="shelter")
    assert (row["state"], row["until"], row["about"]) == ("parked", START + 99, "un-north-late")
    await world.see(end(sequence))
    row = world.views.row("submissions", organisation="shelter")
    assert (row["state"], row["reason"], row["until"]) == (state, reason, None)


async def test_a_region_says_how_far_of_its_inbox_it_reflects(world: World) -> None:
    world.region.inbox_offset = 70
    await world.see(SubmissionRepeated(first=1))
    row = world.views.row("regions", region="north")
    assert (row["decided_through"], row["sequence"], row["partition"]) == (71, world.region.sequence, 0)


# What stops the views


async def test_a_missing_event_stops_them_and_the_message_says_where(world: World) -> None:
    world.region.put(world.region.opened())
    with pytest.raises(Damaged, match=r"sequence 6 of region north.*the sequence before it is 4"):
        await world.see(SubmissionRepeated(first=1))


async def test_a_broken_hash_stops_them(world: World) -> None:
    world.region.hash = bytes(32)
    with pytest.raises(Damaged, match="hash"):
        await world.see(SubmissionRepeated(first=1))


async def test_a_region_in_another_partition_than_its_own_stops_them(world: World) -> None:
    world.region.partition = 1
    with pytest.raises(Damaged, match="stands in partition 0"):
        await world.see(SubmissionRepeated(first=1))


async def test_bytes_that_are_no_event_stop_them_without_being_repeated(world: World) -> None:
    [record] = records([world.region.put(world.region.opened())])
    broken = type(record)(record.topic, 0, 9, START, record.key, b"\x00\x00\x00\xff\xffnonsense")
    with pytest.raises(Damaged, match="schema id 65535") as raised:
        await world.views.feed([broken])
    assert "nonsense" not in str(raised.value)


async def test_an_event_about_what_never_was_stops_them(world: World) -> None:
    opened = world.region.opened()
    with pytest.raises(Damaged, match="referrals"):
        await world.see(ReferralClosed(referral=opened.referral, status="revoked", reason="no_match"))
    world.region = Region()
    world.views = Views()
    await world.begin()
    with pytest.raises(Damaged, match="units"):
        await world.see(
            CapacityChanged(unit="un-north-none", service="sv-north-none", total=1, available=1, true_at=1)
        )


# All together


def _story(seed: int, steps: int) -> list[Any]:
    north, south = Region("north", 0), Region("south", 0)
    draw = random.Random(seed)
    stories = [Story(north, draw), Story(south, draw)]
    out = [record for story in stories for record in story.beginning()]
    for _ in range(steps):
        out += draw.choice(stories).steps(1)
    return records(out)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 400), max_size=12))
async def test_any_split_into_batches_gives_the_same_rows(seed: int, cuts: list[int]) -> None:
    story = _story(seed, 150)
    whole, split = Views(), Views()
    await whole.feed(story)
    bounds = [0, *sorted({cut for cut in cuts if cut < len(story)}), len(story)]
    for start, end in pairwise(bounds):
        await split.feed(story[start:end])
    assert split.everything() == whole.everything()


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
async def test_places_are_counted_as_an_independent_audit_counts_them(seed: int) -> None:
    story = _story(seed, 300)
    views = Views()
    await views.feed(story)
    counts = independent.Audit()
    regions: dict[str, independent._Places] = {}
    for record in story:
        entry = CODEC.decode_entry(record.value)
        region = entry.meta.region
        independent._places(entry, regions.setdefault(region, independent._Places(region)), counts)
    units = {name: unit for places in regions.values() for name, unit in places.units.items()}
    assert counts.oversold == 0
    assert {row["unit"]: (row["total"], row["taken"], row["held"]) for row in views.table("units")} == {
        name: (unit.total, unit.taken, unit.held) for name, unit in units.items()
    }
    open_offers = [row for row in views.table("tasks") if row["business_status"] == "offered"]
    assert sum(row["held"] for row in views.table("units")) == len(open_offers)  # type: ignore[misc]
    waiting = [row for row in views.table("waits") if row["done_at"] is None]
    standing = [
        row for row in views.table("referrals") if row["standing"] in ("offered", "accepted", "started")
    ]
    assert {row["referral"] for row in waiting} == {row["referral"] for row in standing}
