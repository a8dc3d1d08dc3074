"""The state of the peers whose library keeps none."""

from benchmarks.peers.kept import Kept


def test_what_changed_is_told_once_with_the_last_value() -> None:
    kept = Kept()
    kept.hold("u1", 1)
    kept.hold("u1", 2)
    kept.hold("u2", 1)
    assert kept.changes() == [(b"u1", b"2"), (b"u2", b"1")]
    assert kept.changes() == []


def test_what_was_told_brings_the_state_back_and_is_no_change() -> None:
    before, after = Kept(), Kept()
    for held in (1, 2):
        before.hold("u1", held)
        after.apply(before.changes())
    assert (after.used("u1"), after.used("u2")) == (2, 0)
    assert after.changes() == []
