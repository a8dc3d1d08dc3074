"""How figures are put into rows."""

import json
from pathlib import Path

import pytest

from benchmarks.report import OURS, Figure, Measure, rows_of

RATE = Measure("decided", "/s", "more", 3000)
WAIT = Measure("p50", "ms", "less", 40)


def test_a_row_has_least_median_and_most_and_the_peer_as_a_part_of_ours() -> None:
    ours, peer = rows_of(RATE, {OURS: [4000, 2000, 3000], "Faust": [600, 900, 500]})
    assert ours == ("decided (/s)", OURS, "2,000", "3,000", "4,000", "", "≥ 3,000", "yes")
    assert peer == ("", "Faust", "500", "600", "900", "0.20 of it", "", "")


@pytest.mark.parametrize(
    ("measure", "values", "reached"),
    [(RATE, [2999, 1, 9000], "no"), (WAIT, [41, 1, 39], "yes"), (WAIT, [41, 42, 39], "no")],
)
def test_a_target_is_judged_by_the_median(measure: Measure, values: list[float], reached: str) -> None:
    [row] = rows_of(measure, {OURS: values})
    assert row[-1] == reached


def test_a_peer_has_no_target() -> None:
    [row] = rows_of(RATE, {"Faust": [1]})
    assert row[-2:] == ("", "")


def test_what_is_not_of_the_figure_is_an_error() -> None:
    figure = Figure("f", "A figure", [RATE], {OURS: "the bus"})
    with pytest.raises(KeyError):
        figure.add("somebody", {"decided": 1})
    with pytest.raises(KeyError):
        figure.add(OURS, {"decided twice": 1})


def test_every_run_is_kept_in_the_json(tmp_path: Path) -> None:
    figure = Figure("f", "A figure", [RATE], {OURS: "the bus"})
    figure.add(OURS, {"decided": 3500})
    figure.add(OURS, {"decided": 2500})
    kept = json.loads(figure.save(tmp_path).read_text(encoding="utf-8"))
    assert kept["measures"] == [
        {"name": "decided", "unit": "/s", "better": "more", "target": 3000, "values": {OURS: [3500, 2500]}}
    ]
