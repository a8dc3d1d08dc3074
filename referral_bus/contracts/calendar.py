"""When an organisation works: the business time that time limits are counted in."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from referral_bus.contracts.localtime import LocalDate, UtcOffset
from referral_bus.contracts.message import Code, Message, Text
from referral_bus.contracts.reference import Version
from referral_bus.contracts.services import OpeningHours

ZoneName = Annotated[
    str,
    Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*)*$"),
]
"""The name of a time zone in the IANA database, as ``America/Chicago``."""


class Calendar(Message):
    """Working hours by the wall clock of a place, and the days on which it stays closed. Business time is what passes while it is open.

    Hours that overlap count once. Where ``closes`` is before ``opens``, they end on the day after. Holidays are closed from midnight to
    midnight, whichever day the hours began on.

    ``offsets`` say what the wall clock shows. They are data, and not looked up by ``time_zone``, since governments change their clocks at
    short notice: two machines with different editions of the time zone database would come to different due times, and a decision of last
    year could not be recomputed after an update. The name of the zone is for people, and for whoever makes the next version
    (:func:`referral_bus.directory.zones.offsets`). The first offset holds for the time before it too and the last one for ever: publish a
    new version before the offsets and the holidays run out.
    """

    folder = "reference"

    calendar: Code
    version: Version = 1
    name: Text
    hours: Annotated[list[OpeningHours], Field(min_length=1, max_length=50)]
    holidays: Annotated[list[LocalDate], Field(max_length=500)]
    time_zone: ZoneName
    offsets: Annotated[list[UtcOffset], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _open_some_time(self) -> Self:
        for part in self.hours:
            # 1440 and 0 are the same midnight, so that from 1440 to 0 is no time either.
            if part.opens == part.closes or (part.opens, part.closes) == (1440, 0):
                raise ValueError(
                    "hours open and close at the same time; write 0 to 1440 for a whole day, nothing for a closed one"
                )
        return self

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(former >= later for former, later in pairwise(self.holidays)):
            raise ValueError("holidays are not in order, or one stands there twice")
        if any(former.since >= later.since for former, later in pairwise(self.offsets)):
            raise ValueError("offsets are not in the order of their moments, or two begin at one moment")
        return self
