"""Where a referral can stand besides being on offer in its own region: who waits, is one of several, or is sent to another region."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from referral_bus.contracts.facts import Need
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import AmendReferral, ProposeService, RequestCapacity, TakeCapacity
from referral_bus.contracts.services import ServiceDefinition
from services.matching.core.referral import Report
from services.matching.relay import SOURCE
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    accept,
    contact,
    decline,
    give_back,
    handoff,
    hold,
    no_show,
    of,
    offers,
    outcome,
    policy,
    propose,
    publish,
    report,
    retract,
    service_of,
    start,
    unit_of,
    withdraw,
)
from tests.support.regions import answers, heard_of, lent_out
from tests.support.talking import OF_AGENCY, OF_OFFERS, OF_SERVICE, Saying

Elsewhere = Callable[[World], str]
"""Brings another referral somewhere, and says which."""
Then = Callable[[World, str], object]
"""Brings it further."""

HUNGRY: Final = HOUSING.model_copy(update={"needs": [Need(code="food")]})
_WRONGED: Final = HOUSING.model_copy(update={"needs": [Need(code="law")]})
"""Nobody helps with that."""
_FAR: Final = lent_out("far", "south", needs=["food", "housing"], total=9)


def _meals(**more: Any) -> ServiceDefinition:
    """The one service there is for who is hungry."""
    return offers("meals", needs=["food"], **more)


def _hungry(world: World, **more: Any) -> str:
    return world.refer(HUNGRY, number=3, **more)


def _waiting(world: World) -> str:
    world.publish(_meals(available=0))
    return _hungry(world, mode="waitlist")


def _gathered_and_listed(world: World) -> str:
    heard_of(world, _FAR)
    return _gathered(world)


def _waiting_on_hold(world: World) -> str:
    referral = _waiting(world)
    world.send(hold(referral), "police")
    return referral


def _called(world: World) -> str:
    world.publish(_meals())
    return _hungry(world, mode="waitlist")


def _gathered(world: World) -> str:
    world.send(policy(POLICY.model_copy(update={"version": 2, "window_ms": 10 * MINUTE})), OPERATIONS)
    return _hungry(world, urgency="routine")


def _withdrawn_while_waiting(world: World) -> str:
    """There is no place for anybody."""
    for local, provider in (("b", "clinic"), ("c", "pantry")):
        world.send(report(local, 1, 0, world.now), provider)
    referral = world.refer(number=3, mode="waitlist")
    world.send(withdraw(referral), "police")
    return referral


def _withdrawn_with_nobody_left(world: World) -> str:
    world.publish(*(offers(local, by, active=False) for local, by in (("b", "clinic"), ("c", "pantry"))))
    referral = world.refer(number=3)
    world.send(withdraw(referral), "police")
    return referral


def _withdrawn_with_others_left_elsewhere(world: World) -> str:
    referral = _withdrawn_with_nobody_left(world)
    heard_of(world, _FAR)
    return referral


def _offered(world: World) -> str:
    world.publish(_meals(total=9))
    return _hungry(world)


def _accepted(world: World) -> str:
    referral = _offered(world)
    world.send(accept(referral), "shelter")
    return referral


def _started(world: World) -> str:
    referral = _accepted(world)
    world.send(start(referral), "shelter")
    return referral


def _full(world: World) -> str:
    """It rests, since the one service it could go to is full until a date."""
    referral = _offered(world)
    world.send(decline(referral, reason="full_until", until=world.now + DAY), "shelter")
    return referral


def _not_ready(world: World) -> str:
    referral = _offered(world)
    world.send(decline(referral, reason="person_not_ready", until=world.now + DAY), "shelter")
    return referral


def _held_with_nobody_left(world: World) -> str:
    referral = _offered(world)
    world.send(hold(referral), "police")
    world.publish(_meals(active=False))
    return referral


def _withdrawn_while_the_service_rests(world: World) -> str:
    referral = _started(world)
    world.send(hold(referral), "shelter")
    world.send(withdraw(referral), "police")
    return referral


def _broadcast(world: World) -> str:
    world.publish(_meals(), offers("kitchen", "clinic", needs=["food"]))
    return _hungry(world, mode="broadcast")


def _missed(world: World) -> str:
    referral = _accepted(world)
    world.send(no_show(referral), "shelter")
    world.send(contact(referral), "shelter")
    return referral


def _resting_after_a_report(world: World) -> str:
    referral = _missed(world)
    world.send(hold(referral), "shelter")
    return referral


def _handed_over(world: World) -> str:
    referral = _accepted(world)
    world.send(handoff(referral), "police")
    return referral


def _moving(so_far: Elsewhere) -> Elsewhere:
    """Another provider is asked to take over."""

    def moving(world: World) -> str:
        referral = so_far(world)
        world.publish(offers("kitchen", "clinic", needs=["food"]), offers("c", "pantry", needs=["food"]))
        world.send(propose(referral, "kitchen"), "shelter")
        return referral

    return moving


def _closed(reported: Elsewhere) -> Elsewhere:
    def closed(world: World) -> str:
        referral = reported(world)
        world.send(outcome(referral), "shelter")
        return referral

    return closed


def _given_back(reported: Elsewhere) -> Elsewhere:
    def given_back(world: World) -> str:
        referral = reported(world)
        world.publish(offers("kitchen", "clinic", needs=["food"]))
        world.send(give_back(referral), "shelter")
        return referral

    return given_back


def _reopened(reported: Elsewhere) -> Elsewhere:
    def reopened(world: World) -> str:
        referral = _closed(reported)(world)
        world.publish(_meals(active=False), offers("kitchen", "clinic", needs=["food"]))
        world.send(world.reopening(referral, HUNGRY), "police")
        return referral

    return reopened


def _withdrawn(reported: Elsewhere) -> Elsewhere:
    """The service had begun, and goes on."""

    def withdrawn(world: World) -> str:
        referral = reported(world)
        world.send(start(referral), "shelter")
        world.send(withdraw(referral), "police")
        return referral

    return withdrawn


def _given_back_and_waiting(world: World) -> str:
    referral = _called(world)
    world.send(accept(referral), "shelter")
    world.send(no_show(referral), "shelter")
    world.send(give_back(referral, reason="no_capacity"), "shelter")
    return referral


def _reopened_and_waiting(world: World) -> str:
    referral = _called(world)
    world.send(accept(referral), "shelter")
    world.send(no_show(referral), "shelter")
    world.send(outcome(referral), "shelter")
    world.send(report("meals", 1, 0, world.now), "shelter")
    world.send(world.reopening(referral, HUNGRY), "police")
    return referral


def _since(gone: Elsewhere, *then: Then) -> Elsewhere:
    """What came after who served the referral first."""

    def since(world: World) -> str:
        referral = gone(world)
        for one in then:
            one(world, referral)
        return referral

    return since


def _is_taken_over(world: World, referral: str) -> None:
    world.send(accept(referral, 2), "clinic")


def _begins(world: World, referral: str) -> None:
    world.send(start(referral), "clinic")


def _rests(by: str) -> Then:
    return lambda world, referral: world.send(hold(referral), by)


def _is_withdrawn(world: World, referral: str) -> None:
    world.send(withdraw(referral), "police")


def _is_split(world: World, referral: str) -> None:
    world.send(world.parts_of(referral, [(8, HUNGRY), (9, HUNGRY)]), "police")


_SINCE: Final[tuple[tuple[Then, ...], ...]] = (
    (),
    (_rests("police"),),
    (_is_split,),
    (_is_taken_over,),
    (_is_taken_over, _begins),
    (_is_taken_over, _rests("clinic")),
    (_is_taken_over, _begins, _is_withdrawn),
)


def _whole(world: World) -> str:
    referral = _offered(world)
    world.send(world.parts_of(referral, [(8, HUNGRY), (9, HUNGRY)]), "police")
    return referral


def _whole_with_a_part_that_has_begun(world: World) -> str:
    referral = _whole(world)
    world.send(accept(of(number=8)), "shelter")
    world.send(start(of(number=8)), "shelter")
    return referral


def _last_part(world: World) -> str:
    _whole(world)
    world.send(withdraw(of(number=9)), "police")
    return of(number=8)


def _last_part_accepted(world: World) -> str:
    part = _last_part(world)
    world.send(accept(part), "shelter")
    return part


def _joined(world: World) -> str:
    """A part of a whole that is closed, since the other came to something else."""
    _whole(world)
    for number, result in ((8, "need_met"), (9, "not_met")):
        world.send(accept(of(number=number)), "shelter")
        world.send(outcome(of(number=number), result), "shelter")  # type: ignore[arg-type]
    return of(number=9)


def _reserving(world: World) -> str:
    heard_of(world, _FAR)
    return _hungry(world)


def _offered_elsewhere(world: World) -> str:
    referral = _reserving(world)
    answers(world, referral, "held")
    return referral


def _with_another_here(before: Elsewhere) -> Elsewhere:
    """Whom the provider may propose."""

    def with_another(world: World) -> str:
        referral = before(world)
        world.publish(offers("b", "clinic", needs=["food"]))
        return referral

    return with_another


def _claimed_elsewhere(world: World) -> str:
    referral = _offered_elsewhere(world)
    world.send(accept(referral), "shelter")
    return referral


def _accepted_elsewhere(world: World) -> str:
    referral = _claimed_elsewhere(world)
    answers(world, referral, "taken")
    return referral


def _held_elsewhere(world: World) -> str:
    referral = _offered_elsewhere(world)
    world.send(hold(referral), "police")
    return referral


def _offered_here_and_listed(world: World) -> str:
    referral = _offered(world)
    heard_of(world, _FAR)
    return referral


def _accepted_here_and_listed(world: World) -> str:
    referral = _accepted(world)
    heard_of(world, _FAR)
    return referral


def _moving_from_elsewhere(world: World) -> str:
    referral = _accepted_elsewhere(world)
    world.publish(offers("kitchen", "clinic", needs=["food"]))
    world.send(propose(referral, "kitchen"), "shelter")
    return referral


def _broadcast_beyond(world: World) -> str:
    """Offered here and in another region."""
    heard_of(world, _FAR)
    world.publish(_meals())
    referral = _hungry(world, mode="broadcast")
    for number in world.state.referrals[referral].offers:
        if world.task(referral, number).business == "reserving":
            answers(world, referral, "held", number)
    return referral


def _denied(world: World) -> str:
    """Another region was told that the last place, which this referral holds, is not to be had."""
    world.publish(lent_out("meals", "north", needs=["food"]))
    referral = _hungry(world)
    world.send(
        RequestCapacity(
            task=task_id(of(region="south"), 1),
            service=service_of("meals"),
            unit=unit_of("meals"),
            until=world.now + HOUR,
        ),
        SOURCE,
    )
    return referral


def _accepted_and_denied(world: World) -> str:
    referral = _denied(world)
    world.send(accept(referral), "shelter")
    return referral


def _lent(world: World) -> str:
    """A place is lent to another region, which takes it or gives it back."""
    referral = _denied(world)
    world.send(decline(referral, reason="other"), "shelter")
    task = task_id(of(number=2, region="south"), 1)
    world.send(
        RequestCapacity(
            task=task, service=service_of("meals"), unit=unit_of("meals"), until=world.now + HOUR
        ),
        SOURCE,
    )
    world.send(TakeCapacity(task=task, unit=unit_of("meals")), SOURCE)
    return referral


ELSEWHERE: Final[tuple[Elsewhere, ...]] = (
    _waiting,
    _waiting_on_hold,
    _called,
    _gathered,
    _gathered_and_listed,
    _withdrawn_while_waiting,
    _withdrawn_with_nobody_left,
    _withdrawn_with_others_left_elsewhere,
    _offered,
    _accepted,
    _full,
    _not_ready,
    _held_with_nobody_left,
    _withdrawn_while_the_service_rests,
    _resting_after_a_report,
    *map(_moving, (_accepted, _started, _resting_after_a_report)),
    _broadcast,
    *map(_closed, (_missed, _handed_over)),
    *map(_withdrawn, (_missed, _handed_over)),
    *(
        _since(gone(reported), *then)
        for gone in (_given_back, _reopened)
        for reported in (_missed, _handed_over)
        for then in _SINCE
    ),
    _given_back_and_waiting,
    _reopened_and_waiting,
    _whole,
    _whole_with_a_part_that_has_begun,
    _last_part,
    _last_part_accepted,
    _joined,
    _reserving,
    _offered_elsewhere,
    _claimed_elsewhere,
    _accepted_elsewhere,
    _held_elsewhere,
    _offered_here_and_listed,
    _accepted_here_and_listed,
    _moving_from_elsewhere,
    _broadcast_beyond,
    *map(_with_another_here, (_offered_elsewhere, _denied)),
    _denied,
    _accepted_and_denied,
    _moving(_accepted_and_denied),
    _lent,
)


def _reports(world: World, referral: str) -> Iterator[Report]:
    """What was reported of the services that served it before."""
    known = world.state.referrals.get(referral) or world.state.closed.get(referral)
    for served in () if known is None else (known.served, *known.former):
        yield from () if served is None else served.reports


_MORE: Final[tuple[Saying, ...]] = (
    lambda _, referral, __: AmendReferral(referral=referral, sealed_identity=b"sealed"),
    lambda _, referral, __: AmendReferral(referral=referral, urgency="crisis"),
    lambda world, referral, _: AmendReferral(
        referral=referral,
        sealed_facts=world.seal(_WRONGED, world.state.referrals[referral].subject)
        if referral in world.state.referrals
        else b"sealed",
    ),
    lambda world, referral, attempt: decline(referral, attempt, "person_not_ready", world.now + DAY),
    lambda world, referral, attempt: give_back(referral, attempt, "person_not_ready", world.now + DAY),
    lambda _, referral, attempt: ProposeService(
        task=task_id(referral, attempt), service=service_of("far", "south")
    ),
    lambda world, referral, _: retract(
        referral, next((one.sequence for one in _reports(world, referral)), 1)
    ),
    lambda world, _, __: report("meals", 9, 9, world.now),
    lambda _, __, ___: publish(offers("more", needs=["food"], available=0)),
)
"""What can be said besides what :mod:`~tests.support.talking` has."""

PARTIES: Final[list[tuple[Saying, int, str]]] = [
    *((saying, 1, "police") for saying in (*OF_AGENCY.values(), *_MORE)),
    *((saying, 1, "shelter") for saying in (*OF_OFFERS.values(), *OF_SERVICE.values(), *_MORE)),
    *((saying, 2, "clinic") for saying in OF_OFFERS.values()),
]
"""What each may say: of the first attempt, and who else is asked of the second."""
