"""A referral's life and matches in sentences: every step has one, and nobody reads more than they may."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from referral_bus.contracts import ledger
from referral_bus.contracts.certificates import CRITERIA
from referral_bus.contracts.criteria import Criterion, Eligibility, holds
from referral_bus.contracts.facts import Facts, Household, Need, NumberFact
from referral_bus.contracts.ids import task_id, unit_id
from referral_bus.contracts.ledger import Entry, Judged, MatchDecided, ReferralClosed, TaskCancelled
from referral_bus.contracts.vocabulary import CancelReason, CloseReason
from referral_bus.wire.codec import Codec
from referral_bus.wording.certificates import _why_not, match_in_words
from referral_bus.wording.steps import OUTCOMES, step
from services.matching.explain import (
    History,
    NotThere,
    full_table,
    own_matches,
    region_in,
    sentences,
    table_lines,
)
from tests.support.deciding import (
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    accept,
    decline,
    handoff,
    no_show,
    of,
    offers,
    outcome,
    policy,
    retract,
    service_of,
    start,
    stated_age,
    stated_area,
    subject_of,
    transfer,
    withdraw,
)
from tests.support.lives import Lives
from tests.support.regions import Between, lent_out
from tests.unit.matching.test_recompute import made_again

OF_A_REFERRAL = {
    event for event in ledger.EVENTS if "referral" in event.model_fields and event is not MatchDecided
}
OF_ANOTHER_REGION = {ledger.CapacityRequested, ledger.AcceptanceClaimed, ledger.CapacityReturned}
VETERANS = Eligibility(service=holds(Criterion(kind="trait", one_of=["veteran"])))


def history_of(world: World, referral: str) -> History:
    history = History(referral)
    for entry, _ in world.entries:
        history.take(entry)
    return history


def told(world: World, referral: str, **more: Any) -> str:
    return "\n".join(sentences(history_of(world, referral), **more))


def test_every_step_of_whatever_life_has_a_sentence(codec: Codec) -> None:
    seen = set()
    for seed in range(10):
        lives = Lives(codec, seed, windows=bool(seed % 2))
        lives.steps(300)
        for event in lives.world.events:
            if type(event) in OF_A_REFERRAL:
                seen.add(type(event))
                said = step(event, lambda service: service, True)
                assert said is not None and said.endswith(".") and "None" not in said, event
    assert seen == OF_A_REFERRAL - OF_ANOTHER_REGION


def test_what_regions_ask_each_other_has_a_sentence_too() -> None:
    asked = ledger.CapacityRequested(
        referral=of(),
        task=task_id(of(), 1),
        service="sv-south-beds",
        unit=unit_id("south", "beds"),
        provider="shelter",
        until=1,
    )
    claimed = ledger.AcceptanceClaimed(
        referral=of(), task=task_id(of(), 1), provider="shelter", unit=unit_id("south", "beds")
    )
    returned = ledger.CapacityReturned(referral=of(), task=task_id(of(), 1), unit=unit_id("south", "beds"))
    assert step(asked, lambda _: "Beds", True) == "The region of Beds (shelter) is asked to hold a place."
    assert step(claimed, str, True) == "shelter accepts; its region is asked for the place."
    assert step(returned, str, True) == "The place in the other region is given back."


@pytest.mark.parametrize("reason", get_args(CloseReason))
def test_every_reason_of_an_end_is_put_into_words(reason: CloseReason) -> None:
    said = step(ReferralClosed(referral=of(), status="revoked", reason=reason), str, True)
    assert said is not None and "_" not in said


@pytest.mark.parametrize("reason", get_args(CancelReason))
def test_every_reason_why_an_offer_ends_is_put_into_words(reason: CancelReason) -> None:
    cancelled = TaskCancelled(referral=of(), task=task_id(of(), 1), provider="shelter", reason=reason)
    said = step(cancelled, str, True)
    assert said is not None and "_" not in said


def test_what_is_corrected_and_taken_back_is_told_as_that(world: World) -> None:
    world.follow(steps=[{"step": "handoff", "limits": {"crisis": HOUR, "urgent": HOUR, "routine": HOUR}}])
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(no_show(referral, world.now), "shelter")
    missed = world.state.sequence
    world.send(retract(referral, missed), "shelter")
    world.send(handoff(referral, world.now), "police")
    confirmed = world.state.sequence
    world.send(retract(referral, confirmed), "police")
    for at in (world.now, world.now - HOUR):
        world.send(start(referral, at), "shelter")
    world.send(withdraw(referral), "police")
    world.send(outcome(referral), "shelter")
    world.send(withdraw(referral, "entered_in_error"), "police")
    lines = told(world, referral)
    for sentence in (
        f"The provider took back the no-show it reported (event {missed}).",
        f"police took back its word on the handoff (event {confirmed}).",
        "This corrects what was reported before.",
        "Withdrawn: moved away. The service goes on until its provider says what came of it.",
        "Closed: the agency withdrew it. What came of it: need met.",
        "Withdrawn: entered in error.",
        "What was offered to shelter never should have been.",
    ):
        assert sentence in lines, sentence
    assert "took back the no-show" not in told(world, referral, show_outcome=False)


def test_who_may_not_know_the_outcome_reads_nothing_of_it(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.accepted()
    world.send(no_show(referral, world.now), "shelter")
    world.send(start(referral, world.now), "shelter")
    world.send(outcome(referral), "shelter")
    all_of_it = told(world, referral)
    assert (
        "Outcome: need met" in all_of_it
        and "did not come" in all_of_it
        and "reported the outcome" in all_of_it
    )
    without = told(world, referral, show_outcome=False)
    assert "utcome" not in without and "did not come" not in without and "need met" not in without
    assert without.endswith("Closed.")
    assert {one.__name__ for one in OUTCOMES} == {
        "OutcomeReported",
        "FollowUpDue",
        "FollowedUp",
        "NoShowReported",
        "ReportRetracted",
    }


@pytest.mark.parametrize(
    ("code", "area", "said"), [("9999", "riverside", True), ("housing", "harbour", False)]
)
def test_where_no_service_is_coded_with_what_is_needed_that_is_said(
    world: World, code: str, area: str, said: bool
) -> None:
    world.publish(offers("beds", areas=["riverside"]), offers("food", "pantry", needs=["food"]))
    facts = HOUSING.model_copy(update={"needs": [Need(code=code)], "area": stated_area(area)})
    lines = told(world, world.refer(facts))
    assert "No service could take it." in lines
    assert ("No service here is coded with what is needed" in lines) is said
    assert ("Near miss" in lines) is not said


def test_the_best_are_told_in_order_with_all_that_ranked_them(world: World) -> None:
    world.publish(offers("half", total=4, available=2), offers("empty", total=4, ages=None))
    lines = sentences(history_of(world, world.refer()))
    [first] = [line for line in lines if "Match 1" in line]
    assert "of 2 services, 2 could take it (policy plain 1)." in first
    best = [line.strip() for line in lines if line.strip()[:2] in ("1.", "2.")]
    assert best[0].startswith(
        "1. Service half: nothing is unknown, 50 % of its places in use, held or in doubt, places counted within the hour, lot "
    )
    assert best[1].startswith("2. Service empty: unknown is the age, 0 % of its places")


def test_who_was_decided_with_others_of_a_window_is_told_so(world: World) -> None:
    gathering = POLICY.model_copy(update={"version": 2, "window_ms": 10 * MINUTE, "best": 1})
    world.send(policy(gathering), OPERATIONS)
    world.publish_in_order("any", "clinic:other")
    world.send(policy(gathering.model_copy(update={"version": 4, "rank_by": ["load"]})), OPERATIONS)
    referral = world.refer(urgency="routine")
    world.tick(world.now + 10 * MINUTE)
    said = told(world, referral)
    assert "It was decided together with the others of its window, which left Service any to it." in said
    assert "1. Service any: nothing is unknown" in said and "named" not in said


def test_what_a_window_left_is_told_apart_from_the_best(world: World) -> None:
    world.publish(offers("any"), offers("other", "clinic"))
    referral = world.refer()
    [decided] = [event for event in world.events if isinstance(event, MatchDecided)]
    last = decided.certificate.best[-1].service
    alike = decided.certificate.model_copy(update={"in_window": True})
    lines = match_in_words(alike, last, None, lambda service: service)
    assert referral and lines[-1].startswith(f"Left by the window: {last}: ")
    assert lines[-2].startswith("1. ")


def test_a_provider_reads_how_its_own_services_were_judged_and_no_others(world: World) -> None:
    world.publish(
        offers("beds"),
        offers("rooms", ages={"minimum": 60}),
        offers("cots", "pantry", ages={"minimum": 60}),
    )
    referral = world.refer()
    whole, own = told(world, referral, reader="police"), told(world, referral, reader="shelter")
    assert all(f"Service {local}" in whole for local in ("beds", "rooms", "cots"))
    assert "Match: Service beds: nothing is unknown" in own and "Near miss: Service rooms" in own
    assert "1. Service" not in own and "cots" not in own
    history = history_of(world, referral)
    rows = [
        Judged(service=service_of(one), verdicts=["yes"] * 8, score=[]) for one in ("beds", "rooms", "cots")
    ]
    assert [line[:12] for line in table_lines(history, rows, "shelter")[1:]] == [
        "Service beds",
        "Service room",
    ]
    assert len(table_lines(history, rows)) == 4


def test_a_provider_reads_nothing_of_who_else_was_asked(world: World) -> None:
    world.publish_in_order("shelter:beds", "clinic:rooms", "pantry:cots")
    referral = world.refer()
    world.send(decline(referral), "shelter")
    own = told(world, referral, reader="clinic")
    assert "Offered to Service rooms (clinic)" in own and "Match: Service rooms: nothing is unknown" in own
    for others in ("shelter", "beds", "Declined", "Match 2", "services", "asked before"):
        assert others not in own
    assert own.count("Match") == 1, "those that asked others before it are not its own"
    world.send(decline(referral, 2), "clinic")
    assert told(world, referral, reader="clinic").count("Match") == 1, "nor are those after it"
    assert told(world, referral, reader="pantry").count("Match") == 1
    assert "Declined by shelter" in told(world, referral, reader="police")


def test_each_provider_of_a_broadcast_reads_the_one_match_that_asked_it(world: World) -> None:
    world.follow(broadcast_width=3)
    world.publish_in_order("shelter:beds", "clinic:rooms", "pantry:cots")
    referral = world.refer(mode="broadcast")
    for provider in ("shelter", "clinic", "pantry"):
        assert told(world, referral, reader=provider).count("Match") == 1
    assert not own_matches(history_of(world, referral), "hospital")


def test_a_provider_that_another_region_had_to_hold_a_place_for_reads_its_match_once_it_is_asked(
    codec: Codec,
) -> None:
    regions = Between(codec)
    regions.publish(lent_out("rooms", "south"))
    referral = regions.refer("north")
    world = regions["north"]
    provider = world.task(referral).provider
    assert not own_matches(history_of(world, referral), provider)
    regions.flow()
    assert told(world, referral, reader=provider).count("Match: ") == 1


async def test_the_whole_table_tells_a_provider_nothing_of_others(world: World) -> None:
    world.publish_in_order("shelter:beds", "clinic:rooms", "pantry:cots")
    referral = world.refer()
    world.send(decline(referral), "shelter")
    history, again = history_of(world, referral), await made_again(world, referral)
    agency, clinic = (
        [line for made in again for line in full_table(history, made, reader)]
        for reader in ("police", "clinic")
    )
    assert [line for line in agency if "the table" in line] == [
        "Match 1: the table of 3 services is the one that was decided by:",
        "Match 2: the table of 2 services is the one that was decided by:",
    ]
    assert clinic[0] == "Match: the table is the one that was decided by:"
    assert len(clinic) == 3 and clinic[2].startswith("Service rooms")
    world.destroyed[subject_of(1)] = 0
    gone = [
        line for made in await made_again(world, referral) for line in full_table(history, made, "clinic")
    ]
    assert gone == ["Match: the table can't be made anew, since the facts can't be opened (erased)."]


def test_of_a_referral_that_is_a_part_only_its_agency_reads_so(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    history = history_of(world, referral)
    first = history.entries[0]
    part = first.event.model_copy(update={"mode": "broadcast", "part_of": of(number=9)})
    history.entries[0] = Entry(first.meta, part)
    assert "several at once, a part of" in "; ".join(sentences(history))
    own = "; ".join(sentences(history, reader="shelter"))
    assert "Opened for" in own and "a part of" not in own and "several at once" not in own


def test_who_follows_a_transferred_referral_reads_what_its_agency_read(world: World) -> None:
    world.publish(offers("beds"))
    referral = world.refer()
    world.send(transfer(referral), "police")
    history = history_of(world, referral)
    assert history.agency == "hospital"
    assert "1. Service beds" in "\n".join(sentences(history, reader="hospital"))
    assert "1. Service beds" not in "\n".join(sentences(history, reader="police"))


def test_open_offers_are_known_by_their_tasks(world: World) -> None:
    world.publish_in_order("shelter:beds", "shelter:cots", "clinic:rooms")
    referral = world.refer()
    assert history_of(world, referral).offered_to == {"shelter"}
    world.send(decline(referral), "shelter")
    assert history_of(world, referral).offered_to == {"shelter"}
    world.send(decline(referral, 2), "shelter")
    assert history_of(world, referral).offered_to == {"clinic"}
    world.send(accept(referral, 3), "clinic")
    history = history_of(world, referral)
    assert (history.offered_to, history.accepted_by) == (frozenset(), "clinic")


MISSES = [
    ({"areas": ["harbour"]}, "it would take the person if it served the area."),
    ({"ages": {"minimum": 60}}, "it would take the person if it served the person's age."),
    ({"languages": ["fr"]}, "it would take the person if it served a language of the person's."),
    ({"total": 0}, "it would take the person if it had a free place."),
    ({"total": 0, "ages": None}, "it might take the person if it had a free place; unknown is the age."),
    (
        {"ages": None, "screens": False},
        "unknown is the age, and it doesn't screen people itself. It would take the person if that were known, and as it asks.",
    ),
    ({"areas": ["harbour"], "total": 0}, "it doesn't serve the area and it had no free place."),
    (
        {"eligibility": Eligibility(service=holds(Criterion(kind="income", maximum=100)))},
        "it would take the person if the household's income met what it asks.",
    ),
    (
        {"eligibility": VETERANS, "documents": ["lease"], "screens": False},
        "unknown is the person's situation and the papers the person has, and it doesn't screen people itself. "
        "It would take the person if that were known, and as it asks.",
    ),
]


@pytest.mark.parametrize(("said", "why"), MISSES)
def test_a_near_miss_says_the_one_thing_that_would_have_to_be_otherwise(
    world: World, said: dict[str, Any], why: str
) -> None:
    world.publish(offers("beds", **said))
    facts = HOUSING.model_copy(
        update={"age": stated_age(37), "household": Household(income=NumberFact(status="stated", value=287))}
    )
    lines = told(world, world.refer(facts))
    assert f"Near miss: Service beds: {why}" in lines
    for value in ("37", "287", "riverside"):
        assert value not in lines.split("Near miss")[1]


def test_each_criterion_that_alone_rules_out_has_its_words() -> None:
    said = set()
    for criterion in CRITERIA[1:]:
        verdicts: Any = ["no" if name == criterion else "yes" for name in CRITERIA]
        said.add(
            _why_not(Judged(service=service_of("beds"), verdicts=verdicts, score=[], because=["income"]))
        )
    assert len(said) == len(CRITERIA) - 1
    assert all(why.startswith("it would take the person if ") and len(why) > 40 for why in said)


def test_a_referral_that_is_not_there_is_not_told_from_one_that_may_not_be_seen(world: World) -> None:
    with pytest.raises(NotThere):
        sentences(history_of(world, of(number=9)))
    for id in ("sv-north-beds", "rf-", "rf"):
        with pytest.raises(NotThere):
            region_in(id)
    assert region_in(of()) == "north"


def test_facts_are_not_among_what_is_told(world: World) -> None:
    world.publish(offers("beds", areas=["riverside"], languages=["en"]))
    facts = Facts.model_validate({**HOUSING.model_dump(), "age": {"status": "stated", "value": 41}})
    lines = told(world, world.refer(facts))
    assert "riverside" not in lines and "41" not in lines.split("lot")[0].split("Match")[1]
