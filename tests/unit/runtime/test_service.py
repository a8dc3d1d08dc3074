"""A service's life as its supervisor sees it: exit codes, signals, and what it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from referral_bus.embedded.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 30.0
NAME = "Quentin Featherstonehaugh"

PROGRAM = """
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar
from referral_bus.runtime.service import Task, run
from referral_bus.runtime.settings import Settings
from referral_bus.store.port import StoreUnavailable

mode, marks = sys.argv[1], Path(sys.argv[2])

class DoorSettings(Settings):
    service: ClassVar[str] = "door"

async def work():
    if mode == "fails":
        raise ValueError("Quentin Featherstonehaugh")
    if mode == "ends":
        return
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        (marks / "cancelled").touch()
        while mode == "deaf":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
        raise

@asynccontextmanager
async def build(settings, health):
    (marks / "building").touch()
    try:
        if mode == "start fails":
            raise StoreUnavailable("the database is away: start it")
        if mode == "start hangs":
            await asyncio.Event().wait()
        health.ready("door")
        yield [Task("work", work())]
    finally:
        (marks / "taken apart").touch()

run(DoorSettings.load_or_exit(), build)
"""


class Running:
    def __init__(self, process: subprocess.Popen[str], operations: str, marks: Path) -> None:
        self.process = process
        self.operations = operations
        self.marks = marks

    def until(self, held: object) -> None:
        deadline = time.monotonic() + SECONDS
        while not held():  # type: ignore[operator]
            assert time.monotonic() < deadline, "it never came true"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.operations}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def ended(self) -> tuple[int, list[dict[str, object]]]:
        _, said = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, [json.loads(line) for line in said.splitlines()]


@contextmanager
def service(mode: str, marks: Path, **settings: str) -> Iterator[Running]:
    port = settings.pop("operations_port", None) or str(free_ports(1)[0])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFBUS_")}
    environment |= {"REFBUS_OPERATIONS_PORT": port, "PYTHONPATH": str(ROOT)}
    environment |= {f"REFBUS_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode, str(marks)], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Running(process, f"http://127.0.0.1:{port}", marks)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    with service("serves", tmp_path) as door:
        door.until(door.ready)
        door.process.send_signal(number)
        code, said = door.ended()
    assert code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"building", "cancelled", "taken apart"}
    assert [line["message"] for line in said] == ["door runs", "door stops"]


def test_a_signal_stops_it_while_it_still_starts(tmp_path: Path) -> None:
    with service("start hangs", tmp_path) as door:
        door.until((tmp_path / "building").exists)
        door.process.terminate()
        code, _ = door.ended()
    assert code == 0
    assert (tmp_path / "taken apart").exists()


@pytest.mark.parametrize(("mode", "why"), [("fails", "ValueError"), ("ends", "nothing was raised")])
def test_a_part_that_fails_or_ends_takes_the_process_down_with_1(tmp_path: Path, mode: str, why: str) -> None:
    with service(mode, tmp_path) as door:
        code, said = door.ended()
    assert code == 1
    assert (tmp_path / "taken apart").exists()
    assert f"work ended by itself: {why}" in [line["message"] for line in said]
    assert NAME not in json.dumps(said)


def test_a_start_that_fails_says_what_to_do_and_exits_with_1(tmp_path: Path) -> None:
    with service("start fails", tmp_path) as door:
        code, said = door.ended()
    assert code == 1
    assert "door failed: the database is away: start it" in [line["message"] for line in said]


def test_a_part_that_does_not_stop_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with service("deaf", tmp_path, stop_seconds="0.3") as door:
        door.until(door.ready)
        door.process.terminate()
        code, said = door.ended()
    assert code == 1
    assert "stopping took more than 0.3 s: exiting without" in [line["message"] for line in said]


def test_a_taken_operations_port_is_named_and_the_parts_are_taken_apart(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with service("serves", tmp_path, operations_port=port) as door:
            code, said = door.ended()
    assert code == 1
    assert any(port in str(line["message"]) for line in said)


def test_a_wrong_setting_is_said_before_anything_starts(tmp_path: Path) -> None:
    with service("serves", tmp_path, port="door") as door:
        _, said = door.process.communicate(timeout=SECONDS)
    assert door.process.returncode == 2
    assert said.startswith("REFBUS_PORT is 'door'")
    assert not (tmp_path / "building").exists()
