"""What is said of a server whose storage could not be made."""

from __future__ import annotations

from pathlib import Path

from referral_bus.embedded.server import storage_not_made

FOLDER = Path("/there")


def test_a_full_disk_is_said_to_be_one() -> None:
    words = "initdb: error: could not write to file: No space left on device\n"
    assert str(storage_not_made("PostgreSQL", FOLDER, words)).startswith(
        "The disk is full, so PostgreSQL can't run. Free some space"
    )


def test_of_anything_else_the_tool_has_the_last_words() -> None:
    said = str(storage_not_made("Kafka", FOLDER, "x" * 5_000 + " the reason \n"))
    assert said.startswith("Kafka's storage in /there could not be made; the tool says:\n")
    assert said.endswith("the reason")
    assert len(said) < 2_200
