from __future__ import annotations

from collections import Counter

import pytest

from tests.chaos.cluster.faults import NEEDS_NAMESPACES, ROUND, Fault, chosen
from tests.chaos.cluster.place import NODES


def test_a_seed_chooses_the_same_faults_again() -> None:
    assert chosen("a", 50, namespaces=True) == chosen("a", 50, namespaces=True)
    assert chosen("a", 50, namespaces=True) != chosen("b", 50, namespaces=True)


@pytest.mark.parametrize("seed", ["1", "2", "a"])
def test_a_run_of_a_round_strikes_every_blow_there_is(seed: str) -> None:
    faults = chosen(seed, ROUND, namespaces=True)
    struck = {(fault.how, *sorted({_kind(victim) for victim in fault.victims})) for fault in faults}
    assert {
        ("clock set wrong", "notifier"),
        ("clock set wrong", "intake"),
        ("set apart", "kafka", "matching"),
        ("set apart", "database", "projections"),
        ("disk filled", "matching"),
        ("paused", "notifier"),
    } <= struck
    # The next one is the first of another round.
    again = chosen(seed, 2 * ROUND, namespaces=True)[ROUND:]
    assert Counter(map(_blow, again)) == Counter(map(_blow, faults))


def _kind(victim: str) -> str:
    return victim.partition("-")[0]


def _blow(fault: Fault) -> tuple[str, ...]:
    return fault.how, *sorted(_kind(victim) for victim in fault.victims)


def test_a_run_has_every_kind_of_fault_and_strikes_at_every_kind_of_part() -> None:
    faults = chosen("a", ROUND, namespaces=True)
    kinds = {
        "killed",
        "killed in turn",
        "paused",
        "hung",
        "cut off",
        "set apart",
        "disk filled",
        "clock set wrong",
    }
    assert {fault.how for fault in faults} == kinds
    assert {fault.kind for fault in faults} == {
        "broker",
        "database",
        "intake",
        "matching",
        "notifier",
        "projections",
    }


def test_only_parts_that_there_are_are_struck_at() -> None:
    faults = chosen("a", 200, namespaces=True)
    assert {victim for fault in faults for victim in fault.victims} <= set(NODES)


def test_what_needs_namespaces_is_left_out_where_there_are_none() -> None:
    faults = chosen("a", 200, namespaces=False)
    assert len(faults) == 200
    assert not NEEDS_NAMESPACES & {fault.how for fault in faults}
