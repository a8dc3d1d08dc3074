"""The Open Eligibility terms that needs are named by: codes, names and parents only (their licence stands in the data file), and how
needs coded by the Gravity Project or by HUD's project types are read in them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from referral_bus.contracts.criteria import Trait
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy, TaxonomyTerm, TermMapping

OPEN_ELIGIBILITY = "openeligibility"
"""The bus's name of the vocabulary, as in ``Need.vocabulary``."""

GRAVITY = "gravity"
"""The bus's name of the vocabulary of the Gravity Project's domains of social need."""

HUD = "hud"
"""The bus's name of the vocabulary of HUD's project types (HMIS Data Standards, element 2.02.6), by their numbers."""

_READ_IN_IT: Final = {
    GRAVITY: "codes of the HL7 SDOH Clinical Care guide (Gravity Project)",
    HUD: "project types of HUD's HMIS Data Standards (public domain)",
}
"""The vocabularies that a shipped crosswalk leads from, and what their codes are."""

_FIRST_SITUATION: Final = 20_000
"""From this code on, a term is a human situation and not a kind of help."""

_TRAITS: Final[dict[str, Trait]] = {
    "20008": "active_duty",
    "20009": "national_guard",
    "20010": "veteran",
    "20012": "immigrant",
    "20013": "refugee",
    "20014": "undocumented",
    "20016": "criminal_record",
    "20017": "disability",
    "20018": "learning_disability",
    "20019": "developmental_disability",
    "20020": "physical_disability",
    "20022": "limited_mobility",
    "20023": "hearing_impairment",
    "20024": "visual_impairment",
    "20025": "mental_illness",
    "20028": "student",
    "20032": "employed",
    "20033": "retired",
    "20034": "unemployed",
    "20036": "woman",
    "20037": "man",
    "20038": "transgender",
    "20040": "foster_youth",
    "20042": "hospitalized",
    "20043": "pregnant",
    "20050": "substance_dependency",
    "20051": "mental_illness",
    "20053": "single",
    "20054": "family",
    "20056": "home_owner",
    "20057": "renter",
    "20058": "homeless",
    "20059": "near_homeless",
    "20060": "runaway",
    "20062": "benefit_recipient",
    "20063": "low_income",
    "20065": "uninsured",
    "20067": "limited_english",
    "20073": "caregiver",
    "20074": "father",
    "20075": "mother",
    "20076": "parent",
    "20078": "lgbtq",
    "20083": "domestic_violence_survivor",
    "20084": "human_trafficking_survivor",
    "20085": "disaster_survivor",
    "20086": "sexual_assault_survivor",
    "20088": "in_crisis",
    "20089": "in_danger",
    "20090": "chronic_illness",
    "20093": "intellectual_disability",
}


@dataclass(frozen=True, slots=True)
class Term:
    """One kind of help or of person. ``parent`` is the code of the wider term, ``None`` at the top."""

    code: str
    name: str
    parent: str | None


@cache
def terms() -> Mapping[str, Term]:
    """All terms by their code."""
    rows = _data("open_eligibility.csv")
    return {row["code"]: Term(row["code"], row["name"], row["parent"] or None) for row in rows}


@cache
def codes_by_name() -> Mapping[str, str]:
    """Codes by the term's name in lower case, for names that only one term has: many names stand in several
    places of the tree."""
    found: dict[str, set[str]] = {}
    for term in terms().values():
        found.setdefault(term.name.casefold(), set()).add(term.code)
    return {name: codes.pop() for name, codes in found.items() if len(codes) == 1}


@cache
def categories() -> Mapping[tuple[str, str], str]:
    """The widest kind of help that each code is of, by vocabulary and code, in lower case: there are eleven. What a crosswalk leads from is
    of the kind that most surely meets it; a human situation is of none."""
    found: dict[tuple[str, str], str] = {}
    for code, term in terms().items():
        widest = term
        while widest.parent is not None:
            widest = terms()[widest.parent]
        if int(widest.code) < _FIRST_SITUATION:
            found[OPEN_ELIGIBILITY, code] = widest.name.lower()
    for crosswalk in crosswalks():
        for mapping in sorted(crosswalk.mappings, key=lambda one: one.confidence):
            if (OPEN_ELIGIBILITY, mapping.target) in found:
                found[crosswalk.source, mapping.source] = found[OPEN_ELIGIBILITY, mapping.target]
    return found


def trait_of(code: str) -> Trait | None:
    """What a human situation of Open Eligibility says of a person; None for a kind of help, and for what the bus places nobody by."""
    return _TRAITS.get(code)


def open_eligibility() -> Taxonomy:
    """Open Eligibility as a region adopts it. Terms of one name mean the same: its tree tells many kinds of help in several places."""
    first: dict[tuple[str, bool], str] = {}
    found: list[TaxonomyTerm] = []
    for term in terms().values():
        same = first.setdefault((term.name.casefold(), int(term.code) >= _FIRST_SITUATION), term.code)
        found.append(
            TaxonomyTerm(
                code=term.code,
                parent=term.parent,
                same_as=same if same != term.code else None,
                name=term.name,
            )
        )
    return Taxonomy(
        taxonomy=OPEN_ELIGIBILITY,
        version=1,
        attribution="Open Eligibility (http://openeligibility.org) by Aunt Bertha, Inc., CC BY-SA 3.0; codes, names and parents only",
        terms=found,
    )


@cache
def crosswalks() -> tuple[Crosswalk, ...]:
    """How needs coded in other vocabularies are met by services coded in Open Eligibility: examples of the bus's own."""
    return tuple(
        Crosswalk(
            crosswalk=f"{source}-{OPEN_ELIGIBILITY}",
            version=1,
            source=source,
            target=OPEN_ELIGIBILITY,
            attribution=(
                f"The referral bus's own judgement, an example; of {codes} and Open Eligibility (Aunt Bertha, Inc., CC BY-SA 3.0)"
            ),
            mappings=[TermMapping.model_validate(row) for row in _data(f"{source}_open_eligibility.csv")],
        )
        for source, codes in _READ_IN_IT.items()
    )


def _data(file: str) -> list[dict[str, str]]:
    """The rows of a data file, whose comments say whose it is."""
    text = files("referral_bus.directory").joinpath(file).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
