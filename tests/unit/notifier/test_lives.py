"""Whole lives of referrals, as the real core decides them: everything is heard by those it concerns, and by nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    ELSEWHERE,
    EVENTS,
    Entry,
    Escalated,
    FollowUpDue,
    OfferMade,
    OutcomeReported,
    ReferralCalled,
    ReferralOpened,
    ReferralTransferred,
    Reminded,
    SubmissionParked,
    SubmissionRefused,
)
from referral_bus.wire.codec import Codec
from services.matching.chain import Chain
from services.matching.core.state import Region
from services.notifier import hearing
from services.notifier.hearing import Heard, Roles, Sender, hearers
from services.notifier.standing import ReferralStanding, after, opened
from tests.support.deciding import AGENCIES, OPERATIONS, PROVIDERS, REGION
from tests.support.lives import Lives

CODEC = Codec.load()
SEEDS = range(10)
STEPS = 300
ROLES: Roles = {
    **{name: frozenset({"agency"}) for name in AGENCIES},
    **{name: frozenset({"provider"}) for name in PROVIDERS},
    OPERATIONS: frozenset({"operations"}),
}
ENDS = frozenset(
    f"org.referralbus.ledger.{name}.v1"
    for name in (
        "OfferDeclined",
        "OfferExpired",
        "TaskCancelled",
        "ServiceProposed",
        "ReferralWithdrawn",
        "OutcomeReported",
    )
)
"""What tells a provider that its task is over."""


@dataclass(frozen=True)
class Moment:
    """An event, who heard of it, and where its referral stood before and after, here and for the core."""

    entry: Entry
    heard: list[Heard]
    before: ReferralStanding | None
    after: ReferralStanding | None


@cache
def moments(seed: int) -> tuple[list[Moment], dict[str, ReferralStanding], Region]:
    """The ledger as the notifier folds it."""
    lives = Lives(CODEC, seed, windows=seed % 2 == 1)
    lives.steps(STEPS)
    known: dict[str, ReferralStanding] = {}
    parked: dict[int, Sender] = {}
    found: list[Moment] = []
    chain = Chain(Region(REGION))
    for entry, value in lives.world.entries:
        event = entry.event
        chain.take(entry, value)
        name = hearing.about(event) or ""
        before = known.get(name)
        if isinstance(event, ReferralOpened):
            before = known[name] = opened(event)
        elif before is not None:
            known[name] = after(before, event)
        if isinstance(event, SubmissionParked):
            by = hearing.sender(entry, before, ROLES)
            assert by is not None
            parked[entry.meta.sequence] = by
        waited = parked.get(event.parked or 0) if isinstance(event, SubmissionRefused) else None
        found.append(Moment(entry, hearers(entry, before, waited, ROLES), before, known.get(name)))
    return found, known, chain.state


def every_moment() -> Iterator[Moment]:
    for seed in SEEDS:
        yield from moments(seed)[0]


def test_the_lives_hold_every_event_about_a_referral() -> None:
    lived = {type(moment.entry.event) for moment in every_moment()}
    of_one_region = set(EVENTS) - set(ELSEWHERE)
    assert {event for event in of_one_region if "referral" in event.model_fields} <= lived


@pytest.mark.parametrize("seed", SEEDS)
def test_a_referral_stands_where_the_core_says(seed: int) -> None:
    _, known, state = moments(seed)
    assert state.referrals.keys() <= known.keys()
    for name, referral in state.referrals.items():
        standing = known[name]
        assert standing.agency == referral.agency
        assert standing.sealed_facts == referral.sealed_facts
        assert standing.offers == {
            task_id(name, number): referral.attempt(number).provider for number in referral.offers
        }
        accepted = referral.acceptance
        assert standing.accepted_task == (None if accepted is None else task_id(name, accepted))
        assert standing.accepted_by == (None if accepted is None else referral.attempt(accepted).provider)


def served_before(moment: Moment) -> bool:
    """Whether its provider says something of what it did before the referral was reopened."""
    event, standing = moment.entry.event, moment.before
    late = getattr(event, "late", False) or getattr(event, "corrects", None) is not None
    return late and standing is not None and standing.accepted_task != getattr(event, "task", None)


def test_only_the_parties_of_a_referral_hear_of_it() -> None:
    for moment in every_moment():
        event, standing = moment.entry.event, moment.before
        if standing is None or isinstance(event, SubmissionRefused | SubmissionParked):
            continue
        if isinstance(event, Escalated):
            unanswered = {standing.agency} if event.step == "accept" else set()
            assert {one.organisation for one in moment.heard} == {event.to or OPERATIONS} | unanswered
            continue
        agencies = {standing.agency}
        if isinstance(event, ReferralTransferred):
            agencies.add(event.agency)
        its = {getattr(event, "provider", None), standing.accepted_by, *standing.offers.values()}
        if served_before(moment):
            its.add(moment.entry.meta.submission.source)  # type: ignore[union-attr]
        for heard in moment.heard:
            assert heard.organisation in (agencies if heard.role == "agency" else its)
            assert heard.role in ("agency", "provider")


def test_the_agency_hears_of_all_that_happens_to_its_referral() -> None:
    to_others = Reminded | Escalated | ReferralCalled
    for moment in every_moment():
        event, standing = moment.entry.event, moment.before
        if standing is None or isinstance(event, to_others | SubmissionRefused | SubmissionParked):
            continue
        if getattr(event, "service", None) is not None and type(event).__name__ == "MatchDecided":
            continue
        assert (standing.agency, "agency") in {(one.organisation, one.role) for one in moment.heard}


def test_whoever_was_asked_hears_how_it_ended_for_it() -> None:
    for seed in SEEDS:
        found, known, _ = moments(seed)
        told = {
            (heard.organisation, heard.task)
            for moment in found
            for heard in moment.heard
            if heard.role == "provider" and heard.type in ENDS
        }
        for moment in found:
            event = moment.entry.event
            if isinstance(event, OfferMade):
                holds = known[event.referral].provider_of(event.task) is not None
                assert holds or (event.provider, event.task) in told


def test_whoever_sent_something_hears_of_its_answer_under_its_id() -> None:
    """The first event of a decision answers it, but for what nobody waits for: counts, services, and repeats."""
    quiet = {"CapacityChanged", "ServicePublished", "SubmissionRepeated", "ReferenceAdopted", "KeyDestroyed"}
    for moment in every_moment():
        admitted = moment.entry.meta.submission
        if admitted is None or type(moment.entry.event).__name__ in {*quiet, "RulesActivated"}:
            continue
        if admitted.type.endswith(".Tick.v1"):
            continue
        assert (admitted.source, admitted.id) in {(one.organisation, one.submission) for one in moment.heard}


def test_who_accepted_hears_of_what_is_due_and_said_afterwards() -> None:
    for moment in every_moment():
        event = moment.entry.event
        if isinstance(event, FollowUpDue | OutcomeReported):
            assert moment.before is not None
            hearing = {one.organisation for one in moment.heard if one.role == "provider"}
            if served_before(moment):
                assert moment.entry.meta.submission is not None
                assert hearing == {moment.entry.meta.submission.source}
            else:
                assert hearing == {moment.before.accepted_by}
