"""The catalogue: what alerts ask for is there from the start, and nothing is counted that nobody is pointed to."""

from __future__ import annotations

import json
import subprocess
import sys

from referral_bus.runtime.resending import MEANINGS
from tests.support.operations import ROOT, catalogue, metrics_in

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


def test_every_metric_is_named_where_operators_look() -> None:
    pages = [*ROOT.glob("deploy/**/*.json"), *ROOT.glob("deploy/**/*.yml"), *ROOT.glob("docs/**/*.md")]
    named = {name for page in pages for name in metrics_in(page.read_text(encoding="utf-8"))}
    assert {metric for metric, names in catalogue().items() if named.isdisjoint(names | {metric})} == set()
