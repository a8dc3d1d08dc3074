"""One agency whose submissions are refused is seen, without a metric of its own."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from referral_bus.runtime.refusals import ROW_SECONDS, TOLD_FROM, TOLD_IN_A_ROW, MostRefused


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told() -> float | None:
    return REGISTRY.get_sample_value("refbus_refused_by_one", {"where": "border"})


def test_the_metric_tells_the_most_that_one_had_in_ten_minutes_and_names_nobody() -> None:
    seconds = Seconds()
    most = MostRefused("border", seconds)
    assert told() == 0
    for _ in range(3):
        most.add("hospital", "malformed")
    most.add("police", "malformed")
    assert told() == 3
    seconds.now = 300
    for _ in range(4):
        most.add("police", "malformed")
    assert told() == 5
    seconds.now = 600
    assert told() == 4
    seconds.now = 5_000
    assert told() == 0
    assert not any("hospital" in str(metric) or "police" in str(metric) for metric in REGISTRY.collect())


def in_a_row() -> float | None:
    return REGISTRY.get_sample_value("refbus_refused_in_a_row", {"where": "border"})


def test_of_an_organisation_that_sends_little_the_metric_tells_what_was_refused_with_none_taken_between() -> (
    None
):
    seconds = Seconds()
    most = MostRefused("border", seconds)
    assert in_a_row() == 0
    for hour in range(12):
        seconds.now = hour * 3_600
        most.add("hospital", "invalid")
        most.add("police", "invalid")
        most.taken("police")
    assert (told(), in_a_row()) == (1, 12)
    most.taken("hospital")
    assert in_a_row() == 0
    most.add("hospital", "invalid")
    assert in_a_row() == 1
    seconds.now += ROW_SECONDS - 1
    assert in_a_row() == 1
    seconds.now += 1
    assert in_a_row() == 0


def test_the_log_names_it_once_a_row(caplog: pytest.LogCaptureFixture) -> None:
    seconds = Seconds()
    most = MostRefused("border", seconds)
    said = (
        f"hospital had {TOLD_IN_A_ROW} submissions refused one after the other (border), the last as invalid"
    )
    with caplog.at_level(logging.WARNING):
        for hour in range(3 * TOLD_IN_A_ROW):
            seconds.now = hour * 3_600
            most.add("hospital", "invalid")
        assert caplog.messages == [said]
        most.taken("hospital")
        for _ in range(TOLD_IN_A_ROW):
            most.add("hospital", "invalid")
    assert caplog.messages == [said, said]


def test_the_log_names_it_once_a_window(caplog: pytest.LogCaptureFixture) -> None:
    seconds = Seconds()
    most = MostRefused("border", seconds)
    with caplog.at_level(logging.WARNING):
        for _ in range(3 * TOLD_FROM):
            most.add("hospital", "not_yours")
            most.taken("hospital")
    assert caplog.messages == [
        f"hospital had {TOLD_FROM} submissions refused in ten minutes (border), the last as not_yours"
    ]
    caplog.clear()
    seconds.now = 700
    with caplog.at_level(logging.WARNING):
        for _ in range(2 * TOLD_FROM):
            most.add("hospital", "not_yours")
            most.taken("hospital")
    assert len(caplog.messages) == 1
