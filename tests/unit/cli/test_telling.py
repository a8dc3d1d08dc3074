"""What a command tells Prometheus by a file: the whole of it, or a sentence that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from referral_bus.cli.errors import Rejected
from referral_bus.cli.telling import tell


@pytest.fixture
def found() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("refbus_found", "What was found", registry=registry).set(2)
    return registry


def test_a_file_holds_what_was_found_last_and_nothing_else_lies_beside_it(
    tmp_path: Path, found: CollectorRegistry
) -> None:
    file = tmp_path / "refbus.prom"
    file.write_text("of the last time")
    tell(file, found, "It was looked at")
    assert file.read_text().endswith("\nrefbus_found 2.0\n")
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_told_in_a_sentence_with_what_was_done(
    tmp_path: Path, found: CollectorRegistry
) -> None:
    file = tmp_path / "nowhere" / "refbus.prom"
    with pytest.raises(Rejected, match=r"^It was looked at, but .*refbus\.prom can't be written: No such"):
        tell(file, found, "It was looked at")
