"""A submission that comes before what it refers to waits for it, for a bounded time, on the ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from referral_bus.contracts.ids import referral_id, task_id
from referral_bus.contracts.inbox import Submission
from referral_bus.contracts.ledger import (
    CapacityChanged,
    Event,
    OfferAccepted,
    OfferMade,
    ReferralWithdrawn,
    ServicePublished,
    SubmissionParked,
    SubmissionRefused,
    SubmissionResumed,
)
from services.matching.core.decide import parking
from tests.support.deciding import (
    BUS,
    HOUR,
    OPERATIONS,
    PROTOCOL,
    REGION,
    World,
    accept,
    ask,
    contact,
    decline,
    kinds,
    of,
    offers,
    organisation,
    outcome,
    publish,
    refused,
    report,
    start,
    unit_of,
    withdraw,
)

PATIENCE = PROTOCOL.parking_ms


def test_a_contact_that_is_reported_of_an_offer_waits_for_the_acceptance_also_during_the_screening(
    world: World,
) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(ask(referral), "shelter")
    assert kinds(world.send(contact(referral), "shelter")) == ["SubmissionParked"]
    assert kinds(world.send(accept(referral), "shelter")) == [
        "OfferAccepted",
        "SubmissionResumed",
        "ContactReported",
    ]


def test_a_contact_without_an_acceptance_is_refused_once_its_time_to_wait_is_over(world: World) -> None:
    world.publish(offers("beds"))
    world.send(contact(world.refer()), "shelter")
    assert refused(world.tick(world.now + PATIENCE)) == "not_accepted"


EARLY: list[tuple[str, str, Submission, str, str]] = [
    ("withdrawal before the referral", "police", withdraw(of()), of(), "unknown_referral"),
    ("start before the referral", "shelter", start(of()), of(), "unknown_referral"),
    ("outcome before the referral", "shelter", outcome(of()), of(), "unknown_referral"),
    ("acceptance before the offer", "shelter", accept(of()), task_id(of(), 1), "unknown_task"),
    ("decline before the offer", "shelter", decline(of()), task_id(of(), 1), "unknown_task"),
    ("count before the unit", "shelter", report("beds", 1, 1, 0), unit_of("beds"), "unknown_unit"),
    ("anything before its sender", "court", publish(offers("law", "court")), "court", "unknown_organisation"),
]
EACH = pytest.mark.parametrize(
    ("source", "body", "missing", "reason"), [one[1:] for one in EARLY], ids=[one[0] for one in EARLY]
)


@EACH
def test_what_comes_too_early_is_parked(
    world: World, source: str, body: Submission, missing: str, reason: str
) -> None:
    assert world.send(body, source) == [SubmissionParked(waiting_for=missing, until=world.now + PATIENCE)]


@EACH
def test_what_has_waited_long_enough_is_refused_by_the_tick(
    world: World, source: str, body: Submission, missing: str, reason: str
) -> None:
    world.send(body, source)
    sequence = world.state.sequence
    assert world.tick(world.now + PATIENCE - 1) == []
    assert world.tick(world.now + 1) == [SubmissionRefused(reason=reason, about=missing, parked=sequence)]
    assert world.state.parked == {}
    assert world.state.waiting == {}
    assert world.tick(world.now + HOUR) == []


def _referral(world: World) -> None:
    world.publish(offers("beds", total=2))
    world.refer()


def _unit(world: World) -> None:
    world.publish(offers("beds", total=2))


def _organisation(world: World) -> None:
    world.send(organisation("court"), OPERATIONS)


@pytest.mark.parametrize(
    ("source", "body", "comes", "answer"),
    [
        ("police", withdraw(of()), _referral, ReferralWithdrawn),
        ("shelter", accept(of()), _referral, OfferAccepted),
        ("shelter", report("beds", 2, 2, 2_000_000_000_000 - 1), _unit, SubmissionRefused),
        ("court", publish(offers("law", "court")), _organisation, ServicePublished),
    ],
    ids=["referral", "task", "unit", "organisation"],
)
def test_what_was_waited_for_resumes_what_waited(
    world: World, source: str, body: Submission, comes: Callable[[World], None], answer: type[Event]
) -> None:
    world.send(body, source)
    parked = world.state.sequence
    before = len(world.events)
    comes(world)
    events = world.events[before:]
    resumed = events.index(SubmissionResumed(parked=parked))
    assert isinstance(events[resumed + 1], answer)
    assert world.state.parked == {}
    assert world.state.next_due() is None
    assert world.again() == [value for _, value in world.entries]


def test_a_capacity_report_that_waited_counts_when_its_unit_is_published(world: World) -> None:
    world.send(report("beds", 9, 4, world.now + 5), "shelter")
    world.send(publish(offers("beds", total=2)), "shelter")
    assert kinds(world.events[-3:]) == ["ServicePublished", "SubmissionResumed", "CapacityChanged"]
    assert isinstance(world.events[-1], CapacityChanged)
    assert world.state.units[unit_of("beds")].free == 4


def test_resumed_submissions_are_decided_in_the_order_they_came(world: World) -> None:
    world.send(publish(offers("law", "court")), "court")
    world.send(report("law", 5, 2, world.now + 9), "court")
    world.send(report("law", 5, 3, world.now + 9), "court")
    world.send(organisation("court"), OPERATIONS)
    assert kinds(world.events[-7:]) == [
        "ReferenceAdopted",
        "SubmissionResumed",
        "ServicePublished",
        "SubmissionResumed",
        "CapacityChanged",
        "SubmissionResumed",
        "CapacityChanged",
    ]
    assert world.state.units[unit_of("law")].free == 3


def test_a_parked_referral_is_opened_and_offered_once_its_agency_is_adopted(world: World) -> None:
    world.publish(offers("beds"))
    world.send(world.submission(agency="court"), "court")
    world.send(organisation("court"), OPERATIONS)
    made = world.events[-1]
    assert isinstance(made, OfferMade)
    assert made.referral == referral_id(REGION, BUS, "court", "s-1")
    assert world.again() == [value for _, value in world.entries]


def test_a_resumed_submission_that_misses_something_else_is_refused(world: World) -> None:
    world.send(withdraw(of("court")), "court")
    parked = world.state.sequence
    world.send(organisation("court"), OPERATIONS)
    assert world.events[-2:] == [
        SubmissionResumed(parked=parked),
        SubmissionRefused(reason="unknown_referral", about=of("court"), parked=parked),
    ]


def test_an_early_acceptance_by_another_provider_is_refused_when_the_offer_comes(world: World) -> None:
    world.publish(offers("beds"))
    world.send(accept(of()), "clinic")
    parked = world.state.sequence
    world.refer()
    assert world.events[-1] == SubmissionRefused(
        reason="not_your_offer", about=task_id(of(), 1), parked=parked
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_start_and_an_outcome_before_the_acceptance_wait_for_it(world: World, known: bool) -> None:
    world.publish(offers("beds"))
    said: list[Submission] = [start(of()), outcome(of())]
    if known:
        world.refer()
    for body in said:
        assert world.send(body, "shelter")[0] == SubmissionParked(
            waiting_for=of(), until=world.now + PATIENCE
        )
    if not known:
        world.refer()
    assert len(world.state.parked) == 2
    world.send(accept(of()), "shelter")
    assert kinds(world.events[-6:]) == [
        "OfferAccepted",
        "SubmissionResumed",
        "ServiceStarted",
        "SubmissionResumed",
        "OutcomeReported",
        "ReferralClosed",
    ]
    assert world.state.parked == {}
    assert world.again() == [value for _, value in world.entries]


@pytest.mark.parametrize(("closes", "reason"), [(False, "not_accepted"), (True, "referral_closed")])
def test_a_report_whose_acceptance_does_not_come_is_refused_in_time(
    world: World, closes: bool, reason: str
) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(start(referral), "shelter")
    parked = world.state.sequence
    if closes:
        world.send(withdraw(referral), "police")
    assert world.tick(world.now + PATIENCE) == [
        SubmissionRefused(reason=reason, about=referral, parked=parked)
    ]


def test_a_report_that_waits_for_the_acceptance_is_refused_when_another_accepts(world: World) -> None:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.refer(mode="broadcast")
    world.send(start(referral), "shelter")
    number = [task.provider for task in world.state.referrals[referral].tasks].index("clinic") + 1
    world.send(accept(referral, number), "clinic")
    assert world.events[-1] == SubmissionRefused(
        reason="not_your_offer", about=referral, parked=world.state.sequence - 4
    )


def test_an_early_withdrawal_and_an_early_acceptance_are_both_answered(world: World) -> None:
    world.publish(offers("beds"))
    world.send(accept(of()), "shelter")
    world.send(withdraw(of()), "police")
    world.refer()
    assert kinds(world.events[-8:]) == [
        "ReferralOpened",
        "MatchDecided",
        "OfferMade",
        "SubmissionResumed",
        "ReferralWithdrawn",
        "ReferralClosed",
        "SubmissionResumed",
        "SubmissionRefused",
    ]
    assert world.events[-1].reason == "referral_closed"  # type: ignore[attr-defined]
    assert world.state.units[unit_of("beds")].free == 1


def test_a_unit_named_twice_in_a_service_resumes_each_waiting_report_once(world: World) -> None:
    world.send(report("beds", 2, 1, world.now + 5), "shelter")
    unit = offers("beds", total=2).units[0]
    world.send(publish(offers("beds", units=[unit, unit])), "shelter")
    assert kinds(world.events[-3:]) == ["ServicePublished", "SubmissionResumed", "CapacityChanged"]
    assert list(world.state.ready) == []


def test_an_organisation_whose_id_looks_like_a_units_is_an_unknown_organisation(world: World) -> None:
    world.send(publish(offers("law", "un-north-law")), "un-north-law")
    assert refused(world.tick(world.now + PATIENCE)) == "unknown_organisation"


def test_whoever_sends_before_a_region_adopted_any_protocol_is_told_that_it_has_none(world: World) -> None:
    bare = World(world.codec, adopted=False)
    assert refused(bare.send(publish(offers("law", "court")), "court")) == "not_adopted"
    assert bare.state.parked == {}


def test_a_sender_is_unknown_where_a_protocol_lets_nothing_wait(world: World) -> None:
    world.follow(parking_ms=0)
    assert refused(world.send(publish(offers("law", "court")), "court")) == "unknown_organisation"


def test_more_than_a_region_keeps_waiting_is_refused_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MOST_PARKED", 2)
    world.send(withdraw(of(number=1)), "police")
    world.send(withdraw(of(number=2)), "police")
    assert world.send(withdraw(of(number=3)), "police") == [
        SubmissionRefused(reason="unknown_referral", about=of(number=3))
    ]
    world.tick(world.now + PATIENCE)
    assert isinstance(world.send(withdraw(of(number=3)), "police", id="later")[0], SubmissionParked)


def test_whoever_has_much_waiting_takes_no_room_from_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "MOST_PARKED_OF_ONE", 2)
    for number in (1, 2):
        assert isinstance(world.send(withdraw(of(number=number)), "police")[0], SubmissionParked)
    assert refused(world.send(withdraw(of(number=3)), "police")) == "unknown_referral"
    assert isinstance(world.send(withdraw(of(number=3)), "school")[0], SubmissionParked)
    world.refer(number=1)
    assert world.state.parked_of == {"police": 1, "school": 1}
    assert isinstance(world.send(withdraw(of(number=4)), "police")[0], SubmissionParked)


def test_several_that_wait_too_long_are_refused_one_by_one(world: World) -> None:
    parked = []
    for number in (1, 2, 3):
        world.send(withdraw(of(number=number)), "police")
        parked.append(world.state.sequence)
    refusals = world.tick(world.now + PATIENCE)
    assert [one.parked for one in refusals if isinstance(one, SubmissionRefused)] == parked


def test_a_deadline_that_passes_while_an_early_answer_waits_is_judged_by_when_the_answer_came(
    world: World,
) -> None:
    world.publish(offers("beds"))
    world.send(accept(of()), "shelter")
    admitted = world.now
    world.now += PATIENCE - 10
    world.refer(urgency="crisis")
    assert isinstance(world.events[-1], OfferAccepted)
    assert world.state.referrals[of()].tasks[0].expires_at > admitted
