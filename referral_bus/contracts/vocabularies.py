"""Vocabularies of needs, and how one is read in another. Reference data: published once, adopted by each region."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from referral_bus.contracts.message import Code, Message, Part, Text
from referral_bus.contracts.reference import Version

SURE: Final = 1000
"""The confidence of what is beyond doubt; confidences are thousandths."""

DEEPEST: Final = 16
"""Levels a vocabulary may have."""

Confidence = Annotated[int, Field(ge=1, le=SURE)]


class TaxonomyTerm(Part):
    """A term: its code, the code of the wider term, and of another term that means the same, where a tree tells one thing in several
    places."""

    code: Code
    parent: Code | None = None
    same_as: Code | None = None
    name: Text | None = None


class Taxonomy(Message):
    """A vocabulary of needs with its hierarchy. A need coded by a term is met by a service coded by that term or by a narrower one."""

    folder = "reference"

    taxonomy: Code
    """The vocabulary's name, as in ``Need.vocabulary``."""
    version: Version = 1
    attribution: Text | None = None
    """Whose it is and under which licence it is carried."""
    terms: Annotated[list[TaxonomyTerm], Field(min_length=1, max_length=20_000)]
    """So many where they are short: no region can take a vocabulary that is larger than what fits on its ledger (``LARGEST_CONTENT``)."""

    @model_validator(mode="after")
    def _is_a_tree(self) -> Self:
        parents = {term.code: term.parent for term in self.terms}
        if len(parents) < len(self.terms):
            raise ValueError("a code stands twice in the taxonomy")
        for term in self.terms:
            for named in (term.parent, term.same_as):
                if named is not None and named not in parents:
                    raise ValueError(f"term {term.code!r} names {named!r}, which is not in the taxonomy")
        depths: dict[str, int] = {}
        for code in parents:
            way: list[str] = []
            at: str | None = code
            while at is not None and at not in depths:
                way.append(at)
                if len(way) > DEEPEST:
                    raise ValueError(
                        f"above term {code!r} are more than {DEEPEST} levels: do its parents go round in a circle?"
                    )
                at = parents[at]
            above = 0 if at is None else depths[at]
            for one in reversed(way):
                above += 1
                depths[one] = above
            if above > DEEPEST:
                raise ValueError(f"term {code!r} is {above} levels deep; {DEEPEST} is the most")
        return self


class TermMapping(Part):
    """A service coded ``target`` meets a need coded ``source``, as surely as ``confidence`` says in thousandths. ``equal`` reads the other
    way as well."""

    source: Code
    target: Code
    relation: Literal["equal", "narrower", "broader", "related"]
    """What the target is to the source."""
    confidence: Confidence


class Crosswalk(Message):
    """How needs coded in one vocabulary are met by services coded in another."""

    folder = "reference"

    crosswalk: Code
    version: Version = 1
    source: Code
    target: Code
    attribution: Text | None = None
    """Who made it, of what, and under which licence."""
    mappings: Annotated[list[TermMapping], Field(min_length=1, max_length=20_000)]
    """As with the terms of a taxonomy, so many only where they are short."""

    @model_validator(mode="after")
    def _maps_each_pair_once(self) -> Self:
        if self.source == self.target:
            raise ValueError("a crosswalk leads from one vocabulary to another")
        if len({(mapping.source, mapping.target) for mapping in self.mappings}) < len(self.mappings):
            raise ValueError("a pair of codes is mapped twice")
        return self
