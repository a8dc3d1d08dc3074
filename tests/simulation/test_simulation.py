"""The bus holds what it promises under every seed that is run here; a seed gives the same run again; and known faults are found."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation import campaign, worker_faults
from tests.simulation.campaign import PAGE, seeds_in
from tests.simulation.checker import Finding
from tests.simulation.faults import FAULTS
from tests.simulation.simulate import Run

ROOT = Path(__file__).parents[2]
SEEDS = 200
pytestmark = pytest.mark.timeout(900)


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In processes of their own: in this one other tests have left their traces, and the order of sets is another each time."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run_of(seed: int, found: list[Finding]) -> Run:
    return Run(seed, found, [f"what seed {seed} did"], steps=1, seconds=1.0, faults=0)


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
    run = simulated("--seeds", "4", "--fault", "double-hold")
    assert run.returncode == 1, run.stdout[-5_000:] + run.stderr
    histories, end = re.split(r"^4 seeds, .* failed\n", run.stdout, flags=re.MULTILINE)
    commands = re.findall(r"again: python -m tests.simulation (--seed .*)", end)
    assert commands == re.findall(r"again: python -m tests.simulation (--seed .*)", histories)
    again = simulated(*commands[0].split())
    assert again.returncode == 1
    assert "oversold: refbus.main.ledger/" in again.stdout
    assert histories.startswith(again.stdout)


def test_a_seed_that_fails_is_told_before_the_next_one_is_through(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def runs(_: object, wanted: Iterable[tuple[int, str | None]], *__: object) -> Iterator[Run]:
        for seed, _fault in wanted:
            found = [Finding("oversold", "a place")] if seed in (4, 6) else []
            yield run_of(seed, found)
            said.append(capsys.readouterr().out)

    monkeypatch.setattr(campaign, "_runs", runs)
    assert campaign.many(range(3, 8), None, jobs=1) == 1
    end = capsys.readouterr().out
    assert [("what seed" in words, "--seed" in words) for words in said] == [
        (seed in (4, 6), seed in (4, 6)) for seed in range(3, 8)
    ]
    assert "what seed" not in end
    assert re.findall(r"again: .* --seed (\d+)", end) == ["4", "6"]


def test_each_known_fault_is_found() -> None:
    run = simulated("--faults", "--known")
    assert run.returncode == 0, run.stdout + run.stderr
    assert seeds_in(run.stdout).keys() == FAULTS.keys()


def test_where_a_fault_is_found_by_another_seed_that_is_said_and_the_table_made_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z-]+)` \| .* \| (\d+) \| (.*) \|$", page, re.MULTILINE)
    runs = {
        name: run_of(int(seed), [Finding(kind, "there") for kind in kinds.split(", ")])
        for name, seed, kinds in rows
    }
    old = tmp_path / "old.md"
    old.write_text(re.sub(r"(\| `double-hold` .*) \| \d+ \|", r"\1 | 77 |", page), encoding="utf-8")
    monkeypatch.setattr(campaign, "PAGE", old)
    monkeypatch.setattr(campaign, "_pool", ThreadPoolExecutor)
    monkeypatch.setattr(campaign, "one", lambda seed, fault: runs[fault])
    said = f"double-hold: found by seed {runs['double-hold'].seed}, old.md has 77\n"

    assert campaign.table(1, known=True) == 0
    assert capsys.readouterr().out.endswith(f"found by another seed than old.md has: 1\n{said}")
    assert seeds_in(old.read_text(encoding="utf-8"))["double-hold"] == 77
    assert campaign.table(1, known=False) == 0
    assert said in capsys.readouterr().out
    assert old.read_text(encoding="utf-8") == page

    monkeypatch.setattr(campaign, "one", lambda seed, fault: run_of(seed, []))
    assert campaign.table(1, known=False) == 1
    assert old.read_text(encoding="utf-8") == page


def test_the_table_names_each_known_fault_and_the_rule_it_undoes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert seeds_in(text).keys() == FAULTS.keys()
    for fault in FAULTS.values():
        assert f"| `{fault.name}` | {fault.rule} |" in text


def test_the_rules_of_the_worker_name_each_fault_that_undoes_one() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rules = text.split("### The rules of the worker, and what undoes each")[1].split("\n\n")[1]
    named = set(re.findall(r"`([a-z-]+)`", rules))
    of_the_worker = {
        fault.name for fault in FAULTS.values() if fault.undone.__module__ == worker_faults.__name__
    }
    assert of_the_worker <= named <= FAULTS.keys()
