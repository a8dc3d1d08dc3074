"""The dashboards are what their module makes, and ask for metrics there are. That Prometheus answers them: tests/e2e/test_operations.py."""

from __future__ import annotations

import runpy

import pytest

from tests.support.operations import GRAFANA, Panel, panels, unknown_in

MODULE = runpy.run_path(str(GRAFANA / "make.py"))


@pytest.mark.parametrize("name", sorted(MODULE["DASHBOARDS"]))
def test_the_file_is_what_the_module_makes(name: str) -> None:
    assert (GRAFANA / f"{name}.json").read_text(encoding="utf-8") == MODULE["text"](name)


def test_there_is_a_file_for_each_dashboard_and_no_other() -> None:
    assert {path.stem for path in GRAFANA.glob("*.json")} == set(MODULE["DASHBOARDS"])


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: f"{panel.dashboard}: {panel.title}")
def test_a_panel_asks_for_metrics_there_are(panel: Panel) -> None:
    assert panel.expressions
    for expression in panel.expressions:
        assert unknown_in(expression) == set()
        assert "refbus" in expression.lower()
