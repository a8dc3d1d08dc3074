"""What a newcomer is told when the environment can't be made: one sentence, and what to do."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def saying(tmp_path: Path, words: str, code: int = 1) -> str:
    """An interpreter whose pip says this, and ends so."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}\nEND\nexit {code}\n")
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "with other content than pinned"),
        ("urllib3.exceptions.ProtocolError: IncompleteRead(5 bytes read)", "A package came broken"),
        ("WARNING: Retrying: NewConnectionError('Network is unreachable')", "can't be reached"),
        ("ERROR: Could not find a version that satisfies x==1 (from versions: none)", "can't be reached"),
        ("ERROR: something nobody has seen", "what it says is above"),
    ],
)  # fmt: skip
def test_what_goes_wrong_with_pip_is_said_in_a_sentence_with_what_to_do(
    environment: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str], words: str, told: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        environment.pip(saying(tmp_path, words), "anything")
    assert told in str(stopped.value) and str(stopped.value).startswith("refbus: ")
    assert "run this again" in str(stopped.value).lower()
    # What pip said is there to be read, too.
    assert words in capfd.readouterr().err


def test_what_pip_only_warns_of_stops_nothing(environment: ModuleType, tmp_path: Path) -> None:
    environment.pip(saying(tmp_path, "WARNING: Retrying after NewConnectionError", code=0), "anything")


def test_a_python_that_is_too_old_is_told_so_and_how_to_name_another(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or later is needed.*is 3\.9.*make PYTHON="):
        environment.main("dev")
