"""Referrals that are decided together: the best assignment, found and proved."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from services.matching.core.assignment import Assignment, Costs, Places, assign, is_optimal, weights

SERVICES = ("s1", "s2", "s3", "s4")
Given = tuple[list[dict[str, int]], dict[str, list[int]], list[int]]


@st.composite
def problems(draw: st.DrawFn, referrals: int = 5, highest: int = 6) -> Given:
    """Few services, few places and small costs, so that there is contention and there are ties; now and then costs beyond 64 bits."""
    scale = draw(st.sampled_from((1, 1, 1, 2**90)))
    costs = draw(
        st.lists(
            st.dictionaries(
                st.sampled_from(SERVICES), st.integers(0, highest).map(lambda cost: cost * scale)
            ),
            max_size=referrals,
        )
    )
    places = {
        service: [cost * scale for cost in sorted(draw(st.lists(st.integers(0, highest), max_size=3)))]
        for service in SERVICES
    }
    left_out = draw(
        st.one_of(st.just([]), st.lists(st.integers(0, highest), min_size=len(costs), max_size=len(costs)))
    )
    return costs, places, left_out


def total(
    chosen: Sequence[str | None],
    costs: Sequence[Costs],
    places: Places,
    left_out: Sequence[int] = (),
) -> tuple[int, int]:
    """How many are left out, and what the assignment costs beside that."""
    taken = Counter(service for service in chosen if service is not None)
    left = [number for number, service in enumerate(chosen) if service is None]
    spent = sum(own[service] for own, service in zip(costs, chosen, strict=True) if service is not None)
    spent += sum(sum(places[service][:count]) for service, count in taken.items())
    return len(left), spent + sum(left_out[number] for number in left if left_out)


def fits(chosen: Sequence[str | None], places: Places) -> bool:
    return all(
        count <= len(places[service])
        for service, count in Counter(service for service in chosen if service is not None).items()
    )


def every_assignment(costs: Sequence[Costs], places: Places) -> list[tuple[str | None, ...]]:
    return [chosen for chosen in itertools.product(*([None, *own] for own in costs)) if fits(chosen, places)]


def found_by_scipy(costs: Sequence[Costs], places: Places) -> tuple[int, int]:
    """The total another solver comes to: a column for each place, and one for each referral that is left out."""
    above_all = len(costs) * 2 * 10**6 + 1
    assert above_all * 4 * len(costs) < 2**53, "floating point would round"
    columns = [(service, cost) for service, own in places.items() for cost in own]
    matrix = np.full((len(costs), len(columns) + len(costs)), float(2**52))
    for number, own in enumerate(costs):
        for column, (service, cost) in enumerate(columns):
            if service in own:
                matrix[number, column] = own[service] + cost
    matrix[:, len(columns) :] = above_all
    return divmod(int(matrix[linear_sum_assignment(matrix)].sum()), above_all)


def made(seed: int, referrals: int, services: int, capacity: int, wishes: int, *, alike: bool) -> Given:
    """A larger problem; ``alike``: everybody likes the same services, and nearly as much."""
    chance = random.Random(seed)
    names = [f"service-{number:04d}" for number in range(services)]
    common = {name: chance.randrange(10**6 - 3) for name in names}
    costs = [
        {
            name: common[name] + chance.randrange(3) if alike else chance.randrange(10**6)
            for name in chance.sample(names, wishes)
        }
        for _ in range(referrals)
    ]
    places = {name: sorted(chance.choices((0, 0, 1, 500), k=capacity)) for name in names}
    return costs, places, []


@given(problems())
@example(([], {}, []))
@example(([{}, {}], {"s1": [0]}, []))
@example(([{"s1": 0}, {"s1": 0}], {"s1": []}, [1, 2]))
def test_no_other_assignment_is_better(problem: Given) -> None:
    costs, places, left_out = problem
    best = min(total(chosen, costs, places, left_out) for chosen in every_assignment(costs, places))
    assert total(assign(costs, places, left_out).chosen, costs, places, left_out) == best


@given(problems(referrals=12))
def test_nobody_gets_what_they_may_not_have_and_no_place_is_given_twice(problem: Given) -> None:
    costs, places, left_out = problem
    chosen = assign(costs, places, left_out).chosen
    assert len(chosen) == len(costs)
    assert all(service is None or service in own for service, own in zip(chosen, costs, strict=True))
    assert fits(chosen, places)


@given(problems(referrals=12))
def test_what_is_found_is_proved(problem: Given) -> None:
    costs, places, left_out = problem
    assert is_optimal(assign(costs, places, left_out), costs, places, left_out)


@given(problems(referrals=12))
def test_no_service_has_a_price_that_nobody_is_placed_with(problem: Given) -> None:
    # As in a window, where each service has a place, and the first is as good as the policy says: so the event of 250 is never long.
    costs, places, left_out = problem
    found = assign(costs, {service: [0, *own] for service, own in places.items()}, left_out)
    assert set(found.prices) <= set(found.chosen)


@given(problems(), st.data())
def test_a_worse_assignment_is_not_proved_whatever_its_prices(problem: Given, data: st.DataObject) -> None:
    costs, places, left_out = problem
    found = assign(costs, places, left_out)
    best = total(found.chosen, costs, places, left_out)
    others = [
        chosen for chosen in every_assignment(costs, places) if total(chosen, costs, places, left_out) != best
    ]
    assume(others)
    worse = data.draw(st.sampled_from(others))
    prices = data.draw(
        st.one_of(
            st.just(found.prices),
            st.dictionaries(st.sampled_from(SERVICES), st.integers(0, 100)),
            st.just(assign(costs[::-1], places, left_out[::-1]).prices),
        )
    )
    assert not is_optimal(Assignment(worse, prices), costs, places, left_out)


@given(problems())
def test_the_same_prices_prove_every_assignment_that_is_as_good(problem: Given) -> None:
    costs, places, left_out = problem
    found = assign(costs, places, left_out)
    best = total(found.chosen, costs, places, left_out)
    for chosen in every_assignment(costs, places):
        proved = is_optimal(Assignment(chosen, found.prices), costs, places, left_out)
        assert proved == (total(chosen, costs, places, left_out) == best)


@given(problems(referrals=8), st.randoms(use_true_random=False))
def test_the_order_of_the_referrals_does_not_change_the_total(problem: Given, chance: random.Random) -> None:
    costs, places, left_out = problem
    order = list(range(len(costs)))
    chance.shuffle(order)
    turned = [costs[number] for number in order]
    leaving = [left_out[number] for number in order] if left_out else []
    assert total(assign(turned, places, leaving).chosen, turned, places, leaving) == total(
        assign(costs, places, left_out).chosen, costs, places, left_out
    )


@given(problems(referrals=8))
def test_the_order_in_which_services_are_named_changes_nothing(problem: Given) -> None:
    costs, places, left_out = problem

    def turned(one: Mapping[str, list[int]] | Mapping[str, int]) -> dict[str, object]:
        return dict(reversed(one.items()))

    again = assign([turned(own) for own in costs], turned(places), left_out)  # type: ignore[arg-type,misc]
    assert again == assign(costs, places, left_out)
    assert list(again.prices) == sorted(again.prices)


@pytest.mark.parametrize(
    ("referrals", "services", "capacity", "wishes"),
    [(60, 300, 1, 20), (120, 30, 5, 10), (150, 20, 5, 20), (100, 100, 1, 100), (80, 10, 3, 2)],
    ids=["plenty", "enough", "scarce", "everything for everybody", "few wishes"],
)
@pytest.mark.parametrize("alike", [False, True], ids=["own wishes", "the same wishes"])
@pytest.mark.parametrize("seed", range(3))
def test_another_solver_comes_to_the_same_total(
    referrals: int, services: int, capacity: int, wishes: int, alike: bool, seed: int
) -> None:
    costs, places, _ = made(seed, referrals, services, capacity, wishes, alike=alike)
    found = assign(costs, places)
    assert total(found.chosen, costs, places) == found_by_scipy(costs, places)
    assert is_optimal(found, costs, places)


def test_more_are_served_than_if_everybody_took_the_best_in_turn() -> None:
    costs = [{"any": 0, "only-here": 1}, {"any": 0}]
    assert assign(costs, {"any": [0], "only-here": [0]}).chosen == ("only-here", "any")


def test_who_has_waited_longest_is_not_left_out_for_someone_cheaper() -> None:
    costs = [{"s1": 5}, {"s1": 0}]
    assert assign(costs, {"s1": [0]}).chosen == (None, "s1")
    assert assign(costs, {"s1": [0]}, [20, 10]).chosen == ("s1", None)


def test_what_it_costs_to_leave_someone_out_leaves_nobody_out_who_could_be_served() -> None:
    costs = [{"s1": 10**30, "s2": 10**30}, {"s1": 10**30}]
    assert None not in assign(costs, {"s1": [10**30], "s2": [10**30]}, [0, 1]).chosen


def test_one_more_is_served_though_all_others_have_to_move_for_it() -> None:
    costs = [{"s1": 0, "s2": 10}, {"s2": 0, "s3": 10}, {"s3": 0, "s4": 10}, {"s1": 0}]
    assert assign(costs, {service: [0] for service in SERVICES}).chosen == ("s2", "s3", "s4", "s1")


def test_a_price_at_which_who_has_the_place_would_rather_go_without_proves_nothing() -> None:
    costs, places, left_out = [{"s1": 5}, {"s1": 0}], {"s1": [0]}, [20, 10]
    assert not is_optimal(Assignment((None, "s1"), {"s1": 10**6}), costs, places, left_out)


def test_a_service_that_gets_worse_with_each_place_taken_shares_with_another() -> None:
    costs = [{"s1": 0, "s2": 1}] * 4
    assert Counter(assign(costs, {"s1": [0] * 4, "s2": [0] * 4}).chosen) == {"s1": 4}
    assert Counter(assign(costs, {"s1": [0, 2, 4, 6], "s2": [0, 2, 4, 6]}).chosen) == {"s1": 2, "s2": 2}


def test_costs_are_exact_beyond_what_floating_point_holds() -> None:
    large = 2**120
    costs = [{"s1": large + 1, "s2": large}, {"s1": large, "s2": large}]
    assert assign(costs, {"s1": [0], "s2": [0]}).chosen == ("s2", "s1")


def test_prices_are_those_of_the_services_somebody_else_would_have_liked() -> None:
    found = assign([{"s1": 0, "s2": 3}, {"s1": 0, "s2": 5}], {"s1": [0], "s2": [0, 0]})
    assert found == Assignment(("s2", "s1"), {"s1": 3})


@given(
    st.lists(st.integers(0, 2**48), min_size=1, max_size=4).flatmap(
        lambda highest: st.tuples(
            st.just(highest),
            st.lists(st.tuples(*(st.integers(0, most) for most in highest)), min_size=2, max_size=8),
        )
    )
)
@example(([1, 3], [(0, 3), (0, 3), (1, 0), (0, 0)]))
def test_weighed_totals_compare_as_the_totals_of_the_parts_do(
    drawn: tuple[list[int], list[tuple[int, ...]]],
) -> None:
    highest, ranks = drawn
    half = len(ranks) // 2
    weighing = weights(highest, half)

    def parts(of: Sequence[tuple[int, ...]]) -> list[int]:
        return [sum(part) for part in zip(*of, strict=True)]

    def weighed(of: Sequence[tuple[int, ...]]) -> int:
        return sum(weight * part for rank in of for weight, part in zip(weighing, rank, strict=True))

    one, other = ranks[:half], ranks[half : 2 * half]
    assert (parts(one) < parts(other)) == (weighed(one) < weighed(other))
    assert (parts(one) == parts(other)) == (weighed(one) == weighed(other))


HELD: Assignment = Assignment(("s2", "s1", None), {"s1": 3, "s3": 100})
HELD_FOR = ([{"s1": 0, "s2": 3}, {"s1": 0, "s2": 5}, {"s3": 0}], {"s1": [0], "s2": [0, 0], "s3": []})


@pytest.mark.parametrize(
    "forged",
    [
        HELD._replace(chosen=("s2", "s1")),
        HELD._replace(chosen=("s2", "s1", None, None)),
        HELD._replace(chosen=("s1", "s1", None)),
        HELD._replace(chosen=("s2", "s1", "s2")),
        HELD._replace(chosen=("s2", "s1", "s3")),
        HELD._replace(chosen=(None, "s1", None)),
        HELD._replace(prices={"s3": 100}),
        HELD._replace(prices={"s1": 3}),
        HELD._replace(prices={"s1": 6, "s3": 100}),
        HELD._replace(prices={"s1": 3, "s2": 1, "s3": 100}),
        HELD._replace(prices={"s1": 3, "s3": 100, "unheard-of": 1}),
    ],
    ids=[
        "one forgotten",
        "one too many",
        "a place given twice",
        "a service it may not have",
        "a service without places",
        "one left out",
        "a full service without its price",
        "nothing that says why one is left out",
        "too dear",
        "a price where places are left",
        "a price of no service",
    ],
)
def test_a_forged_assignment_is_not_proved(forged: Assignment) -> None:
    costs, places = HELD_FOR
    assert is_optimal(HELD, costs, places)
    assert not is_optimal(forged, costs, places)


@pytest.mark.parametrize(
    ("costs", "places", "left_out", "says"),
    [
        ([{"s1": -1}], {"s1": [0]}, [], "below zero"),
        ([{"s1": 1}], {"s1": [-1]}, [], "below zero"),
        ([{"s1": 1}], {"s1": [0]}, [-1], "below zero"),
        ([{"s1": 1}], {"s1": [2, 1]}, [], "s1 get cheaper"),
        ([{"s2": 1}], {"s1": [0]}, [], "names s2"),
        ([{"s1": 1}, {}], {"s1": [0]}, [1], "1 costs for 2 referrals"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(
    costs: list[dict[str, int]], places: dict[str, list[int]], left_out: list[int], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        assign(costs, places, left_out)
    with pytest.raises(ValueError, match=says):
        is_optimal(Assignment((None,) * len(costs), {}), costs, places, left_out)
