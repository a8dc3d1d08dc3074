"""The sealed sections of a referral: what concerns a person.

``Facts`` is what matching may know, ``Identity`` who it is. They are Avro records of their own, so that what is sealed can evolve
under the same compatibility rules as everything else. Free text can name anyone, so it is identity.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from referral_bus.contracts.criteria import Answer, Document, Trait
from referral_bus.contracts.message import NO_NUL, Code, Message, Part
from referral_bus.contracts.places import Latitude, Longitude, Travel
from referral_bus.contracts.vocabulary import FactStatus

_Value = Annotated[str, Field(min_length=1, max_length=64, json_schema_extra=NO_NUL)]


class _Fact(Part):
    status: FactStatus = "not_said"

    def _stated(self) -> bool:
        raise NotImplementedError

    @model_validator(mode="after")
    def _value_belongs_to_stated(self) -> Self:
        if (self.status == "stated") != self._stated():
            raise ValueError("a value is given if and only if the status is 'stated'")
        return self


class NumberFact(_Fact):
    """A whole number, or why there is none."""

    value: Annotated[int, Field(ge=0, le=1000)] | None = None

    def _stated(self) -> bool:
        return self.value is not None


class TextFact(_Fact):
    """A code or name, or why there is none."""

    value: _Value | None = None

    def _stated(self) -> bool:
        return self.value is not None


class ListFact(_Fact):
    """One or more codes, or why there are none."""

    values: Annotated[list[_Value], Field(max_length=20)] = Field(default_factory=list)

    def _stated(self) -> bool:
        return bool(self.values)


class PlaceFact(_Fact):
    """Where the person is, or why that is not known."""

    latitude: Latitude | None = None
    longitude: Longitude | None = None

    def _stated(self) -> bool:
        return self.latitude is not None or self.longitude is not None

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("a place has a latitude and a longitude, or neither")
        return self


class TravelFact(_Fact):
    """How the person gets about, or why that is not known."""

    value: Travel | None = None

    def _stated(self) -> bool:
        return self.value is not None


class TraitAnswer(Part):
    """Whether a trait is the person's. A trait without an answer was not asked about."""

    trait: Trait
    answer: Answer


class DocumentAnswer(Part):
    """Whether the person holds a document. A document without an answer was not asked about."""

    document: Document
    answer: Answer


class Need(Part):
    """A kind of help, by its code in a vocabulary (``openeligibility`` unless said otherwise)."""

    vocabulary: Code = "openeligibility"
    code: Code


class Household(Part):
    """Who lives together: how many people, how many of them are children, and on what: their income in per cent of the poverty guideline
    for a household of this size."""

    size: NumberFact = NumberFact()
    children: NumberFact = NumberFact()
    income: NumberFact = NumberFact()


class Facts(Message):
    """What matching may know of a person. Age in whole years; languages as BCP 47 tags; area as the region names it."""

    folder = "sealed"

    age: NumberFact = NumberFact()
    languages: ListFact = ListFact()
    area: TextFact = TextFact()
    household: Household = Household()
    needs: Annotated[list[Need], Field(min_length=1, max_length=10)]
    place: PlaceFact = PlaceFact()
    travel: TravelFact = TravelFact()
    traits: Annotated[list[TraitAnswer], Field(max_length=60)] = Field(default_factory=list)
    documents: Annotated[list[DocumentAnswer], Field(max_length=20)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_answer_each(self) -> Self:
        if len({answer.trait for answer in self.traits}) < len(self.traits):
            raise ValueError("a trait is answered twice")
        if len({answer.document for answer in self.documents}) < len(self.documents):
            raise ValueError("a document is answered twice")
        return self


class Identity(Message):
    """Who a person is. Opened only for the agency that gave it and for a provider that has accepted."""

    folder = "sealed"

    name: Annotated[str, Field(min_length=1, max_length=200, json_schema_extra=NO_NUL)]
    phone: Annotated[str, Field(max_length=40, json_schema_extra=NO_NUL)] | None = None
    email: Annotated[str, Field(max_length=254, json_schema_extra=NO_NUL)] | None = None
    address: Annotated[str, Field(max_length=300, json_schema_extra=NO_NUL)] | None = None
    birth_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    note: Annotated[str, Field(max_length=4000, json_schema_extra=NO_NUL)] | None = None


class Note(Message):
    """Free text that comes with a report. Sealed like identity."""

    folder = "sealed"

    text: Annotated[str, Field(min_length=1, max_length=4000, json_schema_extra=NO_NUL)]
