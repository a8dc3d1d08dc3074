"""Places that regions lend each other: whatever comes late, twice or never, no place is sold twice, none is held for nobody, and nobody
waits for a region that is down."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from referral_bus.contracts.ids import referral_of, region_of, task_id
from referral_bus.contracts.inbox import (
    AmendReferral,
    AnswerCapacity,
    RequestCapacity,
    ReturnCapacity,
    TakeCapacity,
)
from referral_bus.contracts.ledger import (
    CapacityDenied,
    CapacityDoubted,
    CapacityFreed,
    CapacityReturned,
    OfferAccepted,
    OfferMade,
    ReferralClosed,
)
from referral_bus.contracts.reference import OfferLimits, Protocol
from referral_bus.contracts.services import Unit
from referral_bus.contracts.vocabulary import LendingAnswer
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.wire.codec import Codec
from services.matching.core.decide import AllOpened
from services.matching.core.decide.lending import GRACE_MS
from services.matching.core.referral import Task
from services.matching.core.state import HORIZON_MS
from services.matching.messages import messages
from services.matching.recompute import Recomputed, recompute
from services.matching.snapshots import Snapshot, Snapshots, capture
from tests.support.deciding import (
    BUS,
    DAY,
    HOUR,
    MINUTE,
    OPERATIONS,
    POLICY,
    PROTOCOL,
    ask,
    decline,
    give_back,
    go_on,
    hold,
    kinds,
    offers,
    outcome,
    picture,
    policy,
    propose,
    protocol,
    publish,
    refused,
    reply,
    report,
    service_of,
    start,
    unit_of,
    withdraw,
)
from tests.support.regions import NAMES, Between, answers, lent_out, told

ELSEWHERE_MS = PROTOCOL.elsewhere_ms
RANKED = POLICY.model_copy(update={"version": 2, "rank_by": ["load"]})


@pytest.fixture
def between(codec: Codec) -> Between:
    """Three regions; the south has one bed that the others may have too."""
    between = Between(codec)
    between.publish(lent_out("beds", "south"))
    return between


def places(
    between: Between, seen_from: str, local: str = "beds", region: str = "south"
) -> tuple[int, int, int]:
    """Free, held and taken places of a unit as a region sees them."""
    unit = between[seen_from].state.units[unit_of(local, region)]
    return unit.free, unit.held, unit.taken


def business(between: Between, referral: str, attempt: int = 1) -> str:
    return between.task(referral, attempt).business


# Listing


def test_a_service_is_offered_to_the_referrals_of_the_regions_it_names_and_of_no_other(codec: Codec) -> None:
    between = Between(codec)
    between.publish(lent_out("beds", "south", to=["north"]))
    assert between["north"].state.catalogue.definitions.keys() == {service_of("beds", "south")}
    assert places(between, "north") == (1, 0, 0)
    assert not between["east"].state.catalogue.definitions


def test_a_service_that_names_a_region_no_longer_is_not_offered_there_any_more(between: Between) -> None:
    again = between.say("south", publish(lent_out("beds", "south", to=["north"])), "shelter")
    between.flow()
    assert told(again) == ["east", "north"]
    assert kinds(between["east"].events[-1:]) == ["ServiceListed"]
    assert between["east"].refer() not in between["east"].state.referrals
    assert business(between, between.refer("north")) == "reserving"


def test_a_count_is_heard_in_the_regions_the_service_is_listed_in(between: Between) -> None:
    between.now += 1
    between.say(
        "south",
        report("beds", 5, 3, between.now).model_copy(update={"unit": unit_of("beds", "south")}),
        "shelter",
    )
    between.flow()
    assert places(between, "north") == places(between, "south") == (3, 0, 2)


def test_a_listing_that_comes_again_after_a_later_one_changes_nothing(between: Between) -> None:
    listing = between.listing_of("south", "north")
    between.publish(lent_out("beds", "south", total=4))
    seen = picture(between["north"].state)["catalogue"]
    assert refused(between.say("north", listing, "relay")) == "listing_outdated"
    assert picture(between["north"].state)["catalogue"] == seen


# A place is asked for, held, and taken


def test_a_place_of_another_region_is_held_there_before_its_provider_is_asked(between: Between) -> None:
    referral = between.refer("north")
    assert business(between, referral) == "reserving"
    assert places(between, "south") == (1, 0, 0)
    between.flow()
    assert business(between, referral) == "offered"
    assert places(between, "north") == places(between, "south") == (0, 1, 0)


def test_the_provider_has_all_its_time_from_when_it_is_asked(between: Between) -> None:
    referral = between.refer("north")
    between.read()
    between.now += ELSEWHERE_MS // 2
    between.flow()
    made = [event for event in between["north"].events if isinstance(event, OfferMade)][-1]
    assert made.expires_at == between["north"].state.now + PROTOCOL.offer_limits.urgent
    [lent] = between["south"].state.lent.values()
    assert lent.until >= made.expires_at + GRACE_MS
    assert business(between, referral) == "offered"


def test_a_place_is_asked_for_and_offered_for_no_longer_than_its_referral_may_go_unaccepted(
    between: Between,
) -> None:
    day, hour = ({"crisis": time, "urgent": time, "routine": time} for time in (DAY, HOUR))
    changes = {"version": 2, "offer_limits": day, "referral_limits": hour}
    between.say("north", protocol(Protocol.model_validate({**PROTOCOL.model_dump(), **changes})), OPERATIONS)
    referral = between.refer("north")
    limit = between["north"].state.referrals[referral].limit
    assert limit is not None
    assert between.task(referral).expires_at == limit
    between.flow()
    assert business(between, referral) == "offered"
    assert between.task(referral).expires_at == limit


def test_an_acceptance_is_one_once_the_region_of_the_service_has_taken_the_place(between: Between) -> None:
    referral = between.refer("north")
    between.flow()
    assert kinds(between.accepts(referral)) == ["AcceptanceClaimed"]
    assert business(between, referral) == "accepting"
    between.flow()
    assert business(between, referral) == "accepted"
    assert places(between, "south") == (0, 0, 1)
    assert places(between, "north") == (0, 0, 1)


def test_a_question_about_an_offer_that_was_accepted_without_the_answer_is_answered_no_more(
    between: Between,
) -> None:
    referral = between.refer("north")
    between.flow()
    between.say("north", ask(referral), "shelter")
    between.accepts(referral)
    assert refused(between.say("north", reply(referral), "police")) == "offer_not_open"
    between.flow()
    assert business(between, referral) == "accepted"


def test_a_provider_is_told_when_it_takes_the_person_as_it_said(between: Between) -> None:
    referral = between.refer("north")
    between.flow()
    starts_at = between.now + HOUR
    between.accepts(referral, starts_at=starts_at)
    between.flow()
    [accepted] = [event for event in between["north"].events if isinstance(event, OfferAccepted)]
    assert accepted.starts_at == starts_at
    assert business(between, referral) == "scheduled"


def test_an_outcome_gives_the_place_back(between: Between) -> None:
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.flow()
    between.say("north", outcome(referral), "shelter")
    between.flow()
    assert places(between, "north") == places(between, "south") == (1, 0, 0)
    assert not between["south"].state.lent


def test_a_place_of_a_service_that_has_begun_is_given_back_by_its_outcome_and_not_by_the_withdrawal(
    between: Between,
) -> None:
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.flow()
    between.say("north", start(referral), "shelter")
    assert kinds(between.say("north", withdraw(referral), "police")) == ["ReferralWithdrawn"]
    between.flow()
    assert places(between, "north") == places(between, "south") == (0, 0, 1)
    assert kinds(between.say("north", outcome(referral), "shelter")) == [
        "OutcomeReported",
        "CapacityReturned",
        "ReferralClosed",
    ]
    between.flow()
    assert places(between, "north") == places(between, "south") == (1, 0, 0)
    between.say("north", withdraw(referral, "entered_in_error"), "police")
    between.flow()
    assert places(between, "north") == places(between, "south") == (1, 0, 0)


def test_nobody_can_answer_an_offer_whose_place_is_not_held_yet(between: Between) -> None:
    referral = between.refer("north")
    for body in (decline(referral), propose(referral, "beds")):
        assert refused(between.say("north", body, "shelter")) == "offer_not_open"
    assert refused(between.accepts(referral)) == "offer_not_open"


def test_an_agency_may_name_a_service_of_another_region(between: Between) -> None:
    referral = between.refer("north", mode="direct", service=service_of("beds", "south"))
    between.flow()
    assert business(between, referral) == "offered"


def test_a_provider_may_propose_a_service_of_another_region_to_take_the_person_over(between: Between) -> None:
    between.publish(offers("own", region="north"))
    between.pass_time(1)
    referral = between.refer("north", mode="direct", service=service_of("own", "north"))
    between.accepts(referral)
    body = propose(referral, "beds").model_copy(update={"service": service_of("beds", "south")})
    between.say("north", body, "shelter")
    between.flow()
    between.accepts(referral, 2)
    between.flow()
    assert [task.business for task in between["north"].state.referrals[referral].tasks] == [
        "transferred",
        "accepted",
    ]
    assert places(between, "north", "own", "north") == (1, 0, 0)


# Races


def test_of_two_regions_that_want_the_last_place_one_gets_it_and_the_other_goes_on(between: Between) -> None:
    between.publish(offers("own", "clinic", region="east", available=1, total=2))
    one, other = (
        between.refer("north"),
        between.refer("east", mode="direct", service=service_of("beds", "south")),
    )
    waiting = between.refer("east", 2)
    assert business(between, one) == business(between, other) == "reserving"
    between.flow()
    assert business(between, one) == "offered"
    assert other not in between["east"].state.referrals, "nobody else was named"
    assert between.task(waiting).provider == "clinic"
    assert places(between, "south") == (0, 1, 0)
    assert places(between, "east") == (0, 0, 1), "the east knows now that the place is gone"


def test_who_has_no_place_after_all_is_passed_over_for_the_next_best(between: Between) -> None:
    between.publish(offers("own", "clinic", region="north", total=2, available=1))
    between.say("north", policy(RANKED), OPERATIONS)
    taken = between.refer("south")
    referral = between.refer("north")
    assert business(between, taken) == "offered"
    between.flow()
    assert [task.business for task in between["north"].state.referrals[referral].tasks] == [
        "no-place",
        "offered",
    ]


def test_a_service_that_had_no_place_is_not_counted_as_asked(between: Between) -> None:
    between.say(
        "north", protocol(PROTOCOL.model_copy(update={"version": 2, "maximum_offers": 1})), OPERATIONS
    )
    between.publish(offers("own", "clinic", region="north", total=2, available=1))
    between.say("north", policy(RANKED), OPERATIONS)
    between.refer("south")
    referral = between.refer("north")
    between.flow()
    assert business(between, referral, 2) == "offered"


def test_who_waits_for_a_place_is_called_when_another_region_has_one_again(between: Between) -> None:
    between.flow()
    first = between.refer("south")
    waiting = between.refer("north", mode="waitlist")
    between.flow()
    assert between["north"].state.referrals[waiting].waits_for == (service_of("beds", "south"),)
    between.say("south", decline(first), "shelter")
    between.flow()
    assert business(between, waiting, 2) == "offered"
    assert places(between, "south") == (0, 1, 0)


@pytest.mark.parametrize("silent", [True, False])
def test_who_waits_for_another_regions_place_is_called_again_when_it_has_one_and_not_before(
    between: Between, silent: bool
) -> None:
    between.flow()
    waiting = between.refer("north", mode="waitlist")
    between.flow()
    if silent:
        between.now = between.task(waiting).expires_at
        between["north"].tick(between.now)
    else:
        between.say("north", decline(waiting, 1, "no_capacity"), "shelter")
    between.flow()
    known = between["north"].state.referrals[waiting]
    assert known.waits_for == (service_of("beds", "south"),)
    assert not known.offers
    between.count("beds", 1, 1, "south")
    between.flow()
    assert business(between, waiting, 2) == "offered"


def test_while_one_provider_accepts_no_other_can(between: Between) -> None:
    between.publish(offers("own", "clinic", region="north"))
    referral = between.refer("north", mode="broadcast")
    between.flow()
    away, own = sorted(task.provider for task in between["north"].state.referrals[referral].tasks)[::-1], None
    assert away == ["shelter", "clinic"] and own is None
    numbers = {task.provider: n for n, task in enumerate(between["north"].state.referrals[referral].tasks, 1)}
    between.accepts(referral, numbers["shelter"])
    assert refused(between.accepts(referral, numbers["clinic"])) == "acceptance_pending"
    between.flow()
    assert business(between, referral, numbers["shelter"]) == "accepted"
    assert business(between, referral, numbers["clinic"]) == "taken-elsewhere"


def test_a_provider_that_was_not_in_time_can_accept_when_the_first_acceptance_fails(between: Between) -> None:
    between.publish(offers("own", "clinic", region="north"))
    referral = between.refer("north", mode="broadcast")
    between.flow()
    numbers = {task.provider: n for n, task in enumerate(between["north"].state.referrals[referral].tasks, 1)}
    between.down.add("south")
    between.accepts(referral, numbers["shelter"])
    between.pass_time(ELSEWHERE_MS)
    assert business(between, referral, numbers["shelter"]) == "no-answer"
    between.accepts(referral, numbers["clinic"])
    assert business(between, referral, numbers["clinic"]) == "accepted"
    between.down.clear()
    between.flow()
    assert places(between, "south") == (1, 0, 0)


def accepted_a_minute_before_its_limit(between: Between) -> str:
    """A referral of the north, which may go an hour without an acceptance. Its acceptance is on its way to the south."""
    hour, day = ({"crisis": time, "urgent": time, "routine": time} for time in (HOUR, DAY))
    changes = {"version": 2, "referral_limits": hour, "offer_limits": day, "elsewhere_ms": 5 * MINUTE}
    between.say("north", protocol(Protocol.model_validate({**PROTOCOL.model_dump(), **changes})), OPERATIONS)
    referral = between.refer("north")
    limit = between["north"].state.referrals[referral].limit
    assert limit is not None
    between.flow()
    between.pass_time(limit - MINUTE - between.now)
    assert kinds(between.accepts(referral)) == ["AcceptanceClaimed"]
    return referral


def test_an_acceptance_in_time_counts_though_its_region_answers_after_the_referrals_limit(
    between: Between,
) -> None:
    referral = accepted_a_minute_before_its_limit(between)
    between.pass_time(2 * MINUTE)
    between.flow()
    assert business(between, referral) == "accepted"
    assert places(between, "south") == (0, 0, 1)
    between.pass_time(DAY)
    assert business(between, referral) == "accepted"


@pytest.mark.parametrize("answer", ["lost", "none"])
def test_what_is_left_of_a_referrals_time_goes_on_when_an_acceptance_elsewhere_comes_to_nothing(
    between: Between, answer: str
) -> None:
    between.publish(offers("own", "clinic", region="north", total=2, available=1))
    between.say("north", policy(RANKED), OPERATIONS)
    referral = accepted_a_minute_before_its_limit(between)
    between.pass_time(4 * MINUTE)
    if answer == "lost":
        answers(between["north"], referral, "lost")
    else:
        between.pass_time(MINUTE)
    assert business(between, referral, 2) == "offered"
    assert between.task(referral, 2).expires_at == between["north"].state.now + MINUTE - 1
    left = MINUTE - 1 - (between.now - between["north"].state.now)
    between.pass_time(left - 1)
    assert referral in between["north"].state.referrals
    between.pass_time(1)
    assert between["north"].events[-1] == ReferralClosed(
        referral=referral, status="revoked", reason="time_over"
    )


def test_a_referral_that_is_held_while_an_acceptance_is_on_its_way_has_what_is_left_of_its_time_afterwards(
    between: Between,
) -> None:
    referral = accepted_a_minute_before_its_limit(between)
    between.say("north", hold(referral), "police")
    between.pass_time(DAY)
    between.say("north", go_on(referral), "police")
    world = between["north"]
    assert world.state.referrals[referral].limit == world.state.now + MINUTE - 1
    between.pass_time(MINUTE)
    assert referral not in world.state.referrals


def test_who_is_given_back_while_another_region_is_to_take_them_over_goes_unaccepted_once_that_comes_to_nothing(
    between: Between,
) -> None:
    limits = {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}
    changes = {"version": 2, "referral_limits": limits}
    between.say("north", protocol(Protocol.model_validate({**PROTOCOL.model_dump(), **changes})), OPERATIONS)
    between.say("north", policy(RANKED), OPERATIONS)
    between.count("beds", 2, 1, "south")
    between.publish(
        offers("own", region="north"), offers("third", "clinic", region="north", total=4, available=1)
    )
    referral = between.refer("north")
    between.accepts(referral)
    body = propose(referral, "beds").model_copy(update={"service": service_of("beds", "south")})
    between.say("north", body, "shelter")
    between.flow()
    between.accepts(referral, 2)
    between.say("north", give_back(referral), "shelter")
    world = between["north"]
    assert world.state.referrals[referral].limit is None
    between.pass_time(ELSEWHERE_MS)
    assert business(between, referral, 3) == "offered"
    waited = 1
    assert world.state.referrals[referral].limit == world.state.now + HOUR - waited


def test_when_ones_own_service_accepts_the_place_held_elsewhere_is_given_back(between: Between) -> None:
    between.publish(offers("own", "clinic", region="north"))
    referral = between.refer("north", mode="broadcast")
    between.flow()
    numbers = {task.provider: n for n, task in enumerate(between["north"].state.referrals[referral].tasks, 1)}
    between.accepts(referral, numbers["clinic"])
    between.flow()
    assert business(between, referral, numbers["shelter"]) == "taken-elsewhere"
    assert places(between, "south") == (1, 0, 0)


# The relay dies and says things again


def test_a_relay_killed_between_question_and_answer_sells_the_place_once(between: Between) -> None:
    between.stored()
    referral = between.refer("north")
    between.read("north")
    between.deliver("north", "south")
    between.restarted()
    between.flow()
    between.restarted()
    between.flow()
    assert business(between, referral) == "offered"
    assert places(between, "north") == places(between, "south") == (0, 1, 0)
    assert between["south"].state.lent.keys() == {task_id(referral, 1)}
    between.accepts(referral)
    between.flow()
    between.restarted()
    between.flow()
    assert places(between, "north") == places(between, "south") == (0, 0, 1)


def test_a_relay_that_lost_its_position_for_good_says_everything_again_and_changes_nothing(
    between: Between,
) -> None:
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.flow()
    # Long after what says the same twice is known by its id.
    between.now += 200 * DAY
    for name in between.worlds:
        between[name].now = between.now
        between[name].tick()
    before = {name: len(world.entries) for name, world in between.worlds.items()}
    between._stored = dict.fromkeys(between.worlds, 0)
    between.restarted()
    between.flow()
    said = [
        entry.event for name, world in between.worlds.items() for entry, _ in world.entries[before[name] :]
    ]
    assert {type(event).__name__ for event in said} <= {
        "SubmissionRefused",
        "SubmissionRepeated",
        "CapacityDenied",
    }
    assert said
    assert places(between, "north") == places(between, "south") == (0, 0, 1)
    assert business(between, referral) == "accepted"


@pytest.mark.parametrize("answer", ["denied", "expired", "held", "taken", "lost"])
def test_an_answer_for_a_task_that_is_over_is_not_wanted_any_more(
    between: Between, answer: LendingAnswer
) -> None:
    referral = between.refer("north")
    between.flow()
    between.say("north", withdraw(referral), "police")
    task, unit = task_id(referral, 1), unit_of("beds", "south")
    late = AnswerCapacity(task=task, unit=unit, answer=answer, total=1, room=0)
    assert refused(between.say("north", late, "relay")) == "no_longer_wanted"


def test_a_return_that_is_said_again_frees_nothing_twice(codec: Codec) -> None:
    between = Between(codec)
    between.publish(lent_out("beds", "south", total=2))
    between.stored()
    given_up, kept = between.refer("north"), between.refer("north", 2)
    between.flow()
    between.say("north", withdraw(given_up), "police")
    between.flow()
    between.restarted()
    between.flow()
    assert between["south"].state.lent.keys() == {task_id(kept, 1)}
    assert places(between, "south") == (1, 1, 0)


# What comes too late


def test_a_region_that_does_not_answer_is_done_without(between: Between) -> None:
    between.publish(offers("own", "clinic", region="north", total=2, available=1))
    between.say("north", policy(RANKED), OPERATIONS)
    between.down.add("south")
    referral = between.refer("north")
    between.flow()
    between.pass_time(ELSEWHERE_MS - 1)
    assert business(between, referral) == "reserving"
    between.pass_time(1)
    assert business(between, referral) == "no-answer"
    assert between.task(referral, 2).provider == "clinic"


def test_in_the_same_round_no_other_service_of_a_silent_region_is_asked(between: Between) -> None:
    between.publish(lent_out("rooms", "south", organisation="clinic"))
    between.down.add("south")
    referral = between.refer("north")
    between.flow()
    between.pass_time(ELSEWHERE_MS)
    assert referral not in between["north"].state.referrals
    assert kinds(between["north"].events[-4:]) == [
        "TaskCancelled",
        "CapacityReturned",
        "MatchDecided",
        "ReferralClosed",
    ]


def test_an_answer_after_the_time_for_it_holds_no_place(between: Between) -> None:
    between.refer("north")
    between.read()
    between.deliver("north", "south")
    assert places(between, "south") == (0, 1, 0)
    between.read("south")
    between.pass_time(ELSEWHERE_MS)
    assert refused_last(between, "south", "north") == "no_longer_wanted"
    between.flow()
    assert places(between, "north") == places(between, "south") == (1, 0, 0)
    assert not between["south"].state.lent


def test_a_question_that_is_older_than_what_it_asks_for_is_denied(between: Between) -> None:
    between.down.add("south")
    between.refer("north")
    between.read()
    between.now += 2 * DAY
    between.down.clear()
    between.deliver("north", "south")
    denied = between["south"].events[-1]
    assert isinstance(denied, CapacityDenied) and denied.reason == "too_late"
    assert places(between, "south") == (1, 0, 0)


def test_a_place_nobody_answers_for_is_free_again_by_its_own_regions_clock(between: Between) -> None:
    referral = between.refer("north")
    between.flow()
    between.down.add("north")
    [lent] = between["south"].state.lent.values()
    between.pass_time(lent.until - between.now)
    freed = between["south"].events[-1]
    assert isinstance(freed, CapacityFreed) and freed.because == "expired"
    assert places(between, "south") == (1, 0, 0)
    between.flow()
    between.down.clear()
    between.flow()
    assert referral not in between["north"].state.referrals, "it was not answered, and nobody else is left"
    assert places(between, "north") == (1, 0, 0)


def test_a_hold_that_is_over_before_the_acceptance_arrives_is_lost_and_the_next_is_asked(
    between: Between,
) -> None:
    between.publish(offers("own", "clinic", region="north", total=2, available=1))
    between.say("north", policy(RANKED), OPERATIONS)
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.down.add("north")
    [lent] = between["south"].state.lent.values()
    between.pass_time(lent.until - between.now)
    between.read("north")
    between.deliver("north", "south")
    assert isinstance(between["south"].events[-1], CapacityDenied)
    between.down.clear()
    between.flow()
    assert [task.business for task in between["north"].state.referrals[referral].tasks] == [
        "no-place",
        "offered",
    ]
    assert places(between, "south") == (1, 0, 0)


def test_an_offer_whose_hold_its_region_ended_is_over_even_where_silence_escalates(between: Between) -> None:
    day = OfferLimits(crisis=DAY, urgent=DAY, routine=DAY)
    limits = {"version": 2, "silence": "escalates", "referral_limits": day}
    between.say("north", protocol(PROTOCOL.model_copy(update=limits)), OPERATIONS)
    referral = between.refer("north")
    between.flow()
    [lent] = between["south"].state.lent.values()
    between.pass_time(lent.until - between.now)
    assert business(between, referral) == "offered"
    between.flow()
    assert referral not in between["north"].state.referrals
    assert "OfferExpired" in kinds(between["north"].events[-6:])
    assert places(between, "north") == places(between, "south") == (1, 0, 0)


def test_a_claim_that_is_not_answered_is_given_up_and_what_it_took_is_given_back(between: Between) -> None:
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.read()
    between.deliver("north", "south")
    assert places(between, "south") == (0, 0, 1)
    between.pass_time(ELSEWHERE_MS)
    between.flow()
    assert referral not in between["north"].state.referrals
    assert places(between, "north") == places(between, "south") == (1, 0, 0)
    assert not between["south"].state.lent


@pytest.mark.parametrize("delivered", range(4))
@pytest.mark.parametrize("how", [withdraw, hold])
def test_a_referral_that_ends_at_any_stage_leaves_no_place_held(
    between: Between, delivered: int, how: Any
) -> None:
    """Asked; held and not heard of; offered; accepted and not heard of."""
    referral = between.refer("north")
    between.read()
    if delivered > 0:
        between.deliver("north", "south")
    if delivered > 1:
        between.flow()
    if delivered > 2:
        between.accepts(referral)
        between.read()
        between.deliver("north", "south")
    between.say("north", how(referral), "police")
    returned = [event for event in between["north"].events if isinstance(event, CapacityReturned)]
    assert [event.task for event in returned] == [task_id(referral, 1)]
    between.flow()
    assert places(between, "north") == places(between, "south") == (1, 0, 0)
    assert not between["south"].state.lent
    if how is hold:
        between.say("north", go_on(referral), "police")
        between.flow()
        assert business(between, referral, 2) == "offered"


def test_a_return_that_overtakes_its_question_costs_the_place_only_until_the_hold_is_over(
    between: Between,
) -> None:
    referral = between.refer("north")
    between.read()
    [question] = between.lines["north", "south"]
    between.lines["north", "south"].clear()
    between.say("north", withdraw(referral), "police")
    between.flow()
    between.lines["north", "south"].append(question)
    between.flow()
    assert places(between, "south") == (0, 1, 0)
    [lent] = between["south"].state.lent.values()
    between.pass_time(lent.until - between.now)
    assert places(between, "south") == (1, 0, 0)


def test_who_returns_a_taken_place_is_told_of_it_though_a_count_said_meanwhile_that_none_is_free(
    between: Between,
) -> None:
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.flow()
    between.say("north", outcome(referral), "shelter")
    between.count("beds", 1, 0, "south")
    between.read("south")
    between.deliver("south", "north")
    assert places(between, "north") == (0, 0, 1)
    between.flow()
    assert places(between, "north") == places(between, "south") == (1, 0, 0)


def test_a_place_given_back_that_the_last_count_did_not_know_of_is_not_doubted_besides_those_it_did(
    codec: Codec,
) -> None:
    between = Between(codec)
    between.publish(lent_out("beds", "south", total=2))
    referral = between.refer("north")
    between.flow()
    between.accepts(referral)
    between.flow()
    between.now += MINUTE
    between.count("beds", 2, 2, "south")
    between.say("north", give_back(referral, 1, "no_capacity"), "shelter")
    between.flow()
    [doubt] = [event for event in between["south"].events if isinstance(event, CapacityDoubted)]
    assert doubt.places == 2
    assert places(between, "south") == (0, 0, 0)


def test_an_offer_lasts_no_longer_than_its_place_is_held_though_its_referral_is_less_urgent_by_then(
    between: Between,
) -> None:
    referral = between.refer("north")
    between.say("north", AmendReferral(referral=referral, urgency="routine"), "police")
    between.flow()
    made = [event for event in between["north"].events if isinstance(event, OfferMade)][-1]
    [lent] = between["south"].state.lent.values()
    assert made.expires_at + GRACE_MS <= lent.until


def test_places_that_may_be_promised_beyond_those_there_are_count_once_their_region_says_what_is_free(
    between: Between,
) -> None:
    places_of = Unit(unit=unit_of("beds", "south"), name="places", total=1, available=1, overbook=1)
    between.say("south", publish(lent_out("beds", "south", units=[places_of])), "shelter")
    between.read("south")
    between.deliver("south", "north", most=1)
    assert kinds(between["north"].events[-1:]) == ["ServiceListed"]
    assert places(between, "north")[0] == 1
    between.flow()
    assert places(between, "north")[0] == places(between, "south")[0] == 2


# What is refused


def test_a_region_lends_nothing_to_whom_its_service_is_not_listed(codec: Codec) -> None:
    between = Between(codec)
    between.publish(lent_out("beds", "south", to=["north"]))
    unit, service = unit_of("beds", "south"), service_of("beds", "south")
    task = task_id(between.refer("east"), 1)
    body = RequestCapacity(task=task, service=service, unit=unit, until=between.now + HOUR)
    [denied] = between.say("south", body, "relay")
    assert isinstance(denied, CapacityDenied) and denied.reason == "not_listed"


def test_what_concerns_no_place_that_is_lent_is_refused(between: Between) -> None:
    task, unit = task_id(between.refer("north"), 1), unit_of("beds", "south")
    assert refused(between.say("south", ReturnCapacity(task=task, unit=unit), "relay")) == "nothing_held"
    [lost] = between.say("south", TakeCapacity(task=task, unit=unit), "relay")
    assert isinstance(lost, CapacityDenied) and lost.reason == "lost"
    answer = AnswerCapacity(task=task, unit=unit, answer="taken", total=1, room=0)
    assert refused(between.say("north", answer, "relay")) == "no_longer_wanted"


def test_a_question_that_was_answered_changes_nothing_under_another_id(between: Between) -> None:
    referral = between.refer("north")
    between.flow()
    task, unit, service = task_id(referral, 1), unit_of("beds", "south"), service_of("beds", "south")
    again = RequestCapacity(task=task, service=service, unit=unit, until=between.now + HOUR)
    assert refused(between.say("south", again, "relay")) == "id_reused"
    between.accepts(referral)
    between.flow()
    assert refused(between.say("south", again, "relay")) == "id_reused"
    assert refused(between.say("south", TakeCapacity(task=task, unit=unit), "relay")) == "nothing_held"
    assert places(between, "south") == (0, 0, 1)


def test_places_are_counted_in_the_units_own_region_alone(between: Between) -> None:
    body = report("beds", 3, 3, between.now).model_copy(update={"unit": unit_of("beds", "south")})
    assert refused(between.say("north", body, "shelter")) == "region_mismatch"


async def test_a_match_that_followed_a_denial_or_silence_comes_out_the_same_when_it_is_made_anew(
    between: Between,
) -> None:
    between.publish(
        offers("own", "clinic", region="north", total=9, available=8),
        lent_out("cots", "east", total=20, available=19),
    )
    between.say("north", policy(RANKED), OPERATIONS)
    between.down.add("east")
    between.refer("south")
    referral = between.refer("north")
    between.flow()
    between.pass_time(ELSEWHERE_MS)
    between.flow()
    tasks = [task.business for task in between["north"].state.referrals[referral].tasks]
    assert sorted(tasks) == ["no-answer", "no-place", "offered"]
    made = await recomputed(between, referral)
    assert len(made) == 3
    for one in made:
        assert one.rows is not None
        assert one.digest == one.recorded.certificate.digest


async def recomputed(between: Between, referral: str) -> list[Recomputed]:
    """Each match of a referral, made anew from its region's ledger."""
    region = region_of(referral)
    world, log, topic = between[region], MemoryLog(), topics.ledger(BUS)
    await log.ensure(topics.topics(BUS, 1, 1))
    records = [Outgoing(topic, 0, region.encode(), value) for _, value in world.entries]
    await (await log.appender()).append(records)

    class Opener:
        async def open(self, wanted: Any) -> AllOpened:
            return world.open(wanted)

    found = recompute(log, topic, region, referral, world.codec, Opener())  # type: ignore[arg-type]
    return [one async for one in found]


async def test_a_snapshot_keeps_what_is_lent_and_who_waits_to_hear(between: Between, tmp_path: Path) -> None:
    between.publish(lent_out("rooms", "south", total=3))
    kept = between.refer("north", mode="direct", service=service_of("rooms", "south"))
    between.refer("east", mode="direct", service=service_of("beds", "south"))
    between.refer("north", 2, mode="direct", service=service_of("beds", "south"))
    between.flow()
    between.accepts(kept)
    between.flow()
    between.refer("north", 3, mode="direct", service=service_of("rooms", "south"))
    for name, world in between.worlds.items():
        snapshots = Snapshots(tmp_path / name, BUS)
        await snapshots.save(capture(Snapshot(0, 1, {name: world.chain})))
        again = await snapshots.load(0)
        assert again is not None
        assert picture(again.chains[name].state) == picture(world.state)
    state = between["south"].state
    assert {one.taken for one in state.lent.values()} == {False, True}
    assert state.short and state.promised


def refused_last(between: Between, one: str, other: str) -> str:
    """The reason for which a region refuses the next message of another."""
    before = len(between[other].entries)
    assert between.deliver(one, other, 1) == 1
    return refused([entry.event for entry, _ in between[other].entries[before:]])


# Everybody at once


CODEC = Codec.load()
LOCALS = ["a", "b"]
JUMPS = [0, 1, 1000, 1000, ELSEWHERE_MS // 2, ELSEWHERE_MS, 5 * MINUTE, 21 * MINUTE]
regions = st.sampled_from(NAMES)
chosen = st.integers(0, 99)


class Neighbours(RuleBasedStateMachine):
    """Three regions that lend each other places, over a relay that is slow, dies and repeats itself, while any of them may be down."""

    def __init__(self) -> None:
        super().__init__()
        patient = OfferLimits(crisis=MINUTE, urgent=10 * MINUTE, routine=HOUR)
        self.between = Between(
            CODEC,
            protocol_of=PROTOCOL.model_copy(
                update={"version": 2, "maximum_offers": 9, "offer_limits": patient}
            ),
        )
        self.number = 0

    @initialize(totals=st.lists(st.sampled_from([0, 1, 1, 2]), min_size=6, max_size=6))
    def some_services(self, totals: list[int]) -> None:
        for number, total in enumerate(totals):
            region, local = NAMES[number // 2], LOCALS[number % 2]
            self.between.publish(
                lent_out(local, region, organisation=("shelter", "clinic")[number % 2], total=total)
            )

    def some_task(self, chosen: int, region: str, wanted: Any) -> tuple[str, int, Task] | None:
        found = [
            (name, number, task)
            for name, known in self.between[region].state.referrals.items()
            for number, task in enumerate(known.tasks, known.before + 1)
            if wanted(task)
        ]
        return found[chosen % len(found)] if found else None

    @rule(
        region=regions,
        mode=st.sampled_from(["match", "match", "broadcast", "waitlist", "direct"]),
        chosen=chosen,
    )
    def refers(self, region: str, mode: Any, chosen: int) -> None:
        if region in self.between.down:
            return
        self.number += 1
        named = service_of(LOCALS[chosen % 2], NAMES[chosen % 3]) if mode == "direct" else None
        self.between.refer(region, self.number, mode=mode, service=named)

    @rule(region=regions, chosen=chosen)
    def refers_to_another_region_and_is_heard(self, region: str, chosen: int) -> None:
        other = NAMES[(NAMES.index(region) + 1 + chosen % 2) % 3]
        if region not in self.between.down:
            self.number += 1
            named = service_of(LOCALS[chosen // 2 % 2], other)
            self.between.refer(region, self.number, mode="direct", service=named)
            self.between.flow()

    @rule(region=regions, chosen=chosen)
    def another_regions_provider_accepts(self, region: str, chosen: int) -> None:
        found = self.some_task(
            chosen, region, lambda task: task.business == "offered" and region_of(task.unit) != region
        )
        if found is not None and region not in self.between.down:
            self.between.accepts(found[0], found[1])

    @rule(region=regions, chosen=chosen, accepts=st.sampled_from([True, True, False]))
    def answers(self, region: str, chosen: int, accepts: bool) -> None:
        found = self.some_task(chosen, region, lambda task: task.is_open)
        if found is not None and region not in self.between.down:
            name, number, task = found
            if accepts:
                self.between.accepts(name, number)
            else:
                self.between.say(region, decline(name, number, "other"), task.provider)

    @rule(region=regions, chosen=chosen)
    def reports_an_outcome(self, region: str, chosen: int) -> None:
        found = self.some_task(chosen, region, lambda task: task.is_taken)
        if found is not None and region not in self.between.down:
            self.between.say(region, outcome(found[0]), found[2].provider)

    @rule(region=regions, chosen=chosen, what=st.sampled_from([withdraw, hold, go_on]))
    def agency_says(self, region: str, chosen: int, what: Any) -> None:
        known = list(self.between[region].state.referrals)
        if known and region not in self.between.down:
            self.between.say(region, what(known[chosen % len(known)]), "police")

    @rule(region=regions, chosen=chosen, to=regions)
    def proposes(self, region: str, chosen: int, to: str) -> None:
        found = self.some_task(chosen, region, lambda task: task.is_open or task.is_taken)
        if found is not None and region not in self.between.down:
            name, number, task = found
            body = propose(name, "a", number).model_copy(
                update={"service": service_of(LOCALS[chosen % 2], to)}
            )
            self.between.say(region, body, task.provider)

    @rule(region=regions, chosen=chosen, total=st.integers(0, 3), available=st.integers(0, 3))
    def counts(self, region: str, chosen: int, total: int, available: int) -> None:
        if region not in self.between.down:
            source = ("shelter", "clinic")[chosen % 2]
            self.between.count(LOCALS[chosen % 2], total, min(total, available), region, source)

    @rule(region=regions, to=st.sets(regions))
    def lists_elsewhere(self, region: str, to: set[str]) -> None:
        if region not in self.between.down:
            self.between.say(
                region, publish(lent_out("b", region, sorted(to), organisation="clinic")), "clinic"
            )

    @rule(region=regions)
    def the_relay_reads(self, region: str) -> None:
        self.between.read(region)

    @rule(one=regions, other=regions, most=st.integers(1, 4))
    def something_arrives(self, one: str, other: str, most: int) -> None:
        if one != other:
            self.between.deliver(one, other, most)

    @rule()
    def everything_arrives(self) -> None:
        self.between.flow()

    @rule(region=regions)
    def the_relay_stores(self, region: str) -> None:
        self.between.stored(region)

    @rule(region=regions)
    def the_relay_dies(self, region: str) -> None:
        self.between.restarted(region)

    @rule(region=regions)
    def a_region_stops(self, region: str) -> None:
        self.between.down.add(region)

    @rule()
    def all_regions_are_up_again(self) -> None:
        self.between.down.clear()

    @rule(jump=st.sampled_from(JUMPS))
    def time_passes(self, jump: int) -> None:
        self.between.pass_time(jump)
        for name, world in self.between.worlds.items():
            if name not in self.between.down:
                self.nobody_waits_longer_than_may_be(world.state.referrals.values())

    def nobody_waits_longer_than_may_be(self, referrals: Any) -> None:
        for known in referrals:
            for task in known.tasks:
                assert not task.waits_for_region or task.answer_by > self.between.now

    @invariant()
    def no_place_is_sold_twice(self) -> None:
        for name, world in self.between.worlds.items():
            for unit in world.state.units.values():
                assert region_of(unit.unit) != name or (unit.free >= 0 and unit.taken >= 0), unit
                assert unit.held >= 0

    @invariant()
    def nobody_is_accepted_twice(self) -> None:
        for world in self.between.worlds.values():
            for known in world.state.referrals.values():
                assert sum(task.is_taken for task in known.tasks) <= 1

    def teardown(self) -> None:
        self.between.down.clear()
        self.between.flow()
        self.all_is_settled()
        # Then everybody withdraws, and nothing is held.
        for name, world in self.between.worlds.items():
            for referral in list(world.state.referrals):
                self.between.say(name, withdraw(referral), "police")
        self.between.flow()
        self.all_is_settled()
        self.what_was_said_is_said_again_when_nobody_remembers_it()
        for world in self.between.worlds.values():
            assert not world.state.lent and not world.state.promised
            assert all(unit.held == 0 for unit in world.state.units.values())
            assert world.again() == [value for _, value in world.entries]
            assert picture(world.folded().state) == picture(world.state)

    def what_was_said_is_said_again_when_nobody_remembers_it(self) -> None:
        """As by a relay whose position was lost: it begins with what is older than repeats are recognised."""
        between = self.between
        between.pass_time(HORIZON_MS + DAY)
        between.flow()
        before = {name: repr(world.state.units) for name, world in between.worlds.items()}
        for name, world in between.worlds.items():
            for entry, _ in world.entries:
                for message in messages(entry):
                    between.lines[name, message.region].append(message)
        between.flow()
        assert {name: repr(world.state.units) for name, world in between.worlds.items()} == before

    def all_is_settled(self) -> None:
        open_, taken = Counter[str](), set[str]()
        held = set[str]()
        for world in self.between.worlds.values():
            for name, known in world.state.referrals.items():
                for number, task in enumerate(known.tasks, known.before + 1):
                    assert not task.waits_for_region, "everything was answered"
                    foreign = region_of(task.unit) != world.region
                    if task.is_open:
                        open_[task.unit] += 1
                        if foreign:
                            held.add(task_id(name, number))
                    elif task.is_taken and foreign:
                        taken.add(task_id(name, number))
        for name, world in self.between.worlds.items():
            state = world.state
            for unit in state.units.values():
                if region_of(unit.unit) == name:
                    assert unit.held == open_[unit.unit], f"{unit.unit} is held for nobody"
                else:
                    home = self.between[region_of(unit.unit)].state
                    listed = name in home.catalogue.definitions[unit.service].regions
                    assert not listed or unit.free >= 0, f"{name} counts on {unit.free} places of {unit.unit}"
            lent = {task: one for task, one in state.lent.items()}
            assert {task for task, one in lent.items() if not one.taken} == {
                task for task in held if region_of(self.unit_for(task)) == name
            }
            assert {task for task, one in lent.items() if one.taken} == {
                task for task in taken if region_of(self.unit_for(task)) == name
            }

    def unit_for(self, task: str) -> str:
        found = self.between[region_of(referral_of(task))].state.task(task)
        assert found is not None
        return found[1].attempt(found[2]).unit


class TestNeighbours(Neighbours.TestCase):
    """Runs the machine; the same steps each time, so that a failure is everybody's."""

    settings = settings(
        max_examples=60,
        stateful_step_count=40,
        derandomize=True,
    )
