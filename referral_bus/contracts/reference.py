"""Reference data: published once, versioned, adopted by each region through its inbox. ``decide`` reads nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from referral_bus.contracts.ids import OrganisationId, Region
from referral_bus.contracts.message import Code, Message, Millis, Part, Text
from referral_bus.contracts.vocabulary import DataClass, OrganisationKind, Purpose, Role

Version = Annotated[int, Field(ge=1, le=2_147_483_647)]
Criterion = Literal["need", "area", "age", "language", "capacity"]
RankBy = Literal["certainty", "needs_covered", "load", "freshness", "lottery"]


class Organisation(Message):
    """A party of the bus. ``encryption_key`` is a public JWK (JSON text): what goes to the organisation is sealed to it."""

    folder = "reference"

    organisation: OrganisationId
    version: Version = 1
    name: Text
    kind: OrganisationKind
    roles: Annotated[list[Role], Field(min_length=1, max_length=3)]
    home_region: Region
    encryption_key: Annotated[str, Field(max_length=4096)] | None = None


class Agreement(Message):
    """An MOU: under which ``recipient`` may be shown ``data_classes`` of referrals it takes part in, for ``purposes``."""

    folder = "reference"

    agreement: Code
    version: Version = 1
    recipient: OrganisationId
    data_classes: Annotated[list[DataClass], Field(min_length=1, max_length=4)]
    purposes: Annotated[list[Purpose], Field(min_length=1, max_length=3)]
    legal_basis: Text
    valid_from: Millis
    valid_until: Millis


class OfferLimits(Part):
    """How long a provider has to answer an offer, in milliseconds."""

    crisis: Annotated[int, Field(ge=100, le=2_592_000_000)]
    urgent: Annotated[int, Field(ge=100, le=2_592_000_000)]
    routine: Annotated[int, Field(ge=100, le=2_592_000_000)]


class Protocol(Message):
    """The procedure a referral follows. The version in force is stamped on the referral and stays."""

    folder = "reference"

    protocol: Code
    version: Version = 1
    offer_limits: OfferLimits
    maximum_offers: Annotated[int, Field(ge=1, le=1000)]
    parking_ms: Annotated[int, Field(ge=0, le=604_800_000)]
    """How long a submission that came before what it refers to is kept waiting."""


class Policy(Message):
    """How candidates are ranked: by these, first to last, and the lottery in the end."""

    folder = "reference"

    policy: Code
    version: Version = 1
    rank_by: Annotated[list[RankBy], Field(min_length=1, max_length=5)]
    best: Annotated[int, Field(ge=1, le=20)] = 3
    """How many of the best candidates a certificate shows."""
    misses: Annotated[int, Field(ge=0, le=20)] = 3
    """How many of the nearest misses a certificate shows."""
    seed: Annotated[str, Field(min_length=8, max_length=128)]
    """The lottery's seed, published with the policy: anyone can draw again."""


class RegionTable(Message):
    """Which inbox and ledger partition decides a region. Versioned, not a hash of a count."""

    folder = "reference"

    version: Version
    partitions: Annotated[
        dict[Region, Annotated[int, Field(ge=0, le=100_000)]], Field(min_length=1, max_length=10_000)
    ]


class Rules(Message):
    """Which version of matching's own rules regions decide by, from its adoption on."""

    folder = "reference"

    rules: Code
    version: Version
