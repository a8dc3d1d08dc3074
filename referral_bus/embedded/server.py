"""A server that runs as a process beside this one, and never longer than it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from referral_bus.embedded.errors import EmbeddedError

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000
_NO_SPACE = "No space left on device"
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-starter")
"""Linux signals a child when the *thread* that started it ends, so all are started by one thread that lasts as long as the process."""


class Server:
    """A process with its output in the file ``log``, asked to stop with ``stop_signal``. ``name`` is for messages."""

    def __init__(self, name: str, log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Raises RuntimeError before the start."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    def start(
        self,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        within: float,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
        network: Path | None = None,
    ) -> None:
        """Start it in a session of its own and wait until ``ready``. Raises EmbeddedError when it ends before, or takes longer.

        ``network`` is the network namespace it lives in, where that is not the caller's.
        """
        deadline = time.monotonic() + within
        with explained(self.name):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._process = _STARTER.submit(
                self._spawn, command, {**os.environ, **(environment or {})}, user, network
            ).result()
        try:
            while not ready():
                if not self.running:
                    raise self.failed()
                if time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"{self.name} was not ready after {within:.0f} s. Its log is {self.log}; it ends:\n{self.last_words()}"
                    )
                time.sleep(0.02)
        except BaseException:
            self.kill()
            raise

    def stop(self, within: float = 20.0) -> None:
        """Ask it to stop, and kill it when it is still there after ``within`` seconds. Does nothing when it is not running."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to its whole process group, as a crash or a power cut would."""
        if self._process is None or not self.running:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def failed(self) -> EmbeddedError:
        """What to say when it ended by itself."""
        words = self.last_words()
        if _NO_SPACE in words:
            return disk_full(self.name)
        code = self._process.returncode if self._process is not None else None
        return EmbeddedError(f"{self.name} ended with code {code}. Its log is {self.log}; it ends:\n{words}")

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "  (nothing)"
        text = self.log.read_bytes()[-16_384:].decode(errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (nothing)"

    def _spawn(
        self,
        command: Sequence[str | Path],
        environment: dict[str, str],
        user: int | None,
        network: Path | None,
    ) -> subprocess.Popen[bytes]:
        parent = os.getpid()

        def die_with_parent() -> None:
            if _LIBC is not None:
                _LIBC.prctl(_PR_SET_PDEATHSIG, self._stop_signal)
                if os.getppid() != parent:
                    os._exit(1)

        # The child is born into the namespace of the thread that starts it: later, as another user, it might not enter any.
        with self.log.open("wb") as out, within_network(network):
            return subprocess.Popen(
                [str(word) for word in command],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                preexec_fn=die_with_parent,
            )


@contextlib.contextmanager
def within_network(network: Path | None) -> Iterator[None]:
    """Have the calling thread live in a network namespace inside; None leaves it where it is. Raises OSError where it may not."""
    if network is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_network(network)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def enter_network(network: Path) -> None:
    """Have the calling thread live in a network namespace from now on. Raises OSError where it may not."""
    namespace = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(namespace)
    finally:
        os.close(namespace)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def disk_full(name: str) -> EmbeddedError:
    return EmbeddedError(
        f"The disk is full, so {name} can't run. Free some space (`df -h` shows where) and run this again."
    )


def storage_not_made(name: str, folder: Path, words: str) -> EmbeddedError:
    """What to say where the tool that makes a server's storage failed with these words."""
    if _NO_SPACE in words:
        return disk_full(name)
    return EmbeddedError(
        f"{name}'s storage in {folder} could not be made; the tool says:\n{words.strip()[-2_000:]}"
    )


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the operating system refuses inside into one sentence. Raises EmbeddedError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(name) from error
        where = f" ({error.filename})" if error.filename else ""
        raise EmbeddedError(
            f"{name} can't run: {error.strerror or error}{where}. Put that right and run this again."
        ) from error
