"""What operations are given: rules, runbooks and dashboards, as the tests read them; and Prometheus' tools."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import typer
import yaml
from prometheus_client import REGISTRY

from referral_bus.runtime import metrics
from referral_bus.runtime.settings import Settings, variable

ROOT: Final = Path(__file__).resolve().parents[2]
PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
GRAFANA: Final = ROOT / "deploy" / "grafana"
RUNBOOKS: Final = ROOT / "docs" / "runbooks"

_METRIC: Final = re.compile(r"\brefbus_[a-z0-9_]+")
_RECORDED: Final = re.compile(r"\brefbus:[a-z0-9_:]+")


def program(name: str, how: str = "on Debian: apt install prometheus") -> str:
    """A program of Prometheus, or another that is had as ``how`` says. Without it the test is skipped, and in CI fails."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed ({how})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@cache
def rules() -> list[dict[str, Any]]:
    """Every recording and alert rule."""
    content = yaml.safe_load((PROMETHEUS / "refbus.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def catalogue() -> dict[str, set[str]]:
    """The metrics of the catalogue, and the names under which Prometheus knows each."""
    found: dict[str, set[str]] = {}
    for registry in (REGISTRY, metrics.CHECKS, metrics.BACKUPS, metrics.LETTERS):
        for family in registry.collect():
            endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(
                family.type, ("",)
            )
            if family.name.startswith("refbus_"):
                found[family.name] = {family.name + ending for ending in endings}
    return found


def samples() -> set[str]:
    """The names under which Prometheus knows the metrics of the catalogue."""
    return {name for names in catalogue().values() for name in names}


def metrics_in(text: str) -> set[str]:
    """The names of metrics that stand in a text."""
    return set(_METRIC.findall(text))


def unknown_in(expression: str) -> set[str]:
    """The names in an expression that neither the catalogue nor a recording rule has."""
    used = metrics_in(expression) | set(_RECORDED.findall(expression))
    return used - samples() - recorded()


class Panel(NamedTuple):
    """A panel of a dashboard, and what it asks."""

    dashboard: str
    title: str
    expressions: tuple[str, ...]


def panels() -> list[Panel]:
    """Every panel of every dashboard."""
    found = []
    for path in sorted(GRAFANA.glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            if panel["type"] != "row":
                asked = tuple(target["expr"] for target in panel["targets"])
                found.append(Panel(path.stem, panel["title"], asked))
    return found


def blocks(page: Path) -> list[str]:
    """The lines of a page's code blocks, without what a shell takes for a comment."""
    found = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in found for line in block.splitlines() if line.strip()]


def commands_of(page: Path) -> list[list[str]]:
    """Each ``refbus`` command of a page, as words, without its first."""
    words = [shlex.split(line, comments=True) for line in blocks(page)]
    inline = re.findall(r"`refbus ([^`]+)`", page.read_text(encoding="utf-8"))
    return [one[1:] for one in words if one[:1] == ["refbus"]] + [shlex.split(one) for one in inline]


def parsed(words: list[str]) -> Any:
    """The context of a command as ``refbus`` would parse it, which is not run. Raises click's UsageError where it can't be given so."""
    from referral_bus.cli.main import app

    context: Any = typer.main.get_command(app).make_context("refbus", list(words))
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context


def settings_of(words: list[str]) -> set[str]:
    """The settings that a command makes use of where there is no home: those its module reads, and the options that it was not given."""
    context = parsed(words)
    module = sys.modules[context.command.callback.__module__]
    read = re.findall(r"\bsettings\.(\w+)", inspect.getsource(module).replace("kafka_access", "kafka"))
    loaded = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Settings)]
    options = {
        option.envvar
        for option in context.command.params
        if option.envvar and context.get_parameter_source(option.name).name != "COMMANDLINE"
    }
    fields = {variable(field) for one in loaded for field in one.model_fields if field in read}
    return fields | options - {"REFBUS_HOME"}
