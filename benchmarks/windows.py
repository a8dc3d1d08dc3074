"""What it brings to decide the referrals of a window together, beside first come, first served: who is served, and how long they wait.

The regions of the demonstration's county, and three that are drawn at random, live for four weeks of simulated time: referrals come, each
offer is accepted, and a place is free again when the stay is over, or all are at the start of each week. Whoever finds no place waits.
First come: a referral gets the policy's best service on arrival, and what comes free goes to those who wait, the longest first. Ours: when
the window closes, all that wait are one assignment. Everything else is the same for both: people, arrivals, stays, places, the policy.

A wait is counted to the end of the four weeks for those who are not served by then. No broker is needed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from statistics import fmean
from typing import Final, NamedTuple

from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from benchmarks.world import POLICY
from referral_bus.contracts.facts import Facts, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.services import AgeRange, ServiceDefinition
from referral_bus.contracts.services import Unit as Places
from referral_bus.demo.county import County
from referral_bus.demo.people import people
from services.matching.core.assignment import assign, is_optimal
from services.matching.core.judging.eligibility import Person, person_of
from services.matching.core.judging.match import Row, best_of, table
from services.matching.core.judging.ranking import lottery
from services.matching.core.state import Region, Unit
from services.matching.core.window import Waiting, problem

FIRST_COME: Final = "first come"
HOUR: Final = 60
"""Simulated time is counted in minutes."""
WINDOWS: Final = {OURS: HOUR, "ours, 15 minutes": 15, "ours, a day": 24 * HOUR}
WEEK: Final = 7 * 24 * HOUR
MEAN_STAY: Final = 72 * HOUR


class Scene(NamedTuple):
    """How many referrals come, as a share of those the places could take if any did for anyone, and whether all places are given out
    anew at the start of each week, as slots and boxes are, or each comes free when a stay is over."""

    share: float
    weekly: bool = False

    def count(self, places: int, until: int) -> int:
        return round(self.share * places * until / (WEEK if self.weekly else MEAN_STAY))


SCENES: Final = {
    "with room": Scene(0.6),
    "crowded": Scene(1.1),
    "crowded, weekly places": Scene(1.1, weekly=True),
}
DRAWN: Final = (1, 2, 3)
"""The seeds of the random regions."""


class Case(NamedTuple):
    """A referral: when it comes, how long its stay will be, and which services would take the person."""

    referral: str
    person: Person
    at: int
    stay: int
    would_do: frozenset[str]


class Town(NamedTuple):
    """The services of a region, and what people come there with, one after the other."""

    services: Sequence[ServiceDefinition]
    facts: Sequence[Facts]

    @property
    def places(self) -> int:
        return sum(unit.available for service in self.services for unit in service.units)


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Each region lives its weeks under each contender; each run has other people. There is no clock in it: a run gives the same again."""
    until = scale.of(28, 4) * 24 * HOUR
    worlds = ["the county", *(f"random {seed}" for seed in DRAWN)]
    figure = Figure(
        "windows",
        "Routine referrals decided together, beside first come, first served",
        [
            Measure(f"{world}, {scene}: {what}", unit, better)
            for scene in SCENES
            for world in worlds
            for what, unit, better in _MEASURES
        ]
        + [Measure(f"{world}, at once: served", "", "more") for world in worlds],
        {
            FIRST_COME: "the best service on arrival; a place that comes free to who has waited longest for one like it",
            **{
                name: f"all who wait are one assignment, every {window} minutes"
                for name, window in WINDOWS.items()
            },
        },
    )
    figure.setting = (
        f"{until // HOUR // 24} days, stays of {MEAN_STAY // HOUR} h in the mean, {scale.runs} runs with other people; "
        "at once: as many referrals as there are places, and none comes free"
    )
    for run in range(scale.runs):
        for name in (FIRST_COME, *WINDOWS):
            taken: dict[str, float] = {}
            for world, towns in _worlds(until, run):
                for named, scene in SCENES.items():
                    waits = [wait for town in towns for wait in _lived(town, name, scene, until, run)]
                    for (what, *_), value in zip(_MEASURES, _summed(waits, until), strict=True):
                        taken[f"{world}, {named}: {what}"] = value
                if name in (FIRST_COME, OURS):
                    taken[f"{world}, at once: served"] = sum(_at_once(town, name, run) for town in towns)
            figure.add(name, taken)
    return figure


_MEASURES: Final = (
    ("served", "", "more"),
    ("mean wait", "h", "less"),
)


class Wait(NamedTuple):
    """How long a referral waited, until it was served or the time was over."""

    minutes: int
    served: bool


def _summed(waits: Sequence[Wait], until: int) -> tuple[float, float]:
    return (
        sum(wait.served for wait in waits),
        fmean(wait.minutes for wait in waits) / HOUR,
    )


class _Life:
    """A town in the course of time."""

    def __init__(self, town: Town, cases: Sequence[Case], until: int, *, weekly: bool) -> None:
        self.state = _state(town)
        self.until = until
        self.weekly = weekly
        self.waits: dict[str, int] = {}
        self._cases = cases
        self._ending: list[tuple[int, int, Unit]] = []

    def first_come(self) -> None:
        queue: dict[str, Case] = {}
        for case in self._cases:
            self._free_until(case.at, queue)
            found = best_of(self._rows(case, case.at), POLICY, self._draw(case))
            if found and found[0].row.unit is not None:
                self._take(case, found[0].row.unit, case.at)
            else:
                queue[case.referral] = case
        self._free_until(self.until, queue)

    def _draw(self, case: Case) -> Callable[[str], int]:
        return lottery(POLICY.seed, self.state.last_hash, case.referral)

    def _free_until(self, now: int, queue: dict[str, Case]) -> None:
        """Let stays end until then; what comes free at a time goes to who waits, the longest first, each the best of it."""
        while self._ending and self._ending[0][0] <= now:
            at = self._ending[0][0]
            freed = {unit.service for unit in self._end_stays(at)}
            for case in [case for case in queue.values() if not case.would_do.isdisjoint(freed)]:
                found = best_of(self._rows(case, at), POLICY, self._draw(case))
                if found and found[0].row.unit is not None:
                    del queue[case.referral]
                    self._take(case, found[0].row.unit, at)

    def together(self, window: int) -> None:
        coming = iter(self._cases)
        following = next(coming, None)
        queue: dict[str, Case] = {}
        for now in range(window, self.until + 1, window):
            while following is not None and following.at <= now:
                queue[following.referral] = following
                following = next(coming, None)
            self._end_stays(now)
            for case, unit in self._decided(list(queue.values()), now):
                del queue[case.referral]
                self._take(case, unit, now)

    def _decided(self, waiting: Sequence[Case], now: int) -> Iterator[tuple[Case, Unit]]:
        free = {unit.service for unit in self.state.units.values() if unit.free > 0}
        # Who could have nothing changes nothing for the others.
        among = [case for case in waiting if not case.would_do.isdisjoint(free)]
        asked = problem(
            [Waiting(case.referral, self._rows(case, now), now - case.at) for case in among],
            POLICY,
            self.state.units,
            self.state.last_hash,
        )
        found = assign(*asked)
        if not is_optimal(found, *asked):
            raise AssertionError(f"the assignment at {now} is not proved: look at the prices")
        for case, service in zip(among, found.chosen, strict=True):
            if service is not None:
                own = [unit for unit in self.state.units.values() if unit.service == service]
                yield case, max(own, key=lambda unit: unit.free)

    def _rows(self, case: Case, now: int) -> list[Row]:
        return table(self.state, POLICY, case.person, frozenset(), now * 60_000)

    def _take(self, case: Case, unit: Unit, now: int) -> None:
        unit.held += 1
        self.state.places.change(unit.service)
        ends_at = (now // WEEK + 1) * WEEK if self.weekly else now + case.stay
        heappush(self._ending, (ends_at, len(self.waits), unit))
        self.waits[case.referral] = now - case.at

    def _end_stays(self, now: int) -> list[Unit]:
        """Free the places of all stays that are over by now."""
        freed = []
        while self._ending and self._ending[0][0] <= now:
            unit = heappop(self._ending)[2]
            unit.held -= 1
            self.state.places.change(unit.service)
            freed.append(unit)
        return freed


def _lived(town: Town, contender: str, scene: Scene, until: int, run: int) -> Iterator[Wait]:
    cases = _cases(town, scene.count(town.places, until), until, run)
    life = _Life(town, cases, until, weekly=scene.weekly)
    if contender == FIRST_COME:
        life.first_come()
    else:
        life.together(WINDOWS[contender])
    for case in cases:
        waited = life.waits.get(case.referral)
        yield Wait(until - case.at, False) if waited is None else Wait(waited, True)


def _at_once(town: Town, contender: str, run: int) -> int:
    """How many of as many referrals as there are places are served before any place comes free."""
    cases = [case._replace(at=0, stay=2) for case in _cases(town, town.places, 1, run)]
    life = _Life(town, cases, 1, weekly=False)
    if contender == FIRST_COME:
        life.first_come()
    else:
        life.together(1)
    return len(life.waits)


def _cases(town: Town, count: int, until: int, run: int) -> list[Case]:
    """The first ``count`` people for whom there is any service at all, as they come."""
    chance = random.Random(f"cases {run}")
    empty = _state(town)
    for unit in empty.units.values():
        unit.taken = 0
    able = []
    for facts in town.facts:
        person = person_of(facts)
        rows = table(empty, POLICY, person, frozenset(), 0)
        would_do = frozenset(row.profile.service for row in rows if row.unit is not None)
        if would_do:
            able.append((person, would_do))
        if len(able) == count:
            break
    arrivals = sorted(chance.randrange(until) for _ in able)
    return [
        Case(f"case-{number:06d}", person, at, max(1, round(chance.expovariate(1 / MEAN_STAY))), would_do)
        for number, ((person, would_do), at) in enumerate(zip(able, arrivals, strict=True))
    ]


def _state(town: Town) -> Region:
    state = Region("town")
    for service in town.services:
        state.catalogue.put(service)
        for unit in service.units:
            taken = unit.total - unit.available
            state.units[unit.unit] = Unit(unit.unit, service.service, unit.total, taken, 0, 0)
    return state


def _worlds(until: int, run: int) -> Iterator[tuple[str, list[Town]]]:
    """The county's regions are one world, since it is reported as one; each random region is one of its own."""
    county = County.make(1)
    most = {
        region: _most(sum(unit.available for service in found.services for unit in service.units), until)
        for region, found in county.imports.items()
    }
    facts: dict[str, list[Facts]] = {region: [] for region in county.regions}
    for person in people(county, sum(most.values()) + len(most) * len(county.agencies), seed=run):
        facts[person.request.region].append(person.request.facts)
    yield (
        "the county",
        [Town(county.imports[region].services, facts[region]) for region in county.regions],
    )
    for seed in DRAWN:
        services = list(_drawn_services(seed))
        places = sum(unit.available for service in services for unit in service.units)
        drawn = list(islice(_drawn_facts(seed, run), _most(places, until)))
        yield f"random {seed}", [Town(services, drawn)]


def _most(places: int, until: int) -> int:
    """How many people are needed at the most; some have needs nobody meets."""
    return max(places, *(scene.count(places, until) for scene in SCENES.values())) * 3 // 2


_NEEDS: Final = [Need(vocabulary="random", code=f"need-{number}") for number in range(8)]
_AREAS: Final = [f"area-{number}" for number in range(8)]
_LANGUAGES: Final = ("en", "es", "so", "vi")


def _drawn_services(seed: int) -> Iterator[ServiceDefinition]:
    """Sixty services, choosier and smaller than the county's: each for some ages, some areas and one need or two."""
    chance = random.Random(f"services {seed}")
    for number in range(60):
        youngest = chance.choice((0, 0, 14, 18, 18, 55))
        places = chance.randint(1, 8)
        yield ServiceDefinition(
            service=f"sv-town-{number:02d}",
            organisation=f"provider-{number % 20:02d}",
            name=f"Service {number}",
            terms=chance.sample(_NEEDS, chance.choice((1, 1, 2))),
            ages=AgeRange(minimum=youngest, maximum=chance.choice((24, 64, 150)) if youngest < 24 else 150),
            areas=chance.sample(_AREAS, chance.randint(1, len(_AREAS))),
            languages=["en", *chance.sample(_LANGUAGES[1:], chance.randint(0, 3))],
            units=[Places(unit=f"un-town-{number:02d}", name="place", total=places, available=places)],
        )


def _drawn_facts(seed: int, run: int) -> Iterator[Facts]:
    chance = random.Random(f"people {seed} {run}")
    while True:
        yield Facts(
            needs=chance.sample(_NEEDS, chance.choice((1, 1, 1, 2))),
            age=NumberFact(status="stated", value=chance.randint(0, 90))
            if chance.random() < 0.95
            else NumberFact(),
            area=TextFact(status="stated", value=chance.choice(_AREAS))
            if chance.random() < 0.95
            else TextFact(),
            languages=ListFact(status="stated", values=[chance.choices(_LANGUAGES, (8, 2, 1, 1))[0]]),
        )
