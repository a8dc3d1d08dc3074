"""When a failed delivery is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.backoff import pause, retry


def test_the_pause_doubles_up_to_its_longest() -> None:
    assert [pause(n, 1000, 6000, 1.0) for n in range(1, 6)] == [1000, 2000, 4000, 6000, 6000]


def test_chance_moves_only_the_upper_half() -> None:
    assert (pause(3, 1000, 60_000, 0.0), pause(3, 1000, 60_000, 0.5)) == (2000, 3000)


@given(st.integers(1, 10_000), st.integers(1, 10**6), st.integers(1, 10**7), st.floats(0, 1))
def test_the_pause_stays_within_half_and_the_whole(
    attempts: int, first: int, longest: int, chance: float
) -> None:
    waited = pause(attempts, first, longest, chance)
    assert min(first, longest) // 2 <= waited <= longest


def retried(now: int, *enqueued_at: int, attempts: int = 1) -> tuple[int, int]:
    return retry(now, enqueued_at, attempts, first_ms=1000, longest_ms=2000, give_up_ms=10_000, chance=1.0)


def test_it_is_given_up_when_the_next_attempt_would_come_too_late() -> None:
    assert retried(9_000, 0) == (0, 10_000)
    assert retried(9_001, 0) == (1, 10_001)


def test_of_several_in_order_each_has_its_own_time_and_the_rest_is_tried_again_together() -> None:
    assert retried(9_001, 0, 0, 1, 9_000) == (2, 10_001)
    assert retried(9_001, 0, 0, 1, 9_000, attempts=2) == (3, 11_001)
    assert retried(30_000, 0, 1, 2) == (3, 31_000)


def test_nothing_is_given_up_before_what_comes_first() -> None:
    """What was given up of a feed comes before all that is still tried, never in between."""
    assert retried(9_001, 0, 5, 0, 9_000) == (1, 10_001)
