"""Processes under measurement: what they use of the machine, and what they say at their end. Linux: it reads ``/proc``."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from referral_bus.embedded.process import ChildProcess
from referral_bus.runtime.service import COLLECTING

_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """CPU seconds since the start, and resident memory now and at its most, in MB (10^6 bytes)."""

    cpu: float
    rss: float
    peak: float


def usage_of(pid: int) -> Usage:
    """What a running process used so far, all its threads together."""
    # The second field is the program's name in brackets, and may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    memory = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
    return Usage(
        (int(fields[11]) + int(fields[12])) / _TICKS,
        int(memory["VmRSS"]) * 1024 / 1e6,
        int(memory["VmHWM"]) * 1024 / 1e6,
    )


def collect_as_services_do() -> None:
    """Look for garbage as seldom as the bus's services do: every peer gets the setting that helped ours."""
    gc.set_threshold(*COLLECTING)


def own_cpu() -> float:
    """CPU seconds this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Program(ChildProcess):
    """A child process that is measured from outside while it runs, or says its own measures in its last line."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        super().__init__(name, command, environment, log)

    def usage(self) -> Usage:
        """Raises EmbeddedError with its last words where it has ended."""
        if not self.running:
            raise self.failed()
        return usage_of(self.pid)

    async def result(self) -> dict[str, Any]:
        """Wait for its end, and return the JSON of its last line. Raises EmbeddedError where it failed."""
        if await self.wait() != 0:
            raise self.failed()
        lines = self.log.read_text(encoding="utf-8").splitlines()
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def tell(**measures: float) -> None:
    """The last line of a program that measures itself; its memory (MB) is added."""
    used = usage_of(os.getpid())
    print(json.dumps({**measures, "rss": used.rss, "peak": used.peak}), flush=True)


def family_cpu(pid: int) -> float:
    """CPU seconds of a process, of its children that run, and of those it has waited for."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while this was looking
        if int(stat.parent.name) == pid:
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            total += sum(map(int, fields[11:13]))
    return total / _TICKS
