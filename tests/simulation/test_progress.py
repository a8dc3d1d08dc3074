"""Who waits for many seeds sees every few seconds that they run, how fast, and how long the others will take."""

from __future__ import annotations

from io import StringIO

from tests.simulation.progress import EVERY_SECONDS, EVERY_SECONDS_ON_A_TERMINAL, Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_comes_every_few_seconds_and_no_oftener() -> None:
    out, clock = StringIO(), Time()
    progress = Progress(out, clock)
    for second in range(1, 21):
        clock.now = 100.0 + second
        progress.say(lambda: str(second))  # noqa: B023 - it is called at once
    assert [int(line) for line in out.getvalue().splitlines()] == [5, 10, 15, 20]
    assert progress.every == EVERY_SECONDS == 5.0


def test_on_a_terminal_one_line_is_written_over_and_room_is_made_for_what_is_found() -> None:
    out, clock = Terminal(), Time()
    progress = Progress(out, clock)
    for said in ("first", "second"):
        clock.now += EVERY_SECONDS_ON_A_TERMINAL
        progress.say(lambda: said)  # noqa: B023
    progress.clear()
    assert out.getvalue() == "\r\x1b[Kfirst\r\x1b[Ksecond\r\x1b[K"


def test_a_pipe_is_given_no_control_characters() -> None:
    out = StringIO()
    Progress(out, Time()).clear()
    assert out.getvalue() == ""


def test_the_pace_says_how_long_the_others_take() -> None:
    clock = Time()
    progress = Progress(StringIO(), clock)
    assert progress.pace(0, 300) == "none is through yet"
    clock.now += 50.0
    assert progress.pace(100, 300) == "2.0 a second, 1 min 40 s left"
