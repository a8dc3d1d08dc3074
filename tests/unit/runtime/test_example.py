"""The example of an environment names every setting there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

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
