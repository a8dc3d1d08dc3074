"""A stretch of the ledger under another policy: under its own it comes out as it was, and under another as that policy says."""

from __future__ import annotations

import csv
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from referral_bus.cli.errors import Rejected
from referral_bus.contracts.facts import Facts, ListFact, PlaceFact
from referral_bus.contracts.ids import task_id
from referral_bus.contracts.inbox import AnswerCapacity, ListCapacity, Submission
from referral_bus.contracts.ledger import Entry, Meta, OfferDeclined, OfferMade, Received
from referral_bus.contracts.reference import Policy, ReachLimit
from referral_bus.contracts.vocabulary import LendingAnswer
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import admitted_again
from services.matching import commands
from services.matching.chain import Chain
from services.matching.core.decide import AllOpened, WantedFacts, too_large
from services.matching.core.judging import match as judging
from services.matching.core.judging.ranking import lottery
from services.matching.core.referral import Referral
from services.matching.core.state import Region
from services.matching.relay import SOURCE
from services.matching.verify import begins
from services.matching.whatif import (
    FEW,
    Comparison,
    Recorded,
    Stretch,
    compare,
    comparison_as_json,
    comparison_lines,
    write_referrals,
)
from services.matching.whatif.behaviour import Behaviour
from tests.support.deciding import (
    BUS,
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    REGION,
    World,
    accept,
    decline,
    forget,
    go_on,
    hold,
    of,
    offers,
    organisation,
    outcome,
    policy,
    propose,
    publish,
    service_of,
    spoken,
    stated_area,
    subject_of,
    unit_of,
    withdraw,
)
from tests.support.lives import Lives
from tests.support.regions import Between, answers, heard_of, lent_out

BY_LOAD = POLICY.model_copy(update={"version": 2, "rank_by": ["load", "lottery"]})
BY_FRESHNESS = POLICY.model_copy(update={"version": 3, "rank_by": ["freshness", "load", "lottery"]})


def lived(world: World) -> World:
    """Two services, one with more room, the other counted later; eight referrals, most accepted."""
    world.send(policy(BY_LOAD), OPERATIONS)
    world.publish(offers("roomy", total=40))
    world.now += 3 * 60 * MINUTE
    world.publish(offers("fresh", "clinic", total=20, available=10))
    return world


def told(world: World, count: int = 8, area: str = "riverside", first: int = 1) -> None:
    for number in range(first, first + count):
        facts = HOUSING.model_copy(update={"area": stated_area(area)})
        referral = world.refer(facts, number=number)
        task = world.state.referrals[referral].tasks[-1]
        world.now += MINUTE
        if number == 3:
            world.send(decline(referral), task.provider)
        else:
            world.send(accept(referral), task.provider)
        if number % 2:
            world.now += MINUTE
            known = world.state.referrals[referral]
            if known.acceptance is not None:
                world.send(outcome(referral), task.provider)


async def again(world: World, since: int, other: Policy) -> Comparison:
    chain, groups = Chain(Region(world.region)), list[Recorded]()
    for entry, value in world.entries:
        if not groups and (entry.meta.sequence <= since or not begins(entry)):
            chain.take(entry, value)
        elif begins(entry):
            admitted = entry.meta.submission
            received: Received | None = None if admitted is None else admitted_again(admitted, world.codec)
            groups.append(Recorded(received, [entry]))
        else:
            groups[-1].entries.append(entry)

    async def opened(wanted: Iterable[WantedFacts]) -> AllOpened:
        return world.open(wanted)

    return await Stretch(chain.state, other, groups, opened, world.codec).live()


async def test_under_its_own_policy_it_comes_out_as_it_was(world: World) -> None:
    since = lived(world).state.sequence
    told(world)
    compared = await again(world, since, BY_LOAD)
    assert compared.would.opened == compared.was.opened
    assert compared.would.accepted == compared.was.accepted
    assert compared.would.offers == compared.was.offers


async def test_under_another_policy_others_are_asked_and_what_they_would_say_is_assumed(world: World) -> None:
    since = lived(world).state.sequence
    told(world)
    compared = await again(world, since, BY_FRESHNESS)
    assert {one.provider for one in compared.was.accepted.values()} == {"shelter"}
    assert {one.provider for one in compared.would.accepted.values()} == {"clinic"}
    assert compared.assumed == 7
    assert len(compared.would.accepted) == 7, (
        "the one that was declined had been offered to the other, which did not answer"
    )


async def test_places_are_those_of_the_life_that_is_lived(world: World) -> None:
    since = lived(world).state.sequence
    world.publish(offers("fresh", "clinic", total=20, available=10))
    told(world, 16)
    compared = await again(world, since, BY_FRESHNESS)
    assert compared.would.offers["sv-north-fresh"] >= 10
    assert sum(compared.would.offers.values()) >= len(compared.would.accepted)


async def test_what_was_refused_for_its_size_is_not_taken_for_said(world: World) -> None:
    since = lived(world).state.sequence
    larger = world.received(publish(offers("freshest", "clinic", total=40)), "clinic")
    refused = world.chain.append(world.codec, too_large(), larger.admitted, larger.admitted.offset, world.now)
    world.entries += refused
    told(world)
    compared = await again(world, since, BY_FRESHNESS)
    assert compared.would.offers.keys() == {"sv-north-fresh"}


async def test_groups_of_few_people_are_not_shown(world: World) -> None:
    since = lived(world).state.sequence
    told(world, FEW - 1, area="harbour")
    compared = await again(world, since, BY_LOAD)
    shown: Any = comparison_as_json(compared)["by"]
    assert shown["area"] == []
    assert "harbour" not in "\n".join(comparison_lines(REGION, compared))


async def test_groups_are_told_by_urgency_language_and_area(world: World) -> None:
    since = lived(world).state.sequence
    told(world, 8)
    compared = await again(world, since, BY_LOAD)
    said = "\n".join(comparison_lines(REGION, compared))
    assert "urgency urgent: 8 referrals, 7 accepted as it was" in said
    assert "language en: 8 referrals" in said
    assert "area riverside: 8 referrals" in said


# What was answered


def near(latitude: int) -> Any:
    return PlaceFact(status="stated", latitude=latitude, longitude=-87_000_000)


def two_asked_at_once(world: World) -> Facts:
    """Two services, each of which is asked for a person on foot, near the second; and this person's facts."""
    world.follow(broadcast_width=2)
    places = [{"latitude": latitude, "longitude": -87_000_000} for latitude in (41_000_000, 40_000_000)]
    world.publish(
        offers("far", total=200, places=places[:1]),
        offers("near", "clinic", total=20, available=19, places=places[1:]),
    )
    world.send(policy(BY_LOAD), OPERATIONS)
    return HOUSING.model_copy(update={"place": near(40_000_000), "travel": stated_area("walk")})


def near_only() -> Policy:
    reach = [ReachLimit(urgency="urgent", travel="walk", metres=1000)]
    return BY_LOAD.model_copy(update={"version": 9, "reach": reach})


async def test_a_service_that_was_not_let_answer_is_not_taken_for_one_that_is_silent(world: World) -> None:
    facts = two_asked_at_once(world)
    since = world.state.sequence
    for number in range(1, 7):
        referral = world.refer(facts, number=number, mode="broadcast")
        world.now += MINUTE
        world.send(accept(referral), "shelter")
    world.now += HOUR
    world.publish(offers("pantry", "pantry", needs=["food"]))
    compared = await again(world, since, near_only())
    assert set(compared.would.offers) == {service_of("near")}
    assert len(compared.was.accepted) == len(compared.would.accepted) == 6
    assert compared.assumed == 6


async def test_a_service_whose_offer_was_withdrawn_is_not_taken_to_have_answered_sooner(world: World) -> None:
    world.publish(offers("beds", total=20))
    since = world.state.sequence
    world.send(accept(world.refer(number=1)), "shelter")
    kept = world.refer(number=2)
    world.now += 5 * MINUTE
    world.send(withdraw(kept), "police")
    compared = await again(world, since, POLICY)
    assert compared.would.accepted == compared.was.accepted
    assert compared.assumed == 0, "it was withdrawn again before the service would have answered"


async def test_an_offer_that_is_open_at_the_end_is_open_then_in_the_other_life(world: World) -> None:
    world.publish(offers("beds", total=20))
    since = world.state.sequence
    world.send(accept(world.refer(number=1)), "shelter")
    world.refer(number=2)
    world.now += 5 * MINUTE
    world.tick()
    compared = await again(world, since, POLICY)
    assert compared.would.accepted == compared.was.accepted
    assert compared.assumed == 0


async def test_a_service_that_was_full_until_a_day_is_so_in_the_other_life_and_accepts_after_it(
    world: World,
) -> None:
    world.send(policy(BY_LOAD), OPERATIONS)
    world.publish(offers("beds", total=40))
    since = world.state.sequence
    asked = [world.refer(number=number) for number in range(1, 7)]
    until = world.now + 3 * DAY
    for referral in asked:
        world.now += MINUTE
        world.send(decline(referral, 1, "full_until", until), "shelter")
    world.tick(until)
    for referral in asked:
        [number] = world.state.referrals[referral].offers
        world.send(accept(referral, number), world.task(referral, number).provider)
    compared = await again(world, since, BY_LOAD)
    assert compared.would.offers == compared.was.offers
    assert compared.would.accepted == compared.was.accepted
    assert compared.median_wait(compared.would) == compared.median_wait(compared.was)
    assert compared.assumed == 0


async def test_a_service_that_is_asked_more_often_than_it_was_says_the_same_again_and_that_is_assumed() -> (
    None
):
    made = OfferMade(
        referral=of(),
        task=task_id(of(), 1),
        service="sv-north-a",
        unit="un-north-a",
        provider="shelter",
        expires_at=9,
    )
    no = OfferDeclined(referral=of(), task=made.task, provider="shelter", reason="no_capacity")
    meta = Meta(
        region=REGION, sequence=1, prev_hash=bytes(32), decided_through=0, now=1_000, rules=1, submission=None
    )
    behaviour = Behaviour(
        [Recorded(None, [Entry(meta, made), Entry(meta.model_copy(update={"now": 3_000}), no)])]
    )
    first, second = (behaviour.answer(of(), "sv-north-a", 5_000) for _ in range(2))
    assert (first.answer, first.assumed) == (second.answer, False)
    assert (first.answer.after, first.answer.reason, second.assumed) == (2_000, "no_capacity", True)


async def test_a_service_that_goes_on_at_the_end_goes_on_as_long_in_the_other_life(world: World) -> None:
    world.publish(offers("beds", total=2))
    since = world.state.sequence
    short, long = world.accepted(number=1), world.accepted(number=2)
    world.now += HOUR
    world.send(outcome(short), "shelter")
    world.now += 2 * HOUR
    third, fourth = world.accepted(number=3), world.refer(number=4)
    assert long in world.state.referrals
    compared = await again(world, since, POLICY)
    assert compared.was.accepted.keys() == compared.would.accepted.keys() == {short, long, third}
    assert compared.would.offers == compared.was.offers, f"nobody left to make room for {fourth}"


async def test_a_service_proposes_the_other_again(world: World) -> None:
    world.publish_in_order("beds", "rooms")
    since = world.state.sequence
    referral = world.refer()
    world.now += MINUTE
    world.send(propose(referral, "rooms"), "shelter")
    world.now += MINUTE
    world.send(accept(referral, 2), "shelter")
    assert world.state.policy is not None
    compared = await again(world, since, world.state.policy)
    assert compared.would.accepted == compared.was.accepted
    assert compared.would.accepted[referral].service == service_of("rooms")


class Comparable(Lives):
    """Lives of which all that is said after an acceptance is what came of it: of the rest another life can have none. The clock is prompt,
    as it is in operation."""

    def __init__(self, codec: Codec, seed: int) -> None:
        super().__init__(codec, seed)
        self.world.send(policy(BY_LOAD), OPERATIONS)
        self.since = self.world.state.sequence

    def _pass_time(self) -> None:
        world = self.world
        until = world.now + self.draw.choice([MINUTE, 5 * MINUTE, 20 * MINUTE, HOUR, 7 * HOUR, DAY])
        while (due := world.state.next_due()) is not None and due.at <= until:
            world.tick(max(world.now, due.at))
        world.now = until

    def _choices(self, name: str, known: Referral) -> list[Callable[[], tuple[Submission, str]]]:
        choices: list[Callable[[], tuple[Submission, str]]] = [
            lambda: (hold(name, self.world.now + HOUR), known.agency),
            lambda: (withdraw(name), known.agency),
        ]
        if known.on_hold:
            choices.append(lambda: (go_on(name), known.agency))
        if (taken := known.acceptance) is not None:
            return [lambda: (outcome(name), known.attempt(taken).provider)]
        for number in known.offers:
            choices += self._answers(name, known, number) * 2
        return choices

    def _afterwards(self, name: str) -> tuple[Submission, str]:
        return self._submission()


@pytest.mark.parametrize("seed", range(25))
async def test_a_life_lived_again_under_its_own_policy_is_the_same(
    codec: Codec, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each life has a chain of its own, and draws its lots by it: here they come out the same.
    monkeypatch.setattr(judging, "lottery", lambda draw, _, referral: lottery(draw, bytes(32), referral))
    lives = Comparable(codec, seed)
    lives.steps(150)
    compared = await again(lives.world, lives.since, BY_LOAD)
    assert compared.was.offers.total() > 20
    assert compared.would.opened == compared.was.opened
    assert compared.would.accepted == compared.was.accepted
    assert compared.would.offers == compared.was.offers
    assert compared.assumed == 0


# The ledger, cut


async def cut(world: World, other: Policy, since: int, until: int) -> list[tuple[str, Comparison]]:
    log, topic = MemoryLog(lambda: world.now), topics.ledger(BUS)
    await log.ensure(topics.topics(BUS, 1, 1))
    records = [Outgoing(topic, 0, REGION.encode(), value) for _, value in world.entries]
    await (await log.appender()).append(records)

    async def opened(wanted: Iterable[WantedFacts]) -> AllOpened:
        return world.open(wanted)

    return await compare(log, topic, world.codec, opened, other, since, until)


async def test_a_stretch_begins_with_what_was_decided_at_its_first_moment_and_ends_before_its_last(
    world: World,
) -> None:
    lived(world)
    world.accepted(number=1)
    since = world.now + MINUTE
    world.now = since - world.step
    within = [world.accepted(number=2)]
    assert world.state.closed == {} and within[0] in world.state.referrals
    until = world.now + MINUTE
    world.now = until - 1 - world.step
    within.append(world.refer(number=3))
    assert world.now == until - 1
    world.accepted(number=4)
    [(region, compared)] = await cut(world, BY_LOAD, since, until)
    assert region == REGION
    assert list(compared.was.opened) == list(compared.would.opened) == within
    assert compared.was.accepted == compared.would.accepted
    assert compared.was.accepted.keys() == {within[0]}
    assert compared.was.opened[within[0]] == since
    assert await cut(world, BY_LOAD, world.now + MINUTE, world.now + HOUR) == []


async def test_a_policy_that_was_published_in_the_stretch_changes_nothing_in_the_other_life(
    world: World,
) -> None:
    since = lived(world).state.sequence
    told(world, 2)
    world.send(policy(BY_FRESHNESS), OPERATIONS)
    told(world, 5, first=4)
    compared = await again(world, since, BY_LOAD)
    assert {one.provider for one in compared.was.accepted.values()} == {"shelter", "clinic"}
    assert {one.provider for one in compared.would.accepted.values()} == {"shelter"}


async def test_what_is_gained_is_told_with_how_much_of_it_rests_on_assumed_answers(world: World) -> None:
    far = [{"latitude": 41_000_000, "longitude": -87_000_000}]
    world.follow(offer_limits={"crisis": DAY, "urgent": DAY, "routine": DAY})
    world.publish(offers("beds", total=20, places=far))
    world.send(policy(near_only()), OPERATIONS)
    since = world.state.sequence
    facts = HOUSING.model_copy(update={"place": near(40_000_000), "travel": stated_area("walk")})
    world.refer(facts, number=1)
    world.now += 2 * HOUR
    world.tick()
    world.refer(facts, number=2)
    anywhere = BY_LOAD.model_copy(update={"version": 10})
    compared = await again(world, since, anywhere)
    assert compared.gained == {of(number=1)}
    assert "(1 gained, of them 1 assumed, 0 lost, 0 by another provider)" in "\n".join(
        comparison_lines(REGION, compared)
    )
    assert comparison_as_json(compared)["only_would_assumed"] == 1


# Groups


async def test_the_language_of_a_group_is_the_first_that_was_stated(world: World) -> None:
    since = lived(world).state.sequence
    for number in range(1, FEW + 1):
        world.refer(HOUSING.model_copy(update={"languages": spoken("es", "en")}), number=number)
        world.refer(HOUSING.model_copy(update={"languages": ListFact()}), number=number + 50)
    compared = await again(world, since, BY_LOAD)
    assert [group.name for group in compared.groups("language")] == ["es", "not said"]


async def test_groups_are_told_by_where_people_are_served_with_the_median_of_their_waits(
    world: World,
) -> None:
    since = lived(world).state.sequence
    told(world)
    compared = await again(world, since, BY_FRESHNESS)
    [clinic, shelter] = compared.groups("provider")
    assert (clinic.name, clinic.was, clinic.would) == ("clinic", 0, 7)
    assert (shelter.name, shelter.was, shelter.would) == ("shelter", 7, 0)
    assert clinic.was_wait_ms is None
    assert clinic.would_wait_ms is not None
    assert MINUTE <= clinic.would_wait_ms <= MINUTE + 2
    assert [group.name for group in compared.groups("service")] == [service_of("fresh"), service_of("roomy")]
    said = "\n".join(comparison_lines(REGION, compared))
    assert (
        "provider clinic: 7 referrals, 0 accepted as it was, 7 as it would have been;"
        " median wait of too few, 1.0 min" in said
    )


async def test_the_median_of_few_waits_is_not_told_for_a_group_or_a_region(world: World) -> None:
    world.publish(offers("small", total=FEW - 1))
    since = world.state.sequence
    for number in range(1, FEW + 3):
        referral = world.refer(number=number)
        if referral in world.state.referrals:
            world.send(accept(referral), "shelter")
    compared = await again(world, since, POLICY)
    [urgent] = compared.groups("urgency")
    assert (urgent.referrals, urgent.was, urgent.was_wait_ms) == (FEW + 2, FEW - 1, None)
    shown: Any = comparison_as_json(compared)
    assert shown["median_wait_ms"] == {"was": None, "would": None}


async def test_what_few_are_can_not_be_had_by_subtracting_the_groups_that_are_told(world: World) -> None:
    since = lived(world).state.sequence
    told(world, FEW + 1)
    told(world, FEW, area="hillside", first=20)
    told(world, 1, area="harbour", first=30)
    compared = await again(world, since, BY_LOAD)
    assert [(group.name, group.referrals) for group in compared.groups("area")] == [
        ("riverside", FEW + 1),
        ("all smaller groups together", FEW + 1),
    ]


# Referral by referral


async def test_the_file_says_of_each_referral_where_and_when_it_was_and_would_have_been_served(
    world: World, tmp_path: Path
) -> None:
    since = lived(world).state.sequence
    told(world)
    path = tmp_path / "referrals.csv"
    path.touch(0o644)
    write_referrals(path, [await again(world, since, BY_FRESHNESS), await again(world, since, BY_LOAD)])
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 16
    [first, third, own] = rows[0], rows[2], rows[8]
    assert first["referral"] == own["referral"]
    assert first["urgency"] == "urgent"
    assert (first["was_provider"], first["was_service"]) == ("shelter", service_of("roomy"))
    assert (first["would_provider"], first["would_service"]) == ("clinic", service_of("fresh"))
    assert first["was_accepted_at"] == first["would_accepted_at"] == "2023-11-15T01:14:20Z"
    assert first["difference"] == "elsewhere"
    assert (third["would_provider"], third["would_accepted_at"], third["difference"]) == ("", "", "neither")
    assert own["difference"] == "same"


async def test_the_file_holds_no_fact_of_a_person_and_its_owner_alone_can_read_it(
    world: World, tmp_path: Path
) -> None:
    since = lived(world).state.sequence
    for number in range(1, FEW + 2):
        world.refer(
            HOUSING.model_copy(update={"area": stated_area("riverside"), "languages": spoken("tlh")}),
            number=number,
        )
    path = tmp_path / "referrals.csv"
    path.touch(0o644)
    write_referrals(path, [await again(world, since, BY_LOAD)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.read_text(encoding="utf-8")
    assert written.count("\n") == FEW + 2
    assert "riverside" not in written
    assert "tlh" not in written
    assert subject_of(1) not in written


def test_the_command_writes_the_file_or_says_why_it_can_not(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    since = lived(world).state.sequence
    told(world)

    async def compared(*_: object) -> list[tuple[str, Comparison]]:
        return [(REGION, await again(world, since, BY_LOAD))]

    monkeypatch.setattr(commands, "_whatif", compared)
    other = tmp_path / "policy.json"
    other.write_text(BY_LOAD.model_dump_json(), encoding="utf-8")
    path = tmp_path / "referrals.csv"
    commands.whatif(other, "2023-11-14", "2023-11-15", path, as_json=True)
    assert path.read_text(encoding="utf-8").startswith("referral,urgency,was_provider,")
    assert '"answers_assumed": 0' in capsys.readouterr().out
    with pytest.raises(Rejected, match="can't be written: No such file or directory"):
        commands.whatif(other, "2023-11-14", "2023-11-15", tmp_path / "away" / "referrals.csv")


# Other regions


def beside_another_region(codec: Codec, total: int = 100, available: int = 60) -> Between:
    """The north has a service of its own, and may have places of one of the south, which was counted later and is fuller."""
    between = Between(codec)
    between.publish(offers("home", "clinic", region="north", total=100))
    between.publish(lent_out("beds", "south", total=total))
    between.say("north", policy(BY_LOAD), OPERATIONS)
    between.pass_time(2 * HOUR)
    between.count("beds", total, available, "south")
    between.flow()
    return between


def served(between: Between, count: int = 8, answered_after: int = 0) -> None:
    for number in range(1, count + 1):
        referral = between.refer("north", number)
        between.now += answered_after
        between.flow()
        between.accepts(referral)
        between.now += answered_after
        between.flow()
        between.pass_time(5 * MINUTE)
        between.flow()


async def test_a_service_of_another_region_is_asked_and_that_region_is_assumed_to_lend_its_place(
    codec: Codec,
) -> None:
    between = beside_another_region(codec)
    since = between["north"].state.sequence
    served(between)
    compared = await again(between["north"], since, BY_FRESHNESS)
    assert compared.was.offers == {service_of("home"): 8}
    assert compared.would.offers == {service_of("beds", "south"): 8}
    assert {one.provider for one in compared.would.accepted.values()} == {"shelter"}
    assert len(compared.would.accepted) == 8
    assert compared.assumed == 24, "a place held, an offer accepted and a place taken, eight times"


async def test_places_that_another_region_gave_are_taken(codec: Codec) -> None:
    between = beside_another_region(codec, total=6, available=3)
    since = between["north"].state.sequence
    served(between, 5)
    compared = await again(between["north"], since, BY_FRESHNESS)
    assert compared.was.offers == {service_of("home"): 5}
    assert compared.would.offers == {service_of("beds", "south"): 3, service_of("home"): 2}


async def test_what_another_region_answered_for_a_task_is_not_put_to_the_task_of_another_service(
    world: World,
) -> None:
    world.send(policy(BY_LOAD), OPERATIONS)
    heard_of(world, lent_out("beds", "south", total=50))
    world.now += 3 * HOUR
    heard_of(world, lent_out("rooms", "east", total=50, available=40))
    since = world.state.sequence
    answered: list[tuple[LendingAnswer, int]] = [("denied", 1_000), ("held", 20_000), ("held", 20_000)]
    for number, (answer, after) in enumerate(answered, 1):
        referral = world.refer(number=number)
        world.now += after
        task, unit = task_id(referral, 1), unit_of("beds", "south")
        world.send(AnswerCapacity(task=task, unit=unit, answer=answer, total=50, room=50), SOURCE)
        world.now += MINUTE
    compared = await again(world, since, BY_FRESHNESS)
    assert compared.was.offers == {service_of("beds", "south"): 2}
    assert compared.would.offers == {service_of("rooms", "east"): 3}


async def test_a_service_of_this_region_is_asked_instead_of_one_of_another(codec: Codec) -> None:
    between = beside_another_region(codec)
    between.say("north", policy(BY_FRESHNESS), OPERATIONS)
    since = between["north"].state.sequence
    served(between, answered_after=1_000)
    compared = await again(between["north"], since, BY_LOAD.model_copy(update={"version": 4}))
    assert compared.was.offers == {service_of("beds", "south"): 8}
    assert compared.would.offers == {service_of("home"): 8}
    assert compared.would.accepted.keys() == compared.was.accepted.keys()
    assert compared.assumed == 8


async def test_another_region_is_taken_to_answer_after_as_long_as_regions_did(codec: Codec) -> None:
    between = beside_another_region(codec)
    between.say("north", policy(BY_FRESHNESS), OPERATIONS)
    since = between["north"].state.sequence
    served(between, answered_after=20_000)
    compared = await again(between["north"], since, BY_FRESHNESS)
    assert compared.would.offers == compared.was.offers
    assert compared.would.accepted.keys() == compared.was.accepted.keys()
    for name, was in compared.was.accepted.items():
        assert abs(compared.would.accepted[name].at - was.at) <= 10, (
            "the clock of a test goes on a bit by each step"
        )


async def test_another_region_is_taken_to_have_no_place_where_by_what_is_known_here_it_has_none(
    world: World,
) -> None:
    heard_of(world, lent_out("beds", "south"))
    since = world.state.sequence
    referral = world.refer()
    world.now += 10_000
    fewer = ListCapacity(unit=unit_of("beds", "south"), total=1, room=0, true_at=world.now, home_sequence=3)
    world.send(fewer, SOURCE)
    world.now += 10_000
    answers(world, referral, "held")
    world.send(accept(referral), "shelter")
    compared = await again(world, since, POLICY)
    assert compared.was.offers.total() == 1
    assert compared.would.offers.total() == 0
    assert compared.would.opened.keys() == {referral}


# The edges of the stretch


async def test_a_referral_that_came_too_early_before_the_stretch_is_compared_once_it_is_opened_in_it(
    world: World,
) -> None:
    world.publish(offers("beds"))
    body = world.submission(agency="school", urgency="crisis")
    world.send(body, "school")
    since = world.state.sequence
    world.send(organisation("school"), OPERATIONS)
    compared = await again(world, since, POLICY)
    assert compared.was.opened.keys() == compared.would.opened.keys() == {body.referral}
    person = compared.people[body.referral]
    assert (person.urgency, person.language, person.area) == ("crisis", "en", "riverside")


async def test_what_was_accepted_before_the_stretch_ends_in_it_as_it_did(world: World) -> None:
    world.publish(offers("beds"))
    former = world.accepted(number=1)
    since = world.state.sequence
    world.send(outcome(former), "shelter")
    later = world.refer(number=2)
    world.send(accept(later), "shelter")
    compared = await again(world, since, POLICY)
    assert compared.would.accepted == compared.was.accepted
    assert compared.would.accepted.keys() == {later}


async def test_an_offer_made_before_the_stretch_is_answered_in_it_as_it_was(world: World) -> None:
    world.publish(offers("beds"))
    former = world.refer(number=1)
    since = world.state.sequence
    world.send(accept(former), "shelter")
    world.tick(world.now + HOUR)
    world.refer(number=2)
    compared = await again(world, since, POLICY)
    assert compared.was.offers.total() == compared.would.offers.total() == 0


async def test_a_person_who_was_forgotten_since_is_left_out_of_both_lives_and_counted(world: World) -> None:
    since = lived(world).state.sequence
    told(world)
    world.destroyed[subject_of(1)] = world.state.sequence
    world.send(forget(subject_of(1)), OPERATIONS)
    compared = await again(world, since, BY_LOAD)
    assert len(compared.was.opened) == len(compared.would.opened) == 7
    assert compared.was.accepted.keys() == compared.would.accepted.keys()
    assert "  left out: 1 whose facts can't be opened any more" in comparison_lines(REGION, compared)


# Who was split


def split_in_two(world: World, number: int) -> list[str]:
    """A referral is opened and split, and each of its parts accepted and over."""
    whole = world.refer(number=number)
    world.now += MINUTE
    parts = [(10 * number + 1, HOUSING), (10 * number + 2, HOUSING)]
    world.send(world.parts_of(whole, parts), "police")
    for one, _ in parts:
        task = world.task(of(number=one))
        world.now += MINUTE
        world.send(accept(of(number=one)), task.provider)
        world.send(outcome(of(number=one)), task.provider)
    return [of(number=one) for one, _ in parts]


async def test_the_parts_of_who_was_split_are_the_referrals_they_are_in_both_lives(world: World) -> None:
    since = lived(world).state.sequence
    parts = split_in_two(world, 1)
    for policy_, provider in ((BY_LOAD, "shelter"), (BY_FRESHNESS, "clinic")):
        compared = await again(world, since, policy_)
        assert set(compared.was.opened) == set(compared.would.opened) == set(parts)
        assert set(compared.was.accepted) == set(compared.would.accepted) == set(parts)
        assert {one.provider for one in compared.would.accepted.values()} == {provider}
        assert compared.split_once == 0


async def test_who_was_served_before_being_split_in_one_life_alone_is_left_out_of_both(world: World) -> None:
    """In the other life it is offered to a service that accepts at once, so that there is nothing to split."""
    since = lived(world).state.sequence
    told(world, 2)
    world.now += HOUR
    world.publish(offers("fresh", "clinic", total=20, available=10))
    whole = world.refer(number=3)
    world.now += HOUR
    world.send(world.parts_of(whole, [(31, HOUSING), (32, HOUSING)]), "police")
    compared = await again(world, since, BY_FRESHNESS)
    assert set(compared.was.opened) == set(compared.would.opened) == {of(number=1), of(number=2)}
    assert compared.split_once == 1
    assert "  left out: 1 that were split in one of the lives alone" in comparison_lines(REGION, compared)
    assert comparison_as_json(compared)["split_once"] == 1


async def test_the_parts_of_few_people_are_not_a_group(world: World) -> None:
    since = lived(world).state.sequence
    for number in range(1, FEW):
        split_in_two(world, number)
    compared = await again(world, since, BY_LOAD)
    assert len(compared.was.accepted) == 2 * (FEW - 1)
    assert compared.groups("urgency") == [] and compared.median_wait(compared.was) is None


async def test_of_who_was_split_and_forgotten_the_parts_are_what_is_left_out(world: World) -> None:
    since = lived(world).state.sequence
    split_in_two(world, 1)
    world.destroyed[subject_of(1)] = 0
    compared = await again(world, since, BY_LOAD)
    assert (compared.was.opened, compared.would.opened, compared.erased) == ({}, {}, 2)
