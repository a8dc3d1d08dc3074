"""Many runs, in processes beside each other, and the search for each known fault."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from tests.simulation.awaits import Awaits
from tests.simulation.checker import Finding, kinds
from tests.simulation.doors import app
from tests.simulation.faults import FAULTS, Fault, put_back
from tests.simulation.progress import Progress
from tests.simulation.raised import told_of
from tests.simulation.simulate import Run, simulate
from tests.simulation.world import codec

SEARCH: Final = 100
"""Seeds in which a known fault has to be found."""
PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "simulation.md"
"""It has the table of known faults."""
_HEAD: Final = "| fault | rule it undoes | found by seed | as |\n|---|---|---|---|\n"
_ROW: Final = re.compile(r"^\| `([a-z-]+)` \|.*\| (\d+) \|[^|]*\|$", re.MULTILINE)


def one(seed: int, fault: str | None) -> Run:
    """Run a seed, perhaps with a known fault put back."""
    with put_back(fault):
        run = simulate(seed)
    gc.collect()
    return run


def tell(run: Run, fault: str | None) -> int:
    """Print a run's history, what is wrong, and how to run it again; returns the exit code."""
    print("\n".join(run.history))
    steps = f"{run.seconds:.0f} s simulated in {run.steps} steps, {run.faults} faults"
    print(f"seed {run.seed}, history {run.digest}, {steps}")
    for wrong in run.found:
        print(f"  {wrong.kind}: {wrong.what}")
    print(f"{'something' if run.found else 'nothing'} is wrong; again: {_again(run, fault)}", flush=True)
    return 1 if run.found else 0


def _again(run: Run, fault: str | None) -> str:
    return f"python -m tests.simulation --seed {run.seed}" + (f" --fault {fault}" if fault else "")


def many(seeds: range, fault: str | None, jobs: int) -> int:
    """Run the seeds and print how it goes: the history of one that fails at once, and at the end which did. Returns the exit code."""
    failed: list[Run] = []
    done = faults = steps = 0
    progress = Progress()

    def say() -> None:
        progress.say(
            lambda: f"{done} of {len(seeds)} seeds, {len(failed)} failed, {progress.pace(done, len(seeds))}"
        )

    with _pool(jobs) as pool:
        for run in _runs(pool, ((seed, fault) for seed in seeds), jobs, progress.every, say):
            done, faults, steps = done + 1, faults + run.faults, steps + run.steps
            if run.found:
                failed.append(run)
                progress.clear()
                tell(run, fault)
            say()
    progress.clear()
    print(f"{len(seeds)} seeds, {faults} faults, {steps} steps: {len(failed)} failed")
    for run in failed:
        print(f"seed {run.seed}: {kinds(run.found)}; again: {_again(run, fault)}")
    return 1 if failed else 0


def everywhere(seeds: range) -> int:
    """Run the seeds one after the other, and kill a process wherever one waits for the first time. Prints where, and where one fails its
    history; returns the exit code."""
    awaits, progress = Awaits(), Progress()
    for done, seed in enumerate(seeds):
        progress.say(lambda done=done: f"{done} of {len(seeds)} seeds, {len(awaits.struck)} awaits struck")
        run = simulate(seed, awaits)
        gc.collect()
        if run.found:
            progress.clear()
            print("\n".join(run.history))
            print(f"seed {seed}: {', '.join(f'{wrong.kind}: {wrong.what}' for wrong in run.found)}")
            return 1
    progress.clear()
    for at in sorted(awaits.struck):
        print(f"{at.file}:{at.line}")
    print(f"{len(seeds)} seeds, {len(awaits.struck)} awaits, a crash at each: nothing is wrong")
    return 0


def table(jobs: int, *, known: bool) -> int:
    """Look for each known fault, print what found it, and say where the page has another seed. The table in the page is made anew; with
    ``known`` the seeds it names are tried first, and it stays. Returns the exit code."""
    page = PAGE.read_text(encoding="utf-8")
    before = seeds_in(page)
    rows: list[str] = []
    moved: list[str] = []
    missed = 0
    progress = Progress()
    print(_HEAD, end="", flush=True)
    with _pool(jobs) as pool:
        as_said = _found_as_said(pool, before, jobs, progress) if known else {}
        for number, fault in enumerate(FAULTS.values(), 1):
            found = as_said.get(fault.name) or _first(pool, fault, jobs, number, progress)
            if found is None:
                missed += 1
            elif found.seed != before.get(fault.name):
                said = before.get(fault.name, "none")
                moved.append(f"{fault.name}: found by seed {found.seed}, {PAGE.name} has {said}")
            row = ("-", "-") if found is None else (str(found.seed), kinds(found.found))
            rows.append(f"| `{fault.name}` | {fault.rule} | {row[0]} | {row[1]} |\n")
            progress.clear()
            print(rows[-1], end="", flush=True)
    print("\n".join([f"found by another seed than {PAGE.name} has: {len(moved)}", *moved]))
    if missed:
        return 1
    if not known:
        PAGE.write_text(_with_rows(page, rows), encoding="utf-8")
    return 0


def _with_rows(page: str, rows: Iterable[str]) -> str:
    """The page with these in its table."""
    before, table = page.split(_HEAD)
    return before + _HEAD + "".join(rows) + table[table.index("\n\n") + 1 :]


def _found_as_said(
    pool: ProcessPoolExecutor, before: Mapping[str, int], jobs: int, progress: Progress
) -> Mapping[str, Run]:
    """The runs of the faults that the seed which found them before finds again. All of them beside each other: looking for one
    fault at a time, the other processes would run seeds that nobody needs."""
    faults = [fault for fault in FAULTS.values() if fault.name in before]
    found: dict[str, Run] = {}
    tried = 0

    def say() -> None:
        progress.say(
            lambda: f"{tried} of {len(faults)} faults put back, {len(found)} found as {PAGE.name} says"
        )

    again = ((before[fault.name], fault.name) for fault in faults)
    for fault, run in zip(faults, _runs(pool, again, jobs, progress.every, say), strict=True):
        tried += 1
        if _shows(run, fault):
            found[fault.name] = run
        say()
    return found


def _first(pool: ProcessPoolExecutor, fault: Fault, jobs: int, number: int, progress: Progress) -> Run | None:
    """The first run that finds the fault."""
    tried = 0

    def say() -> None:
        progress.say(
            lambda: f"fault {number} of {len(FAULTS)}, {fault.name}: not found by {tried} of {SEARCH} seeds"
        )

    seeds = ((seed, fault.name) for seed in range(1, SEARCH + 1))
    for run in _runs(pool, seeds, jobs, progress.every, say):
        if _shows(run, fault):
            return run
        tried += 1
        say()
    return None


def _shows(run: Run, fault: Fault) -> bool:
    return bool(fault.shows & {wrong.kind for wrong in run.found})


def seeds_in(text: str) -> Mapping[str, int]:
    """The seed that found each fault, from such a table."""
    return {name: int(seed) for name, seed in _ROW.findall(text)}


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ready)


def _ready() -> None:
    codec()
    app()
    gc.freeze()


def _runs(
    pool: ProcessPoolExecutor,
    wanted: Iterable[tuple[int, str | None]],
    jobs: int,
    every: float,
    waiting: Callable[[], None],
) -> Iterator[Run]:
    """Of these seeds, each with its fault: in their order, and not many more than are asked for. ``waiting`` is called while none comes
    for ``every`` seconds."""
    left = iter(wanted)

    def begun(most: int) -> list[tuple[int, Future[Run]]]:
        return [(seed, pool.submit(one, seed, fault)) for seed, fault in islice(left, most)]

    running = begun(jobs)
    try:
        while running:
            seed, first = running[0]
            if not wait([first], every).done:
                waiting()
                continue
            try:
                run = first.result()
            except BrokenExecutor:
                raise
            except Exception as error:
                # Not even of the seed itself, which would have told it, but of what is around it.
                run = Run(seed, [Finding("failed", told_of(error))], [], steps=0, seconds=0.0, faults=0)
            running = running[1:] + begun(1)
            yield run
    except BrokenExecutor as error:
        # A process died, and its pool with it: nobody knows at which of these.
        left_behind = ", ".join(str(seed) for seed, ran in running if not ran.done() or ran.exception())
        error.add_note(f"It ran one of the seeds {left_behind}.")
        raise
