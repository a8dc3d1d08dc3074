"""What happened in a chaos run is shown at the end of the session, whether it went well or not."""

from __future__ import annotations

import pytest

TABLES = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for table in config.stash.get(TABLES, []):
        terminalreporter.section("chaos")
        terminalreporter.write_line(table)
