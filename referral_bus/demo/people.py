"""People who do not exist and what they need, made from a seed: what the agencies of the demo submit.

Names, telephone numbers (555-01xx) and mail addresses (example.org) are of the kinds set aside for fiction
and examples.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from referral_bus.contracts.facts import Facts, Household, Identity, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.contracts.vocabulary import FactStatus, Purpose, Urgency
from referral_bus.demo.county import County
from referral_bus.directory.taxonomy import OPEN_ELIGIBILITY

CRISIS_SHARE: Final = 0.10
URGENT_SHARE: Final = 0.25
OLDEST: Final = 90
THIS_YEAR: Final = 2026
"""Birth dates are reckoned from the same year always, so that a seed makes the same people in any year."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom an agency meets: the terms people come to it for, with their weights, and the ages they are of."""

    terms: dict[str, int]
    ages: tuple[int, int]


_CALLERS: Final[dict[str, Caller]] = {
    "co-response-team": Caller({"1126": 4, "1135": 3, "1180": 3, "1214": 2, "1125": 1}, (16, 75)),
    "hospital-ed": Caller({"1206": 4, "1126": 3, "1180": 2, "1135": 2, "1176": 2, "1214": 1}, (1, OLDEST)),
    "school-district": Caller({"1220": 4, "1130": 3, "1158": 2, "1280": 1, "1214": 1, "1206": 1}, (5, 18)),
    "family-shelter": Caller({"1157": 3, "1280": 3, "1375": 2, "1358": 2, "1195": 2, "1125": 1}, (18, 55)),
    "line-211": Caller(
        {"1130": 5, "1131": 3, "1375": 2, "1176": 2, "1358": 2, "1135": 2, "1220": 2, "1158": 1}, (16, OLDEST)
    ),
}
_UNMET: Final = "1163"
"""A term (home goods) that no program of the county meets: some needs have no answer."""

_UNMET_SHARE: Final = 0.02
_SECOND_NEED_SHARE: Final = 0.2
_GIVEN = (
    "Sample",
    "Testa",
    "Mock",
    "Specimen",
    "Demo",
    "Placeholder",
    "Exempla",
    "Fictiva",
    "Draft",
    "Proto",
)
_FAMILY = (
    "Nobody",
    "Imaginary",
    "Example",
    "Fictional",
    "Inventedson",
    "Unreal",
    "Madeup",
    "Notaperson",
    "Pretender",
    "Makebelieve",
)
_LANGUAGES: Final = ("en", "es", "zh", "vi", "ar", "so", "tl", "ru")
_LANGUAGE_WEIGHTS: Final = (72, 16, 3, 3, 2, 2, 1, 1)


@dataclass(frozen=True, slots=True)
class Person:
    """One referral to be submitted: who submits it, and what."""

    agency: Organisation
    request: ReferralRequest


def people(county: County, count: int, seed: int = 1) -> Iterator[Person]:
    """Make ``count`` referrals, spread evenly over the agencies and the regions. The same county and seed
    give the same people.

    A tenth are in crisis and a quarter urgent. Each fact is now and then unknown or not said, as people are.
    """
    chance = random.Random(f"people {seed}")  # noqa: S311 - reproducible people, not a secret
    for number in range(count):
        agency = county.agencies[number % len(county.agencies)]
        region = county.regions[(number // len(county.agencies)) % len(county.regions)]
        yield Person(agency, _request(chance, number, agency, region, county))


def _request(
    chance: random.Random, number: int, agency: Organisation, region: str, county: County
) -> ReferralRequest:
    caller = _CALLERS[agency.organisation]
    age = chance.randint(*caller.ages)
    urgency = _urgency(chance)
    purpose: Purpose = "emergency" if urgency == "crisis" else "care_coordination"
    return ReferralRequest(
        subject=f"{agency.organisation}-case-{number + 1:05d}",
        urgency=urgency,
        purpose=purpose,
        region=region,
        facts=Facts(
            age=_number(chance, age, 0.08),
            languages=_languages(chance),
            area=_area(chance, county.areas[region]),
            household=_household(chance),
            needs=_needs(chance, caller),
        ),
        identity=_identity(chance, number, age),
    )


def _urgency(chance: random.Random) -> Urgency:
    drawn = chance.random()
    if drawn < CRISIS_SHARE:
        return "crisis"
    return "urgent" if drawn < CRISIS_SHARE + URGENT_SHARE else "routine"


def _needs(chance: random.Random, caller: Caller) -> list[Need]:
    if chance.random() < _UNMET_SHARE:
        return [Need(vocabulary=OPEN_ELIGIBILITY, code=_UNMET)]
    codes = chance.choices(list(caller.terms), list(caller.terms.values()))
    if chance.random() < _SECOND_NEED_SHARE:
        codes.append(chance.choice([code for code in caller.terms if code not in codes]))
    return [Need(vocabulary=OPEN_ELIGIBILITY, code=code) for code in codes]


def _missing(chance: random.Random, share: float) -> FactStatus | None:
    if chance.random() >= share:
        return None
    return chance.choice(("unknown", "not_said"))


def _number(chance: random.Random, value: int, missing: float) -> NumberFact:
    why = _missing(chance, missing)
    return NumberFact(status="stated", value=value) if why is None else NumberFact(status=why)


def _area(chance: random.Random, areas: tuple[str, ...]) -> TextFact:
    why = _missing(chance, 0.1)
    return TextFact(status="stated", value=chance.choice(areas)) if why is None else TextFact(status=why)


def _languages(chance: random.Random) -> ListFact:
    why = _missing(chance, 0.08)
    if why is not None:
        return ListFact(status=why)
    spoken = chance.choices(_LANGUAGES, _LANGUAGE_WEIGHTS)
    if spoken != ["en"] and chance.random() < 0.5:
        spoken.append("en")
    return ListFact(status="stated", values=spoken)


def _household(chance: random.Random) -> Household:
    size = chance.randint(1, 6)
    return Household(
        size=_number(chance, size, 0.3), children=_number(chance, chance.randint(0, size - 1), 0.3)
    )


def _identity(chance: random.Random, number: int, age: int) -> Identity:
    name = f"{chance.choice(_GIVEN)} {chance.choice(_FAMILY)} {number + 1}"
    phone = f"+1 555 555 01{chance.randint(0, 99):02d}" if chance.random() < 0.8 else None
    mail = f"person{number + 1}@example.org" if chance.random() < 0.4 else None
    born = (
        f"{THIS_YEAR - 1 - age}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
        if chance.random() < 0.7
        else None
    )
    note = f"Invented note about invented person {number + 1}." if chance.random() < 0.3 else None
    return Identity(name=name, phone=phone, email=mail, birth_date=born, note=note)
