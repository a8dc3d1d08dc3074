"""A task lives as the SDOH Clinical Care guide's state machine has it: from which status to which, and by whose hand."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    GENESIS_HASH,
    Entry,
    Event,
    Meta,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    OutcomeReported,
    ReferralWithdrawn,
    ServiceProposed,
    ServiceStarted,
    TaskCancelled,
    TaskEnteredInError,
    TaskHeld,
    TaskResumed,
)
from referral_bus.contracts.vocabulary import TaskStatus
from referral_bus.wire.codec import Codec
from services.matching.core.fold import UnknownEvent, fold
from services.matching.core.transitions import TRANSITIONS, may_go
from tests.support.deciding import DAY, HOUR, MINUTE, REGION, World, offers
from tests.support.talking import OF_AGENCY, OF_OFFERS, OF_SERVICE, Saying

CODEC: Final = Codec.load()
STATUSES: Final[tuple[TaskStatus, ...]] = get_args(TaskStatus)
SETTERS: Final = {"Requester": "agency", "Referral Target": "provider"}


@pytest.fixture(scope="module")
def guide(reference: Path) -> list[dict[str, str]]:
    with (reference / "fhir-sdoh/fhir_task_transitions.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_transitions_are_those_of_the_guide_each_set_by_whom_it_says(guide: list[dict[str, str]]) -> None:
    # A task begins as requested: draft is optional there, and what a requester drafts is not on the bus.
    assert {row["to"] for row in guide if row["from"] in ("(start)", "draft")} == {"draft", "requested"}
    assert [(row["to"], row["set_by"]) for row in guide if row["from"] == "(any)"] == [
        ("entered-in-error", "Requester")
    ]
    theirs = {
        (row["from"], row["to"]): {SETTERS[one] for one in row["set_by"].split(" or ")}
        for row in guide
        if row["from"] not in ("(start)", "draft", "(any)")
    }
    assert theirs == TRANSITIONS


@pytest.mark.parametrize(("former", "later"), list(product(STATUSES, STATUSES)))
def test_a_task_may_go_only_where_the_guide_lets_it(
    guide: list[dict[str, str]], former: TaskStatus, later: TaskStatus
) -> None:
    theirs = any(row["from"] in (former, "(any)") and row["to"] == later for row in guide)
    assert may_go(former, later) is theirs


def moving(referral: str, later: TaskStatus, at: int) -> Event:
    """An event that brings the first task of a referral to a status."""
    task: dict[str, Any] = {"referral": referral, "task": task_id(referral, 1)}
    theirs = {**task, "provider": "shelter"}
    events: dict[TaskStatus, Event] = {
        "accepted": OfferAccepted(**theirs),
        "rejected": OfferDeclined(**theirs, reason="other"),
        "in-progress": TaskResumed(**task),
        "on-hold": TaskHeld(**task, reason="other"),
        "completed": OutcomeReported(**task, result="need_met"),
        "failed": OutcomeReported(**task, result="not_met"),
        "cancelled": OfferExpired(**theirs),
        "entered-in-error": ReferralWithdrawn(**task, reason="entered_in_error"),
    }
    return events[later]


@pytest.mark.parametrize(
    ("former", "later"),
    # What rests and is held anew goes nowhere.
    [
        pair
        for pair in product(STATUSES, STATUSES)
        if pair[1] != "requested" and pair != ("on-hold", "on-hold")
    ],
)
def test_an_event_that_moves_a_task_elsewhere_is_a_damaged_ledger(
    world: World, former: TaskStatus, later: TaskStatus
) -> None:
    world.publish(offers("beds", total=3))
    referral = world.refer()
    known = world.state.referrals[referral]
    known.tasks = (known.tasks[0]._replace(status=former),)
    meta = Meta(
        region=REGION,
        sequence=world.state.sequence + 1,
        prev_hash=GENESIS_HASH,
        decided_through=world.state.decided_through,
        now=world.now,
        rules=1,
    )
    entry = Entry(meta, moving(referral, later, world.now))
    if may_go(former, later):
        fold(world.state, entry)
        assert world.task(referral).status == later
    else:
        with pytest.raises(UnknownEvent, match=f"can't go from {former} to {later}"):
            fold(world.state, entry)


class Tasks:
    """Where every task of a ledger stands, told from the events alone, and by whose hand each moved."""

    def __init__(self) -> None:
        self.status: dict[str, TaskStatus] = {}
        self.agency: dict[str, str] = {}
        self.provider: dict[str, str] = {}

    def read(self, event: Event, by: str | None) -> None:
        if isinstance(event, OfferMade):
            assert event.task not in self.status
            self.status[event.task], self.provider[event.task] = "requested", event.provider
            return
        task = getattr(event, "task", None)
        later = None if task is None else self._later(event, self.status[task])
        if task is None or later is None:
            return
        former, self.status[task] = self.status[task], later
        if (former, later) == ("in-progress", "in-progress"):
            assert isinstance(event, ServiceStarted), "only a start after a rest leaves the status as it is"
        elif later == "entered-in-error":
            assert by is not None and by != self.provider[task]
        else:
            setters = TRANSITIONS[former, later]
            if "agency" not in setters and not (isinstance(event, TaskResumed) and by is None):
                assert by == self.provider[task], f"{by} moved a task from {former} to {later}"

    def _later(self, event: Event, former: TaskStatus) -> TaskStatus | None:
        match event:
            case OfferAccepted():
                return "accepted"
            case OfferDeclined():
                return "rejected"
            case ServiceProposed():
                return "rejected" if former == "requested" else None
            case OfferExpired() | TaskCancelled():
                return "cancelled"
            case ReferralWithdrawn():
                return "entered-in-error" if event.reason == "entered_in_error" else "cancelled"
            case TaskEnteredInError():
                return "entered-in-error"
            case ServiceStarted():
                return None if event.late else "in-progress"
            case TaskResumed():
                return "in-progress"
            case TaskHeld():
                return "on-hold"
            case OutcomeReported() if event.corrects is None:
                return "completed" if event.result in ("need_met", "partly_met") else "failed"
            case _:
                return None


_PROVIDERS: Final[list[Saying]] = [*OF_OFFERS.values(), *OF_SERVICE.values()]
_STEPS = st.tuples(
    st.booleans(),
    st.integers(0, 99),
    st.integers(0, 3),
    st.sampled_from([0, 0, 0, 1, MINUTE, HOUR, DAY]),
    st.sampled_from(["right", "right", "right", "shelter", "clinic", "police"]),
)


@settings(max_examples=150, derandomize=True)
@given(
    modes=st.lists(st.sampled_from(["match", "broadcast", "waitlist"]), min_size=1, max_size=3),
    steps=st.lists(_STEPS, max_size=60),
)
def test_over_any_ledger_a_task_moves_only_along_the_guides_transitions_by_whom_it_says(
    modes: list[Any], steps: list[tuple[bool, int, int, int, str]]
) -> None:
    world, tasks = World(CODEC), Tasks()
    world.follow(maximum_offers=20)
    world.publish(offers("a", total=2), offers("b", "clinic", total=2), offers("c", "pantry", total=1))
    names = [world.refer(number=number, mode=mode) for number, mode in enumerate(modes, 1)]
    for by_agency, chosen, back, jump, who in steps:
        world.tick(world.now + jump)
        name = names[chosen % len(names)]
        known, closed = world.state.referrals.get(name), world.state.closed.get(name)
        attempts = known.before + len(known.tasks) if known else closed.attempts if closed else 0
        attempt = max(1, attempts - back)
        sayings = list(OF_AGENCY.values()) if by_agency else _PROVIDERS
        body = sayings[chosen % len(sayings)](world, name, attempt)
        if who == "right":
            agency = known.agency if known else closed.agency if closed else "police"
            there = known is not None and known.before < attempt <= attempts
            who = agency if by_agency or known is None or not there else known.attempt(attempt).provider
        world.send(body, who)
    by: str | None = None
    for entry, _ in world.entries:
        admitted = entry.meta.submission
        by = by if admitted is None else None if admitted.source == "matching" else admitted.source
        tasks.read(entry.event, by)
    for name, referral in world.state.referrals.items():
        for number, task in enumerate(referral.tasks, referral.before + 1):
            assert tasks.status[task_id(name, number)] == task.status
    assert world.again() == [value for _, value in world.entries]
