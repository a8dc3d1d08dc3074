"""The rules ask for metrics there are, fire on their causes and not without, and lead to a page that says what to do."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from tests.support.operations import PROMETHEUS, ROOT, alerts, program, rules, samples, unknown_in


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_metrics_of_the_catalogue_alone(rule: dict[str, Any]) -> None:
    assert unknown_in(rule["expr"]) == set()


def test_a_metric_that_is_none_is_found() -> None:
    assert unknown_in('rate(refbus_dead_letters{a="b"}[5m]) > refbus:gone:max') == {
        "refbus_dead_letters",
        "refbus:gone:max",
    }
    assert {"refbus_lag_records", "refbus_dead_letters_total", "refbus_views_different_rows"} <= samples()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_says_how_urgent_it_is_and_has_a_page(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]
    assert (ROOT / alert["annotations"]["runbook"]).is_file()


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in PROMETHEUS.glob("*.test.yml")]
    tests = [test for content in contents for test in content["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    names = {alert["alert"] for alert in alerts()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "refbus.rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "refbus.test.yml"),
        ("test", "rules", "refbus.days.test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [program("promtool"), *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
