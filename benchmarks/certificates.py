"""What a decision costs in the core alone, as the region grows, how large its certificate is, and how soon what is due is found.

Ours asks what it asks of all services at once, as sets. Beside it the same table is made row by row, which is what looking at each service
that meets the need comes to. And the same under the policy a new bus begins with, which asks more: how far it is, how soon a service opens,
how reliable it was. Times are of the processor, not of the clock. No broker is needed.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from time import process_time
from typing import Final, get_args

from benchmarks.report import OURS, Figure, Measure
from benchmarks.stage import Scale, Stage
from benchmarks.world import POLICY, PROTOCOL, Case, Said, World, cases, wide
from referral_bus.contracts.facts import Facts, NumberFact, PlaceFact, TextFact, TravelFact
from referral_bus.contracts.inbox import AcceptOffer, AcknowledgeOffer, ReportOutcome, ReportServiceStart
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Admitted,
    Entry,
    Event,
    MatchDecided,
    Meta,
    OfferMade,
    Received,
    ReferralClosed,
)
from referral_bus.contracts.places import Place, Travel
from referral_bus.contracts.reference import Policy
from referral_bus.demo.county import County
from referral_bus.embedded.reference import STANDARD_POLICY
from referral_bus.runtime.service import COLLECTING
from referral_bus.wire.codec import Codec
from services.matching.core.decide import decide
from services.matching.core.fold import fold
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import best_of, match, table
from services.matching.core.judging.ranking import lottery
from services.matching.core.referral import Referral, Task
from services.matching.core.state import Due, Region

STANDARD: Final = f"{OURS}, standard policy"
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
            *(
                Measure(f"the same of whole lives, {size:,} services", "/s", "more", _TARGETS.get(size))
                for size in SIZES
            ),
            Measure("match, 10,000 services beside 100", "times", "less", 100),
            *(Measure(f"match on the ledger, {size:,} services", "bytes") for size in SIZES),
            *(Measure(f"no match on the ledger, {size:,} services", "bytes") for size in SIZES),
            Measure(f"find what is due of {timers:,}", "ms", "less", 1),
            Measure("the longest", "ms"),
        ],
        {
            OURS: "all services that meet a need are judged at once, as sets; a row is made where the certificate shows it",
            STANDARD: "the same by the policy a new bus begins with; every service and three quarters of the people are somewhere",
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
        standard: dict[str, float] = {}
        beside: dict[str, float] = {}
        for size in SIZES:
            world, among = wide(REGION, size, PLACES), _people(people, run)
            name = f"match among {size:,} services"
            for of, policy, state, these in (
                (taken, POLICY, _region(world), among),
                (standard, STANDARD_POLICY, _region(_placed(world)), _somewhere(among, run)),
            ):
                gc.collect()
                of[name] = _match(state, policy, these)
                if of is taken:
                    beside[name] = _row_by_row(state, these[: max(50, people // 20)])
                of[f"decide and fold, {size:,} services"] = _decide(state, these)
                lived = _region(world if of is taken else _placed(world))
                of[f"the same of whole lives, {size:,} services"] = _live(lived, these)
                of[f"match on the ledger, {size:,} services"] = fmean(_sizes(state, policy, these, codec))
                of[f"no match on the ledger, {size:,} services"] = fmean(
                    _sizes(state, policy, _minors_elsewhere(these), codec, matched=False)
                )
        for one in (taken, standard, beside):
            times = [one[f"match among {size:,} services"] for size in SIZES]
            one["match, 10,000 services beside 100"] = times[-1] / times[0]
        found = _due(timers, run)
        taken[f"find what is due of {timers:,}"], taken["the longest"] = fmean(found), max(found)
        figure.add(OURS, taken)
        figure.add(STANDARD, standard)
        figure.add(ROW_BY_ROW, beside)
    return figure


_ANYWHERE: Final = Meta(
    region=REGION, sequence=1, prev_hash=GENESIS_HASH, decided_through=1, now=NOW, rules=1
)
_TARGETS: Final = {1_000: 5_000.0}


def _people(count: int, run: int) -> list[Case]:
    county = County.make(1, (REGION,))
    return cases([World(REGION, 0, county, (), ())], count, seed=run + 1)


def _placed(world: World) -> World:
    """The same by the standard policy, its services somewhere in a square of some 50 km."""
    chance = random.Random("places")
    services = tuple(
        service.model_copy(update={"places": [Place(**_anywhere(chance))]}) for service in world.services
    )
    return replace(world, services=services, policy=STANDARD_POLICY)


def _somewhere(among: Sequence[Case], run: int) -> list[Case]:
    """The same people: of three in four it is known where they are and how they get about."""
    chance, ways = random.Random(f"people {run}"), get_args(Travel)

    def there(case: Case) -> Case:
        if chance.random() < 0.25:
            return case
        known = {
            "place": PlaceFact(status="stated", **_anywhere(chance)),
            "travel": TravelFact(status="stated", value=chance.choice(ways)),
        }
        facts = case.request.facts.model_copy(update=known)
        return replace(case, request=case.request.model_copy(update={"facts": facts}))

    return [there(case) for case in among]


def _anywhere(chance: random.Random) -> dict[str, int]:
    return {
        "latitude": 41_600_000 + chance.randrange(450_000),
        "longitude": -88_000_000 + chance.randrange(600_000),
    }


def _region(world: World) -> Region:
    state = Region(world.region)
    for number, said in enumerate(world.beginning()):
        _take(state, _received(said, number), {})
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


def _take(state: Region, received: Received, facts: dict[str, Facts]) -> tuple[Sequence[Event], float]:
    """Decide and fold it; the events, and how many seconds that took."""
    before = process_time()
    events = decide(state, received, received.admitted.append_time, facts)
    took = process_time() - before
    entries = _entries(state, received, events)
    before = process_time()
    for entry in entries:
        fold(state, entry)
    return events, took + process_time() - before


def _entries(state: Region, received: Received, events: Sequence[Event]) -> list[Entry]:
    """The events as they stand on the ledger: only the first carries the submission. What they are written with is not the core's, and is
    made outside of the time that is taken; the hash chain is left out."""
    return [
        Entry(
            Meta.model_construct(
                region=state.region,
                sequence=state.sequence + place,
                prev_hash=state.last_hash,
                decided_through=received.admitted.offset,
                now=received.admitted.append_time,
                rules=state.rules,
                submission=received.admitted if place == 1 else None,
            ),
            event,
        )
        for place, event in enumerate(events, 1)
    ]


def _match(state: Region, policy: Policy, among: Sequence[Case]) -> float:
    """Microseconds a match, with its certificate."""
    before = process_time()
    for case in among:
        request = case.request
        match(state, policy, case.id, request.facts, frozenset(), NOW, urgency=request.urgency)
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
    took, matched = 0.0, 0
    for received, facts in coming:
        events, seconds = _take(state, received, facts)
        took += seconds
        matched += isinstance(events[1], MatchDecided)
    if matched != len(among):
        raise AssertionError("a referral was not matched: the region is not set up as it should be")
    return len(among) / took


def _live(state: Region, among: Sequence[Case]) -> float:
    """The same where each is followed by what its provider says: acknowledged, accepted, begun, its need met. Who nobody could take says
    nothing more."""
    took, said = 0.0, 0

    def take(what: Said, facts: dict[str, Facts]) -> Sequence[Event]:
        nonlocal took, said
        events, seconds = _take(state, _received(what, state.decided_through + 1), facts)
        took, said = took + seconds, said + 1
        return events

    for case in among:
        events = take(case.submission(b"facts", None), {case.referral: case.request.facts})
        offer = next((event for event in events if isinstance(event, OfferMade)), None)
        if offer is None:
            continue
        for body in (
            AcknowledgeOffer(task=offer.task),
            AcceptOffer(task=offer.task),
            ReportServiceStart(referral=case.referral, started_at=NOW + state.decided_through),
            ReportOutcome(referral=case.referral, result="need_met"),
        ):
            by = Said(body, offer.provider, f"{body.event_type()}.{case.id}", case.referral, REGION, 0)
            events = take(by, {})
        if not isinstance(events[-1], ReferralClosed):
            raise AssertionError("a life did not end: the region is not set up as it should be")
    return said / took


def _minors_elsewhere(among: Sequence[Case]) -> list[Case]:
    """The same people too young, and in an area that few services are for: nearly nobody can take them."""
    changed = {
        "age": NumberFact(status="stated", value=3),
        "area": TextFact(status="stated", value="elsewhere"),
    }
    return [
        replace(
            case,
            request=case.request.model_copy(update={"facts": case.request.facts.model_copy(update=changed)}),
        )
        for case in among
    ]


def _sizes(
    state: Region, policy: Policy, among: Sequence[Case], codec: Codec, matched: bool = True
) -> Iterator[int]:
    """Bytes of each match's event on the ledger, or of each that found nothing."""
    for case in among:
        request = case.request
        found = match(state, policy, case.id, request.facts, frozenset(), NOW, urgency=request.urgency)
        service = found.best[0].profile.service if found.best else None
        if (service is not None) != matched:
            continue
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
