"""``refbus`` as somebody at a terminal uses it: each command a process of its own, a bus that is up one too."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import httpx

from referral_bus.cli import main
from referral_bus.cli.party import development_token, roles_of
from referral_bus.contracts.message import Message
from referral_bus.embedded.ports import is_free

SECONDS: Final = 100.0
STOP_SECONDS: Final = 30.0
_PORTS: Final = 8
_RESULT: Final = {
    "kafka_version",
    "broker",
    "submitted",
    "decided",
    "offered",
    "accepted",
    "declined",
    "expired",
    "completed",
    "unmatched",
    "refused",
    "lost",
    "duplicated",
    "oversold",
    "views_equal_ledger",
    "p50_ms",
    "p99_ms",
    "seconds",
}
"""What a demo tells of itself by JSON."""
_REFBUS: Final = (sys.executable, "-c", "from referral_bus.cli import main; main()")


def environment() -> dict[str, str]:
    """Ours, without any setting of a bus, and wide enough that no table is cut."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REFBUS_")}
    return {**kept, "COLUMNS": "200", "NO_COLOR": "1"}


def refbus(
    *words: str | Path,
    code: int = 0,
    within: float = SECONDS,
    settings: Mapping[str, str] | None = None,
    given: str | None = None,
) -> str:
    """Run a command to its end, with these settings alone and this on its standard input, and return what it printed. Fails where it ends
    with another exit code."""
    done = subprocess.run(
        [*_REFBUS, *map(str, words)],
        env={**environment(), **(settings or {})},
        input=given,
        capture_output=True,
        text=True,
        timeout=within,
    )
    assert done.returncode == code, f"refbus {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stdout + done.stderr


def in_process(*words: str | Path, code: int | None = 0) -> str:
    """A command from its entry on, in this process: a new one for each would take most of a test's time. Returns what it printed, and
    what went wrong where it does not end with 0; fails where it ends with another exit code, unless that is None."""
    said, wrong, found = io.StringIO(), io.StringIO(), 0
    before = sys.argv
    sys.argv = ["refbus", *map(str, words)]
    try:
        with redirect_stdout(said), redirect_stderr(wrong):
            main()
    except SystemExit as ended:
        found = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.argv = before
    printed = said.getvalue() + (wrong.getvalue() if found else "")
    assert code in (None, found), f"refbus {' '.join(map(str, words))}: ended with {found}\n{printed}"
    return printed


def demo(
    folder: Path, *words: str | Path, settings: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], str]:
    """Run a demo, which keeps its promises and leaves nothing in the folder but its result; that, and what it printed."""
    result, home = folder / "result.json", folder / "home"
    said = refbus("demo", "--json", result, "--home", home, *words, within=380.0, settings=settings)
    assert processes_of(home) == []
    assert not home.exists()
    found: dict[str, Any] = json.loads(result.read_text())
    assert found.keys() == _RESULT
    assert (found["lost"], found["duplicated"], found["oversold"]) == (0, 0, 0)
    assert found["views_equal_ledger"] is True
    return found, said


def write_addresses(home: Path, **known: str | dict[str, str]) -> None:
    """Make a folder the home of a bus that ran there; of its services nobody answers, unless they are named."""
    services = dict.fromkeys(("intake", "queries", "notifier"), "http://127.0.0.1:9")
    (home / "addresses.json").write_text(json.dumps({**services, "operations": {}, **known}))


def _interruptible() -> None:
    # A shell starts what it puts into the background deaf to Ctrl-C, and that is inherited: a test run there would end nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Running:
    """A command that runs on, its output in a file."""

    def __init__(self, words: Sequence[str | Path], out: Path) -> None:
        self._out = out
        with out.open("wb") as file:
            self.process = subprocess.Popen(
                [*_REFBUS, *map(str, words)],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                preexec_fn=_interruptible,
            )

    @property
    def said(self) -> str:
        return self._out.read_text(errors="replace")

    def until_said(self, words: str, within: float = SECONDS) -> None:
        """Wait until it has printed this."""

        def there() -> bool:
            if words in self.said:
                return True
            assert self.process.poll() is None, f"it ended before it said {words!r}:\n{self.said}"
            return False

        waited_for(there, within)

    def stop(self, number: signal.Signals, within: float = STOP_SECONDS) -> int:
        """Send the signal and wait for the end. Returns the exit code; what takes longer is killed and fails."""
        self.process.send_signal(number)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end within {within:.0f} s:\n{self.said}") from None


def waited_for(held: Callable[[], Any], within: float = SECONDS) -> Any:
    """Poll until it holds; fail after a while."""
    deadline = time.monotonic() + within
    while True:
        found = held()
        if found:
            return found
        assert time.monotonic() < deadline, f"it did not come true within {within:.0f} s"
        time.sleep(0.05)


def processes_of(home: Path) -> list[str]:
    """The command lines of all processes that name this folder, or were given it by their environment."""
    name, found = str(home).encode(), []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or process.name == str(os.getpid()):
            continue
        try:
            words, given = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except OSError:
            # It ended meanwhile, or is not ours to look at.
            continue
        if name in words or name in given:
            found.append(words.replace(b"\0", b" ").decode(errors="replace"))
    return found


def first_of_free_ports() -> int:
    """The first of as many free ports in a row as ``refbus up`` takes."""
    start = 20_000 + os.getpid() % 1024 * _PORTS
    for port in range(start, start + 4_000, _PORTS):
        if all(is_free(one) for one in range(port, port + _PORTS)):
            return port
    raise AssertionError("no ports are free in a row")


class Terminal:
    """A home, and the commands that are given in it."""

    def __init__(self, home: Path, first_port: int) -> None:
        self.home = home
        self.first_port = first_port

    @contextmanager
    def up(self, *more: str) -> Iterator[Running]:
        """``refbus up``, until the block ends."""
        words = ["up", "--home", self.home, "--first-port", str(self.first_port), *more]
        running = Running(words, self.home.with_suffix(".out"))
        try:
            running.until_said("The bus is up.")
            yield running
        finally:
            if running.process.poll() is None:
                running.stop(signal.SIGINT)

    def run(self, command: str, *words: str | Path, code: int = 0) -> str:
        """A command in this home."""
        return refbus(command, *words, "--home", self.home, code=code)

    def json(self, command: str, *words: str | Path) -> Any:
        return json.loads(self.run(command, *words))

    def start(self, out: Path, command: str, *words: str | Path) -> Running:
        """A command in this home that runs on."""
        given: list[str | Path] = [command, *words, "--home", self.home]
        return Running(given, out)

    @property
    def addresses(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "addresses.json").read_text())
        return found

    def http(self, of: str, organisation: str, roles: str) -> httpx.Client:
        """A service, spoken to with a token as ``refbus token`` issues them."""
        token = development_token(self.home, organisation, roles_of(roles))
        return httpx.Client(
            base_url=self.addresses[of],
            headers={"authorization": f"Bearer {token}"},
            timeout=SECONDS,
            trust_env=False,
        )

    def publish(self, kind: str, message: Message) -> None:
        """Publish reference data as operations do."""
        with self.http("intake", "operations", "operations") as intake:
            content = {"kind": kind, "content": message.model_dump(mode="json")}
            intake.post("/v1/reference", json=content).raise_for_status()
