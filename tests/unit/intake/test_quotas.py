from __future__ import annotations

import pytest

from services.intake.quotas import Quotas


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_taken_and_then_so_many_a_second() -> None:
    seconds = Seconds()
    quotas = Quotas(10.0, 5, seconds)
    assert [quotas.take("hospital", 1) for _ in range(5)] == [0.0] * 5
    assert quotas.take("hospital", 1) == pytest.approx(0.1)
    seconds.now = 0.1
    assert quotas.take("hospital", 1) == 0.0
    assert quotas.take("hospital", 2) == pytest.approx(0.2)


def test_what_was_refused_is_not_counted() -> None:
    seconds = Seconds()
    quotas = Quotas(1.0, 5, seconds)
    assert quotas.take("hospital", 6) == pytest.approx(1.0)
    assert quotas.take("hospital", 5) == 0.0


def test_one_organisation_takes_nothing_from_another() -> None:
    quotas = Quotas(1.0, 1, Seconds())
    assert quotas.take("hospital", 1) == 0.0
    assert quotas.take("hospital", 1) > 0
    assert quotas.take("shelter", 1) == 0.0


def test_a_long_pause_saves_up_no_more_than_a_burst() -> None:
    seconds = Seconds()
    quotas = Quotas(10.0, 5, seconds)
    quotas.take("hospital", 5)
    seconds.now = 3600.0
    assert quotas.take("hospital", 5) == 0.0
    assert quotas.take("hospital", 1) > 0


def test_what_came_already_is_owed_and_the_seconds_until_it_is_not() -> None:
    seconds = Seconds()
    quotas = Quotas(10.0, 5, seconds)
    assert quotas.owe("hospital", 5) == 0.0
    assert quotas.owe("hospital", 20) == pytest.approx(2.0)
    seconds.now = 2.0
    assert quotas.owe("hospital", 0) == 0.0
