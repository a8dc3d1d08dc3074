"""``refbus restore``: a list of the forgotten that can't be one stops it before anything is done."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import refbus


def test_a_list_of_the_forgotten_with_a_line_that_is_no_pseudonym_is_refused(tmp_path: Path) -> None:
    forgotten = tmp_path / "forgotten.txt"
    forgotten.write_text(f"sj-{'a' * 26}\nJane Doe'\n")
    said = refbus("restore", tmp_path / "backup", "--forgotten", forgotten, "--home", tmp_path, code=1)
    assert said.startswith("refbus: Line 2 of") and "nothing was restored" in said
    assert "Jane" not in said and "Traceback" not in said
