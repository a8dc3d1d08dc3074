"""The whole table of every match can be made again from the ledger, and is the one that was decided by."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from referral_bus.contracts.ledger import MatchDecided
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.wire.codec import Codec
from services.matching.core.decide import AllOpened, WantedFacts
from services.matching.recompute import Recomputed, recompute
from tests.support.deciding import BUS, REGION, World, forget, offers, picture, subject_of
from tests.support.lives import Lives

LEDGER = topics.ledger(BUS)


class Opener:
    """Opens what the world can open now."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def open(self, wanted: Iterable[WantedFacts]) -> AllOpened:
        return self._world.open(wanted)


async def made_again(world: World, referral: str) -> list[Recomputed]:
    log = MemoryLog()
    await log.ensure(topics.topics(BUS, 1, 1))
    appender = await log.appender()
    await appender.append([Outgoing(LEDGER, 0, REGION.encode(), value) for _, value in world.entries])
    again = recompute(log, LEDGER, REGION, referral, world.codec, Opener(world))  # type: ignore[arg-type]
    return [one async for one in again]


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_every_match_of_whatever_life_has_the_table_it_was_decided_by(
    codec: Codec, seed: int, windows: bool
) -> None:
    lives = Lives(codec, seed, windows=windows)
    lives.steps(250)
    world, matches = lives.world, 0
    assert picture(world.state) == picture(world.folded().state)
    for referral in lives.referrals:
        recorded = [
            event for event in world.events if isinstance(event, MatchDecided) and event.referral == referral
        ]
        again = await made_again(world, referral)
        assert [one.recorded for one in again] == recorded
        for one in again:
            certificate = one.recorded.certificate
            assert one.digest == certificate.digest
            rows = {row.service: row for row in one.rows or ()}
            for shown in (*certificate.best, *certificate.misses):
                assert rows[shown.service].verdicts == shown.verdicts
        matches += len(again)
    assert matches > 20


async def test_the_table_of_who_was_forgotten_cannot_be_made_again(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(forget(subject_of(1)), "operations")
    world.destroyed[subject_of(1)] = 0
    [again] = await made_again(world, referral)
    assert (again.rows, again.digest, again.facts) == (None, b"", "erased")
