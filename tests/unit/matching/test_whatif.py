"""A stretch of the ledger under another policy: under its own it comes out as it was, and under another as that policy says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from referral_bus.contracts.ledger import Received
from referral_bus.contracts.reference import Policy
from referral_bus.wire.inbox import admitted_again
from services.matching.chain import Chain
from services.matching.core.decide import AllOpened, WantedFacts
from services.matching.core.state import Region
from services.matching.verify import begins
from services.matching.whatif import FEW, Comparison, Recorded, Stretch, comparison_as_json, comparison_lines
from tests.support.deciding import (
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    REGION,
    World,
    accept,
    decline,
    offers,
    outcome,
    policy,
    stated_area,
)

BY_LOAD = POLICY.model_copy(update={"version": 2, "rank_by": ["load", "lottery"]})
BY_FRESHNESS = POLICY.model_copy(update={"version": 3, "rank_by": ["freshness", "load", "lottery"]})


def lived(world: World) -> World:
    """Two services, one with more room, the other counted later; eight referrals, most accepted."""
    world.send(policy(BY_LOAD), OPERATIONS)
    world.publish(offers("roomy", total=40))
    world.now += 3 * 60 * MINUTE
    world.publish(offers("fresh", "clinic", total=20, available=10))
    return world


def told(world: World, count: int = 8, area: str = "riverside") -> None:
    for number in range(1, count + 1):
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
    chain, groups = Chain(Region(REGION)), list[Recorded]()
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
    assert {provider for _, provider in compared.was.accepted.values()} == {"shelter"}
    assert {provider for _, provider in compared.would.accepted.values()} == {"clinic"}
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
