"""When a failed delivery is tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.backoff import pause, retry_at


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


def test_it_is_given_up_when_the_next_attempt_would_come_too_late() -> None:
    def at(now: int) -> int | None:
        return retry_at(now, 0, 1, first_ms=1000, longest_ms=1000, give_up_ms=10_000, chance=1.0)

    assert at(9_000) == 10_000
    assert at(9_001) is None
