"""``python -m tests.simulation``: run many seeds, or one with its history; with a known fault put back; look for each known fault; or kill
a process at every await."""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation.campaign import everywhere, many, one, table, tell
from tests.simulation.faults import FAULTS


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    asked.add_argument("--seed", type=int, help="run this one and print its history")
    asked.add_argument("--seeds", type=int, default=200, help="run so many")
    asked.add_argument("--first", type=int, default=1, help="the first of them")
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="so many processes at once")
    asked.add_argument(
        "--awaits", action="store_true", help="kill a process wherever one waits, one seed after the other"
    )
    asked.add_argument("--fault", choices=FAULTS, help="with this known fault put back")
    asked.add_argument(
        "--faults",
        action="store_true",
        help="look for each known fault, write the table in docs/reference/simulation.md anew and say what moved",
    )
    asked.add_argument(
        "--known",
        action="store_true",
        help="with --faults: try the seeds of that table first, and leave it as it is",
    )
    given = asked.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of names must not be another in each process.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606
    if given.seed is not None:
        return tell(one(given.seed, given.fault), given.fault)
    if given.faults:
        return table(given.jobs, known=given.known)
    seeds = range(given.first, given.first + given.seeds)
    if given.awaits:
        return everywhere(seeds)
    return many(seeds, given.fault, given.jobs)


if __name__ == "__main__":
    sys.exit(main())
