"""The catalogue: what alerts ask for is there from the start."""

from __future__ import annotations

import json
import subprocess
import sys

from referral_bus.runtime.resending import MEANINGS

_AT_THE_START = """
import json
from prometheus_client import REGISTRY
from referral_bus.runtime import metrics
[family] = [one for one in REGISTRY.collect() if one.name == "refbus_dead_letters"]
print(json.dumps({s.labels["reason"]: s.value for s in family.samples if s.name.endswith("_total")}))
"""


def test_the_first_dead_letter_of_any_reason_is_an_increase() -> None:
    """In a process of its own: other tests have put letters by in this one."""
    done = subprocess.run([sys.executable, "-c", _AT_THE_START], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == dict.fromkeys(MEANINGS, 0.0)
