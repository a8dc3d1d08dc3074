"""The reference tables of the protocol, told by the vocabulary and by what the core really does.

``python -m tests.support.tables`` writes them into ``docs/reference``; a test holds that they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple
from unittest.mock import patch

from referral_bus.contracts import inbox
from referral_bus.contracts.inbox import SUBMISSIONS, Submission
from referral_bus.contracts.ledger import EVENTS, Event, Received, SubmissionRefused
from referral_bus.contracts.reference import Step
from referral_bus.contracts.vocabulary import DECLINES, REFUSALS
from referral_bus.wire.codec import Codec
from services.intake.refusals import REASONS
from services.matching import chain
from services.matching.chain import Chain
from services.matching.core.referral import Task
from services.matching.core.state import Region
from services.matching.core.transitions import TRANSITIONS
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    PROTOCOL,
    REGION,
    World,
    accept,
    acknowledge,
    ask,
    contact,
    decline,
    follow_up,
    forget,
    give_back,
    go_on,
    handoff,
    hold,
    no_show,
    of,
    offers,
    outcome,
    propose,
    publish,
    reply,
    report,
    retract,
    rules,
    start,
    subject_of,
    transfer,
    withdraw,
)
from tests.support.situations import ELSEWHERE, PARTIES, Elsewhere
from tests.support.standings import Stood, stood
from tests.support.talking import SAYINGS, Saying

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"
BUSINESS: Final = "business status"
_FROM_THE_BUS: Final = {inbox.AdoptReference, inbox.ForgetSubject, inbox.Tick}
_WHATEVER_IT_SAYS: Final = {
    "id_reused": "any",
    "too_old": "any",
    "unknown_organisation": "any",
    "not_adopted": "any",
    "undecidable": "any",
    "too_large": ", ".join(
        f"`{one.__name__}`" for one in (inbox.PublishService, inbox.AdoptReference, inbox.ListService)
    ),
}
"""Refused before anybody looks at what the submission says, where any can be, or once it is decided."""

Situation = Callable[[World, str], object]
"""Brings a referral that is on offer to the shelter somewhere else."""


def _accepted(world: World, referral: str) -> None:
    world.send(accept(referral), "shelter")


def _started(world: World, referral: str) -> None:
    _accepted(world, referral)
    world.send(start(referral), "shelter")


def _closed(world: World, referral: str) -> None:
    _accepted(world, referral)
    world.send(outcome(referral), "shelter")


def _followed_up(world: World, referral: str) -> None:
    _closed(world, referral)
    for days in (30, 90):
        world.tick(world.now + 60 * DAY)
        world.send(follow_up(referral, days), "shelter")  # type: ignore[arg-type]


def _reopened(world: World, referral: str) -> None:
    _closed(world, referral)
    world.send(world.reopening(referral), "police")


def _failed(world: World, referral: str) -> None:
    _accepted(world, referral)
    world.send(outcome(referral, "no_show"), "shelter")


def _handed_over(world: World, referral: str) -> None:
    _accepted(world, referral)
    for who in ("shelter", "police"):
        world.send(handoff(referral), who)


def _moving(world: World, referral: str) -> None:
    _accepted(world, referral)
    world.send(propose(referral, "b"), "shelter")


def _moved(world: World, referral: str) -> None:
    _moving(world, referral)
    world.send(accept(referral, 2), "clinic")


def _resting(world: World, referral: str) -> None:
    _accepted(world, referral)
    world.send(hold(referral), "shelter")


def _rested(world: World, referral: str) -> None:
    _resting(world, referral)
    world.send(go_on(referral), "shelter")


def _rested_and_started(world: World, referral: str) -> None:
    _rested(world, referral)
    world.send(start(referral), "shelter")


def _screened(world: World, referral: str) -> None:
    world.send(ask(referral), "shelter")
    world.send(reply(referral), "police")


def _used_up(world: World, referral: str) -> None:
    world.send(decline(referral), "shelter")
    world.send(decline(referral, 2), "clinic")


def _resting_after_the_start(world: World, referral: str) -> None:
    _started(world, referral)
    world.send(hold(referral), "shelter")


def _begun_before_the_handoff(world: World, referral: str) -> None:
    _accepted(world, referral)
    world.send(handoff(referral), "police")
    world.send(start(referral), "shelter")


def _resting_before_the_handoff(world: World, referral: str) -> None:
    _begun_before_the_handoff(world, referral)
    world.send(hold(referral), "shelter")


def _over_time(world: World, _: str) -> None:
    world.follow(referral_limits={"crisis": MINUTE, "urgent": MINUTE, "routine": MINUTE})
    world.refer(number=2)
    world.tick(world.now + MINUTE)


class _Everything(set[bytes]):
    def __contains__(self, _: object) -> bool:
        return True


def _unreadable(world: World, _: str) -> None:
    world.unreadable = _Everything()


def _silent(world: World, _: str) -> None:
    world.tick(world.now + HOUR)


def _broadcast(world: World, _: str) -> None:
    other = world.refer(number=2, mode="broadcast")
    world.send(accept(other), world.task(other).provider)


SITUATIONS: Final[tuple[Situation, ...]] = (
    lambda _, __: None,
    lambda world, referral: world.send(acknowledge(referral), "shelter"),
    lambda world, referral: world.send(ask(referral), "shelter"),
    _screened,
    _accepted,
    lambda world, referral: world.send(accept(referral, starts_at=world.now + DAY), "shelter"),
    _handed_over,
    lambda world, referral: (_accepted(world, referral), world.send(no_show(referral), "shelter")),
    _started,
    _resting,
    _resting_after_the_start,
    _begun_before_the_handoff,
    _resting_before_the_handoff,
    _over_time,
    _unreadable,
    lambda world, referral: (_closed(world, referral), _unreadable(world, referral)),
    _rested,
    _rested_and_started,
    _moving,
    _moved,
    lambda world, referral: (_accepted(world, referral), world.send(give_back(referral), "shelter")),
    _closed,
    _failed,
    _followed_up,
    _reopened,
    lambda world, referral: (
        _closed(world, referral),
        world.tick(world.now + 100 * DAY),
        world.refer(number=9),
    ),
    lambda world, referral: world.send(decline(referral), "shelter"),
    lambda world, referral: world.send(propose(referral, "b"), "shelter"),
    _used_up,
    _silent,
    _broadcast,
    lambda world, referral: world.send(hold(referral), "police"),
    lambda world, referral: world.send(transfer(referral), "police"),
    lambda world, referral: world.send(world.parts_of(referral, [(8, HOUSING), (9, HOUSING)]), "police"),
    lambda world, referral: world.send(withdraw(referral), "police"),
    lambda world, referral: world.send(withdraw(referral, "entered_in_error"), "police"),
    lambda world, referral: (_started(world, referral), world.send(withdraw(referral), "police")),
    lambda world, referral: world.send(forget(subject_of(1)), OPERATIONS),
)
ODD: Final[list[Saying]] = [
    lambda world, referral, _, what=what, ahead=ahead: what(referral, world.now + ahead)  # type: ignore[misc]
    for what in (start, no_show, contact, handoff)
    for ahead in (DAY, -365 * DAY)
]
"""Reports of times that can't be."""
SENDERS: Final = ("police", "hospital", "shelter", "clinic")


class Take(NamedTuple):
    """A submission that was put to a region, how what it is about stood, and what came of it."""

    world: World
    received: Received
    stood: Stood
    events: list[Event]


Seen = list[Take]


@contextmanager
def watched() -> Iterator[Seen]:
    """All that any world is sent, and what came of it."""
    seen: Seen = []
    take = World.take

    def taken(self: World, received: Received) -> list[Event]:
        met = stood(self.state, received)
        events = take(self, received)
        seen.append(Take(self, received, met, events))
        return events

    with patch.object(World, "take", taken):
        yield seen


def _brought(codec: Codec, situation: Situation) -> tuple[World, str]:
    limits = {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}
    world = World(codec)
    world.follow(
        steps=[Step(step="handoff", limits=limits).model_dump()], follow_up_days=[30, 90], maximum_offers=3
    )
    world.publish(offers("a"))
    referral = world.refer()
    world.publish(offers("b", "clinic"), offers("c", "pantry"))
    situation(world, referral)
    return world, referral


def _brought_elsewhere(codec: Codec, elsewhere: Elsewhere) -> tuple[World, str]:
    world, _ = _brought(codec, lambda _, __: None)
    return world, elsewhere(world)


def _come_so_far(
    scheduled: bool, missed: bool, handed_over: bool, rested: bool, world: World, referral: str
) -> None:
    """The shelter serves, and this was reported of it; it may have rested since."""
    world.send(accept(referral, starts_at=world.now + DAY if scheduled else None), "shelter")
    if missed:
        world.send(no_show(referral), "shelter")
    for who in ("shelter", "police") if handed_over else ():
        world.send(handoff(referral), who)
    for body in (hold(referral), go_on(referral)) if rested else ():
        world.send(body, "shelter")


def _however_far_a_service_has_come(codec: Codec) -> None:
    """It rests and goes on, the person doesn't come or is handed over, and each report is taken back."""
    for so_far in product((False, True), repeat=4):
        world, referral = _brought(codec, partial(_come_so_far, *so_far))
        reports = [one.sequence for one in world.state.referrals[referral].reports]
        for said in (
            [(hold(referral), "shelter"), (go_on(referral), "shelter")],
            [(no_show(referral), "shelter")],
            [(handoff(referral), "shelter"), (handoff(referral), "police")],
            *([(retract(referral, one), who) for who in ("shelter", "police")] for one in reports),
        ):
            world, referral = _brought(codec, partial(_come_so_far, *so_far))
            for body, who in said:
                world.send(body, who)


def _say_all(said: Iterable[tuple[Saying, int, str]], world: World, referral: str) -> None:
    """Each is said where nothing of the others was."""
    there: World | None = None
    for saying, attempt, sender in said:
        there = there or deepcopy(world, {id(world.codec): world.codec})
        events = there.send(saying(there, referral, attempt), sender)
        # A refusal leaves everything as it was.
        there = there if isinstance(events[0], SubmissionRefused) else None


def _newer_rules(codec: Codec) -> None:
    """A matching that knows them is told to go by them."""
    both = frozenset({1, 2})
    with patch.object(chain, "fold", partial(chain.fold, supported=both)):
        World(codec, supported=both).send(rules(2), OPERATIONS)


def everything_said_everywhere(codec: Codec) -> None:
    """In each situation everybody says each thing once."""
    _however_far_a_service_has_come(codec)
    everybody = [(saying, 1, sender) for saying, sender in product([*SAYINGS, *ODD], SENDERS)]
    for situation in SITUATIONS:
        _say_all(everybody, *_brought(codec, situation))
    for elsewhere in ELSEWHERE:
        _say_all(PARTIES, *_brought_elsewhere(codec, elsewhere))
    _newer_rules(codec)
    for parking in (PROTOCOL.parking_ms, 0):
        world = World(codec)
        world.follow(parking_ms=parking)
        sayings = [saying(world, of(number=77), 1) for saying in SAYINGS]
        bodies = [*sayings, publish(offers("a")), report("x", 1, 1, world.now), world.submission()]
        for body in bodies:
            world.send(body, "police")
        world.tick(world.now + PROTOCOL.parking_ms)


def refusals_seen(seen: Seen) -> dict[str, set[type[Submission]]]:
    """Which submissions were refused for each reason."""
    found: dict[str, set[type[Submission]]] = {reason: set() for reason in REFUSALS}
    by_type = {one.event_type(): one for one in SUBMISSIONS}
    for world, received, _, events in seen:
        for event in events:
            if isinstance(event, SubmissionRefused):
                refused = type(received.body)
                if event.parked is not None:
                    admitted = world.entries[event.parked - 1][0].meta.submission
                    assert admitted is not None
                    refused = by_type[admitted.type]
                found[event.reason].add(refused)
    return found


def moves_seen(seen: Seen) -> dict[type[Event], set[tuple[str, str]]]:
    """To which statuses each event brought a task."""
    found: dict[type[Event], set[tuple[str, str]]] = {}
    for world in {id(one.world): one.world for one in seen}.values():
        if not world.state.referrals and not world.state.closed:
            continue
        read = Chain(Region(REGION))
        for entry, value in world.entries:
            name = getattr(entry.event, "referral", None)
            before = _tasks(read.state, name)
            read.take(entry, value)
            after = _tasks(read.state, name)
            for number, task in after.items():
                former = before.get(number)
                if former is None or (former.status, former.business) != (task.status, task.business):
                    found.setdefault(type(entry.event), set()).add((task.status, task.business))
    return found


def _tasks(state: Region, name: str | None) -> dict[int, Task]:
    known = None if name is None else state.referrals.get(name)
    return {} if known is None else dict(enumerate(known.tasks, known.before + 1))


def refusals(seen: Seen) -> list[str]:
    found = refusals_seen(seen)
    rows = []
    for reason, says in REFUSALS.items():
        got = [one.__name__ for one in SUBMISSIONS if one in found[reason] and one not in _FROM_THE_BUS]
        got += [one.__name__ for one in SUBMISSIONS if one in found[reason] and one in _FROM_THE_BUS]
        who = _WHATEVER_IT_SAYS.get(reason) or ", ".join(f"`{name}`" for name in got)
        rows.append(f"| `{reason}` | {says} | {who} |")
    return ["| reason | what it says | who can get it |", "|---|---|---|", *rows]


def border() -> list[str]:
    """What is refused before any region hears of it."""
    rows = [f"| `{reason}` | {status} | {advice} |" for reason, (status, advice) in REASONS.items()]
    return ["| reason | HTTP status | what to do |", "|---|---|---|", *rows]


def declines() -> list[str]:
    then = {
        "elsewhere": "offered elsewhere; to this service again only in a new round",
        "later": "offered elsewhere; if nobody else is left to ask, rests until the date that goes with it, then a new round",
        "park": "rests until the date that goes with it, then a new round",
        "never": "offered elsewhere; never to this service again",
    }
    rows = [f"| `{reason}` | {one.side} | {then[one.then]} |" for reason, one in DECLINES.items()]
    return ["| reason | whose no it is | what the referral does |", "|---|---|---|", *rows]


def transitions() -> list[str]:
    rows = [
        f"| `{former}` | `{later}` | {' or '.join(sorted(setters))} |"
        for (former, later), setters in TRANSITIONS.items()
    ]
    return ["| from | to | set by |", "|---|---|---|", *rows, "| any | `entered-in-error` | agency |"]


def moves(seen: Seen) -> list[str]:
    found = moves_seen(seen)
    rows = []
    for event in EVENTS:
        by_status: dict[str, list[str]] = {}
        for status, business in sorted(found.get(event, ())):
            by_status.setdefault(status, []).append(f"`{business}`")
        rows += [f"| `{event.__name__}` | `{one}` | {', '.join(finer)} |" for one, finer in by_status.items()]
    return [f"| event | status | {BUSINESS} |", "|---|---|---|", *rows]


def tables(seen: Seen) -> dict[str, list[list[str]]]:
    """The tables of each page, in their order there."""
    return {
        "refusals.md": [refusals(seen), border()],
        "decline-reasons.md": [declines()],
        "task-life.md": [transitions(), moves(seen)],
    }


def written(page: str) -> list[list[str]]:
    """The tables that a page has."""
    found: list[list[str]] = [[]]
    for line in page.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def rewritten(page: str, wanted: Iterable[list[str]]) -> str:
    """The page with these tables in the place of those it has."""
    for former, table in zip(written(page), wanted, strict=True):
        page = page.replace("\n".join(former), "\n".join(table))
    return page


def main() -> None:
    from tests.contract.matching.test_refusals import SCENARIOS
    from tests.support import actions

    codec = Codec.load()
    with watched() as seen:
        everything_said_everywhere(codec)
        for _, _, scenario in SCENARIOS:
            scenario(World(codec))
    for name, wanted in tables(seen).items():
        path = REFERENCE / name
        path.write_text(rewritten(path.read_text(), wanted))
    page = REFERENCE / "actions.md"
    page.write_text(actions.rewritten(page.read_text(), seen, refusals(seen)))


if __name__ == "__main__":
    main()
