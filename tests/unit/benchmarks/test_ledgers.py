"""What the figures are measured on: ledgers that the bus itself would have written, and peers that write real events."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from benchmarks.ledgers import OPEN_AT_ONCE, Author, Batch
from benchmarks.peers.job import Job
from benchmarks.world import World, cases, unsealed, wide, worlds
from referral_bus.contracts.ledger import (
    CapacityChanged,
    CapacityDoubted,
    Event,
    MatchDecided,
    OfferDeclined,
    OfferMade,
    ReferralClosed,
    ReferralOpened,
    SubmissionRefused,
)
from referral_bus.demo.programs import REASONS
from referral_bus.wire.codec import Codec
from services.matching.chain import Chain
from services.matching.core.state import Region

NOW = 1_700_000_000_000


@pytest.fixture(scope="module")
def world() -> World:
    [made] = worlds(1, places=20)
    return made


def _events(batches: Iterable[Batch], codec: Codec) -> Iterator[Event]:
    return (codec.decode_entry(record.value).event for batch in batches for record in batch.ledger)


def test_a_ledger_of_whole_lives_is_one_matching_can_load(world: World, codec: Codec) -> None:
    author = Author(world, "bench", codec, NOW, pace=3000)
    batches = [author.beginning(), *author.lives(12_000)]
    chain = Chain(Region(world.region))
    closed = 0
    for batch in batches:
        for record in batch.ledger:
            entry = codec.decode_entry(record.value)
            chain.take(entry, record.value or b"")
            closed += isinstance(entry.event, ReferralClosed)
    assert chain.state.sequence == author.written >= 12_000
    assert chain.state.decided_through == sum(len(batch.inbox) for batch in batches) - 1
    assert closed > 500
    assert len(chain.state.referrals) <= OPEN_AT_ONCE


def test_as_many_find_a_place_however_long_the_ledger(codec: Codec) -> None:
    author = Author(wide("region1", 60, 20), "bench", codec, NOW, pace=1000, at_once=150)
    author.beginning()
    without, in_doubt = [], []
    for until in (3_000, 6_000, 9_000):
        found = [
            event.service is not None
            for event in _events(author.lives(until), codec)
            if isinstance(event, MatchDecided)
        ]
        without.append(found.count(False) / len(found))
        in_doubt.append(sum(unit.doubted > 0 for unit in author.chain.state.units.values()))
    assert max(without) < without[0] + 0.03
    assert max(in_doubt) < len(author.chain.state.units) / 10


def test_a_provider_declines_for_several_reasons(world: World, codec: Codec) -> None:
    author = Author(world, "bench", codec, NOW, pace=1000, at_once=150)
    author.beginning()
    events = list(_events(author.lives(3_000), codec))
    reasons = [event.reason for event in events if isinstance(event, OfferDeclined)]
    doubted = [event for event in events if isinstance(event, CapacityDoubted)]
    assert set(reasons) == set(REASONS)
    assert 0 < reasons.count("no_capacity") == len(doubted) < len(reasons) / 2


def test_who_had_no_place_counts_all_but_those_it_has_accepted(world: World, codec: Codec) -> None:
    author = Author(world, "bench", codec, NOW, pace=1000, at_once=150)
    chain = Chain(Region(world.region))
    counts = 0
    for batch in (author.beginning(), *author.lives(6_000)):
        for record in batch.ledger:
            entry = codec.decode_entry(record.value)
            event = entry.event
            if isinstance(event, CapacityChanged):
                unit = chain.state.units[event.unit]
                assert unit.doubted
                assert (event.total, event.available) == (unit.total, unit.total - unit.taken)
                counts += 1
            assert not (isinstance(event, SubmissionRefused) and event.about in chain.state.units)
            chain.take(entry, record.value or b"")
    assert counts > 20


def test_a_ledger_of_waiting_has_just_so_many_open_offers(world: World, codec: Codec) -> None:
    author = Author(world, "bench", codec, NOW, pace=100)
    author.beginning()
    for _ in author.waiting(300):
        pass
    state = author.chain.state
    assert len(state.referrals) == 300
    assert sum(unit.held for unit in state.units.values()) == 300


def test_the_same_seeds_make_the_same_bytes(world: World, codec: Codec) -> None:
    def values() -> list[bytes | None]:
        author = Author(world, "bench", codec, NOW, pace=100)
        return [record.value for record in author.beginning().ledger] + [
            record.value for batch in author.waiting(50) for record in batch.ledger
        ]

    assert values() == values()


def test_peers_write_events_of_the_bus_and_sell_no_place_twice(
    world: World, codec: Codec, tmp_path: Path
) -> None:
    services = [service.model_dump(mode="json") for service in world.services]
    file = tmp_path / "services.json"
    file.write_text(json.dumps({world.region: services}), encoding="utf-8")
    job = Job(file)
    held: dict[str, int] = {}
    offered: dict[str, int] = {}
    for said in unsealed(cases([world], 400), codec):
        events = [
            codec.decode_entry(value).event
            for value in job.decide(
                codec.encode(said.body), 0, NOW, lambda unit: held.get(unit, 0), held.__setitem__
            )
        ]
        assert [type(event) for event in events[:2]] == [ReferralOpened, MatchDecided]
        if isinstance(events[2], OfferMade):
            offered[events[2].unit] = offered.get(events[2].unit, 0) + 1
        else:
            assert isinstance(events[2], ReferralClosed)
    free = {unit.unit: unit.available for service in world.services for unit in service.units}
    assert sum(offered.values()) > 300
    assert all(count <= free[unit] for unit, count in offered.items())
