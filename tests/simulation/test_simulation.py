"""The bus holds what it promises under every seed that is run here; a seed gives the same run again; and known faults are found."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation import worker_faults
from tests.simulation.campaign import seeds_in
from tests.simulation.faults import FAULTS

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs/reference/simulation.md"
SEEDS = 200
pytestmark = pytest.mark.timeout(900)


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In processes of their own: in this one other tests have left their traces, and the order of sets is another each time."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_seed_breaks_a_promise() -> None:
    run = simulated("--seeds", str(SEEDS))
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    assert f"{SEEDS} seeds" in run.stdout


def test_a_crash_at_every_await_breaks_no_promise() -> None:
    run = simulated("--awaits", "--seeds", "30")
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    [count] = re.findall(r"seeds, (\d+) awaits", run.stdout)
    assert int(count) > 110  # of some 130
    struck = dict(line.rsplit(":", 1) for line in run.stdout.splitlines() if ".py:" in line)
    for part in ("worker", "projector", "claims"):
        assert f"referral_bus/runtime/{part}.py" in struck
    for part in ("admission", "outboxes", "relay", "reference"):
        assert f"services/intake/{part}.py" in struck
    for part in ("partition", "relay", "ticks", "snapshots"):
        assert f"services/matching/{part}.py" in struck
    for part in ("hearer", "dispatch"):
        assert f"services/notifier/{part}.py" in struck


def test_a_seed_gives_the_same_history_again() -> None:
    with ThreadPoolExecutor() as beside:
        first, again, other = beside.map(lambda seed: simulated("--seed", seed), ("7", "7", "8"))
    assert first.returncode == 0, first.stdout[-20_000:] + first.stderr
    assert len(first.stdout.splitlines()) > 100
    assert first.stdout == again.stdout
    assert first.stdout != other.stdout


def test_a_run_that_fails_says_how_to_run_it_again_and_then_fails_in_the_same_way() -> None:
    run = simulated("--seeds", "10", "--fault", "double-hold")
    assert run.returncode == 1, run.stdout[-5_000:] + run.stderr
    [said] = re.findall(r"again: python -m tests.simulation (--seed .*)", run.stdout)
    again = simulated(*said.split())
    assert again.returncode == 1
    assert "oversold: refbus.main.ledger/" in again.stdout
    assert run.stdout.endswith(again.stdout)


def test_each_known_fault_is_found() -> None:
    run = simulated("--faults", "--known", str(TABLE))
    assert run.returncode == 0, run.stdout + run.stderr
    assert seeds_in(run.stdout).keys() == FAULTS.keys()


def test_the_table_names_each_known_fault_and_the_rule_it_undoes() -> None:
    text = TABLE.read_text(encoding="utf-8")
    assert seeds_in(text).keys() == FAULTS.keys()
    for fault in FAULTS.values():
        assert f"| `{fault.name}` | {fault.rule} |" in text


def test_the_rules_of_the_worker_name_each_fault_that_undoes_one() -> None:
    text = TABLE.read_text(encoding="utf-8")
    rules = text.split("### The rules of the worker, and what undoes each")[1].split("\n\n")[1]
    named = set(re.findall(r"`([a-z-]+)`", rules))
    of_the_worker = {
        fault.name for fault in FAULTS.values() if fault.undone.__module__ == worker_faults.__name__
    }
    assert of_the_worker <= named <= FAULTS.keys()
