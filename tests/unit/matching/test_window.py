"""The referrals of a window as an assignment: the policy's order for one referral is kept, and its parts count one after the other."""

from __future__ import annotations

from collections import Counter
from typing import Any

from referral_bus.contracts.facts import Facts, Need, NumberFact
from referral_bus.contracts.ledger import GENESIS_HASH
from referral_bus.contracts.reference import Bands, Policy, RankBy
from referral_bus.contracts.services import AgeRange, ServiceDefinition
from referral_bus.contracts.services import Unit as Places
from services.matching.core.assignment import assign, is_optimal
from services.matching.core.judging.eligibility import person_of
from services.matching.core.judging.match import best_of, table
from services.matching.core.judging.ranking import lottery
from services.matching.core.state import Region, Unit
from services.matching.core.window import Problem, Waiting, problem

NEED = Need(vocabulary="test", code="bed")
NOW = 1_000_000_000


def policy(*rank_by: RankBy) -> Policy:
    return Policy(policy="test", rank_by=list(rank_by), best=20, seed="published for the test")


def region(*services: tuple[str, int, dict[str, Any]], used: int = 0) -> Region:
    """Services by local id, with places, of which ``used`` are taken, and what else is said of them."""
    state = Region("here")
    for name, places, said in services:
        unit = Places(unit=f"un-here-{name}", name="bed", total=places, available=places - used)
        state.catalogue.put(
            ServiceDefinition(
                service=f"sv-here-{name}",
                organisation="shelter",
                name=name,
                terms=[NEED],
                units=[unit],
                **({"areas": ["*"], "languages": ["*"], "ages": AgeRange()} | said),
            )
        )
        state.units[unit.unit] = Unit(unit.unit, f"sv-here-{name}", places, used, 0, NOW)
    return state


def window(state: Region, by: Policy, *ages: int | None, waited: int = 0) -> list[Waiting]:
    """A referral for each age, None being one of whom it is not known."""
    return [
        Waiting(
            f"rf-here-{number}",
            table(
                state,
                by,
                person_of(
                    Facts(
                        needs=[NEED],
                        age=NumberFact() if age is None else NumberFact(status="stated", value=age),
                    )
                ),
                frozenset(),
                NOW,
            ),
            waited,
        )
        for number, age in enumerate(ages)
    ]


def served(asked: Problem) -> list[str | None]:
    found = assign(*asked)
    assert is_optimal(found, *asked)
    return [None if service is None else service.removeprefix("sv-here-") for service in found.chosen]


def test_a_referral_alone_is_offered_what_the_policy_ranks_best() -> None:
    by = policy("certainty", "load", "freshness", "lottery")
    state = region(
        *((f"s{number}", 4, {"ages": AgeRange(minimum=18)} if number % 2 else {}) for number in range(12)),
        used=1,
    )
    for age in (30, None):
        [one] = window(state, by, age)
        draw = lottery(by.seed, GENESIS_HASH, one.referral)
        order = [drawn.row.profile.service for drawn in best_of(one.rows, by, draw)]
        asked = problem([one], by, state.units, GENESIS_HASH)
        assert sorted(asked.costs[0], key=asked.costs[0].__getitem__) == order
        assert served(asked) == [order[0].removeprefix("sv-here-")]


def test_who_could_go_elsewhere_leaves_the_place_to_who_could_not() -> None:
    by = policy("certainty", "lottery")
    state = region(("any", 1, {}), ("adults", 1, {"ages": AgeRange(minimum=18)}))
    assert served(problem(window(state, by, 40, 10), by, state.units, GENESIS_HASH)) == ["adults", "any"]


def test_one_uncertainty_less_outweighs_all_that_comes_behind_it() -> None:
    by = policy("certainty", "load", "lottery")
    state = region(("certain", 1000, {}), ("uncertain", 1000, {"areas": None}))
    state.units["un-here-certain"].taken = 990
    assert Counter(served(problem(window(state, by, *[30] * 10), by, state.units, GENESIS_HASH))) == {
        "certain": 10
    }


def test_places_are_shared_as_load_says() -> None:
    by = policy("load", "lottery")
    state = region(("one", 10, {}), ("two", 10, {}))
    state.units["un-here-one"].taken = 4
    assert Counter(served(problem(window(state, by, *[30] * 8), by, state.units, GENESIS_HASH))) == {
        "one": 2,
        "two": 6,
    }


def test_load_counts_for_nothing_where_the_policy_does_not_name_it_before_the_lottery() -> None:
    for by in (policy("certainty", "lottery"), policy("lottery", "load")):
        state = region(("one", 3, {}), ("two", 3, {}))
        asked = problem(window(state, by, 30, 30), by, state.units, GENESIS_HASH)
        assert asked.places == {"sv-here-one": [0] * 3, "sv-here-two": [0] * 3}


def test_places_in_doubt_count_as_load_in_a_window_as_they_do_for_one_referral() -> None:
    by = policy("load", "lottery").model_copy(update={"bands": [Bands(by="load", starts=[800])]})
    state = region(("one", 20, {}), ("two", 20, {}))
    state.units["un-here-one"].doubted = 10
    state.units["un-here-two"].taken = 10
    asked = problem(window(state, by, 30), by, state.units, GENESIS_HASH)
    steps = {service: [price // max(prices) for price in prices] for service, prices in asked.places.items()}
    # At 800 thousandths, which is sixteen of twenty, the next place is a band higher.
    assert steps == {"sv-here-one": [0] * 6 + [1] * 4, "sv-here-two": [0] * 6 + [1] * 4}


def test_who_has_waited_longest_is_left_out_last_whatever_the_lots() -> None:
    by = policy("certainty", "lottery")
    state = region(("uncertain", 1, {"areas": None}), ("full", 1, {}))
    state.units["un-here-full"].held = 1
    for longest in range(4):
        waiting = [
            one._replace(waited=60 if number == longest else 59)
            for number, one in enumerate(window(state, by, 30, 30, 30, 30))
        ]
        found = served(problem(waiting, by, state.units, GENESIS_HASH))
        assert found[longest] == "uncertain"
        assert found.count(None) == 3


def test_places_of_several_units_count_together_and_an_overbooked_one_gives_none() -> None:
    by = policy("load", "lottery")
    state = region(("one", 4, {}))
    profile = state.catalogue.profile(0)
    state.units["un-here-second"] = Unit("un-here-second", profile.service, 2, 3, 0, NOW)
    [one] = window(state, by, 30)
    [row] = one.rows
    both = row._replace(profile=profile._replace(units=("un-here-one", "un-here-second")))
    asked = problem([one._replace(rows=[both])], by, state.units, GENESIS_HASH)
    assert [len(own) for own in asked.places.values()] == [4]


def test_an_empty_window_asks_for_nothing() -> None:
    by = policy("certainty", "load", "lottery")
    assert served(problem([], by, {}, GENESIS_HASH)) == []
    nobody = Waiting("rf-here-0", [], 5)
    assert served(problem([nobody], by, {}, GENESIS_HASH)) == [None]
