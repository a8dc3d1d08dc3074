"""A child process that does not outlive its parent: started with its output in a file, stopped politely and then for certain."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.server import enter_network

_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """One process of the local bus. ``name`` is for messages; beside the file ``log`` another, ``.pid``, has the id of the process, for
    whoever wants to end it. ``network`` is the network namespace it lives in, where that is not its parent's."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        network: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._network = network
        self.environment = environment
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Raises RuntimeError before the start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    async def start(self) -> None:
        """Start it in a process group of its own, so that Ctrl-C in the terminal reaches the supervisor alone."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=self._born,
            )
        self.log.with_suffix(".pid").write_text(f"{self._process.pid}\n", encoding="ascii")

    def _born(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if self._network is not None:
            enter_network(self._network)

    async def stop(self, within: float = 25.0) -> None:
        """SIGTERM, and SIGKILL to the whole group for what is still there after ``within`` seconds."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(within):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the whole group: what a test does to see that nothing is lost."""
        if self._process is None or self._process.returncode is not None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def wait(self) -> int:
        """The exit code, once it ends."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return await self._process.wait()

    @property
    def ended(self) -> str:
        """How it ended, as in "intake-1 ended by SIGKILL"."""
        code = self._process.returncode if self._process is not None else None
        return f"ended with code {code}" if code is None or code >= 0 else f"ended by {_signal(-code)}"

    def failed(self, why: str = "") -> EmbeddedError:
        """What to say of its end: how it came, ``why`` that is final, its last words, and where the rest of them is."""
        said = f"{self.ended}, {why}" if why else self.ended
        return EmbeddedError(f"{self.name} {said}. Its log is {self.log}; it ends:\n{self.last_words()}")

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "  (nothing)"
        text = self.log.read_bytes()[-8_192:].decode(errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (nothing)"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
