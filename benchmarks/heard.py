"""Who is to hear what of a ledger, as an outsider reckons it from the events: for the peer, and to count what was lost.

Three kinds of events, of which it is plain whom they concern whatever becomes of the referral later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from benchmarks.outside import Datum
from referral_bus.contracts.ledger import Event, OfferAccepted, OfferMade, ReferralOpened
from referral_bus.contracts.vocabulary import Role

_ROLES: Final[dict[type[Event], tuple[Role, ...]]] = {
    ReferralOpened: ("agency",),
    OfferMade: ("agency", "provider"),
    OfferAccepted: ("agency", "provider"),
}
HEARD: Final = {event.__name__: roles for event, roles in _ROLES.items()}
TYPES: Final = [event.event_type() for event in _ROLES]


class Heard(NamedTuple):
    """An event that an organisation is to hear of in a role. ``place`` is the event's own: region and sequence."""

    organisation: str
    role: Role
    place: str
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the organisation in this role."""
        return f"{self.organisation} {self.role}"

    @property
    def id(self) -> str:
        return f"{self.name}.{self.place}"


def heard_of(datum: Datum, agencies: dict[str, str]) -> Iterator[Heard]:
    """Who is to hear of an event. ``agencies``, by referral, is what earlier events of the ledger said, and is told what this one says."""
    roles = HEARD.get(datum.name)
    if roles is None:
        return
    fields = datum.fields
    if datum.name == "ReferralOpened":
        agencies[fields["referral"]] = fields["agency"]
    place = f"{fields['meta']['region']}.{fields['meta']['sequence']}"
    content = {"type": datum.name, "referral": fields["referral"], "task": fields.get("task")}
    for role in roles:
        yield Heard(
            agencies[fields["referral"]] if role == "agency" else fields["provider"], role, place, content
        )
