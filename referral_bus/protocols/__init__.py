"""The protocols a new bus can begin with, as data: read them, change them, and publish them under a name of your own.

Each is a file beside this one, in the form of :class:`~referral_bus.contracts.reference.Protocol`. They count in the business time of the
calendar ``office-hours``, which must be published before them.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.reference import Protocol
from referral_bus.contracts.services import OpeningHours

OFFICE_HOURS: Final = Calendar(
    calendar="office-hours",
    name="Monday to Friday, nine to five",
    hours=[OpeningHours(days=["MO", "TU", "WE", "TH", "FR"], opens=9 * 60, closes=17 * 60)],
    holidays=[],
    time_zone="UTC",
    offsets=[UtcOffset(since=0, minutes=0)],
)
"""A calendar to begin with: without holidays, by the clock of UTC. A real programme publishes its own version."""

SHIPPED: Final = ("crisis-co-response", "community-referral", "coordinated-entry-housing")
"""The names of the protocols, each a file."""


def shipped() -> list[Protocol]:
    """The protocols, in the order of :data:`SHIPPED`."""
    folder = files(__name__)
    return [
        Protocol.model_validate_json((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in SHIPPED
    ]
