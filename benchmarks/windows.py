"""What it brings to decide the referrals of a window together, beside first come, first served: who is served, and how long they wait.

The regions of the demonstration's county, and three that are drawn at random, live for four weeks of simulated time: routine referrals
come, each offer is accepted at once, and a place is free again when the stay is over, or all are at the start of each week. All of it is
decided by the core as the bus runs it: submissions, ticks and calls go through ``decide`` and ``fold``. Only the policy differs, which has
a window or none, and the mode in which the agencies refer. In mode *match* who finds no place is closed; in mode *waitlist* they wait, and
no window gathers them. No broker is needed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from statistics import median
from typing import Final, Literal, NamedTuple

from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from benchmarks.world import OPERATIONS, POLICY
from referral_bus.contracts.facts import Facts, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.ids import referral_id, short_hash
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AdoptReference,
    PublishService,
    ReportOutcome,
    Submission,
    SubmitReferral,
    Tick,
)
from referral_bus.contracts.ledger import Admitted, Entry, Event, Meta, OfferMade, Received
from referral_bus.contracts.reference import OfferLimits, Organisation, Policy, Protocol
from referral_bus.contracts.services import AgeRange, ServiceDefinition
from referral_bus.contracts.services import Unit as Places
from referral_bus.contracts.vocabulary import Mode
from referral_bus.demo.county import County
from referral_bus.demo.people import people
from services.matching.core.decide import call, decide, wanted_facts, wanted_for
from services.matching.core.fold import fold
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import table
from services.matching.core.state import Region, Unit

MINUTE_MS: Final = 60_000
HOUR: Final = 60
"""Simulated time is counted in minutes."""
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
MEAN_STAY: Final = 3 * DAY
START: Final = 1_800_000_000_000
AGENCY: Final = "agency"
PROTOCOL: Final = Protocol(
    protocol="bench",
    offer_limits=OfferLimits(crisis=WEEK * MINUTE_MS, urgent=WEEK * MINUTE_MS, routine=WEEK * MINUTE_MS),
    maximum_offers=20,
    parking_ms=0,
)


class Contender(NamedTuple):
    """A way to run the bus: its window, in minutes, and how agencies refer."""

    window: int
    mode: Mode
    does: str


FIRST_COME: Final = "first come"
CONTENDERS: Final = {
    OURS: Contender(15, "match", "those of a quarter of an hour are one assignment"),
    "ours, an hour": Contender(60, "match", "those of an hour are one assignment"),
    FIRST_COME: Contender(0, "match", "the best service on arrival; who finds no place is closed"),
    "first come, waiting list": Contender(
        0, "waitlist", "the same; who finds no place waits, and is called by the first that comes free"
    ),
}


class Scene(NamedTuple):
    """How many referrals come, as a share of those the places could take if any did for anyone, and whether all places are given out
    anew at the start of each week, as slots and boxes are, or each comes free when a stay is over."""

    share: float
    weekly: bool = False

    def coming(self, places: int, until: int) -> int:
        return round(self.share * places * until / (WEEK if self.weekly else MEAN_STAY))


SCENES: Final = {
    "with room": Scene(0.6),
    "crowded": Scene(1.1),
    "crowded, weekly places": Scene(1.1, weekly=True),
}
AT_ONCE: Final = "at once"
DRAWN: Final = (1, 2, 3)
"""The seeds of the random regions."""


class Case(NamedTuple):
    """A referral: when it comes, and how long its stay will be."""

    id: str
    facts: Facts
    at: int
    stay: int


class Town(NamedTuple):
    """The services of a region, and what people come there with, one after the other."""

    region: str
    services: Sequence[ServiceDefinition]
    facts: Sequence[Facts]

    @property
    def places(self) -> int:
        return sum(unit.available for service in self.services for unit in service.units)


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Each region lives its weeks under each contender; each run has other people. There is no clock in it: a run gives the same again."""
    until = scale.of(28, 2) * DAY
    worlds = ["the county", *(f"random {seed}" for seed in DRAWN)]
    figure = Figure(
        "windows",
        "Routine referrals decided together, beside first come, first served",
        [
            measure
            for world in worlds
            for scene in (*SCENES, AT_ONCE)
            for measure in (
                Measure(f"{world}, {scene}: served", "", "more"),
                Measure(f"{world}, {scene}: median wait", "min"),
            )
        ],
        {name: contender.does for name, contender in CONTENDERS.items()},
    )
    figure.setting = (
        f"{until // DAY} days, stays of {MEAN_STAY // HOUR} h in the mean, {scale.runs} runs with other people, decided by the core; "
        "the wait is that of those who are served, from the submission to the offer; "
        "at once: as many referrals as there are places within a minute, and none comes free"
    )
    for run in range(scale.runs):
        lived = list(_worlds(until, run))
        for name, contender in CONTENDERS.items():
            taken: dict[str, float] = {}
            for world, towns in lived:
                for named, scene in SCENES.items():
                    waits = [
                        wait
                        for town in towns
                        for wait in _lived(
                            town, contender, _cases(town, scene.coming(town.places, until), until, run), scene
                        )
                    ]
                    taken |= _told(f"{world}, {named}", waits)
                waits = [
                    wait
                    for town in towns
                    for wait in _lived(town, contender, _cases(town, town.places, 1, run), None)
                ]
                taken |= _told(f"{world}, {AT_ONCE}", waits)
            figure.add(name, taken)
    return figure


def _told(scene: str, waits: Sequence[float]) -> dict[str, float]:
    return {f"{scene}: served": len(waits), f"{scene}: median wait": median(waits or (0,))}


def _lived(town: Town, contender: Contender, cases: Sequence[Case], scene: Scene | None) -> list[float]:
    """How many minutes each waited that was served, until the last that came has been decided. Without a scene no place comes free."""
    life = _Life(town, contender)
    for case in cases:
        life.pass_to(case.at)
        life.refer(case, _ends(case, scene))
    if cases:
        life.pass_to(cases[-1].at + contender.window)
    return life.waits


def _ends(case: Case, scene: Scene | None) -> int | None:
    """How long the stay will be once it begins; None: to the end of the week it begins in."""
    return 100 * WEEK if scene is None else None if scene.weekly else case.stay


class _Life:
    """A region in the course of time, as its core decides it. Each offer is accepted at once."""

    def __init__(self, town: Town, contender: Contender) -> None:
        self.state = Region(town.region)
        self.waits: list[float] = []
        self._mode = contender.mode
        self._facts: dict[str, Facts] = {}
        self._came: dict[str, tuple[int, int | None]] = {}
        self._ending: list[tuple[int, str, str]] = []
        self._offset = 0
        self._now = START
        policy = POLICY.model_copy(update={"window_ms": contender.window * MINUTE_MS})
        adopted: list[Organisation | Protocol | Policy] = [*_organisations(town), PROTOCOL, policy]
        for content in adopted:
            self._say(_adopt(content), OPERATIONS)
        for service in town.services:
            self._say(PublishService(definition=service), service.organisation)

    def refer(self, case: Case, stay: int | None) -> None:
        """The referral comes now."""
        referral = referral_id(self.state.region, "bench", AGENCY, case.id)
        self._facts[referral] = case.facts
        self._came[referral] = self._now, stay
        body = SubmitReferral(
            referral=referral,
            region=self.state.region,
            subject=f"sj-{short_hash(case.id, length=26)}",
            urgency="routine",
            purpose="care_coordination",
            sealed_facts=b"facts",
            mode=self._mode,
        )
        self._say(body, AGENCY)

    def pass_to(self, minute: int) -> None:
        """Let everything happen that is due by then: stays end, and windows close."""
        end = START + minute * MINUTE_MS
        while True:
            due = self.state.next_due()
            over = self._ending[0][0] if self._ending else end + 1
            at = min(over, end + 1 if due is None else due.at)
            if at > end:
                break
            self._now = max(self._now, at)
            if at == over:
                _, referral, provider = heappop(self._ending)
                self._say(ReportOutcome(referral=referral, result="need_met"), provider)
            else:
                self._say(Tick(region=self.state.region, due=at), "matching")
        self._now = end

    def _say(self, body: Submission, source: str) -> None:
        saying = deque([(body, source)])
        while saying:
            for event in self._decided(*saying.popleft()):
                if isinstance(event, OfferMade):
                    saying.append((AcceptOffer(task=event.task), event.provider))
                    self._served(event.referral, event.provider)

    def _served(self, referral: str, provider: str) -> None:
        came, stay = self._came[referral]
        self.waits.append((self._now - came) / MINUTE_MS)
        minute = (self._now - START) // MINUTE_MS
        ends = (minute // WEEK + 1) * WEEK if stay is None else minute + stay
        heappush(self._ending, (START + ends * MINUTE_MS, referral, provider))

    def _decided(self, body: Submission, source: str) -> list[Event]:
        """Everything a submission leads to."""
        state, received = self.state, self._received(body, source)
        made: list[Event] = []
        while True:
            facts = self._opened(one.referral for one in wanted_facts(state, received, self._now))
            events = decide(state, received, self._now, facts)
            made += self._folded(events, received.admitted)
            while (called := state.next_call()) is not None:
                facts = self._opened(one.referral for one in wanted_for(state, called))
                made += self._folded(call(state, called, self._now, facts), None)
            if not events or not isinstance(body, Tick):
                return made

    def _opened(self, referrals: Iterable[str]) -> dict[str, Facts]:
        return {referral: self._facts[referral] for referral in referrals}

    def _received(self, body: Submission, source: str) -> Received:
        self._offset += 1
        admitted = Admitted(
            type=body.event_type(),
            id=f"n-{self._offset}",
            source=source,
            digest=b"digest",
            sent_at=self._now,
            partition=0,
            offset=self._offset,
            append_time=self._now,
            value=b"",
        )
        return Received(admitted, body)

    def _folded(self, events: Sequence[Event], admitted: Admitted | None) -> Sequence[Event]:
        """Take what was decided. The hash chain is not the core's: lots differ by referral alone."""
        state = self.state
        for event in events:
            meta = Meta.model_construct(
                region=state.region,
                sequence=state.sequence + 1,
                prev_hash=state.last_hash,
                decided_through=self._offset,
                now=self._now,
                rules=state.rules,
                submission=admitted,
            )
            fold(state, Entry(meta, event))
            admitted = None
        return events


def _organisations(town: Town) -> Iterator[Organisation]:
    yield _organisation(town, AGENCY, "agency")
    for name in sorted({service.organisation for service in town.services}):
        yield _organisation(town, name, "provider")


def _organisation(town: Town, name: str, role: Literal["agency", "provider"]) -> Organisation:
    return Organisation(
        organisation=name, version=1, name=name, kind="provider", roles=[role], home_region=town.region
    )


def _adopt(content: Organisation | Protocol | Policy) -> AdoptReference:
    match content:
        case Organisation():
            return AdoptReference(
                kind="organisation", reference=content.organisation, version=1, organisation=content
            )
        case Protocol():
            return AdoptReference(kind="protocol", reference=content.protocol, version=1, protocol=content)
        case Policy():
            return AdoptReference(kind="policy", reference=content.policy, version=1, policy=content)


def _cases(town: Town, count: int, until: int, run: int) -> list[Case]:
    """The first ``count`` people for whom there is any service at all, as they come."""
    chance = random.Random(f"cases {run}")
    empty = _empty(town)
    able: list[Facts] = []
    for facts in town.facts:
        rows = table(empty, POLICY, person_of(facts), frozenset(), START)
        if any(row.unit is not None for row in rows):
            able.append(facts)
        if len(able) == count:
            break
    arrivals = sorted(chance.randrange(until) for _ in able)
    return [
        Case(f"case-{number:06d}", facts, at, max(1, round(chance.expovariate(1 / MEAN_STAY))))
        for number, (facts, at) in enumerate(zip(able, arrivals, strict=True))
    ]


def _empty(town: Town) -> Region:
    """The region with all its places free."""
    state = Region(town.region)
    for service in town.services:
        state.catalogue.put(service)
        for unit in service.units:
            state.units[unit.unit] = Unit(unit.unit, service.service, unit.total, 0, 0, START)
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
        facts[person.request.region or ""].append(person.request.facts)
    yield (
        "the county",
        [Town(region, county.imports[region].services, facts[region]) for region in county.regions],
    )
    for seed in DRAWN:
        services = list(_drawn_services(seed))
        places = sum(unit.available for service in services for unit in service.units)
        drawn = list(islice(_drawn_facts(seed, run), _most(places, until)))
        yield f"random {seed}", [Town("town", services, drawn)]


def _most(places: int, until: int) -> int:
    """How many people are needed at the most; some have needs nobody meets."""
    return max(places, *(scene.coming(places, until) for scene in SCENES.values())) * 3 // 2


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
