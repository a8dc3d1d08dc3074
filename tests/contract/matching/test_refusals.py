"""Every reason code of the vocabulary is reached by just what it says, and a refusal changes nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from referral_bus.contracts.criteria import Criterion, Eligibility, holds
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import (
    AcknowledgeOffer,
    AmendReferral,
    AnswerCapacity,
    AnswerQuestion,
    AskForInformation,
    ConfirmHandoff,
    DeclineOffer,
    HoldReferral,
    ListCapacity,
    ListService,
    ProposeService,
    ReferralPart,
    ReopenReferral,
    ReportCapacity,
    ReportContact,
    ReportFollowUp,
    ReportNoShow,
    RequestCapacity,
    ResumeReferral,
    ReturnCapacity,
    SplitReferral,
    Submission,
    TakeCapacity,
    TransferReferral,
)
from referral_bus.contracts.ledger import Event, Received, SubmissionRefused
from referral_bus.contracts.reference import Step
from referral_bus.contracts.vocabulary import REFUSALS
from referral_bus.wire.codec import Codec
from services.matching.core import decide as decide_package
from services.matching.core.decide.care import MOST_REPORTS
from services.matching.relay import SOURCE
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    PROTOCOL,
    World,
    accept,
    decline,
    forget,
    give_back,
    of,
    offers,
    organisation,
    outcome,
    picture,
    policy,
    protocol,
    publish,
    report,
    retract,
    rules,
    service_of,
    start,
    subject_of,
    unit_of,
    withdraw,
)
from tests.support.holding import held
from tests.support.regions import answers, heard_of, lent_out

Scenario = Callable[[World], list[Event]]


def offered(world: World, number: int = 1) -> str:
    world.publish(offers("beds", total=3))
    return world.refer(number=number)


def accepted(world: World) -> str:
    world.publish(offers("beds", total=3))
    return world.accepted()


def handing_over(world: World) -> str:
    world.follow(steps=[Step(step="handoff", limits=PROTOCOL.offer_limits)])
    return accepted(world)


def closed(world: World) -> str:
    referral = accepted(world)
    world.send(outcome(referral), "shelter")
    return referral


def unadopted(world: World) -> World:
    bare = World(world.codec, adopted=False)
    bare.send(organisation("police"), OPERATIONS)
    return bare


def waited_for(world: World, body: Submission, source: str) -> list[Event]:
    """Send what comes too early, and let its time run out."""
    world.send(body, source)
    return world.tick(world.now + PROTOCOL.parking_ms)


def withdrawn(world: World) -> str:
    referral = offered(world)
    world.send(withdraw(referral), "police")
    return referral


def asked(world: World) -> str:
    referral = offered(world)
    world.send(AskForInformation(task=task_id(referral, 1), sealed_question=b"sealed"), "shelter")
    return referral


def hold(referral: str, until: int | None = None) -> HoldReferral:
    return HoldReferral(referral=referral, reason="person_asked", until=until)


def transferred(referral: str, agency: str) -> TransferReferral:
    return TransferReferral(referral=referral, agency=agency)


def splitting(world: World, referral: str, *numbers: int) -> SplitReferral:
    subject = world.state.referrals[referral].subject
    parts = [
        ReferralPart(referral=of(number=number), urgency="urgent", sealed_facts=world.seal(HOUSING, subject))
        for number in numbers or (8, 9)
    ]
    return SplitReferral(referral=referral, parts=parts)


def reopening(world: World, referral: str) -> ReopenReferral:
    sealed = world.seal(HOUSING, subject_of(1))
    return ReopenReferral(referral=referral, reason="need_returned", sealed_facts=sealed)


def reply(referral: str) -> AnswerQuestion:
    return AnswerQuestion(task=task_id(referral, 1), sealed_answer=b"sealed")


def propose(referral: str, local: str, attempt: int = 1) -> ProposeService:
    return ProposeService(task=task_id(referral, attempt), service=service_of(local))


def parking(referral: str, until: int | None) -> DeclineOffer:
    return DeclineOffer(task=task_id(referral, 1), reason="full_until", until=until)


def handoff(referral: str, at: int) -> ConfirmHandoff:
    return ConfirmHandoff(referral=referral, means="phone", confirmed_at=at)


def missed(referral: str, at: int) -> ReportNoShow:
    return ReportNoShow(referral=referral, missed_at=at)


def tried(referral: str, at: int) -> ReportContact:
    return ReportContact(referral=referral, tried_at=at, channel="phone", reached=False)


def follow_up(referral: str) -> ReportFollowUp:
    return ReportFollowUp(referral=referral, days=30, result="need_met")


def _outcome_of_who_was_given_back(world: World) -> list[Event]:
    referral = accepted(world)
    world.send(give_back(referral), "shelter")
    return world.send(outcome(referral), "shelter")


def _missed_twice(world: World) -> list[Event]:
    body = missed(accepted(world), world.now)
    world.send(body, "shelter")
    return world.send(body, "shelter")


def _tried_twice(world: World) -> list[Event]:
    body = tried(accepted(world), world.now)
    world.send(body, "shelter")
    return world.send(body.model_copy(update={"reached": True}), "shelter")


def _reported_too_often(world: World, report: Callable[[str, int], Submission]) -> list[Event]:
    referral = accepted(world)
    at = world.now
    for earlier in range(MOST_REPORTS):
        world.send(missed(referral, at - earlier), "shelter")
    return world.send(report(referral, at + 1), "shelter")


def _reported(world: World) -> Submission:
    referral = accepted(world)
    world.send(missed(referral, world.now), "shelter")
    return retract(referral, world.state.sequence)


def _taken_back_twice(world: World) -> list[Event]:
    body = _reported(world)
    world.send(body, "shelter")
    return world.send(body, "shelter")


def _taken_back_by_the_agency(world: World) -> list[Event]:
    return world.send(_reported(world), "police")


def _start_taken_back(world: World) -> list[Event]:
    referral = accepted(world)
    world.send(start(referral), "shelter")
    return world.send(retract(referral, world.state.sequence), "shelter")


def _followed_up_by_both(world: World) -> list[Event]:
    body = follow_up(closed(world))
    world.tick(world.now + 30 * DAY)
    world.send(body, "shelter")
    return world.send(body, "police")


def goes_on(world: World) -> str:
    """A referral that is withdrawn, and whose service goes on."""
    referral = accepted(world)
    world.send(start(referral), "shelter")
    world.send(withdraw(referral), "police")
    return referral


def never_was(world: World) -> str:
    referral = closed(world)
    world.send(withdraw(referral, "entered_in_error"), "police")
    return referral


def naming(world: World, local: str) -> Submission:
    body = world.submission()
    return body.model_copy(update={"mode": "direct", "service": service_of(local)})


def following(world: World, name: str) -> Submission:
    return world.submission().model_copy(update={"protocol": name})


def _declined_twice(world: World) -> list[Event]:
    world.publish(offers("rooms", "clinic"))
    referral = offered(world)
    task = world.state.referrals[referral].tasks[0]
    world.send(decline(referral), task.provider)
    return world.send(decline(referral), task.provider)


def _proposed_after_decline(world: World) -> list[Event]:
    world.publish(offers("rooms"))
    referral = offered(world)
    world.send(decline(referral), "shelter")
    return world.send(propose(referral, "rooms"), "shelter")


def _proposed_a_full_one(world: World) -> list[Event]:
    world.publish(offers("rooms", "clinic", total=1, available=0))
    return world.send(propose(offered(world), "rooms"), "shelter")


def _proposed_elsewhere(world: World) -> list[Event]:
    body = propose(offered(world), "beds").model_copy(update={"service": "sv-south-beds"})
    return world.send(body, "shelter")


def _proposed_once_more(world: World) -> list[Event]:
    world.publish(*(offers(f"s{number}") for number in range(4)))
    referral = world.refer()
    for attempt in (1, 2):
        world.send(decline(referral, attempt), "shelter")
    taken = {task.service for task in world.state.referrals[referral].tasks}
    [left] = {service_of(f"s{number}") for number in range(4)} - taken
    body = ProposeService(task=task_id(referral, 3), service=left)
    return world.send(body, "shelter")


def _split_elsewhere(world: World) -> list[Event]:
    body = splitting(world, offered(world))
    part = body.parts[0].model_copy(update={"referral": of().replace("north", "south")})
    return world.send(body.model_copy(update={"parts": [part, body.parts[1]]}), "police")


def _by_no_calendar(world: World) -> list[Event]:
    body = PROTOCOL.model_copy(update={"version": 2, "business_time": True, "calendar": "none"})
    return world.send(protocol(body), OPERATIONS)


def _escalating_to_nobody(world: World) -> list[Event]:
    body = PROTOCOL.model_copy(update={"version": 2, "escalate_to": "nobody"})
    return world.send(protocol(body), OPERATIONS)


def _a_step_escalating_to_nobody(world: World) -> list[Event]:
    step = Step(step="start", limits=PROTOCOL.offer_limits, escalate_to="nobody")
    body = PROTOCOL.model_copy(update={"version": 2, "steps": [step]})
    return world.send(protocol(body), OPERATIONS)


def _split_twice(world: World) -> list[Event]:
    referral = offered(world)
    world.send(splitting(world, referral), "police")
    return world.send(splitting(world, referral, 6, 7), "police")


def _held_when_split(world: World) -> list[Event]:
    referral = offered(world)
    world.send(splitting(world, referral), "police")
    return world.send(hold(referral), "police")


def _amended_when_split(world: World) -> list[Event]:
    referral = offered(world)
    world.send(splitting(world, referral), "police")
    return world.send(AmendReferral(referral=referral, urgency="crisis"), "police")


def _split_a_part(world: World) -> list[Event]:
    world.send(splitting(world, offered(world)), "police")
    return world.send(splitting(world, of(number=8), 6, 7), "police")


def _reopened_late(world: World) -> list[Event]:
    body = reopening(world, closed(world))
    return world.send(body, "police", at=world.now + 31 * DAY)


def _amended_unreadably(world: World) -> list[Event]:
    body = AmendReferral(referral=offered(world), sealed_facts=b"not sealed")
    return world.send(body, "police")


def _reopened_after_forgetting(world: World) -> list[Event]:
    body = reopening(world, closed(world))
    world.send(forget(subject_of(1)), OPERATIONS)
    return world.send(body, "police")


def _started_and_withdrawn(world: World) -> list[Event]:
    referral = offered(world)
    world.send(start(referral), "shelter")
    world.send(withdraw(referral), "police")
    return world.tick(world.now + PROTOCOL.parking_ms)


def _reopened_when_wrong(world: World) -> list[Event]:
    referral = offered(world)
    world.send(withdraw(referral, "entered_in_error"), "police")
    return world.send(reopening(world, referral), "police")


def _reopened_when_split(world: World) -> list[Event]:
    referral = offered(world)
    world.send(splitting(world, referral), "police")
    world.send(withdraw(referral), "police")
    return world.send(reopening(world, referral), "police")


def _organisation_by_no_calendar(world: World) -> list[Event]:
    body = organisation("clinic", 2)
    assert body.organisation is not None
    without = body.organisation.model_copy(update={"calendar": "none"})
    return world.send(body.model_copy(update={"organisation": without}), OPERATIONS)


def _acknowledged_twice(world: World) -> list[Event]:
    body = AcknowledgeOffer(task=task_id(offered(world), 1))
    world.send(body, "shelter")
    return world.send(body, "shelter")


def _accepted_for_next_year(world: World) -> list[Event]:
    body = accept(offered(world)).model_copy(update={"starts_at": world.now + 365 * DAY})
    return world.send(body, "shelter")


def _declined_until(world: World) -> list[Event]:
    body = DeclineOffer(task=task_id(offered(world), 1), reason="not_eligible", until=world.now + DAY)
    return world.send(body, "shelter")


def _for_nobody(world: World) -> list[Event]:
    older = holds(Criterion(kind="age", minimum=60))
    return world.send(
        publish(offers("beds", ages={"maximum": 50}, eligibility=Eligibility(service=older))), "shelter"
    )


def _counted_long_ago(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 2, world.now), "shelter", at=world.now + 2 * DAY)


def _same_id_other_body(world: World) -> list[Event]:
    world.publish(offers("beds"))
    world.send(report("beds", 1, 1, world.now), "shelter", id="one")
    return world.send(report("beds", 1, 0, world.now), "shelter", id="one")


def _same_referral_id(world: World) -> list[Event]:
    offered(world)
    return world.send(world.submission(), "police", id="another-id")


def _same_referral_id_after_its_end(world: World) -> list[Event]:
    closed(world)
    return world.send(world.submission(), "police", id="another-id")


def _expired_before_the_tick(world: World) -> list[Event]:
    return world.send(accept(offered(world)), "shelter", at=world.now + HOUR)


def _expired_by_the_tick(world: World) -> list[Event]:
    world.publish(offers("beds"), offers("rooms"))
    referral = world.refer()
    world.tick(world.now + 10 * MINUTE)
    return world.send(accept(referral), "shelter")


def _decline_after_the_tick(world: World) -> list[Event]:
    world.publish(offers("beds"), offers("rooms"))
    referral = world.refer()
    world.tick(world.now + 10 * MINUTE)
    return world.send(decline(referral), "shelter")


def _asked_and_expired(world: World) -> str:
    world.publish(offers("beds"), offers("rooms", "clinic"))
    referral = world.refer()
    provider = world.state.referrals[referral].tasks[0].provider
    world.send(AskForInformation(task=task_id(referral, 1), sealed_question=b"sealed"), provider)
    world.tick(world.now + 10 * MINUTE)
    return referral


def _answered_after_the_tick(world: World) -> list[Event]:
    return world.send(reply(_asked_and_expired(world)), "police")


def _answered_before_the_tick(world: World) -> list[Event]:
    referral = offered(world)
    world.send(AskForInformation(task=task_id(referral, 1), sealed_question=b"sealed"), "shelter")
    return world.send(reply(referral), "police", at=world.now + HOUR)


def _proposed_after_the_tick(world: World) -> list[Event]:
    referral = _asked_and_expired(world)
    world.publish(offers("flats"))
    provider = world.state.referrals[referral].tasks[0].provider
    return world.send(propose(referral, "flats"), provider)


def _started_twice(world: World) -> list[Event]:
    referral = accepted(world)
    world.send(start(referral), "shelter")
    return world.send(start(referral), "shelter")


def _below_held(world: World) -> list[Event]:
    offered(world)
    return world.send(report("beds", 3, 0, world.now), "shelter")


def _overbooking_taken_back(world: World) -> list[Event]:
    unit = offers("beds").units[0]
    world.publish(offers("beds", units=[unit.model_copy(update={"overbook": 1})]))
    world.refer()
    world.send(report("beds", 1, 0, world.now), "shelter")
    return world.send(publish(offers("beds", units=[unit])), "shelter")


def _above_total(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 3, world.now), "shelter")


def _outdated(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 2, world.now - DAY), "shelter")


def _count_in_future(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 2, 2, world.now + HOUR), "shelter")


def _unreadable(world: World) -> list[Event]:
    body = world.submission()
    world.unreadable.add(body.sealed_facts)
    return world.send(body, "police")


def _key_destroyed(world: World) -> list[Event]:
    world.destroyed[subject_of(1)] = 0
    return world.send(world.submission(), "police")


def _forgotten(world: World) -> list[Event]:
    world.send(forget(subject_of(1)), OPERATIONS)
    return world.send(world.submission(), "police")


def _other_service_of_mine(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(publish(offers("cots", units=list(offers("beds").units))), "shelter")


def _service_of_another(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(publish(offers("beds", "clinic")), "clinic")


def _service_given_away(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(publish(offers("beds", "clinic")), "shelter")


def _units_elsewhere(world: World) -> list[Event]:
    definition = offers("beds").model_copy(update={"service": "sv-south-beds"})
    return world.send(publish(definition), "shelter")


def _referral_for_elsewhere(world: World) -> list[Event]:
    return world.send(world.submission().model_copy(update={"region": "south"}), "police")


def _referral_id_of_elsewhere(world: World) -> list[Event]:
    referral = of().replace("north", "south")
    return world.send(world.submission().model_copy(update={"referral": referral}), "police")


def _no_policy(world: World) -> list[Event]:
    bare = unadopted(world)
    bare.send(protocol(), OPERATIONS)
    return bare.send(bare.submission(), "police")


def _no_protocol(world: World) -> list[Event]:
    bare = unadopted(world)
    bare.send(policy(), OPERATIONS)
    return bare.send(bare.submission(), "police")


def _nothing_waits_without_a_protocol(world: World) -> list[Event]:
    return unadopted(world).send(withdraw(of()), "police")


def _a_stranger_before_anything_is_adopted(world: World) -> list[Event]:
    bare = unadopted(world)
    return bare.send(bare.submission(), "stranger")


def _second_acceptance(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    world.publish(offers("near", "clinic"))
    referral = world.refer(mode="broadcast")
    providers = [task.provider for task in world.state.referrals[referral].tasks]
    far, near = providers.index("shelter") + 1, providers.index("clinic") + 1
    answers(world, referral, "held", far)
    world.send(accept(referral, far), "shelter")
    return world.send(accept(referral, near), "clinic")


def _answered_once_it_was_accepted(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    referral = world.refer()
    answers(world, referral, "held", 1)
    world.send(AskForInformation(task=task_id(referral, 1), sealed_question=b"sealed"), "shelter")
    world.send(accept(referral), "shelter")
    return world.send(reply(referral), "police")


def _answer_too_late(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    referral = world.refer()
    world.send(withdraw(referral), "police")
    body = AnswerCapacity(
        task=task_id(referral, 1), unit=unit_of("far", "south"), answer="held", total=1, room=1
    )
    return world.send(body, "relay")


def _answered_after_its_time(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    world.publish(offers("near", "clinic"))
    referral = world.refer(mode="broadcast")
    far = [task.provider for task in world.state.referrals[referral].tasks].index("shelter") + 1
    world.tick(world.now + PROTOCOL.elsewhere_ms)
    return answers(world, referral, "held", far)


def _held_after_all(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    world.publish(offers("near", "clinic"))
    referral = world.refer(mode="broadcast")
    far = [task.provider for task in world.state.referrals[referral].tasks].index("shelter") + 1
    answers(world, referral, "denied", far)
    return answers(world, referral, "held", far)


def _returned_to_who_lent_nothing(world: World) -> list[Event]:
    world.publish(lent_out("beds", "north"))
    task = task_id(of(region="south"), 1)
    return world.send(ReturnCapacity(task=task, unit=unit_of("beds")), "relay")


def _listed_before(world: World) -> list[Event]:
    definition = lent_out("far", "south")
    heard_of(world, definition)
    return world.send(ListService(definition=definition, home_sequence=1), "relay")


def _asked_of_the_wrong_region(world: World) -> list[Event]:
    asking = RequestCapacity(
        task=task_id(of(region="south"), 1),
        service=service_of("beds", "east"),
        unit=unit_of("beds", "east"),
        until=world.now + HOUR,
    )
    return world.send(asking, SOURCE)


def _lent(world: World) -> str:
    """A place is held for a task of another region."""
    world.publish(lent_out("beds", "north"))
    task = task_id(of(region="south"), 1)
    asking = RequestCapacity(
        task=task, service=service_of("beds"), unit=unit_of("beds"), until=world.now + HOUR
    )
    world.send(asking, SOURCE)
    return task


def _asked_for_twice(world: World) -> list[Event]:
    asking = RequestCapacity(
        task=_lent(world), service=service_of("beds"), unit=unit_of("beds"), until=world.now + 2 * HOUR
    )
    return world.send(asking, SOURCE)


def _taken_of_nobody(world: World) -> list[Event]:
    return world.send(TakeCapacity(task=_lent(world), unit=unit_of("cots")), SOURCE)


def _taken_twice(world: World) -> list[Event]:
    taking = TakeCapacity(task=_lent(world), unit=unit_of("beds"))
    world.send(taking, SOURCE)
    return world.send(taking, SOURCE)


def _its_own_listed(world: World) -> list[Event]:
    return world.send(ListService(definition=lent_out("beds", "north"), home_sequence=1), SOURCE)


def _places_told(world: World, local: str, region: str, home_sequence: int) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    told = ListCapacity(
        unit=unit_of(local, region), total=1, room=1, true_at=world.now, home_sequence=home_sequence
    )
    return world.send(told, SOURCE)


def _counted_elsewhere(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    count = ReportCapacity(unit=unit_of("far", "south"), total=1, available=1, true_at=world.now)
    return world.send(count, "shelter")


def _proposed_after_forgetting(world: World) -> list[Event]:
    referral = offered(world)
    world.publish(offers("other", "clinic"))
    world.send(forget(subject_of(1)), OPERATIONS)
    return world.send(propose(referral, "other"), "shelter")


def _answered_while_the_place_is_asked_for(world: World) -> list[Event]:
    heard_of(world, lent_out("far", "south"))
    return world.send(accept(world.refer()), "shelter")


SCENARIOS: Final[Sequence[tuple[str, str, Scenario]]] = [
    ("id_reused", "same id, other body", _same_id_other_body),
    ("id_reused", "same referral under another id", _same_referral_id),
    ("id_reused", "same referral after its end", _same_referral_id_after_its_end),
    (
        "too_old",
        "sent before the horizon",
        lambda w: w.send(withdraw(of()), "police", sent_at=w.now - 91 * DAY),
    ),
    (
        "unknown_organisation",
        "never adopted",
        lambda w: waited_for(w, offers_of_a_stranger(), "stranger"),
    ),
    (
        "unknown_organisation",
        "an id that begins like a unit's",
        lambda w: waited_for(w, offers_of_a_stranger(), "un-habitat"),
    ),
    ("unknown_referral", "withdrawn, never submitted", lambda w: waited_for(w, withdraw(of()), "police")),
    ("unknown_referral", "started, never submitted", lambda w: waited_for(w, start(of()), "shelter")),
    ("unknown_referral", "ended, never submitted", lambda w: waited_for(w, outcome(of()), "shelter")),
    ("unknown_referral", "nothing waits without a protocol", _nothing_waits_without_a_protocol),
    ("unknown_task", "accepted, never offered", lambda w: waited_for(w, accept(of()), "shelter")),
    (
        "unknown_task",
        "a later attempt than there was",
        lambda w: waited_for(w, decline(offered(w), 2), "shelter"),
    ),
    (
        "unknown_unit",
        "counted, never published",
        lambda w: waited_for(w, report("beds", 1, 1, w.now), "shelter"),
    ),
    ("not_your_referral", "another agency's", lambda w: w.send(withdraw(offered(w)), "hospital")),
    ("not_your_offer", "accepted by another", lambda w: w.send(accept(offered(w)), "clinic")),
    ("not_your_offer", "declined by another", lambda w: w.send(decline(offered(w)), "clinic")),
    ("not_your_offer", "started by another", lambda w: w.send(start(accepted(w)), "clinic")),
    ("not_your_offer", "ended by another", lambda w: w.send(outcome(accepted(w)), "clinic")),
    ("not_your_service", "a unit of another's service", lambda w: _count_of_another(w)),
    ("not_your_service", "a unit of another service", _other_service_of_mine),
    ("not_your_service", "published by another", _service_of_another),
    ("not_your_service", "given to another", _service_given_away),
    (
        "not_your_service",
        "in another's name",
        lambda w: w.send(publish(offers("beds", "clinic")), "shelter"),
    ),
    ("offer_expired", "before the tick", _expired_before_the_tick),
    ("offer_expired", "answered before the tick", _answered_before_the_tick),
    ("offer_expired", "after the tick", _expired_by_the_tick),
    ("offer_expired", "declined after the tick", _decline_after_the_tick),
    ("offer_expired", "answered after the tick", _answered_after_the_tick),
    ("offer_expired", "proposed after the tick", _proposed_after_the_tick),
    ("offer_not_open", "accepted twice", lambda w: w.send(accept(accepted(w)), "shelter")),
    ("offer_not_open", "declined twice", _declined_twice),
    ("offer_not_open", "declined after acceptance", lambda w: w.send(decline(accepted(w)), "shelter")),
    ("offer_not_open", "proposed after it was declined", _proposed_after_decline),
    ("referral_closed", "withdrawn", lambda w: w.send(withdraw(closed(w)), "police")),
    ("referral_closed", "accepted", lambda w: w.send(accept(closed(w)), "shelter")),
    ("referral_closed", "declined", lambda w: w.send(decline(closed(w)), "shelter")),
    ("referral_closed", "started", lambda w: w.send(start(withdrawn(w)), "shelter")),
    ("referral_closed", "ended", lambda w: w.send(outcome(withdrawn(w)), "shelter")),
    (
        "referral_closed",
        "amended",
        lambda w: w.send(AmendReferral(referral=closed(w), urgency="crisis"), "police"),
    ),
    ("referral_closed", "held", lambda w: w.send(hold(closed(w)), "police")),
    ("referral_closed", "resumed", lambda w: w.send(ResumeReferral(referral=closed(w)), "police")),
    ("referral_closed", "handed over", lambda w: w.send(handoff(withdrawn(w), w.now), "police")),
    ("referral_closed", "started, and withdrawn before it was accepted", _started_and_withdrawn),
    ("referral_closed", "question answered", lambda w: w.send(reply(closed(w)), "police")),
    ("entered_in_error", "reopened", _reopened_when_wrong),
    ("entered_in_error", "started", lambda w: w.send(start(never_was(w)), "shelter")),
    ("entered_in_error", "ended", lambda w: w.send(outcome(never_was(w)), "shelter")),
    ("entered_in_error", "followed up", lambda w: w.send(follow_up(never_was(w)), "shelter")),
    ("entered_in_error", "twice", lambda w: w.send(withdraw(never_was(w), "entered_in_error"), "police")),
    (
        "not_your_referral",
        "entered in error by another",
        lambda w: w.send(withdraw(closed(w), "entered_in_error"), "hospital"),
    ),
    ("already_split", "reopened", _reopened_when_split),
    ("unknown_calendar", "an organisation", _organisation_by_no_calendar),
    ("not_accepted", "given back", lambda w: w.send(give_back(offered(w)), "shelter")),
    ("not_accepted", "started", lambda w: waited_for(w, start(offered(w)), "shelter")),
    ("not_accepted", "ended by another", lambda w: w.send(outcome(offered(w)), "clinic")),
    ("not_accepted", "handed over", lambda w: waited_for(w, handoff(offered(w), w.now), "police")),
    ("not_your_referral", "held", lambda w: w.send(hold(offered(w)), "hospital")),
    ("not_your_referral", "resumed", lambda w: w.send(ResumeReferral(referral=offered(w)), "hospital")),
    ("not_your_referral", "reopened", lambda w: w.send(reopening(w, closed(w)), "hospital")),
    ("not_your_referral", "question answered", lambda w: w.send(reply(asked(w)), "hospital")),
    ("not_your_referral", "handed over by a third", lambda w: w.send(handoff(accepted(w), w.now), "clinic")),
    ("not_your_referral", "followed up by a third", lambda w: w.send(follow_up(closed(w)), "clinic")),
    ("not_your_offer", "started late by another", lambda w: w.send(start(closed(w)), "clinic")),
    ("not_your_offer", "outcome corrected by another", lambda w: w.send(outcome(closed(w)), "clinic")),
    ("not_an_agency", "a provider", lambda w: w.send(transferred(offered(w), "clinic"), "police")),
    ("not_an_agency", "nobody", lambda w: w.send(transferred(offered(w), "nobody"), "police")),
    ("not_an_agency", "itself", lambda w: w.send(transferred(offered(w), "police"), "police")),
    ("unknown_service", "named, never published", lambda w: w.send(naming(w, "nowhere"), "police")),
    (
        "unknown_service",
        "proposed, never published",
        lambda w: w.send(propose(offered(w), "nowhere"), "shelter"),
    ),
    ("service_unavailable", "proposed, and full", _proposed_a_full_one),
    ("service_unavailable", "proposed, and tried", lambda w: w.send(propose(offered(w), "beds"), "shelter")),
    ("region_mismatch", "a proposed service of another region", _proposed_elsewhere),
    ("region_mismatch", "a part of another region", _split_elsewhere),
    ("offers_used_up", "proposed once more", _proposed_once_more),
    ("unknown_protocol", "named, never adopted", lambda w: w.send(following(w, "none"), "police")),
    ("unknown_calendar", "a protocol by a calendar that is not there", _by_no_calendar),
    ("unknown_organisation", "a protocol that escalates to nobody", _escalating_to_nobody),
    ("unknown_organisation", "a step that escalates to nobody", _a_step_escalating_to_nobody),
    ("not_on_hold", "resumed", lambda w: w.send(ResumeReferral(referral=offered(w)), "police")),
    ("not_on_hold", "a service resumed", lambda w: w.send(ResumeReferral(referral=accepted(w)), "shelter")),
    ("already_accepted", "held", lambda w: w.send(hold(accepted(w)), "police")),
    ("already_accepted", "split", lambda w: w.send(splitting(w, accepted(w)), "police")),
    ("already_withdrawn", "withdrawn twice", lambda w: w.send(withdraw(goes_on(w)), "police")),
    (
        "already_withdrawn",
        "amended",
        lambda w: w.send(AmendReferral(referral=goes_on(w), urgency="crisis"), "police"),
    ),
    ("already_withdrawn", "transferred", lambda w: w.send(transferred(goes_on(w), "hospital"), "police")),
    ("already_withdrawn", "proposed elsewhere", lambda w: w.send(propose(goes_on(w), "beds"), "shelter")),
    (
        "not_closed",
        "reopened while its service goes on",
        lambda w: w.send(reopening(w, goes_on(w)), "police"),
    ),
    ("already_split", "split twice", _split_twice),
    ("already_split", "held", _held_when_split),
    ("already_split", "amended", _amended_when_split),
    ("is_a_part", "a part split", _split_a_part),
    ("id_reused", "a part that is there", lambda w: w.send(splitting(w, offered(w), 1, 2), "police")),
    ("not_closed", "reopened", lambda w: w.send(reopening(w, offered(w)), "police")),
    ("not_closed", "followed up", lambda w: w.send(follow_up(offered(w)), "shelter")),
    ("reopening_too_late", "after the protocol's time", _reopened_late),
    ("facts_unreadable", "amended with facts that can't be read", _amended_unreadably),
    ("subject_erased", "reopened", _reopened_after_forgetting),
    ("nothing_asked", "answered", lambda w: w.send(reply(offered(w)), "police")),
    ("already_acknowledged", "twice", _acknowledged_twice),
    ("time_out_of_range", "held until the past", lambda w: w.send(hold(offered(w), w.now - 1), "police")),
    ("time_out_of_range", "held for years", lambda w: w.send(hold(offered(w), w.now + 400 * DAY), "police")),
    ("time_out_of_range", "accepted for next year", _accepted_for_next_year),
    (
        "time_out_of_range",
        "parked for years",
        lambda w: w.send(parking(offered(w), w.now + 400 * DAY), "shelter"),
    ),
    ("time_out_of_range", "followed up at once", lambda w: w.send(follow_up(closed(w)), "shelter")),
    (
        "date_missing",
        "declined until nobody knows when",
        lambda w: w.send(parking(offered(w), None), "shelter"),
    ),
    ("date_not_wanted", "declined for good until a date", _declined_until),
    ("no_handoff", "not in the protocol", lambda w: w.send(handoff(accepted(w), w.now), "police")),
    ("ended_without_outcome", "given back", _outcome_of_who_was_given_back),
    ("already_reported", "a no-show missed twice", _missed_twice),
    ("already_reported", "a contact tried twice", _tried_twice),
    ("too_many_reports", "contacts of one service", lambda w: _reported_too_often(w, tried)),
    ("too_many_reports", "no-shows of one service", lambda w: _reported_too_often(w, missed)),
    ("no_such_report", "never reported", lambda w: w.send(retract(accepted(w), 1), "shelter")),
    ("no_such_report", "taken back before", _taken_back_twice),
    ("no_such_report", "a start", _start_taken_back),
    ("not_your_report", "by another", lambda w: w.send(retract(accepted(w), 1), "clinic")),
    ("not_your_report", "by the agency", _taken_back_by_the_agency),
    ("not_your_report", "followed up by the other", _followed_up_by_both),
    ("referral_closed", "taken back", lambda w: w.send(retract(withdrawn(w), 1), "shelter")),
    ("not_accepted", "taken back", lambda w: w.send(retract(offered(w), 1), "shelter")),
    ("unknown_referral", "taken back", lambda w: waited_for(w, retract(of(), 1), "shelter")),
    ("no_follow_up", "nobody took the person", lambda w: w.send(follow_up(withdrawn(w)), "police")),
    (
        "time_in_future",
        "handed over tomorrow",
        lambda w: w.send(handoff(handing_over(w), w.now + DAY), "shelter"),
    ),
    (
        "time_before_opening",
        "handed over last year",
        lambda w: w.send(handoff(handing_over(w), w.now - 365 * DAY), "police"),
    ),
    ("time_in_future", "missed tomorrow", lambda w: w.send(missed(accepted(w), w.now + DAY), "shelter")),
    (
        "time_before_opening",
        "missed last year",
        lambda w: w.send(missed(accepted(w), w.now - 365 * DAY), "shelter"),
    ),
    (
        "time_before_opening",
        "started last year",
        lambda w: w.send(start(accepted(w), w.now - 365 * DAY), "shelter"),
    ),
    (
        "time_before_opening",
        "tried last year",
        lambda w: w.send(tried(accepted(w), w.now - 365 * DAY), "shelter"),
    ),
    ("capacity_outdated", "counted too long ago", _counted_long_ago),
    ("criteria_unmeetable", "for people who are old and young", _for_nobody),
    ("already_started", "started twice", _started_twice),
    ("capacity_below_held", "fewer than are held", _below_held),
    ("capacity_below_held", "an overbooked place is held", _overbooking_taken_back),
    ("capacity_above_total", "more than there are", _above_total),
    ("capacity_outdated", "counted before the last count", _outdated),
    ("time_in_future", "counted", _count_in_future),
    (
        "time_in_future",
        "ended tomorrow",
        lambda w: w.send(outcome(accepted(w), ended_at=w.now + DAY), "shelter"),
    ),
    (
        "time_before_opening",
        "ended long before",
        lambda w: w.send(outcome(accepted(w), ended_at=w.now - 30 * DAY), "shelter"),
    ),
    ("time_in_future", "started", lambda w: w.send(start(accepted(w), w.now + HOUR), "shelter")),
    ("facts_unreadable", "sealed with another key", _unreadable),
    ("subject_erased", "the key store says so", _key_destroyed),
    ("subject_erased", "the ledger says so", _forgotten),
    ("region_mismatch", "a referral for another region", _referral_for_elsewhere),
    ("region_mismatch", "a referral id of another region", _referral_id_of_elsewhere),
    ("region_mismatch", "a service of another region", _units_elsewhere),
    ("not_adopted", "no policy", _no_policy),
    ("not_adopted", "no protocol", _no_protocol),
    ("not_adopted", "nobody is known yet", _a_stranger_before_anything_is_adopted),
    ("reference_outdated", "the same version", lambda w: w.send(protocol(), OPERATIONS)),
    ("reference_outdated", "rules in force", lambda w: w.send(rules(1), OPERATIONS)),
    ("rules_unsupported", "rules of a later version", lambda w: w.send(rules(99), OPERATIONS)),
    ("acceptance_pending", "another region's provider was first", _second_acceptance),
    ("no_longer_wanted", "the referral was withdrawn", _answer_too_late),
    ("no_longer_wanted", "the region was done without", _answered_after_its_time),
    ("no_longer_wanted", "the region said before that it has no place", _held_after_all),
    ("nothing_held", "never lent", _returned_to_who_lent_nothing),
    ("listing_outdated", "a later one is known", _listed_before),
    ("region_mismatch", "a place of a third region", _asked_of_the_wrong_region),
    ("id_reused", "a place for the same task again", _asked_for_twice),
    ("unknown_unit", "taken where there is none", _taken_of_nobody),
    ("nothing_held", "taken before", _taken_twice),
    ("region_mismatch", "its own service as another's", _its_own_listed),
    ("unknown_unit", "places nobody listed", lambda w: _places_told(w, "near", "south", 3)),
    ("listing_outdated", "places of before", lambda w: _places_told(w, "far", "south", 1)),
    ("region_mismatch", "places of another region counted here", _counted_elsewhere),
    ("subject_erased", "proposed", _proposed_after_forgetting),
    ("offer_not_open", "answered once it was accepted", _answered_once_it_was_accepted),
    ("offer_not_open", "its place is asked for still", _answered_while_the_place_is_asked_for),
]


EACH: Final = pytest.mark.parametrize(
    ("reason", "scenario"),
    [(reason, scenario) for reason, _, scenario in SCENARIOS],
    ids=[f"{reason}: {name}" for reason, name, _ in SCENARIOS],
)


def offers_of_a_stranger() -> Submission:
    return publish(offers("beds", "stranger"))


def _count_of_another(world: World) -> list[Event]:
    world.publish(offers("beds"))
    return world.send(report("beds", 1, 1, world.now), "clinic")


@EACH
def test_each_refusal_gives_its_reason(world: World, reason: str, scenario: Scenario) -> None:
    [event] = scenario(world)
    assert isinstance(event, SubmissionRefused)
    assert event.reason == reason


def test_each_reason_of_the_vocabulary_is_reached() -> None:
    of_the_owner = {
        "undecidable": "test_what_a_fault_of_ours_keeps_from_being_decided_is_refused_and_dead_lettered_and_can_be_put_again",
        "too_large": "test_what_is_too_large_to_be_answered_is_refused_and_stops_nothing",
    }
    for reason, test in of_the_owner.items():
        assert held(Path(__file__).parents[2] / "unit/matching/test_partition.py", test, reason)
    assert {reason for reason, _, _ in SCENARIOS} == set(REFUSALS) - of_the_owner.keys()


def test_each_place_of_the_core_that_refuses_is_reached(codec: Codec) -> None:
    reached: set[tuple[str, int]] = set()
    decide = Path(decide_package.__file__).parent

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(str(decide)):
            return None
        if event == "line":
            reached.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        for _, _, scenario in SCENARIOS:
            scenario(World(codec))
    finally:
        sys.settrace(former)
    refusing = {
        (file.name, number)
        for file in decide.glob("*.py")
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r'return refused\(|return "[a-z_]+"$', line)
    }
    assert refusing - reached == set()


@EACH
def test_a_refusal_changes_nothing_but_what_was_answered(
    world: World, reason: str, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[tuple[World, dict[str, Any]]] = []
    take = World.take

    def taken(self: World, received: Received) -> list[Event]:
        before.append((self, picture(self.state)))
        return take(self, received)

    monkeypatch.setattr(World, "take", taken)
    [refusal] = scenario(world)
    assert isinstance(refusal, SubmissionRefused)
    decider, left = before[-1]
    came = picture(decider.state)
    waited = () if refusal.parked is None else ("parked", "parked_of", "waiting", "due")
    for passing in ("now", "sequence", "last_hash", "decided_through", "answered", *waited):
        del left[passing], came[passing]
    assert came == left


@EACH
def test_a_refused_ledger_decides_again_to_the_same_bytes(
    world: World, reason: str, scenario: Scenario
) -> None:
    scenario(world)
    assert world.again() == [value for _, value in world.entries]


def test_a_refusal_names_what_it_is_about_and_never_who(world: World) -> None:
    for _, _, scenario in SCENARIOS:
        fresh = World(world.codec)
        for event in scenario(fresh):
            assert isinstance(event, SubmissionRefused)
            assert event.about is None or not event.about.startswith("sj-")


def test_the_ids_of_unpublished_things_are_what_the_refusal_is_about(world: World) -> None:
    parked = world.state.sequence + 1
    [event] = waited_for(world, report("cots", 1, 1, world.now), "shelter")
    assert event == SubmissionRefused(reason="unknown_unit", about=unit_of("cots"), parked=parked)
    [event] = world.send(publish(offers("beds", "clinic")), "shelter")
    assert event == SubmissionRefused(reason="not_your_service", about=service_of("beds"))
