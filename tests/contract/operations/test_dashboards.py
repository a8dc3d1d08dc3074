"""The dashboards are what their module makes, are dashboards to Grafana's own types, and ask for metrics there are. That Prometheus answers
them: tests/e2e/test_operations.py."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.operations import GRAFANA, Panel, panels, unknown_in

MODULE = runpy.run_path(str(GRAFANA / "make.py"))


@pytest.mark.parametrize("name", sorted(MODULE["DASHBOARDS"]))
def test_the_file_is_what_the_module_makes(name: str) -> None:
    assert (GRAFANA / f"{name}.json").read_text(encoding="utf-8") == MODULE["text"](name)


def test_there_is_a_file_for_each_dashboard_and_no_other() -> None:
    assert {path.stem for path in GRAFANA.glob("*.json")} == set(MODULE["DASHBOARDS"])


@pytest.mark.parametrize("name", sorted(MODULE["DASHBOARDS"]))
def test_grafanas_own_types_know_every_field(name: str) -> None:
    # Grafana passes over a field it does not know; a misspelt one would be nowhere to be seen.
    register_default_plugins()
    written = json.loads((GRAFANA / f"{name}.json").read_text(encoding="utf-8"))
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    assert set(_fields(written)) - set(_fields(read)) == set()


def test_a_field_grafana_does_not_know_is_found() -> None:
    register_default_plugins()
    written = {"title": "t", "panels": [{"type": "stat", "gridPos": {"x": 0, "y": 0, "wide": 8, "h": 8}}]}
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
    assert set(_fields(written)) - set(_fields(read)) == {("panels/0/gridPos/wide", 8)}


def _fields(of: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Each field that is no list and no object, by its way there."""
    if isinstance(of, dict):
        for name, value in of.items():
            yield from _fields(value, f"{at}/{name}" if at else name)
    elif isinstance(of, list):
        for place, value in enumerate(of):
            yield from _fields(value, f"{at}/{place}")
    else:
        yield at, of


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: f"{panel.dashboard}: {panel.title}")
def test_a_panel_asks_for_metrics_there_are(panel: Panel) -> None:
    assert panel.expressions
    for expression in panel.expressions:
        assert unknown_in(expression) == set()
        assert "refbus" in expression.lower()
