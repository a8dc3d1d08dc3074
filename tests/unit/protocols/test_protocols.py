"""The protocols that are shipped: each is valid, keeps to the times its name says, and can be adopted by a region as it stands."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import AcknowledgeOffer, AdoptReference
from referral_bus.contracts.ledger import (
    AgencyReminded,
    Escalated,
    OfferExpired,
    OfferMade,
    ReferralClosed,
    ReferralOpened,
    Reminded,
)
from referral_bus.contracts.reference import Protocol
from referral_bus.protocols import OFFICE_HOURS, SHIPPED, shipped
from referral_bus.wire.codec import Codec
from tests.support.deciding import DAY, HOUR, MINUTE, OPERATIONS, World, accept, offers, protocol

MONDAY_NINE = 1_700_469_000_000 - (1_700_469_000_000 % DAY) + 9 * HOUR
"""Monday, 20 November 2023, 09:00 UTC: office hours begin."""


@pytest.fixture
def world(codec: Codec) -> World:
    """A region that has adopted all of it, and a shelter with a place."""
    world = World(codec)
    world.send(
        AdoptReference(kind="calendar", reference=OFFICE_HOURS.calendar, version=1, calendar=OFFICE_HOURS),
        OPERATIONS,
    )
    for one in shipped():
        world.send(protocol(one), OPERATIONS)
    world.publish(offers("beds", total=3), offers("rooms", "clinic", total=3))
    world.now = MONDAY_NINE - 1
    return world


def opened(world: World, **more: Any) -> tuple[ReferralOpened, OfferMade]:
    world.refer(**more)
    made = world.events[-1]
    event = next(event for event in reversed(world.events) if isinstance(event, ReferralOpened))
    assert isinstance(made, OfferMade)
    return event, made


def test_each_is_named_as_its_file_and_says_what_it_is() -> None:
    for name, one in zip(SHIPPED, shipped(), strict=True):
        assert one.protocol == name
        assert one.name is not None


def test_a_crisis_is_acknowledged_in_five_minutes_and_accepted_in_thirty(world: World) -> None:
    event, made = opened(world, urgency="crisis")
    assert event.protocol == "crisis-co-response"
    assert made.expires_at == world.now + 30 * MINUTE
    [escalated] = world.tick(world.now + 5 * MINUTE)
    assert isinstance(escalated, Escalated)
    assert escalated.step == "acknowledge"


def test_a_crisis_that_was_acknowledged_reminds_and_then_goes_to_the_next(world: World) -> None:
    _, made = opened(world, urgency="crisis")
    world.send(AcknowledgeOffer(task=made.task), made.provider)
    reminders = [*world.tick(made.expires_at - 15 * MINUTE), *world.tick(made.expires_at - 6 * MINUTE)]
    assert [event.percent for event in reminders if isinstance(event, Reminded)] == [50, 80]
    assert isinstance(world.tick(made.expires_at)[0], OfferExpired)


def test_a_handoff_that_nobody_confirms_within_the_hour_escalates(world: World) -> None:
    _, made = opened(world, urgency="crisis")
    world.send(accept(made.referral), made.provider)
    steps = [event.step for event in world.tick(world.now + HOUR) if isinstance(event, Escalated)]
    assert steps == ["handoff"]


def test_a_routine_referral_is_answered_within_two_business_days(world: World) -> None:
    event, made = opened(world, urgency="routine")
    assert event.protocol == "community-referral"
    assert made.expires_at == MONDAY_NINE + DAY + 8 * HOUR
    friday = MONDAY_NINE + 4 * DAY + 4 * HOUR
    world.now = friday
    _, later = opened(world, urgency="routine", number=2)
    assert later.expires_at - world.now == 4 * DAY, "Friday noon, and the weekend does not count"


def test_a_community_referral_ends_after_fourteen_days_and_not_a_moment_before(world: World) -> None:
    body = world.submission(urgency="routine", protocol="community-referral", mode="waitlist", number=9)
    world.send(body, "police")
    ends = world.now + 14 * DAY
    assert not any(isinstance(event, ReferralClosed) for event in world.tick(ends - 1))
    closed = [event for event in world.tick(ends) if isinstance(event, ReferralClosed)]
    assert [(event.referral, event.reason) for event in closed] == [(body.referral, "time_over")]


def test_who_waits_for_a_place_is_spoken_of_before_their_time_is_over(world: World) -> None:
    for number, (name, days) in enumerate([("community-referral", 14), ("coordinated-entry-housing", 90)]):
        body = world.submission(urgency="routine", number=number + 5, protocol=name, mode="waitlist")
        world.send(body, "police")
        opened_at = world.now
        reminded = [one for one in world.tick(opened_at + days * DAY - 1) if isinstance(one, AgencyReminded)]
        assert [(one.percent, one.due) for one in reminded] == [(80, opened_at + days * DAY)]


def test_coordinated_entry_is_followed_by_name_alone_and_silence_is_no_answer(world: World) -> None:
    body = world.submission(urgency="routine").model_copy(update={"protocol": "coordinated-entry-housing"})
    made = world.send(body, "police")[-1]
    assert isinstance(made, OfferMade)
    assert made.expires_at == MONDAY_NINE + 2 * DAY + 8 * HOUR
    steps = [event.step for event in world.tick(made.expires_at) if isinstance(event, Escalated)]
    assert steps == ["acknowledge", "accept"]
    known = world.state.referrals[made.referral]
    assert [task_id(made.referral, number) for number in known.offers] == [made.task]


def test_coordinated_entry_holds_no_place_for_ever(world: World) -> None:
    body = world.submission(urgency="routine").model_copy(update={"protocol": "coordinated-entry-housing"})
    made = world.send(body, "police")[-1]
    assert isinstance(made, OfferMade)
    [closed] = [one for one in world.tick(world.now + 90 * DAY) if isinstance(one, ReferralClosed)]
    assert (closed.referral, closed.reason) == (made.referral, "time_over")
    assert world.state.units[made.unit].held == 0


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"steps": ["start", "start"]}, "each at most once"),
        ({"steps": ["start", "acknowledge"]}, "in the order"),
        ({"offer_reminders": [80, 50]}, "must rise"),
        ({"calendar": None}, "need one"),
        ({"referral_limits": None}, "shares of referral_limits"),
        (
            {"silence": "escalates", "referral_limits": None, "referral_reminders": []},
            "an offer holds its place",
        ),
        ({"maximum_offers": 0}, "greater than or equal to 1"),
    ],
)
def test_a_protocol_that_loops_or_can_not_be_followed_is_refused(change: dict[str, Any], wrong: str) -> None:
    [_, community, _] = shipped()
    limits = community.steps[-1].limits.model_dump()
    if "steps" in change:
        change = {"steps": [{"step": step, "limits": limits} for step in change["steps"]]}
    with pytest.raises(ValidationError, match=wrong):
        Protocol.model_validate({**community.model_dump(), **change})


def test_acknowledging_takes_less_time_than_answering() -> None:
    [crisis, *_] = shipped()
    slow = {"step": "acknowledge", "limits": crisis.offer_limits.model_dump()}
    with pytest.raises(ValidationError, match="less time"):
        Protocol.model_validate({**crisis.model_dump(), "steps": [slow]})
