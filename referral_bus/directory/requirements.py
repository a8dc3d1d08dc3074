"""What a service costs and which documents it asks for, from HSDS's columns and free texts."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from referral_bus.contracts.criteria import Document
from referral_bus.contracts.services import Cost
from referral_bus.directory.rows import Row
from referral_bus.directory.values import Unusable, shown

_LONGEST: Final = 512
_MOST: Final = 1_000_000_000
_WITHOUT_CENTS: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND"}
)
_DOCUMENTS: Final[tuple[tuple[Document, str], ...]] = (
    (
        "photo_id",
        r"photo|picture id|\bid\b|\bi\.d\.|identification|identity|passport|driver'?s licen[cs]e|driving licen[cs]e",
    ),
    ("proof_of_address", r"(?:proof|evidence|verification) of (?:\w+ ){0,2}(?:address|residen)"),
    (
        "proof_of_income",
        r"(?:proof|evidence|verification) of (?:\w+ ){0,2}income|pay ?(?:stub|slip)|wage|tax return|income statement",
    ),
    ("birth_certificate", r"birth certificate"),
    ("social_security_card", r"social security"),
    ("insurance_card", r"insurance card|medicaid card|medicare card|proof of (?:\w+ )?insurance"),
    ("lease", r"\blease\b|rental agreement|tenancy agreement"),
    ("utility_bill", r"utility bill"),
    ("medical_referral", r"(?:doctor|medical|physician|gp)\b.*(?:referral|letter)|referral letter"),
    ("proof_of_homelessness", r"(?:proof|verification|certification) of homeless"),
    ("proof_of_disability", r"(?:proof|verification|evidence) of disabilit"),
    ("proof_of_benefits", r"award letter|benefits? letter|proof of (?:\w+ )?benefit"),
    ("immigration_papers", r"immigration|green card|\bvisa\b"),
    ("discharge_papers", r"discharge|\bdd ?-?214\b"),
)
_NOTHING: Final = frozenset(
    {"none", "no", "n/a", "na", "nothing", "not required", "no documents", "none required"}
)


def cost(row: Row) -> Cost:
    """A ``cost_option``. Raises Unusable for one that states no amount."""
    currency = row["currency"].upper()
    if currency and re.fullmatch(r"[A-Z]{3}", currency) is None:
        raise Unusable(f"currency {shown(row['currency'])} is no code of three letters")
    try:
        amount = Decimal(row["amount"])
    except InvalidOperation:
        raise Unusable(f"amount {shown(row['amount'])} is not a number") from None
    if not amount.is_finite() or not 0 <= amount <= _MOST // 100:
        raise Unusable(f"amount {shown(row['amount'])} is not between 0 and {_MOST // 100}")
    smallest = amount if currency in _WITHOUT_CENTS else amount * 100
    return Cost(
        amount=round(smallest),
        currency=currency or None,
        condition=row["option"][:_LONGEST] or None,
        per=row["amount_description"][:_LONGEST] or None,
    )


def documents(text: str) -> tuple[list[Document], str | None]:
    """The documents a text asks for, all of them, and what is to be said of how it was read.

    A text that names none the bus knows, or several of which one may do, asks for ``other``: whether a person holds it is unknown, and
    the provider's to see.
    """
    plain = " ".join(text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
    if plain.rstrip(".") in _NOTHING:
        return [], None
    found = [document for document, pattern in _DOCUMENTS if re.search(pattern, plain)]
    if not found:
        return ["other"], f"the document {shown(text)} has no word on the bus; it is taken as 'other'"
    if len(found) > 1 and re.search(r"\bor\b|/", plain):
        return ["other"], f"the document {shown(text)} may be one of several; it is taken as 'other'"
    if len(found) > 1:
        return found, f"the document {shown(text)} is read as all of: {', '.join(found)}"
    return found, None
