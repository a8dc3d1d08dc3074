"""Many runs, in processes beside each other, and the table of the known faults."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from tests.simulation.checker import kinds
from tests.simulation.faults import FAULTS, put_back
from tests.simulation.simulate import Run, simulate
from tests.simulation.world import codec

SEARCH: Final = 60
"""Seeds in which a known fault has to be found."""


def one(what: tuple[int, str | None]) -> Run:
    seed, fault = what
    with put_back(fault):
        run = simulate(seed)
    gc.collect()
    return run


def _ready() -> None:
    codec()
    gc.freeze()


def runs(seeds: Iterable[int], fault: str | None, jobs: int) -> Iterator[Run]:
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ready)
    try:
        yield from pool.map(one, [(seed, fault) for seed in seeds])
    finally:
        pool.shutdown(cancel_futures=True)


def many(seeds: range, fault: str | None, jobs: int) -> int:
    failed: list[Run] = []
    faults = steps = 0
    for done, run in enumerate(runs(seeds, fault, jobs), 1):
        faults, steps = faults + run.faults, steps + run.steps
        if run.found:
            failed.append(run)
            print(f"\rseed {run.seed}: {kinds(run.found)}", flush=True)
        if done % 10 == 0 or done == len(seeds):
            end = "\n" if done == len(seeds) else ""
            print(f"\r{done} of {len(seeds)} seeds, {len(failed)} failed", end=end, flush=True)
    print(f"{len(seeds)} seeds, {faults} faults, {steps} steps: {len(failed)} failed")
    if failed:
        tell(failed[0], fault)
    return 1 if failed else 0


def tell(run: Run, fault: str | None) -> int:
    print("\n".join(run.history))
    print(f"seed {run.seed}, history {run.digest}, {run.seconds:.0f} s simulated, {run.steps} steps, {run.faults} faults")
    for one in run.found:
        print(f"  {one.kind}: {one.what}")
    again = f"python -m tests.simulation --seed {run.seed}" + (f" --fault {fault}" if fault else "")
    print(f"{'nothing is wrong' if not run.found else 'again'}: {again}")
    return 1 if run.found else 0


def table(jobs: int) -> int:
    missed = 0
    print("| rule undone | put back as | found by seed | after seeds | as |\n|---|---|---|---|---|")
    for fault in FAULTS.values():
        looking = runs(range(1, SEARCH + 1), fault.name, jobs)
        found = next((run for run in looking if fault.shows & {one.kind for one in run.found}), None)
        looking.close()  # type: ignore[attr-defined]
        missed += found is None
        seed = "-" if found is None else str(found.seed)
        shown = "-" if found is None else kinds(found.found)
        print(f"| {fault.rule} | `{fault.name}` | {seed} | {seed} | {shown} |", flush=True)
    return 1 if missed else 0
