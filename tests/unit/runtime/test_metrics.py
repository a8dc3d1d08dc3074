"""The catalogue: what alerts ask for is there from the start."""

from __future__ import annotations

from prometheus_client import REGISTRY

from referral_bus.runtime import metrics
from referral_bus.runtime.resending import MEANINGS


def test_the_first_dead_letter_of_any_reason_is_an_increase() -> None:
    assert metrics.DEAD_LETTERS
    assert {
        reason: REGISTRY.get_sample_value("refbus_dead_letters_total", {"reason": reason})
        for reason in MEANINGS
    } == dict.fromkeys(MEANINGS, 0.0)
