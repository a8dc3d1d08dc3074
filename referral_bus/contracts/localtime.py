"""Days and clocks of a place, as data: a decision must not depend on the time zone tables of the machine that makes it."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, Field

from referral_bus.contracts.message import Millis, Part

Day = Literal["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)
"""The days of a week, Monday first."""


def _real_day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("there is no such day; write YYYY-MM-DD") from None
    return text


LocalDate = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_real_day)]
"""A day by the wall clock of the place, ``YYYY-MM-DD``."""


class UtcOffset(Part):
    """From this moment on the wall clock is ``minutes`` ahead of UTC (behind it, if negative)."""

    since: Millis
    minutes: Annotated[int, Field(ge=-720, le=840)]
