"""Everything is decided again in the order it must have been, and a window is verified by its proof: whoever found the assignment and how,
and however wrong whoever decides it again is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

import pytest

from referral_bus.contracts.inbox import SubmitReferral, Tick
from referral_bus.contracts.ledger import (
    Admitted,
    Entry,
    Event,
    MatchDecided,
    OfferMade,
    Received,
    ReferralOpened,
    ReferralWaitlisted,
    ServicePublished,
    WindowClosed,
)
from referral_bus.contracts.services import Unit
from referral_bus.log.port import Record
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from services.matching.commands import _as_json, _tell
from services.matching.core.assignment import Assignment
from services.matching.core.decide import (
    AllOpened,
    WantedFacts,
    call,
    decide,
    gathering,
    gave_up_calling,
    gave_up_deciding,
    gave_up_due,
    wanted_for,
)
from services.matching.core.fold import UnknownEvent
from services.matching.core.state import Region
from services.matching.facts import FactsOpener
from services.matching.verify import Report, Verifier
from tests.support.deciding import (
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    accept,
    decline,
    of,
    offers,
    outcome,
    policy,
    report,
    service_of,
    stated_age,
    subject_of,
    unit_of,
    withdraw,
)
from tests.support.lives import Lives

GATHERING = POLICY.model_copy(update={"version": 2, "window_ms": 10 * MINUTE})
OLD = HOUSING.model_copy(update={"age": stated_age(70)})


class _Opener(FactsOpener):
    """Opens what the world sealed, as it may be opened now."""

    def __init__(self, world: World) -> None:
        super().__init__(MemoryKeyStore(KeyTable()), Sealer(world.codec))
        self._world = world

    async def open(self, wanted: Iterable[WantedFacts]) -> AllOpened:
        return self._world.open(wanted)


@pytest.fixture
def gathered(world: World) -> World:
    """The window holds a young person and an old one; one place is for everybody, and one for the young."""
    world.send(policy(GATHERING), OPERATIONS)
    world.publish(offers("any"), offers("young", "clinic", ages={"maximum": 40}))
    world.refer(HOUSING, number=1, urgency="routine")
    world.refer(OLD, number=2, urgency="routine")
    return world


async def verified(world: World) -> Report:
    verifier = Verifier(world.codec, _Opener(world))
    for offset, (entry, value) in enumerate(world.entries):
        await verifier.take(Record("ledger", 0, offset, entry.meta.now, entry.meta.region.encode(), value))
    return await verifier.end()


def closes_by(monkeypatch: pytest.MonkeyPatch, change: Callable[[Assignment], Assignment]) -> None:
    """Let windows be closed by what this makes of the best assignment."""
    best = gathering.assign
    monkeypatch.setattr(gathering, "assign", lambda *asked: change(best(*asked)))


def closed(world: World) -> WindowClosed:
    [event] = [event for event in world.events if isinstance(event, WindowClosed)]
    return event


async def test_a_window_is_as_it_should_be(gathered: World) -> None:
    gathered.tick(gathered.now + 10 * MINUTE)
    report = await verified(gathered)
    assert report.good and set(report.outcomes) == {"same"}


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(lambda found: found._replace(chosen=(service_of("any"), None)), id="fewer are served"),
        pytest.param(lambda found: Assignment((service_of("young"), None), {}), id="without prices"),
        pytest.param(
            lambda found: found._replace(chosen=tuple(reversed(found.chosen))), id="to who is not taken there"
        ),
        pytest.param(
            lambda found: found._replace(prices={service_of("young"): 10**90}),
            id="at prices that prove nothing",
        ),
    ],
)
async def test_a_worse_assignment_is_found_out(
    gathered: World, monkeypatch: pytest.MonkeyPatch, worse: Callable[[Assignment], Assignment]
) -> None:
    with monkeypatch.context() as forging:
        closes_by(forging, worse)
        gathered.tick(gathered.now + 10 * MINUTE)
    report = await verified(gathered)
    assert not report.good
    # The calls that follow carry out what was recorded: it is the one decision that is wrong.
    assert report.outcomes["different"] == 1 and not report.broken


async def test_a_solver_that_errs_does_not_take_its_own_errors_for_right(
    gathered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closes_by(monkeypatch, lambda found: found._replace(chosen=(service_of("any"), None)))
    gathered.tick(gathered.now + 10 * MINUTE)
    assert (await verified(gathered)).outcomes["different"] == 1


async def test_what_another_solver_found_is_as_it_should_be_if_it_is_proved(
    gathered: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, int] = {}

    def dearer(found: Assignment) -> Assignment:
        """Each price is higher by one, which proves as much."""
        asked.update(
            {name: found.prices.get(name, 0) + 1 for name in (service_of("any"), service_of("young"))}
        )
        return found._replace(prices=asked)

    with monkeypatch.context() as other:
        closes_by(other, dearer)
        gathered.tick(gathered.now + 10 * MINUTE)
        assert {price.service: int(price.price) for price in closed(gathered).prices} == asked
    assert (await verified(gathered)).good


async def test_a_window_of_who_was_forgotten_since_can_not_be_proved_again_and_is_not_called_wrong(
    gathered: World,
) -> None:
    gathered.tick(gathered.now + 10 * MINUTE)
    known = next(iter(gathered.state.referrals.values()))
    gathered.destroyed[known.subject] = 0
    report = await verified(gathered)
    assert report.good and report.outcomes["erased"] >= 1


async def test_a_window_that_names_others_than_it_gathered_is_found_out(gathered: World) -> None:
    gathered.tick(gathered.now + 10 * MINUTE)
    at = next(n for n, (entry, _) in enumerate(gathered.entries) if isinstance(entry.event, WindowClosed))
    entry, _ = gathered.entries[at]
    event = closed(gathered)
    fewer = event.model_copy(update={"placements": event.placements[:1]})
    forged = Entry(entry.meta, fewer)
    gathered.entries[at:] = [(forged, gathered.codec.encode_entry(forged))]
    assert (await verified(gathered)).outcomes["different"] == 1


def waiting_for_beds(world: World) -> tuple[str, str]:
    """Who is served with the only bed, and who waits for it."""
    world.publish(offers("beds"))
    served = world.accepted()
    return served, world.refer(mode="waitlist", number=2)


async def test_a_ledger_that_passes_over_who_is_first_in_line_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, waiting = waiting_for_beds(world)
    with monkeypatch.context() as forging:
        forging.setattr(Region, "next_call", lambda _: None)
        world.send(outcome(served), "shelter")
        jumped = world.refer(number=3)
    assert not world.state.referrals[waiting].tasks and world.task(jumped).service == service_of("beds")
    report = await verified(world)
    assert not report.good and report.outcomes["different"] == 1 and not report.broken


async def test_a_ledger_that_leaves_what_was_parked_unanswered_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish(offers("beds"))
    first = world.submission(number=5)
    world.send(decline(first.referral, 1, "no_capacity"), "shelter")
    with monkeypatch.context() as forging:
        forging.setattr(World, "_followed", lambda *_: None)
        world.send(first, "police", id="s-5")
        world.send(accept(first.referral), "shelter")
    report = await verified(world)
    assert not report.good and report.outcomes["different"] >= 1


@pytest.mark.parametrize("others", ["a call before what was parked", "the second before the first"])
async def test_a_ledger_that_follows_in_another_order_is_found_out(
    world: World, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    """One place comes free at the moment that two submissions have waited for: both are taken, and then whoever is first in line."""
    world.publish(offers("beds"))
    waiting = world.refer(mode="waitlist", number=2)
    world.send(accept(waiting), "shelter")
    later = [report("annex", 3, available, world.now + 1) for available in (2, 1)]
    for said in later:
        world.send(said, "shelter")
    line = world.refer(mode="waitlist", number=3)
    followed = World._followed

    def otherwise(self: World, now: int) -> list[Event] | None:
        ready = self.state.ready
        if others.startswith("the second"):
            ready.rotate(1)
        elif ready and (called := self.state.next_call()) is not None:
            return call(self.state, called, now, self.open(wanted_for(self.state, called)))
        return followed(self, now)

    units = [
        Unit(unit=unit_of(local), name="places", total=total, available=total - 1)
        for local, total in (("beds", 1), ("annex", 2))
    ]
    monkeypatch.setattr(World, "_followed", otherwise)
    world.publish(offers("beds", units=units))
    monkeypatch.undo()
    assert line in world.state.referrals and not world.state.ready
    assert not (await verified(world)).good


@pytest.mark.parametrize("parked", [False, True])
async def test_a_ledger_may_end_before_somebodys_turn_and_it_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch, parked: bool
) -> None:
    served, waiting = waiting_for_beds(world)
    first = world.submission(number=5)
    world.send(withdraw(first.referral), "police")
    with monkeypatch.context() as cutting:
        cutting.setattr(World, "_followed", lambda *_: None)
        if parked:
            world.send(first, "police", id="s-5")
        else:
            world.send(outcome(served), "shelter")
    checked = await verified(world)
    whose = f"what was parked at sequence {world.state.ready[0]}" if parked else waiting
    assert checked.good and checked.unfinished == [f"region north ends before the turn of {whose}"]


async def test_a_ledger_whose_last_turn_has_come_is_finished(world: World) -> None:
    served, _ = waiting_for_beds(world)
    world.send(outcome(served), "shelter")
    assert (await verified(world)).unfinished == []


def forged(world: World, at: int, event: Event | None) -> None:
    """Another event in place of one, or none, and a chain that holds all the same."""
    events = [(entry, entry.event) for entry, _ in world.entries]
    changed = [*events[:at], *([] if event is None else [(events[at][0], event)]), *events[at + 1 :]]
    world.entries.clear()
    hash_ = bytes(32)
    for number, (entry, said) in enumerate(changed, 1):
        meta = entry.meta.model_copy(update={"sequence": number, "prev_hash": hash_})
        value = world.codec.encode_entry(Entry(meta, said))
        world.entries.append((Entry(meta, said), value))
        hash_ = sha256(value).digest()


def at_the(world: World, kind: type[Event], which: int = -1) -> int:
    """Where an event of a kind stands."""
    return [n for n, event in enumerate(world.events) if isinstance(event, kind)][which]


async def outcomes(world: World) -> dict[str, int]:
    """What came of it, but for what is broken behind the event that was forged."""
    return dict((await verified(world)).outcomes)


async def test_what_an_erased_person_asked_for_is_checked_as_far_as_it_needs_no_facts(world: World) -> None:
    world.publish(offers("beds"), offers("full", "clinic", available=0))
    world.refer()
    world.destroyed[subject_of(1)] = 0
    assert await outcomes(world) == {"same": 9, "erased": 1}
    opened, decided, offered = world.events[-3:]
    assert isinstance(opened, ReferralOpened) and isinstance(decided, MatchDecided)
    assert isinstance(offered, OfferMade)
    elsewhere = {"service": service_of("full"), "unit": unit_of("full"), "provider": "clinic"}
    wrong: list[tuple[int, Event | None]] = [
        (-3, opened.model_copy(update={"agency": "hospital"})),
        (-2, decided.model_copy(update={"attempt": 2})),
        (-2, decided.model_copy(update={"service": None})),
        (-1, None),
        (-1, offered.model_copy(update={"provider": "clinic"})),
        (-1, offered.model_copy(update=elsewhere)),
    ]
    kept = list(world.entries)
    for place, event in wrong:
        world.entries[:] = kept
        forged(world, len(kept) + place, event)
        assert (await outcomes(world)).get("different") == 1, (place, event)


async def test_an_erased_persons_decision_that_read_no_facts_is_checked_whole(gathered: World) -> None:
    gathered.destroyed[subject_of(1)] = gathered.destroyed[subject_of(2)] = 0
    assert set(await outcomes(gathered)) == {"same"}


async def test_a_window_is_checked_for_the_others_where_one_of_it_was_forgotten(gathered: World) -> None:
    """A third, who is old too, came last and has no place, was forgotten."""
    gathered.now += 2 * MINUTE
    gathered.refer(OLD, number=3, urgency="routine")
    gathered.tick(gathered.now + 10 * MINUTE)
    gathered.destroyed[subject_of(3)] = 0
    kept, event = list(gathered.entries), closed(gathered)
    assert "different" not in await outcomes(gathered)
    young, any_ = service_of("young"), service_of("any")
    assert [one.service for one in event.placements] == [young, any_, None]
    for services in (
        [any_, young, None],
        [None, any_, None],
        [young, None, None],
        [young, any_, any_],
        [young, any_, service_of("nowhere")],
        [young, any_],
    ):
        placements = [
            one.model_copy(update={"service": service})
            for one, service in zip(event.placements, services, strict=False)
        ]
        gathered.entries[:] = kept[: at_the(gathered, WindowClosed) + 1]
        forged(gathered, len(gathered.entries) - 1, event.model_copy(update={"placements": placements}))
        assert (await outcomes(gathered)).get("different") == 1, services
        gathered.entries[:] = kept


async def test_a_publication_is_checked_for_those_who_line_up_and_were_not_forgotten(world: World) -> None:
    world.publish(offers("beds"))
    world.accepted(number=9)
    for number in (1, 2, 3):
        world.refer(mode="waitlist", number=number)
    world.publish(offers("more", "clinic", available=0))
    world.destroyed[subject_of(2)] = 0
    first = at_the(world, ServicePublished) + 1
    kept = world.entries[: first + 3]
    assert (await verified(world)).good and (await outcomes(world))["erased"] >= 1
    last = world.events[first + 2]
    assert isinstance(last, ReferralWaitlisted)
    for place, event, good in [
        (first + 1, None, True),
        (first, None, False),
        (first + 1, last.model_copy(update={"referral": of(number=2), "services": []}), False),
        (first + 2, last.model_copy(update={"referral": of(number=2)}), False),
    ]:
        world.entries[:] = kept
        forged(world, place, event)
        assert (await verified(world)).good is good, (place, event)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_whoever_is_forgotten_of_whatever_life_nothing_is_called_wrong(
    codec: Codec, seed: int, windows: bool
) -> None:
    lives = Lives(codec, seed, windows=windows)
    lives.steps(250)
    world = lives.world
    subjects = sorted({event.subject for event in world.events if isinstance(event, ReferralOpened)})
    for one in subjects[seed % 2 :: 2]:
        world.destroyed[one] = 0
    for event in world.events:
        if isinstance(event, ReferralOpened) and event.sealed_facts[0] % 7 == 0:
            world.unreadable.add(event.sealed_facts)
    report = await verified(world)
    assert report.good, report
    assert report.outcomes["erased"] > 5 and not report.unfinished


async def test_a_ledger_of_which_no_match_can_be_decided_again_for_want_of_keys_is_not_called_good(
    world: World,
) -> None:
    world.publish(offers("beds"))
    world.refer()
    assert not (await verified(world)).no_match_checked
    opened = world.events[at_the(world, ReferralOpened)]
    assert isinstance(opened, ReferralOpened)
    world.unreadable.add(opened.sealed_facts)
    checked = await verified(world)
    assert checked.no_match_checked and not checked.good and not checked.outcomes["different"]
    world.destroyed[opened.subject] = 0
    checked = await verified(world)
    assert checked.no_match_checked and checked.good, "nobody can have those keys any more"


async def test_what_matching_failed_on_is_not_called_the_same_and_is_decided_again(world: World) -> None:
    """Each could have been decided: who was sent away or passed over because of a fault is to be known, whoever made it."""
    served, waiting = waiting_for_beds(world)
    said = world.received(outcome(served), "shelter")
    write(world, decide(world.state, said, world.now, {}), said.admitted)
    called = world.state.next_call()
    assert called is not None and called.referral == waiting
    write(world, gave_up_calling(called, world.now))
    declined = world.received(withdraw(waiting), "police")
    write(world, gave_up_deciding(), declined.admitted)
    world.send(report("annex", 2, 1, world.now), "shelter")
    write(world, gave_up_deciding(), world.received(Tick(region="north", due=1), "matching").admitted)
    checked = await verified(world)
    assert checked.outcomes["gave_up"] == 2 and not checked.broken
    assert [line.split(": ", 2)[2] for line in checked.gave_up] == [
        "it comes to ReferralCalled, MatchDecided, OfferMade now",
        "it comes to ReferralWithdrawn, ReferralClosed now",
    ]
    assert all(line.startswith("ledger/0/") and "sequence" in line for line in checked.gave_up)
    assert checked.outcomes["different"] == 1, "a tick is refused by nobody: what is due is put off"
    shown = _as_json(checked)
    assert (shown["gave_up"], shown["gave_up_at"]) == (2, checked.gave_up)


def two_offers_run_out(world: World) -> Admitted:
    """The tick by which they do."""
    world.publish(offers("beds", total=2))
    world.refer(number=1)
    world.refer(number=2)
    due = world.state.next_due()
    assert due is not None
    assert gave_up_due(world.state, due.at - 1) == []
    return world.received(Tick(region="north", due=due.at), "matching", at=due.at).admitted


async def test_what_was_put_off_because_matching_failed_on_it_is_told(world: World) -> None:
    ticked = two_offers_run_out(world)
    [put_off] = gave_up_due(world.state, ticked.append_time)
    write(world, [put_off], ticked)
    checked = await verified(world)
    assert checked.good and checked.outcomes["gave_up"] == 1
    assert checked.gave_up[0].endswith("it comes to OfferExpired, MatchDecided, ReferralClosed now")


async def test_what_is_put_off_for_another_time_is_different_and_of_another_than_the_first_damage(
    world: World,
) -> None:
    ticked = two_offers_run_out(world)
    [first] = gave_up_due(world.state, ticked.append_time)
    assert first.about == of(number=1)
    write(world, [first.model_copy(update={"until": first.until + 1})], ticked)
    assert (await verified(world)).outcomes["different"] == 1
    with pytest.raises(UnknownEvent, match="has no offer that is due first"):
        write(world, [first], ticked)


async def test_a_mended_fault_does_not_fail_the_check_and_one_that_is_not_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish(offers("beds"))
    said = world.received(world.submission(), "police")
    write(world, gave_up_deciding(), said.admitted)
    checked = await verified(world)
    assert checked.good and checked.gave_up[0].endswith(
        "it comes to ReferralOpened, MatchDecided, OfferMade now"
    )
    _tell(checked)
    assert "1 came to nothing then" in (told := capsys.readouterr().out) and checked.gave_up[0] in told

    def fails(state: Region, received: Received, *rest: Any) -> list[Event]:
        if isinstance(received.body, SubmitReferral):
            raise ZeroDivisionError
        return decide(state, received, *rest)

    with monkeypatch.context() as still:
        still.setattr("services.matching.verify.decide", fails)
        [line] = (await verified(world)).gave_up
    assert line.endswith("it fails now too (ZeroDivisionError)")
    world.destroyed[subject_of(1)] = 0
    [line] = (await verified(world)).gave_up
    assert line.endswith("its facts can't be opened now")


def write(world: World, events: list[Event], admitted: Admitted | None = None) -> None:
    """What a matching with a fault, or somebody else, would have written."""
    at = world.state.decided_through if admitted is None else admitted.offset
    world.entries += world.chain.append(world.codec, events, admitted, at, world.now)
