"""Single values of a directory as values of the bus."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from pydantic import TypeAdapter, ValidationError

from referral_bus.contracts.areas import area_code
from referral_bus.contracts.ids import LocalId, OrganisationId, short_hash
from referral_bus.contracts.message import Code

LONGEST_AREA: Final = 64
"""As long as a person's area can be, so that the two can be equal."""

_ORGANISATION_ID: Final[TypeAdapter[str]] = TypeAdapter(OrganisationId)
_LOCAL_ID: Final[TypeAdapter[str]] = TypeAdapter(LocalId)
_CODE: Final[TypeAdapter[str]] = TypeAdapter(Code)


class Unusable(ValueError):
    """A value or row can't be used. The message says why, for the report."""


def is_organisation_id(text: str) -> bool:
    """Whether an organisation of the bus can have this id."""
    return _fits(_ORGANISATION_ID, text)


def organisation_id(text: str) -> str:
    """A directory's id as the id of an organisation: itself where it can be one, else a digest of it."""
    return text if is_organisation_id(text) else digest(text)


def local_id(text: str) -> str:
    """A directory's id as the local part of an id of the bus: itself where it can be one, else a digest of
    it."""
    return text if _fits(_LOCAL_ID, text) else digest(text)


def digest(text: str) -> str:
    """A short id that follows from a directory's id."""
    return short_hash("hsds", text)


def is_code(text: str) -> bool:
    """Whether a text can stand as a code in a vocabulary."""
    return _fits(_CODE, text)


def name_code(text: str) -> str:
    """The name of a vocabulary as a code: itself where it is one, else lower case with dashes, so that ``Local 211`` is ``local-211``.
    Raises Unusable for a text that is no name."""
    return _name(text, text if is_code(text) else re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-"))


def area_name(text: str) -> str:
    """The name of an area as the bus names it. Raises Unusable for a text that is no name."""
    return _name(text, area_code(text))


def _name(text: str, code: str) -> str:
    if not code or len(code) > LONGEST_AREA:
        raise Unusable(f"{shown(text)} is a text, not a name of {LONGEST_AREA} characters at most")
    return code


def whole_number(text: str, most: int) -> int:
    """A whole number from 0 to ``most``; a fraction, as of a year of age, is left off. Raises Unusable."""
    try:
        number = float(text)
    except ValueError:
        raise Unusable(f"{shown(text)} is not a number") from None
    if not 0 <= number <= most:
        raise Unusable(f"{shown(text)} is not between 0 and {most}")
    return int(number)


def number(text: str, least: int, most: int) -> Decimal:
    """A decimal number from ``least`` to ``most``. Raises Unusable."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise Unusable(f"{shown(text)} is not a number") from None
    if not value.is_finite() or not least <= value <= most:
        raise Unusable(f"{shown(text)} is not between {least} and {most}")
    return value


def moment(text: str) -> int:
    """A date, with or without a time, as epoch milliseconds; without a zone it is UTC, and 1970 is as early as it gets. Raises
    Unusable."""
    try:
        found = datetime.fromisoformat(text)
        return max(0, int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise Unusable(f"{shown(text)} is no date; write 2026-01-31T09:00:00Z") from None


def shown(text: str) -> str:
    """A value as a report shows it."""
    return (repr(text) if len(text) <= 60 else f"{text[:60]!r}...") if text else "(empty)"


def _fits(kind: TypeAdapter[str], text: str) -> bool:
    try:
        kind.validate_python(text)
    except ValidationError:
        return False
    return True
