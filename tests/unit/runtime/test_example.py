"""The example of an environment names every setting of every service, and of operations' commands, under its heading, and none that there
is not; what is commented out shows the default."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from referral_bus.cli.home import OperationsSettings
from referral_bus.runtime.settings import Settings, variable
from services.intake.settings import IntakeSettings
from services.matching.settings import MatchingSettings
from services.notifier.settings import NotifierSettings
from services.projections.settings import ProjectionsSettings

_ROOT: Final = Path(__file__).resolve().parents[3]
_ALL: Final[tuple[type[Settings], ...]] = (
    IntakeSettings,
    MatchingSettings,
    NotifierSettings,
    ProjectionsSettings,
    OperationsSettings,
)
_SERVICES: Final = frozenset(settings.service for settings in _ALL)
_LINE: Final = re.compile(r"(# )?(REFBUS_[A-Z_]+)=(.*?)(?:   \(.*\))?")


class Line(NamedTuple):
    """A setting of the example: the services it stands under, and what is said of it."""

    services: frozenset[str]
    name: str
    value: str
    is_default: bool


def lines() -> Iterator[Line]:
    services: frozenset[str] = frozenset()
    for line in (_ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if found := _LINE.fullmatch(line):
            if found[2] != "REFBUS_CONFIG":
                yield Line(services, found[2].removesuffix("_FILE"), found[3], found[1] is not None)
        elif line == "# All services":
            services = _SERVICES
        elif named := _SERVICES.intersection(re.findall(r"\w+", line.partition(":")[0])):
            services = named


def read(field: FieldInfo, value: str) -> Any:
    """A value as the environment gives it: lists and tables as JSON."""
    adapter = TypeAdapter(field.annotation)
    return adapter.validate_python(json.loads(value)) if value[0] in "{[" else adapter.validate_strings(value)


@pytest.mark.parametrize("settings", _ALL, ids=lambda settings: settings.service)
def test_the_example_of_an_environment_names_just_the_settings_there_are(settings: type[Settings]) -> None:
    named = [line.name for line in lines() if settings.service in line.services]
    assert sorted(named) == sorted(variable(field) for field in settings.model_fields)


@pytest.mark.parametrize("settings", _ALL, ids=lambda settings: settings.service)
def test_what_is_commented_out_in_the_example_shows_the_default(settings: type[Settings]) -> None:
    fields = {variable(name): field for name, field in settings.model_fields.items()}
    shown = {
        line.name: line.value for line in lines() if settings.service in line.services and line.is_default
    }
    assert [name for name in shown if fields[name].is_required()] == []
    # What has None for a default is off: the example shows how it looks on, or nothing.
    defaults = {name: fields[name].default for name in shown if fields[name].default is not None}
    assert {name: read(fields[name], shown[name]) for name in defaults} == defaults
