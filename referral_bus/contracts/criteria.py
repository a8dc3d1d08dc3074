"""Who a service is for, as data: criteria, and their combination by all, any and not.

A criterion tests one kind of fact. An expression is a list in postfix order (what is combined comes before what combines it), so that
it has a plain Avro form and can't refer to itself. Each criterion is yes, no or unknown of a person, and they combine as Kleene's
three-valued logic has it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, model_validator

from referral_bus.contracts.message import Code, Part

Trait = Literal[
    "active_duty",
    "benefit_recipient",
    "cannot_pay",
    "caregiver",
    "chronic_illness",
    "criminal_record",
    "developmental_disability",
    "disability",
    "disaster_survivor",
    "domestic_violence_survivor",
    "employed",
    "family",
    "father",
    "foster_youth",
    "hearing_impairment",
    "home_owner",
    "homeless",
    "hospitalized",
    "human_trafficking_survivor",
    "immigrant",
    "in_crisis",
    "in_danger",
    "intellectual_disability",
    "learning_disability",
    "lgbtq",
    "limited_english",
    "limited_mobility",
    "low_income",
    "man",
    "mental_illness",
    "mother",
    "national_guard",
    "near_homeless",
    "parent",
    "physical_disability",
    "pregnant",
    "refugee",
    "renter",
    "retired",
    "runaway",
    "sexual_assault_survivor",
    "single",
    "student",
    "substance_dependency",
    "transgender",
    "undocumented",
    "unemployed",
    "uninsured",
    "veteran",
    "visual_impairment",
    "woman",
]
"""What can be said of a person that services ask about. Race and ethnicity are not among them: the bus places nobody by these."""

Document = Literal[
    "birth_certificate",
    "discharge_papers",
    "immigration_papers",
    "insurance_card",
    "lease",
    "medical_referral",
    "other",
    "photo_id",
    "proof_of_address",
    "proof_of_benefits",
    "proof_of_disability",
    "proof_of_homelessness",
    "proof_of_income",
    "social_security_card",
    "utility_bill",
]
"""A paper that a service asks for. ``other``: one that has no word here, so nobody can be known to hold it."""

Answer = Literal["yes", "no", "unknown"]
"""What a person, or who speaks for them, answered. A question that was not asked has no answer at all."""

Kind = Literal["age", "area", "language", "household_size", "children", "income", "trait", "document"]
"""The kind of fact a criterion tests. ``income`` is the household's, in per cent of the poverty guideline for its size."""

NUMBERS: Final = frozenset({"age", "household_size", "children", "income"})
"""Kinds tested by a range; the others are tested by a list."""

MOST_NODES: Final = 64
DEEPEST: Final = 8


class Criterion(Part):
    """One test of one kind of fact: a whole number within a range, both ends included, or one of a list, of which one is enough."""

    kind: Kind
    minimum: Annotated[int, Field(ge=0, le=1000)] | None = None
    maximum: Annotated[int, Field(ge=0, le=1000)] | None = None
    one_of: Annotated[list[Code], Field(max_length=100)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.kind in NUMBERS:
            if self.one_of or (self.minimum is None and self.maximum is None):
                raise ValueError(f"{self.kind} is tested by minimum, maximum or both, and not by one_of")
            if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
                raise ValueError(
                    f"{self.kind}: minimum {self.minimum} is above maximum {self.maximum}, so nobody can meet it"
                )
            return self
        if self.minimum is not None or self.maximum is not None:
            raise ValueError(f"{self.kind} is tested by one_of, and not by minimum or maximum")
        if not self.one_of:
            raise ValueError(f"{self.kind}: one_of is empty, so nobody can meet it")
        words = {"trait": get_args(Trait), "document": get_args(Document)}.get(self.kind)
        if words is not None:
            strangers = [code for code in self.one_of if code not in words]
            if strangers:
                raise ValueError(f"{self.kind}: {strangers[0]!r} is not one of {', '.join(words)}")
        return self


class Node(Part):
    """A criterion (``test``), or what combines the ``of`` results before it: ``all``, ``any``, or ``not`` of just one."""

    op: Literal["test", "all", "any", "not"]
    of: Annotated[int, Field(ge=0, le=MOST_NODES)] = 0
    test: Criterion | None = None

    @model_validator(mode="after")
    def _takes_what_it_needs(self) -> Self:
        if (self.op == "test") != (self.test is not None):
            raise ValueError("a criterion is given if and only if the node is a test")
        if self.op == "test" and self.of != 0:
            raise ValueError("a test combines nothing: leave 'of' out")
        if self.op == "not" and self.of != 1:
            raise ValueError("'not' turns just one result: 'of' is 1")
        if self.op in ("all", "any") and self.of < 1:
            raise ValueError(f"{self.op!r} combines at least one result: an empty one says nothing")
        return self


class Expression(Part):
    """Criteria combined, in postfix order: ``[adult, pregnant, any of 2]`` is met by adults and by pregnant minors."""

    nodes: Annotated[list[Node], Field(min_length=1, max_length=MOST_NODES)]

    @model_validator(mode="after")
    def _comes_to_one_result(self) -> Self:
        depths: list[int] = []
        for at, node in enumerate(self.nodes):
            if node.of > len(depths):
                raise ValueError(
                    f"node {at} ({node.op}) combines {node.of} results, but there are {len(depths)} before it"
                )
            below = depths[len(depths) - node.of :]
            del depths[len(depths) - node.of :]
            depths.append(1 + max(below, default=0))
            if depths[-1] > DEEPEST:
                raise ValueError(f"node {at} is nested {depths[-1]} deep; {DEEPEST} is the most")
        if len(depths) != 1:
            raise ValueError(f"the nodes come to {len(depths)} results instead of one: combine them")
        return self


class Eligibility(Part):
    """Who a service is for, at three levels. The narrower wins: a part of a wider level is passed over where a narrower level says
    anything of a kind of fact that this part tests.

    The parts of a level are what its outermost ``all`` combines, or else the whole of it. The service's own level includes its ages,
    areas, languages and documents.
    """

    service: Expression | None = None
    program: Expression | None = None
    organisation: Expression | None = None


def holds(criterion: Criterion) -> Expression:
    """The expression of one criterion."""
    return Expression(nodes=[Node(op="test", test=criterion)])
