"""A next version of the code, as a developer would make it: the checkout's own, with new rules and a schema that says more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from referral_bus.wire.schemas import SCHEMAS, registered

ROOT: Final = SCHEMAS.parents[1]
NEWEST_SCHEMA: Final = max(schema.id for schema in registered())
"""What this version writes by, and so what the next one may write while this one runs beside it."""
NEXT_RULES: Final = 2

_CHANGES: Final = (
    (
        "services/matching/core/rules.py",
        "SUPPORTED: Final = frozenset({1})",
        f"SUPPORTED: Final = frozenset({{1, {NEXT_RULES}}})",
    ),
    (
        "referral_bus/contracts/ledger.py",
        "    expires_at: Millis\n    transfer: bool = False\n    \"\"\"Another provider has accepted the person, and proposed",
        "    expires_at: Millis\n    made_by: int | None = None\n    \"\"\"The rules, from the second on.\"\"\"\n"
        "    transfer: bool = False\n    \"\"\"Another provider has accepted the person, and proposed",
    ),
    (
        "services/matching/core/decide/offering.py",
        "                    expires_at=expires_at,\n",
        "                    expires_at=expires_at,\n                    made_by=state.rules if state.rules > 1 else None,\n",
    ),
)  # fmt: skip


class NextVersion:
    """The next version in a folder of its own, with the schemas it has added."""

    def __init__(self, folder: Path) -> None:
        for part in ("referral_bus", "services", "schemas", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        for file, before, after in _CHANGES:
            text = (folder / file).read_text(encoding="utf-8")
            if text.count(before) != 1:
                raise AssertionError(
                    f"{file} is another than this next version was made of: look for {before!r}"
                )
            (folder / file).write_text(text.replace(before, after), encoding="utf-8")
        self.environment: Mapping[str, str] = {"PYTHONPATH": str(folder)}
        self.run("-m", "referral_bus.wire")
        self.schema = max(schema.id for schema in registered(folder / "schemas" / "avro"))

    @staticmethod
    def command(*words: str) -> list[str]:
        """Python on this version: without ``-P`` the working directory would come before it."""
        return [sys.executable, "-P", *words]

    def run(self, *words: str, settings: Mapping[str, str] | None = None) -> str:
        """Run something of this version to its end, which must be a good one; what it printed."""
        done = subprocess.run(
            self.command(*words),
            env={**os.environ, **self.environment, **(settings or {})},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout
