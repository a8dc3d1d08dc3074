"""What `make test` does not run, other commands do: that its modules still find each other is held here."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ELSEWHERE = ("tests/containers", "tests/chaos/cluster")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ELSEWHERE
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("module", MODULES)
def test_what_another_command_runs_can_be_imported(module: str) -> None:
    importlib.import_module(module)
