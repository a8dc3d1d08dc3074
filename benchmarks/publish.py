"""``python -m benchmarks.publish``: write docs/reference/figures.md from the JSON of the last runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.__main__ import FIGURES
from benchmarks.report import HEADINGS, RESULTS, Measure, rows_of

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "reference" / "figures.md"

_BEGINNING: Final = """\
# Figures

Made by `make bench` and written by `python -m benchmarks.publish`: don't edit. Each figure stands beside a peer that was measured in the
same run, on the same broker and the same cores, in turn with ours. **A figure is the ratio beside its peer, or a count**: the absolute
numbers are those of one small machine with everything on it, the broker and the database too, and of what else ran there at the time
(the load average before the run is given with each).

"Beside ours" is the peer's median as a part of ours. What a peer does less than the bus is said below its table; none does the whole job.
"""


def page(documents: list[dict[str, Any]]) -> str:
    """The page of these figures, in their order."""
    return _BEGINNING + "".join(_section(document) for document in documents)


def _section(document: dict[str, Any]) -> str:
    machine = document["machine"]
    lines = [
        f"\n## {document['title']}\n",
        f"{document['setting']}. Taken {document['taken_at'][:10]} on {machine['cpus']} cores ({machine['architecture']}), "
        f"Python {machine['python']}, load average before: {machine['load_before']:.1f}.\n",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|---|" + "---:|" * (len(HEADINGS) - 2),
    ]
    for given in document["measures"]:
        values = given.pop("values")
        lines += ["| " + " | ".join(row) + " |" for row in rows_of(Measure(**given), values)]
    lines.append("")
    lines += [f"- *{name}*: {does}" for name, does in document["contenders"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    found = [RESULTS / f"{name}.json" for name in FIGURES]
    PAGE.write_text(
        page([json.loads(path.read_text(encoding="utf-8")) for path in found if path.exists()]),
        encoding="utf-8",
    )
