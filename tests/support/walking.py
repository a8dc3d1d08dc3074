"""A bus with a Prometheus before it, and the runbooks: their commands are given on it as they stand there."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx
import yaml

from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.postgres import programs_folder
from tests.support.commands import Running, in_process, waited_for
from tests.support.operations import PROMETHEUS, RUNBOOKS, blocks, program, rules

_SECONDS: Final = 60
_NOT_FOUND: Final = 127
"""How a shell says that there is no such program."""
NONE: Final[Mapping[str, str]] = {}
Ask = Callable[..., Any]
"""Asks the API of a Prometheus: a path, and its parameters; gives the data of the answer."""


class Page:
    """A runbook that is walked. Its lines are given as they stand there, with what is in front of operations instead of the examples."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lines = blocks(RUNBOOKS / f"{name}.md")
        self._left = list(self._lines)

    def __call__(self, begins: str, examples: Mapping[str, str] = NONE, code: int = 0) -> str:
        """Give the line that begins so, with each of the examples replaced, and return what was printed. Fails where the page has none,
        and where it ends with another exit code."""
        line = self._line(begins, examples)
        words = shlex.split(line, comments=True)
        if words[0] == "refbus":
            return in_process(*words[1:], code=code)
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode == _NOT_FOUND:
            program(words[0], f"on Debian: apt install {words[0]}")
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def until_said(self, begins: str, said: str, out: Path) -> None:
        """Give the line that begins so, of a command that goes on until it is ended, and end it once it has said this."""
        running = Running(shlex.split(self._line(begins, NONE), comments=True)[1:], out)
        try:
            running.until_said(said)
        finally:
            running.stop(signal.SIGINT)

    def not_given(self) -> list[str]:
        """The lines of the page that nobody gave."""
        return self._left

    def _line(self, begins: str, examples: Mapping[str, str]) -> str:
        found = [line for line in self._lines if line.startswith(begins)]
        assert found, f"{self.name} has no {begins!r}"
        line = next((one for one in found if one in self._left), found[0])
        if line in self._left:
            self._left.remove(line)
        for example, real in examples.items():
            assert example in line, f"{self.name} has no {example!r} in {line!r}"
            line = line.replace(example, real)
        return line


def with_programs_of_the_database() -> str:
    """A search path on which ``psql`` is found, whatever is installed."""
    return f"{os.environ['PATH']}{os.pathsep}{programs_folder()}"


def condition(alert: str) -> str:
    """What an alert asks, as its rule says."""
    [found] = [rule["expr"] for rule in rules() if rule.get("alert") == alert]
    return str(found)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The files of a folder, as a node exporter gives those of its textfile collector, all at once; yields host and port."""

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = b"".join(path.read_bytes() for path in sorted(folder.glob("*.prom")))
            self.send_response(200)
            # What Prometheus takes for its own format.
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: a scrape a second is no news."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Nothing: where the machine is busy Prometheus gives a scrape up, and what is printed of it would stand in whatever command is
            given just then."""

    with Server(("127.0.0.1", 0), Silent) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def scraping(services: dict[str, str], told: str) -> dict[str, Any]:
    """The shipped configuration, a scrape a second: ``services`` are host and port of each one's operations listener, ``told`` those where
    the files are had that commands write with ``--metrics``."""
    config: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / "refbus.rules.yml")]
    bus, node = config["scrape_configs"]
    assert {one["labels"]["service"] for one in bus["static_configs"]} == services.keys()
    for one in bus["static_configs"]:
        one["targets"] = [services[one["labels"]["service"]]]
    node["static_configs"][0]["targets"] = [told]
    return config


@contextmanager
def prometheus(folder: Path, config: dict[str, Any]) -> Iterator[Ask]:
    """A Prometheus that scrapes as it is told."""
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    words = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log, httpx.Client(trust_env=False, timeout=20) as http:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:

            def ask(path: str, **parameters: str) -> Any:
                content = http.get(f"http://{address}/api/v1/{path}", params=parameters).json()
                assert content["status"] == "success", content
                return content["data"]

            def up() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    return http.get(f"http://{address}/-/ready").status_code == 200
                except httpx.HTTPError:
                    return False

            waited_for(up)
            yield ask
        finally:
            process.terminate()
            process.wait(20)
