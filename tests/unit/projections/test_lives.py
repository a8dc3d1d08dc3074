"""The same ledgers folded by matching's own core and by the views: where both know something, they know the same."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.contracts import ledger
from referral_bus.contracts.ids import region_of, task_id
from referral_bus.contracts.ledger import Entry, TaskEnteredInError
from referral_bus.log.port import Record
from services.matching.chain import Chain
from services.matching.core.state import Region
from services.projections.views import VIEWS_OF
from services.projections.views.timeline import SHOWN
from tests.support.deciding import HOUR, MINUTE, REGION, accept, decline, outcome, withdraw
from tests.support.lives import Lives
from tests.support.regions import Between, lent_out
from tests.support.viewing import CODEC, START, TOPIC, Views

SEEDS = range(10)
STEPS = 300


def records(lives: Lives) -> list[Record]:
    """The ledger as it would be read."""
    return [
        Record(TOPIC, 0, offset, START, REGION.encode(), value)
        for offset, (_, value) in enumerate(lives.world.entries)
    ]


class Cores:
    """What the core's own fold says, event by event: it forgets the tasks of a referral once that is closed."""

    def __init__(self, region: str = REGION) -> None:
        self.chain = Chain(Region(region))
        self.tasks: dict[str, tuple[str, str]] = {}
        self.events: Counter[str] = Counter()

    @property
    def state(self) -> Region:
        return self.chain.state

    def take(self, entry: Entry, value: bytes) -> None:
        self.chain.take(entry, value)
        self.events[type(entry.event).__name__] += 1
        for name in {getattr(entry.event, "referral", "")} & self.state.referrals.keys():
            known = self.state.referrals[name]
            for number, task in enumerate(known.tasks, known.before + 1):
                self.tasks[task_id(name, number)] = (task.status, task.business)
        if isinstance(entry.event, TaskEnteredInError) and self.state.task(entry.event.task) is None:
            assert entry.event.task in self.tasks
            self.tasks[entry.event.task] = ("entered-in-error", "withdrawn")


@cache
def told(seed: int) -> tuple[list[Record], Cores]:
    lives = Lives(CODEC, seed, windows=True)
    lives.steps(STEPS)
    cores = Cores()
    for entry, value in lives.world.entries:
        cores.take(entry, value)
    return records(lives), cores


async def views_of(story: list[Record]) -> Views:
    views = Views()
    await views.feed(story)
    return views


_FOLDED: dict[int, Views] = {}


@pytest.fixture(params=SEEDS)
async def both(request: pytest.FixtureRequest) -> tuple[Views, Cores]:
    """One ledger as the views and as the core have folded it."""
    story, cores = told(request.param)
    if request.param not in _FOLDED:
        _FOLDED[request.param] = await views_of(story)
    return _FOLDED[request.param], cores


async def test_every_task_has_the_status_that_the_core_gives_it(both: tuple[Views, Cores]) -> None:
    views, cores = both
    assert {
        row["task"]: (row["status"], row["business_status"]) for row in views.table("tasks")
    } == cores.tasks


OF_A_UNIT = ("total", "taken", "held", "overbook", "doubted", "counted_at", "free")


async def test_places_and_reliability_are_counted_as_the_core_counts_them(both: tuple[Views, Cores]) -> None:
    views, cores = both
    assert {row["unit"]: tuple(row[name] for name in OF_A_UNIT) for row in views.table("units")} == {
        unit.unit: tuple(getattr(unit, name) for name in OF_A_UNIT) for unit in cores.state.units.values()
    }
    assert {row["service"]: (row["kept"], row["broken"]) for row in views.table("reliability")} == {
        service: tuple(counts) for service, counts in cores.state.reliability.items()
    }


async def test_every_open_referral_stands_where_the_core_says(both: tuple[Views, Cores]) -> None:
    views, cores = both
    rows: dict[Any, dict[str, Any]] = {row["referral"]: row for row in views.table("referrals")}
    for name, known in cores.state.referrals.items():
        row = rows[name]
        accepted = None if known.acceptance is None else task_id(name, known.acceptance)
        assert row["standing"] != "closed"
        assert row["agency"] == known.agency and row["urgency"] == known.urgency
        assert row["accepted_task"] == accepted
        assert [task for task, _, _ in row["offers"]] == [task_id(name, number) for number in known.offers]
        assert row["status"] == ("on-hold" if known.on_hold else "revoked" if known.withdrawn else "active")
        assert row["held_until"] == known.held_until
        assert row["mode"] == known.mode
        assert row["waits_for"] == (None if known.waits_for is None else list(known.waits_for))
        assert (row["reopened_at"] or row["opened_at"]) == known.opened_at
        assert row["part_of"] == known.part_of
        assert (row["parts"] is None) == (known.parts is None)
        sealed = views.row("sections", referral=name, section="facts")["sealed"]
        assert sealed == known.sealed_facts
    closed = {name for name, row in rows.items() if row["standing"] == "closed"}
    assert closed == rows.keys() - cores.state.referrals.keys()
    for name, record in cores.state.closed.items():
        if record.completed:
            assert record.served is not None
            assert rows[name]["accepted_by"] == record.served.provider
            assert rows[name]["outcome_at"] == record.served.outcome_at
        else:
            assert rows[name]["outcome_at"] is None


async def test_what_waits_is_what_the_core_expects_and_by_when(both: tuple[Views, Cores]) -> None:
    views, cores = both
    state = cores.state
    waiting = [row for row in views.table("waits") if row["done_at"] is None]
    expected = {
        (task_id(due.about, due.number), "answer" if due.kind == "offer" else due.step, due.at)
        for due in state.due
        if due.kind in ("step", "offer") and state._still_due(due)
    }
    of_tasks = [row for row in waiting if row["waits_for"] in STEPS_OF_A_TASK]
    late = [row for row in of_tasks if row["escalated_at"] is not None]
    # An escalated step is not due again, and still waits. Of business time only what was told is known.
    assert _dues(of_tasks) - {(task, step, None) for task, step, _ in _dues(of_tasks)} <= expected | _dues(
        late
    )
    counted = {row["task"] for row in of_tasks if _limits_are_known(row, state)}
    assert {due for due in expected if due[0] in counted} <= _dues(of_tasks)
    assert {(task, step) for task, step, _ in expected} <= {(task, step) for task, step, _ in _dues(of_tasks)}
    assert {row["task"] for row in waiting if row["waits_for"] == "information"} == {
        task_id(name, number)
        for name, known in state.referrals.items()
        for number in known.offers
        if known.attempt(number).business == "screening"
    }
    escalations = {(row["task"], row["step"]) for row in waiting if row["waits_for"] == "escalation"}
    assert escalations == {(task, step) for task, step, _ in _dues(late)}


STEPS_OF_A_TASK = ("acknowledge", "answer", "handoff", "start", "outcome")


def _dues(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {(row["task"], row["waits_for"], row["due_at"]) for row in rows}


def _limits_are_known(row: dict[str, Any], state: Region) -> bool:
    return not state.referrals[row["referral"]].protocol.business_time


@settings(max_examples=10)
@given(seed=st.sampled_from(SEEDS), cuts=st.lists(st.integers(1, 700), max_size=12))
async def test_any_split_into_batches_gives_the_same_rows(seed: int, cuts: list[int]) -> None:
    story, _ = told(seed)
    split = Views()
    bounds = [0, *sorted({cut for cut in cuts if cut < len(story)}), len(story)]
    for start, end in pairwise(bounds):
        await split.feed(story[start:end])
    assert split.everything() == (await views_of(story)).everything()


def test_the_lives_hold_every_event_there_is_about_a_referral() -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen += told(seed)[1].events
    # What regions do for each other needs two of them: see below.
    about = {
        event.__name__
        for event in ledger.EVENTS
        if "referral" in event.model_fields and event not in ledger.ELSEWHERE
    }
    assert about - seen.keys() == set()


def test_only_what_is_between_regions_and_of_the_deciding_itself_is_heard_by_no_view() -> None:
    assert {event.__name__ for event, views in VIEWS_OF.items() if not views} == {
        "CapacityDenied",
        "CapacityListed",
        "CapacityOffered",
        "DuePutOff",
        "ServiceListed",
        "SubmissionRepeated",
        "WindowClosed",
    }


@pytest.mark.parametrize("event", [one for one in ledger.EVENTS if "referral" in one.model_fields])
def test_a_timeline_shows_something_of_every_event_and_nothing_sealed(event: type[ledger.Event]) -> None:
    assert not [field for field in SHOWN[event] if field.startswith("sealed")]
    assert set(SHOWN[event]) <= event.model_fields.keys()


def _lend_and_borrow(seed: int) -> Between:
    """Referrals of two regions, each of which has too few places of its own."""
    draw = random.Random(seed)
    between = Between(CODEC, ("north", "south"))
    for name, provider in (("north", "shelter"), ("south", "clinic")):
        between.publish(lent_out(f"beds{name}", name, between.worlds, organisation=provider, total=2))
    referrals: list[str] = []
    for number in range(1, 60):
        between.pass_time(draw.choice([MINUTE, 7 * MINUTE, HOUR]))
        if draw.random() < 0.5 or not referrals:
            referrals.append(between.refer(draw.choice(["north", "south"]), number))
        else:
            _go_on(between, draw.choice(referrals), draw)
        if draw.random() < 0.7:
            between.flow()
    return between


def _go_on(between: Between, referral: str, draw: random.Random) -> None:
    region = region_of(referral)
    known = between[region].state.referrals.get(referral)
    if known is None or not known.tasks:
        return
    number = known.acceptance or known.before + len(known.tasks)
    provider = known.attempt(number).provider
    if known.acceptance is not None:
        between.say(region, outcome(referral), provider)
    elif (chance := draw.random()) < 0.6:
        between.say(region, accept(referral, number), provider)
    elif chance < 0.8:
        between.say(region, decline(referral, number, draw.choice(["no_capacity", "other"])), provider)
    else:
        between.say(region, withdraw(referral), known.agency)


async def test_of_two_regions_that_lend_each_other_places_each_is_seen_as_its_core_sees_it() -> None:
    seen: Counter[str] = Counter()
    for seed in range(6):
        seen += await _compared(_lend_and_borrow(seed))
    lending = {"CapacityRequested", "AcceptanceClaimed", "CapacityLent", "CapacityTaken", "CapacityFreed"}
    assert lending | {"CapacityDoubted"} <= seen.keys()


async def _compared(between: Between) -> Counter[str]:
    """The views and the core of each region hold the same; returns how often each event was there."""
    views, seen = Views(), Counter[str]()
    for partition, (name, world) in enumerate(between.worlds.items()):
        await views.feed(
            [
                Record(TOPIC, partition, offset, START, name.encode(), value)
                for offset, (_, value) in enumerate(world.entries)
            ]
        )
        cores = Cores(name)
        for entry, value in world.entries:
            cores.take(entry, value)
        seen += cores.events
        assert {
            row["task"]: (row["status"], row["business_status"])
            for row in views.table("tasks")
            if row["region"] == name
        } == cores.tasks
        assert {
            row["unit"]: (row["total"], row["taken"], row["held"], row["doubted"], row["free"])
            for row in views.table("units")
            if row["region"] == name
        } == {
            unit.unit: (unit.total, unit.taken, unit.held, unit.doubted, unit.free)
            for unit in cores.state.units.values()
            if region_of(unit.unit) == name
        }
    return seen
