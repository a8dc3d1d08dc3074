"""``python -m tests.simulation``: run many seeds, or one with its history; with a known fault put back, or all of them for the table in the docs."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.checker import kinds
from tests.simulation.faults import FAULTS, put_back
from tests.simulation.simulate import Run, simulate
from tests.simulation.world import codec

SEARCH = 60
"""Seeds in which a known fault has to be found."""


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    asked.add_argument("--seed", type=int, help="run this one and print its history")
    asked.add_argument("--seeds", type=int, default=200, help="run so many")
    asked.add_argument("--first", type=int, default=1, help="the first of them")
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many processes at once")
    asked.add_argument("--fault", choices=FAULTS, help="with this known fault put back")
    asked.add_argument("--faults", action="store_true", help="look for each known fault; print the table")
    given = asked.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of names must not be another in each process.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    if given.seed is not None:
        return _tell(_one((given.seed, given.fault)), given.fault)
    if given.faults:
        return _table(given.jobs)
    return _many(range(given.first, given.first + given.seeds), given.fault, given.jobs)


def _one(what: tuple[int, str | None]) -> Run:
    seed, fault = what
    with put_back(fault):
        run = simulate(seed)
    gc.collect()
    return run


def _ready() -> None:
    codec()
    gc.freeze()


def _all(seeds: Iterable[int], fault: str | None, jobs: int) -> Iterator[Run]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ready) as pool:
        yield from pool.map(_one, ((seed, fault) for seed in seeds), chunksize=1)


def _many(seeds: range, fault: str | None, jobs: int) -> int:
    failed: list[Run] = []
    faults = steps = 0
    for done, run in enumerate(_all(seeds, fault, jobs), 1):
        faults, steps = faults + run.faults, steps + run.steps
        if run.found:
            failed.append(run)
            print(f"\rseed {run.seed}: {kinds(run.found)}", flush=True)
        if done % 10 == 0 or done == len(seeds):
            end = "\n" if done == len(seeds) else ""
            print(f"\r{done} of {len(seeds)} seeds, {len(failed)} failed", end=end, flush=True)
    print(f"{len(seeds)} seeds, {faults} faults, {steps} steps: {len(failed)} failed")
    if failed:
        _tell(failed[0], fault)
    return 1 if failed else 0


def _tell(run: Run, fault: str | None) -> int:
    print("\n".join(run.history))
    print(f"seed {run.seed}, history {run.digest}, {run.seconds:.0f} s simulated, {run.steps} steps, {run.faults} faults")
    for one in run.found:
        print(f"  {one.kind}: {one.what}")
    again = f"python -m tests.simulation --seed {run.seed}" + (f" --fault {fault}" if fault else "")
    print(f"{'nothing is wrong' if not run.found else 'again'}: {again}")
    return 1 if run.found else 0


def _table(jobs: int) -> int:
    missed = 0
    print("| rule undone | put back as | found by seed | after seeds | as |\n|---|---|---|---|---|")
    for fault in FAULTS.values():
        runs = _all(range(1, SEARCH + 1), fault.name, jobs)
        found = next((run for run in runs if fault.shows & {one.kind for one in run.found}), None)
        runs.close()  # type: ignore[attr-defined]
        missed += found is None
        seed = "-" if found is None else str(found.seed)
        shown = "-" if found is None else kinds(found.found)
        print(f"| {fault.rule} | `{fault.name}` | {seed} | {seed} | {shown} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
