"""The example of an environment names every setting there is, and none that there is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from referral_bus.runtime.settings import Settings, variable
from services.intake.settings import IntakeSettings
from services.matching.settings import MatchingSettings
from services.notifier.settings import NotifierSettings
from services.projections.settings import ProjectionsSettings

_ROOT = Path(__file__).resolve().parents[3]
_ALL: tuple[type[Settings], ...] = (
    IntakeSettings,
    MatchingSettings,
    NotifierSettings,
    ProjectionsSettings,
)


def test_the_example_of_an_environment_names_just_the_settings_there_are() -> None:
    text = (_ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:# )?(REFBUS_[A-Z_]+)=", text, re.MULTILINE)) - {"REFBUS_CONFIG"}
    there = {variable(field) for settings in _ALL for field in settings.model_fields}
    assert {name.removesuffix("_FILE") for name in named} == there


def test_what_is_commented_out_shows_its_default() -> None:
    text = (_ROOT / ".env.example").read_text(encoding="utf-8")
    defaults = {
        variable(field): info.default for settings in _ALL for field, info in settings.model_fields.items()
    }
    shown = {
        name: (_read(value, defaults[name]), defaults[name])
        for name, value in re.findall(r"^# (REFBUS_[A-Z_]+)=(\S*)", text, re.MULTILINE)
        if defaults.get(name) is not None
    }
    assert len(shown) > 20
    assert {name: pair for name, pair in shown.items() if pair[0] != pair[1]} == {}


def _read(value: str, default: Any) -> Any:
    return json.loads(value) if isinstance(default, int | float | dict) else type(default)(value)
