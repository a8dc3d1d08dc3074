"""One row of the peers' table from the three runs of a contender."""

import pytest

from benchmarks import killed
from benchmarks.beside import MEASURES, measures

FULL = {
    "decided": 500.0,
    "CPU a thousand": 3.0,
    "broker's CPU a thousand": 0.5,
    "peak memory": 200.0,
    "transaction markers": 4.0,
}
AT_PACE = {"CPU to start": 2.0, "p50": 5.0, "p99": 9.0}
KILLED = dict.fromkeys((measure.name for measure in killed.MEASURES), 1.0)


def test_it_has_a_value_for_every_measure() -> None:
    assert set(measures(1000, AT_PACE, FULL, KILLED)) == {measure.name for measure in MEASURES}


def test_what_a_million_take_is_without_the_start() -> None:
    assert measures(1000, AT_PACE, FULL, KILLED)["CPU a million"] == pytest.approx(1000.0)


def test_memory_a_million_is_the_peak_for_as_long_as_they_take() -> None:
    assert measures(1000, AT_PACE, FULL, KILLED)["memory a million"] == pytest.approx(0.2 * 2000)
