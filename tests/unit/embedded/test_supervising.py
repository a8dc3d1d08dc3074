"""A local bus starts anew what ends, says so, and stops where that is no use."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from referral_bus.embedded import supervising
from referral_bus.embedded.bus import Addresses, LocalBus, Plan
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.process import ChildProcess
from referral_bus.embedded.secrets import Secrets

_LIVES = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('lives', flush=True); signal.pause()"
_FAILS_ONCE = (
    "import os, sys\nif os.path.exists(sys.argv[1]):\n os.unlink(sys.argv[1]); sys.exit(1)\n" + _LIVES
)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "PAUSES", (0.0, 0.01, 0.01))


@asynccontextmanager
async def supervised(
    folder: Path, program: str, *arguments: str
) -> AsyncIterator[tuple[ChildProcess, asyncio.Task[EmbeddedError], list[str]]]:
    """A bus of one service that runs this program: its process, its supervision, and what that said."""
    bus = LocalBus(Plan(folder), Secrets(folder), Addresses("", "", "", "", ""), None)
    command = [sys.executable, "-c", program, *arguments]
    process = bus.processes["matching-1"] = ChildProcess("matching-1", command, {}, folder / "matching-1.log")
    await process.start()
    said: list[str] = []
    supervision = asyncio.create_task(bus.supervise(said.append))
    try:
        async with asyncio.timeout(20):
            yield process, supervision, said
    finally:
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)
        await process.stop()


async def until(there: Callable[[], bool]) -> None:
    while not there():
        await asyncio.sleep(0.01)


def lives(process: ChildProcess, times: int) -> Callable[[], bool]:
    """Whether it has been started so often."""
    return lambda: process.log.exists() and process.log.read_text().count("lives") == times


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGTERM, "ended with code 0"), (signal.SIGKILL, "ended by SIGKILL")]
)
async def test_what_is_ended_is_started_anew_and_said_in_a_sentence(
    tmp_path: Path, number: int, how: str
) -> None:
    async with supervised(tmp_path, _LIVES) as (process, supervision, said):
        await until(lives(process, 1))
        first = int((tmp_path / "matching-1.pid").read_text())
        assert first == process.pid
        os.kill(first, number)
        await until(lives(process, 2))
        assert int((tmp_path / "matching-1.pid").read_text()) == process.pid != first
        assert said == [f"matching-1 {how} and is started anew. Its log is {process.log}."]
        assert not supervision.done()


async def test_what_fails_is_started_anew_as_the_exit_code_1_asks_for(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    async with supervised(tmp_path, _FAILS_ONCE, str(broken)) as (process, supervision, said):
        await until(lives(process, 1))
        assert said == [f"matching-1 ended with code 1 and is started anew. Its log is {process.log}."]
        assert not supervision.done()


async def test_what_can_not_use_its_settings_is_not_started_anew(tmp_path: Path) -> None:
    program = "import sys; print('REFBUS_BUS is missing'); sys.exit(2)"
    async with supervised(tmp_path, program) as (process, supervision, said):
        failure = str(await supervision)
    assert failure.startswith(
        f"matching-1 ended with code 2, its settings are wrong, so a new start would not mend it. Its log is {process.log};"
    )
    assert "REFBUS_BUS is missing" in failure
    assert said == []


@pytest.mark.parametrize(
    ("dies", "how"),
    [
        ("import sys; print('lives'); sys.exit('it can not go on')", "ended with code 1"),
        (
            "import os, signal; print('lives', flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
            "ended by SIGSEGV",
        ),
    ],
)
async def test_what_ends_at_every_start_is_given_up_after_a_few(tmp_path: Path, dies: str, how: str) -> None:
    async with supervised(tmp_path, dies) as (process, supervision, said):
        failure = str(await supervision)
        assert lives(process, 4)()
    assert failure.startswith(
        f"matching-1 {how}, for the 4th time within a minute, so it is not started again. Its log is"
    )
    assert len(said) == 3


async def test_ends_that_lie_far_apart_do_not_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "WITHIN_SECONDS", 0.0)
    async with supervised(tmp_path, "import sys; sys.exit(1)") as (_, supervision, said):
        await until(lambda: len(said) >= 6)
        assert not supervision.done()
