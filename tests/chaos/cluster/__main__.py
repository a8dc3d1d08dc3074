"""``python -m tests.chaos.cluster``: ``run`` strikes at a cluster and checks the outcome, ``check FILE`` checks a kept history again."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.chaos.cluster.checker import check
from tests.chaos.cluster.faults import ROUND
from tests.chaos.cluster.network import why_no_namespaces
from tests.chaos.cluster.run import Order, run

_PACE: Final = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__)
    doing = parser.add_subparsers(dest="doing", required=True)
    running = doing.add_parser("run", help="strike at a cluster of its own, and check what came of it")
    running.add_argument(
        "--faults", type=int, default=ROUND, help="how many (%(default)s: a round, with each of them)"
    )
    running.add_argument("--seed", default="1", help="decides which, whom and how long (%(default)s)")
    running.add_argument(
        "--pace", type=float, default=_PACE, help="referrals a second of each client (%(default)s)"
    )
    running.add_argument("--only", help="only faults of this kind, 'paused' or 'paused kafka'")
    running.add_argument(
        "--keep", type=Path, default=Path("chaos.jsonl"), help="where the history goes (%(default)s)"
    )
    running.add_argument(
        "--home", type=Path, help="an empty folder for data and logs (a new one in the temporary folder)"
    )
    running.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    checking = doing.add_parser("check", help="check a kept history again")
    checking.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.doing == "check":
        return check(given.file)
    why_not = None if given.inside else why_no_namespaces()
    if not given.inside and why_not is None:
        # The namespaces, the mounts and whatever lives in them go with the last process of this one.
        words = [sys.executable, "-m", "tests.chaos.cluster", *sys.argv[1:], "--inside"]
        os.execvp("unshare", ["unshare", "--net", "--mount", "--propagation", "private", *words])  # noqa: S606
    home = given.home or Path(tempfile.mkdtemp(prefix="refbus-chaos-"))
    home.mkdir(parents=True, exist_ok=True)
    keep = given.keep.absolute()
    if keep.suffix == ".gz":  # it is packed in the end
        keep = keep.with_suffix("")
    order = Order(given.faults, given.seed, given.pace, given.only, home, keep, given.inside, why_not)
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {words}", flush=True)

    kept = asyncio.run(run(order, say))
    return check(kept)


if __name__ == "__main__":
    sys.exit(main())
