from __future__ import annotations

from tests.chaos.cluster.faults import NEEDS_NAMESPACES, chosen
from tests.chaos.cluster.place import NODES


def test_a_seed_chooses_the_same_faults_again() -> None:
    assert chosen("a", 50, namespaces=True) == chosen("a", 50, namespaces=True)
    assert chosen("a", 50, namespaces=True) != chosen("b", 50, namespaces=True)


def test_a_run_has_every_kind_of_fault_and_strikes_at_every_kind_of_part() -> None:
    faults = chosen("a", 36, namespaces=True)
    kinds = {"killed", "killed in turn", "paused", "cut off", "set apart", "disk filled", "clock set wrong"}
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
