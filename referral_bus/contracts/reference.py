"""Reference data: published once, versioned, adopted by each region through its inbox. ``decide`` reads nothing else."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from referral_bus.contracts.ids import OrganisationId, Region
from referral_bus.contracts.message import NO_NUL, Code, Message, Millis, Part, Text
from referral_bus.contracts.places import ReachLimit
from referral_bus.contracts.vocabulary import (
    STEPS,
    URGENCIES,
    AgreedClass,
    FollowUpDay,
    OrganisationKind,
    Purpose,
    Role,
    StepName,
    Urgency,
)

Version = Annotated[int, Field(ge=1, le=2_147_483_647)]
BandedBy = Literal["wait", "reach", "load", "reliability"]
RankBy = Literal[
    "certainty",
    "needs_covered",
    "mapping",
    "wait",
    "reach",
    "language",
    "load",
    "freshness",
    "reliability",
    "lottery",
]


class Organisation(Message):
    """A party of the bus. ``encryption_key`` is a public JWK (JSON text): what goes to the organisation is sealed to it."""

    folder = "reference"

    organisation: OrganisationId
    version: Version = 1
    name: Text
    kind: OrganisationKind
    roles: Annotated[list[Role], Field(min_length=1, max_length=3)]
    home_region: Region
    encryption_key: Annotated[str, Field(max_length=4096, json_schema_extra=NO_NUL)] | None = None
    calendar: Code | None = None
    """Whose hours and holidays count where the organisation must act in business time; None: the protocol's own."""


class Agreement(Message):
    """An MOU: under which ``recipient`` may be shown ``data_classes`` of referrals it takes part in, for ``purposes``."""

    folder = "reference"

    agreement: Code
    version: Version = 1
    recipient: OrganisationId
    data_classes: Annotated[list[AgreedClass], Field(min_length=1, max_length=4)]
    purposes: Annotated[list[Purpose], Field(min_length=1, max_length=3)]
    legal_basis: Text
    valid_from: Millis
    valid_until: Millis


_Limit = Annotated[int, Field(ge=100, le=31_536_000_000)]


class OfferLimits(Part):
    """How long something may take, by the referral's urgency, in milliseconds."""

    crisis: Annotated[int, Field(ge=100, le=7_776_000_000)]
    urgent: Annotated[int, Field(ge=100, le=7_776_000_000)]
    routine: Annotated[int, Field(ge=100, le=7_776_000_000)]

    def of(self, urgency: Urgency) -> int:
        """The limit for an urgency."""
        limit: int = getattr(self, urgency)
        return limit


Reminders = Annotated[list[Annotated[int, Field(ge=1, le=99)]], Field(max_length=5)]
"""When to remind whoever must act, in per cent of the time they have; ascending."""


def _must_ascend(reminders: list[int]) -> list[int]:
    if reminders != sorted(set(reminders)):
        raise ValueError("reminders must rise: each per cent once, in order")
    return reminders


class Step(Part):
    """A step besides the answer to the offer that must be taken in time: ``acknowledge`` counts from the offer, ``handoff`` and ``start``
    from the acceptance, ``outcome`` from the start of the service. A step that is not taken in time escalates: to its own
    ``escalate_to``, or to the protocol's."""

    step: Literal["acknowledge", "handoff", "start", "outcome"]
    limits: OfferLimits
    reminders: Annotated[Reminders, AfterValidator(_must_ascend)] = Field(default_factory=list)
    escalate_to: OrganisationId | None = None


class Protocol(Message):
    """The procedure a referral follows. The version in force is stamped on the referral and stays.

    ``offer_limits`` is how long a provider has to answer; when that is over, silence declines (the next service is asked) or escalates (the
    offer stays open and holds its place until ``referral_limits`` are over, which it needs then, and ``escalate_to`` is told; None is
    operations). Limits count round the clock, or the hours of whoever must act.
    """

    folder = "reference"

    protocol: Code
    version: Version = 1
    offer_limits: OfferLimits
    maximum_offers: Annotated[int, Field(ge=1, le=1000)]
    parking_ms: Annotated[int, Field(ge=0, le=604_800_000)]
    """How long a submission that came before what it refers to is kept waiting."""
    name: Text | None = None
    usual_for: Annotated[list[Urgency], Field(max_length=3)] = Field(default_factory=lambda: list(URGENCIES))
    """The urgencies whose referrals follow it unless they name another. The one adopted last counts."""
    offer_reminders: Annotated[Reminders, AfterValidator(_must_ascend)] = Field(default_factory=list)
    silence: Literal["declines", "escalates"] = "declines"
    steps: Annotated[list[Step], Field(max_length=4)] = Field(default_factory=list)
    """In the order in which they come, each at most once: a procedure that comes back to a step it left would never end."""
    referral_limits: OfferLimits | None = None
    """How long a referral may go without an acceptance, all in all, before it is closed. The time it rests at its agency's wish, is
    accepted or split does not count; the time it waits for a provider's date does. Only a reopening gives it all that time again."""
    referral_reminders: Annotated[Reminders, AfterValidator(_must_ascend)] = Field(default_factory=list)
    """When to remind its agency of that, in per cent of ``referral_limits``."""
    escalate_to: OrganisationId | None = None
    business_time: bool = False
    calendar: Code | None = None
    broadcast_width: Annotated[int, Field(ge=1, le=20)] = 3
    """How many services are asked at once in mode *broadcast*, at most."""
    waitlist_review_ms: _Limit = 86_400_000
    """After how long somebody who waits for a place is matched anew, whatever came free."""
    reopen_ms: Annotated[int, Field(ge=0, le=7_776_000_000)] = 2_592_000_000
    """How long after its end a referral can be reopened: 90 days at most, since after that it is forgotten."""
    longest_hold_ms: _Limit = 7_776_000_000
    """How far ahead a referral or a service may be put on hold; for so long it is where no date is given."""
    follow_up_days: Annotated[list[FollowUpDay], Field(max_length=2)] = Field(default_factory=list)
    """How many days after the service of a completed referral ended its provider is asked how it is; not of a person who never came."""
    elsewhere_ms: _Limit = 60_000
    """How long another region may take to answer; then it is done without."""

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        order = [STEPS.index(step.step) for step in self.steps]
        if order != sorted(set(order)):
            raise ValueError("steps: each at most once, in the order acknowledge, handoff, start, outcome")
        for step in self.steps:
            for urgency in URGENCIES:
                if step.step == "acknowledge" and getattr(step.limits, urgency) >= getattr(
                    self.offer_limits, urgency
                ):
                    raise ValueError(
                        f"steps: acknowledging ({urgency}) must take less time than answering the offer"
                    )
        if self.referral_reminders and self.referral_limits is None:
            raise ValueError(
                "referral_reminders: they are shares of referral_limits, which the protocol lacks"
            )
        if self.silence == "escalates" and self.referral_limits is None:
            raise ValueError(
                "referral_limits: where silence escalates, an offer holds its place until they are over, so the protocol needs them"
            )
        if self.business_time and self.calendar is None:
            raise ValueError(
                "calendar: limits in business time need one, for organisations without their own"
            )
        return self

    def step(self, name: StepName) -> Step | None:
        """The step of that name, where the protocol has it."""
        return next((step for step in self.steps if step.step == name), None)

    @property
    def all_told(self) -> list[OrganisationId]:
        """Whom it names that something escalates to."""
        named = [self.escalate_to, *(step.escalate_to for step in self.steps)]
        return [one for one in named if one is not None]

    def told_of(self, name: StepName) -> OrganisationId | None:
        """Whom it escalates to when the step is overdue, or the answer to an offer; None is operations."""
        step = self.step(name)
        return self.escalate_to if step is None or step.escalate_to is None else step.escalate_to


class TrustStep(Part):
    """A count of places that is this many hours old, or older, is believed so much, in thousandths."""

    hours: Annotated[int, Field(ge=0, le=8760)]
    thousandths: Annotated[int, Field(ge=0, le=1000)]


class Bands(Part):
    """What differs by less makes no difference: numbers are compared by how many of ``starts`` they reach. In the units of a score: minutes
    (wait), hundreds of metres (reach), thousandths (load, reliability)."""

    by: BandedBy
    starts: Annotated[list[Annotated[int, Field(ge=1, le=1_000_000)]], Field(min_length=1, max_length=12)]

    @model_validator(mode="after")
    def _rise(self) -> Self:
        if any(former >= later for former, later in pairwise(self.starts)):
            raise ValueError("starts: each band begins behind the one before it")
        return self


class Policy(Message):
    """How candidates are ranked: by these, first to last, and the lottery in the end."""

    folder = "reference"

    policy: Code
    version: Version = 1
    rank_by: Annotated[list[RankBy], Field(min_length=1, max_length=10)]
    best: Annotated[int, Field(ge=1, le=20)] = 3
    """How many of the best candidates a certificate shows."""
    misses: Annotated[int, Field(ge=0, le=20)] = 3
    """How many of the nearest misses a certificate shows."""
    seed: Annotated[str, Field(min_length=8, max_length=128, json_schema_extra=NO_NUL)]
    """The lottery's seed, published with the policy: anyone can draw again. Nobody can steer the draw by it, since each also depends on the
    hash of the region's event before the decision, which nobody knows beforehand."""
    reach: Annotated[list[ReachLimit], Field(max_length=9)] = Field(default_factory=list)
    """How far a person can be expected to go, by urgency and means of travel; without any, distance rules nobody out."""
    opens_within: OfferLimits | None = None
    """How soon a service must be open, by urgency; None: opening hours rule nobody out."""
    trust: Annotated[list[TrustStep], Field(max_length=20)] = Field(default_factory=list)
    """How much a count of places is believed by its age; without any step, freshness is the age itself."""
    full_ms: Annotated[int, Field(ge=0, le=2_592_000_000)] = 86_400_000
    """For how long no place of a unit is offered whose provider said, without a date, that it has none; a count that comes sooner ends it.
    0: it is asked again for whoever is next."""
    window_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0
    """Routine referrals in mode *match* are gathered for so long and decided together; 0: each on its arrival."""
    bands: Annotated[list[Bands], Field(max_length=4)] = Field(default_factory=list)
    """What is compared in bands; the rest is compared as it is."""

    @model_validator(mode="after")
    def _banded_once(self) -> Self:
        if len({one.by for one in self.bands}) < len(self.bands):
            raise ValueError("bands: each part has them once")
        return self

    @model_validator(mode="after")
    def _trust_falls(self) -> Self:
        for former, later in pairwise(self.trust):
            if former.hours >= later.hours or former.thousandths < later.thousandths:
                raise ValueError("trust: steps go from young to old, and trust never grows with age")
        return self


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
