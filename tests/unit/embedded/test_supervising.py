"""A local bus starts anew what somebody ends, and says of what fails how it failed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from referral_bus.embedded.bus import Addresses, LocalBus, Plan
from referral_bus.embedded.process import ChildProcess
from referral_bus.embedded.secrets import Secrets

_LIVES = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('lives', flush=True); signal.pause()"
_FAILS = "import os, sys; sys.exit('it can not go on') if os.path.exists(sys.argv[1]) else None; " + _LIVES


async def lives(process: ChildProcess, times: int) -> None:
    """Wait until it has been started so often."""
    async with asyncio.timeout(10):
        while not process.log.exists() or process.log.read_text().count("lives") < times:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_is_ended_is_started_anew_and_what_fails_is_said(tmp_path: Path, number: int) -> None:
    bus = LocalBus(Plan(tmp_path), Secrets(tmp_path), Addresses("", "", "", "", ""), None)
    broken = tmp_path / "broken"
    process = ChildProcess(
        "matching-1", [sys.executable, "-c", _FAILS, str(broken)], {}, tmp_path / "matching-1.log"
    )
    bus.processes["matching-1"] = process
    await process.start()
    await lives(process, 1)
    supervising = asyncio.create_task(bus.supervise())
    try:
        first = int((tmp_path / "matching-1.pid").read_text())
        assert first == process.pid
        os.kill(first, number)
        await lives(process, 2)
        assert int((tmp_path / "matching-1.pid").read_text()) == process.pid != first
        assert not supervising.done()
        broken.touch()
        os.kill(process.pid, number)
        async with asyncio.timeout(10):
            assert "it can not go on" in str(await supervising)
    finally:
        supervising.cancel()
        await process.stop()
