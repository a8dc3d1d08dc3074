"""A window is verified by its proof: whoever found the assignment and how, and however wrong whoever decides it again is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from referral_bus.contracts.ledger import Entry, WindowClosed
from referral_bus.log.port import Record
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.sections import Sealer
from services.matching.core.assignment import Assignment
from services.matching.core.decide import AllOpened, WantedFacts, gathering
from services.matching.facts import FactsOpener
from services.matching.verify import Report, Verifier
from tests.support.deciding import (
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    offers,
    policy,
    service_of,
    stated_age,
)

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
