"""The Open Eligibility terms that needs are named by: codes and names only (their licence stands in the data
file)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

OPEN_ELIGIBILITY = "openeligibility"
"""The bus's name of the vocabulary, as in ``Need.vocabulary``."""


@dataclass(frozen=True, slots=True)
class Term:
    """One kind of help or of person. ``parent`` is the code of the wider term, ``None`` at the top."""

    code: str
    name: str
    parent: str | None


@cache
def terms() -> Mapping[str, Term]:
    """All terms by their code."""
    text = files("referral_bus.directory").joinpath("open_eligibility.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {row["code"]: Term(row["code"], row["name"], row["parent"] or None) for row in rows}


@cache
def codes_by_name() -> Mapping[str, str]:
    """Codes by the term's name in lower case, for names that only one term has: many names stand in several
    places of the tree."""
    found: dict[str, set[str]] = {}
    for term in terms().values():
        found.setdefault(term.name.casefold(), set()).add(term.code)
    return {name: codes.pop() for name, codes in found.items() if len(codes) == 1}
