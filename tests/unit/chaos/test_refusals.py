"""That a full disk was met shows in a log: the fault is idle otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster.refusals import Refusals


@pytest.mark.parametrize(
    "line",
    [
        "partition 0 gets no snapshot now: [Errno 28] No space left on device",
        'ERROR:  could not extend file "base/1/2": No space left on device',
        "writing from offset 4826: the database did not do it now (DiskFull 53100)",
        "java.io.IOException: No space left on device",
    ],
)
def test_a_line_that_says_there_was_no_space_is_found(tmp_path: Path, line: str) -> None:
    log = tmp_path / "matching-1.log"
    log.write_text("matching runs\n")
    refusals = Refusals(tmp_path)
    assert refusals.first() is None
    with log.open("a") as file:
        file.write(f"another line\n{line}\n")
    assert refusals.first() == f"matching-1.log: {line}"


def test_what_was_said_before_the_disk_was_filled_is_of_another_time(tmp_path: Path) -> None:
    (tmp_path / "kafka.log").write_text("No space left on device\n")
    assert Refusals(tmp_path).first() is None


def test_a_line_is_found_once_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.touch()
    refusals = Refusals(tmp_path)
    log.write_text("PANIC: No space left")
    assert refusals.first() is None
    log.write_text("PANIC: No space left on device\n")
    assert refusals.first() == "postgres.log: PANIC: No space left on device"


def test_a_log_that_is_begun_anew_and_one_that_is_new_are_read_from_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "kafka.out").write_text("a long line from before\n" * 9)
    refusals = Refusals(tmp_path, tmp_path / "more")
    (tmp_path / "kafka.out").write_text("No space left on device\n")
    assert refusals.first() == "kafka.out: No space left on device"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "new.log").write_text("DiskFull\n")
    assert refusals.first() == "new.log: DiskFull"
