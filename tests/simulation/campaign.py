"""Many runs, in processes beside each other, and the search for each known fault."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from tests.simulation.awaits import Awaits
from tests.simulation.checker import kinds
from tests.simulation.doors import app
from tests.simulation.faults import FAULTS, Fault, put_back
from tests.simulation.progress import Progress
from tests.simulation.simulate import Run, simulate
from tests.simulation.world import codec

SEARCH: Final = 100
"""Seeds in which a known fault has to be found."""
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
    again = f"python -m tests.simulation --seed {run.seed}" + (f" --fault {fault}" if fault else "")
    print(f"{'something' if run.found else 'nothing'} is wrong; again: {again}")
    return 1 if run.found else 0


def many(seeds: range, fault: str | None, jobs: int) -> int:
    """Run the seeds and print how it goes; where any fails, the history of the first. Returns the exit code."""
    failed: list[Run] = []
    done = faults = steps = 0
    progress = Progress()

    def say() -> None:
        progress.say(
            lambda: f"{done} of {len(seeds)} seeds, {len(failed)} failed, {progress.pace(done, len(seeds))}"
        )

    with _pool(jobs) as pool:
        for run in _runs(pool, seeds, fault, jobs, progress.every, say):
            done, faults, steps = done + 1, faults + run.faults, steps + run.steps
            if run.found:
                failed.append(run)
                progress.clear()
                print(f"seed {run.seed}: {kinds(run.found)}", flush=True)
            say()
    progress.clear()
    print(f"{len(seeds)} seeds, {faults} faults, {steps} steps: {len(failed)} failed")
    return tell(failed[0], fault) if failed else 0


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


def table(jobs: int, known: Path | None) -> int:
    """Look for each known fault and print what found it; the seeds that a table in ``known`` names are tried first. Returns the
    exit code."""
    found_before = {} if known is None else seeds_in(known.read_text(encoding="utf-8"))
    missed = 0
    progress = Progress()
    print("| fault | rule it undoes | found by seed | as |\n|---|---|---|---|", flush=True)
    with _pool(jobs) as pool:
        for number, fault in enumerate(FAULTS.values(), 1):
            found = _first(pool, fault, found_before.get(fault.name), jobs, number, progress)
            missed += found is None
            row = ("-", "-") if found is None else (str(found.seed), kinds(found.found))
            progress.clear()
            print(f"| `{fault.name}` | {fault.rule} | {row[0]} | {row[1]} |", flush=True)
    return 1 if missed else 0


def _first(
    pool: ProcessPoolExecutor, fault: Fault, before: int | None, jobs: int, number: int, progress: Progress
) -> Run | None:
    """The first run that finds the fault."""
    tried = 0

    def say() -> None:
        progress.say(
            lambda: f"fault {number} of {len(FAULTS)}, {fault.name}: not found by {tried} of {SEARCH} seeds"
        )

    first = [] if before is None else [before]
    for run in _runs(pool, [*first, *range(1, SEARCH + 1)], fault.name, jobs, progress.every, say):
        if fault.shows & {wrong.kind for wrong in run.found}:
            return run
        tried += 1
        say()
    return None


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
    seeds: Iterable[int],
    fault: str | None,
    jobs: int,
    every: float,
    waiting: Callable[[], None],
) -> Iterator[Run]:
    """In the order of the seeds, and not many more than are asked for. ``waiting`` is called while none comes for ``every`` seconds."""
    left = iter(seeds)
    running = [pool.submit(one, seed, fault) for seed in islice(left, jobs)]
    while running:
        if not wait(running[:1], every).done:
            waiting()
            continue
        run = running.pop(0).result()
        running += [pool.submit(one, seed, fault) for seed in islice(left, 1)]
        yield run
