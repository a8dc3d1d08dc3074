"""What a decision costs in the core alone, as the region grows, how large its certificate is, and how soon what is due is found.

Ours asks what it asks of all services at once, as sets. Beside it the same table is made row by row, which is what looking at each service
that meets the need comes to. Times are of the processor, not of the clock. No broker is needed.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from itertools import count
from statistics import fmean
from time import process_time
from typing import Final

from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from benchmarks.world import POLICY, PROTOCOL, Case, Said, World, cases
from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ids import service_id, unit_id
from referral_bus.contracts.ledger import GENESIS_HASH, Admitted, Entry, MatchDecided, Meta, Received
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.demo.county import County
from referral_bus.runtime.service import COLLECTING
from referral_bus.wire.codec import Codec
from services.matching.core.decide import decide
from services.matching.core.fold import fold
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import best_of, match, table
from services.matching.core.judging.ranking import lottery
from services.matching.core.state import Due, Referral, Region, Task

ROW_BY_ROW: Final = "row by row"
SIZES: Final = (100, 1_000, 10_000)
REGION: Final = "region1"
PLACES: Final = 40
NOW: Final = 1_800_000_000_000
_HOUR: Final = 3_600_000


async def measure(_: Stage | None, scale: Scale) -> Figure:
    """Each size of region gets the same people; each run other ones."""
    people, timers = scale.of(5_000, 300), scale.of(1_000_000, 20_000)
    figure = Figure(
        "certificates",
        "A decision with its certificate, in the core alone",
        [
            *(Measure(f"match among {size:,} services", "µs") for size in SIZES),
            *(
                Measure(f"decide and fold, {size:,} services", "/s", "more", _TARGETS.get(size))
                for size in SIZES
            ),
            Measure("match, 10,000 services beside 100", "times", "less", 100),
            *(Measure(f"match on the ledger, {size:,} services", "bytes") for size in SIZES),
            Measure(f"find what is due of {timers:,}", "ms", "less", 1),
            Measure("the longest", "ms"),
        ],
        {
            OURS: "all services that meet a need are judged at once, as sets; a row is made where the certificate shows it",
            ROW_BY_ROW: "every service that meets the need gets its row, and the best and nearest are looked for among those",
        },
    )
    figure.setting = (
        f"{people:,} referrals to each region, {scale.runs} runs with other people, processor time"
    )
    codec = Codec.load()
    gc.set_threshold(*COLLECTING)
    for run in range(scale.runs):
        taken: dict[str, float] = {}
        beside: dict[str, float] = {}
        for size in SIZES:
            state, among = _region(_world(size)), _people(people, run)
            gc.collect()
            name = f"match among {size:,} services"
            taken[name] = _match(state, among)
            beside[name] = _row_by_row(state, among[: max(50, people // 20)])
            taken[f"decide and fold, {size:,} services"] = _decide(state, among)
            taken[f"match on the ledger, {size:,} services"] = fmean(_sizes(state, among, codec))
        for one in (taken, beside):
            times = [one[f"match among {size:,} services"] for size in SIZES]
            one["match, 10,000 services beside 100"] = times[-1] / times[0]
        found = _due(timers, run)
        taken[f"find what is due of {timers:,}"], taken["the longest"] = fmean(found), max(found)
        figure.add(OURS, taken)
        figure.add(ROW_BY_ROW, beside)
    return figure


_ANYWHERE: Final = Meta(
    region=REGION, sequence=1, prev_hash=GENESIS_HASH, decided_through=1, now=NOW, rules=1
)
_TARGETS: Final = {1_000: 5_000.0}


def _world(size: int) -> World:
    """One region with so many services: those of as many counties as it takes, and not one that is there twice."""
    services: list[ServiceDefinition] = []
    county = County.make(1, (REGION,))
    organisations = {one.organisation: one for one in county.organisations}
    for seed in count(1):
        other = County.make(seed, (REGION,))
        organisations.update({one.organisation: one for one in other.organisations})
        services += [_as(service, len(services) + number) for number, service in enumerate(other.services)]
        if len(services) >= size:
            return World(REGION, 0, county, tuple(organisations.values()), tuple(services[:size]))
    raise AssertionError


def _as(service: ServiceDefinition, number: int) -> ServiceDefinition:
    units = [
        unit.model_copy(
            update={
                "unit": unit_id(REGION, f"s{number}-{place}"),
                "total": unit.total * PLACES,
                "available": unit.available * PLACES,
            }
        )
        for place, unit in enumerate(service.units)
    ]
    return service.model_copy(update={"service": service_id(REGION, f"s{number}"), "units": units})


def _people(count: int, run: int) -> list[Case]:
    county = County.make(1, (REGION,))
    return cases([World(REGION, 0, county, (), ())], count, seed=run + 1)


def _region(world: World) -> Region:
    state = Region(world.region)
    for number, said in enumerate(world.beginning()):
        _take(state, said, number, {})
    return state


def _received(said: Said, number: int) -> Received:
    at = NOW + number
    admitted = Admitted(
        type=said.body.event_type(),
        id=said.id,
        source=said.organisation,
        digest=b"digest",
        sent_at=at,
        partition=0,
        offset=number,
        append_time=at,
        value=b"",
    )
    return Received(admitted, said.body)


def _take(state: Region, said: Said, number: int, facts: dict[str, Facts]) -> None:
    received = _received(said, number)
    for event in decide(state, received, received.admitted.append_time, facts):
        fold(state, Entry(_meta(state, received), event))


def _meta(state: Region, received: Received) -> Meta:
    """Where the event stands; the hash chain is not the core's."""
    return Meta.model_construct(
        region=state.region,
        sequence=state.sequence + 1,
        prev_hash=state.last_hash,
        decided_through=received.admitted.offset,
        now=received.admitted.append_time,
        rules=state.rules,
        submission=received.admitted,
    )


def _match(state: Region, among: Sequence[Case]) -> float:
    """Microseconds a match, with its certificate."""
    before = process_time()
    for case in among:
        request = case.request
        match(state, POLICY, case.id, request.facts, frozenset(), NOW, urgency=request.urgency)
    return (process_time() - before) / len(among) * 1e6


def _row_by_row(state: Region, among: Sequence[Case]) -> float:
    """The same, by looking at every row."""
    before = process_time()
    for case in among:
        request = case.request
        rows = table(state, POLICY, person_of(request.facts, request.urgency), frozenset(), NOW)
        best_of(rows, POLICY, lottery(POLICY.seed, state.last_hash, case.id))
        misses = [row for row in rows if row.ruled_out is not None]
        misses.sort(key=lambda row: (row.verdicts.count("n"), row.verdicts.count("u")))
    return (process_time() - before) / len(among) * 1e6


def _decide(state: Region, among: Sequence[Case]) -> float:
    """Submissions decided and folded a second."""
    first = state.decided_through + 1
    coming = [
        (_received(case.submission(b"facts", None), number), {case.referral: case.request.facts})
        for number, case in enumerate(among, first)
    ]
    before, matched = process_time(), 0
    for received, facts in coming:
        events = decide(state, received, received.admitted.append_time, facts)
        for event in events:
            fold(state, Entry(_meta(state, received), event))
        matched += isinstance(events[1], MatchDecided)
    took = process_time() - before
    if matched != len(among):
        raise AssertionError("a referral was not matched: the region is not set up as it should be")
    return len(among) / took


def _sizes(state: Region, among: Sequence[Case], codec: Codec) -> Iterator[int]:
    """Bytes of each match's event on the ledger."""
    for case in among:
        request = case.request
        found = match(state, POLICY, case.id, request.facts, frozenset(), NOW, urgency=request.urgency)
        service = found.best[0].profile.service if found.best else None
        event = MatchDecided(
            referral=case.referral, attempt=1, service=service, certificate=found.certificate
        )
        yield len(codec.encode_entry(Entry(_ANYWHERE, event)))


def _due(timers: int, run: int) -> list[float]:
    """Milliseconds to find and settle each of the first thousand of so many things that are due. None of them was settled before."""
    state, chance = Region(REGION), random.Random(run)
    referrals = max(1, timers // 100)
    for number in range(referrals):
        task = Task("sv-region1-s", "un-region1-u", "provider", NOW)
        state.referrals[f"rf-{number}"] = Referral(
            "agency", "sj-1", "routine", "care_coordination", PROTOCOL, b"", tasks=(task,)
        )
    for number in range(timers):
        at = NOW + chance.randrange(30 * 24 * _HOUR)
        state.expects(Due(at, "remind", f"rf-{number % referrals}", 1, "accept", 50, at + _HOUR))
    found: list[float] = []
    for _ in range(min(1_000, timers)):
        before = process_time()
        due = state.next_due()
        if due is None:
            raise AssertionError("nothing is due")
        state.settle("remind", due.about)
        found.append((process_time() - before) * 1e3)
    return found
