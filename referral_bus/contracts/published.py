"""Reference data as operations publish it: what there is of it, and what each kind is called."""

from __future__ import annotations

from typing import Final, Literal

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import Agreement, Organisation, Policy, Protocol, RegionTable, Rules
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.contracts.vocabulary import ReferenceKind

PublishedKind = Literal[ReferenceKind, "regions"]
"""What regions adopt, and the table of the regions, which is intake's own."""

Published = (
    Organisation | Agreement | Protocol | Policy | Calendar | Taxonomy | Crosswalk | Rules | RegionTable
)

PUBLISHED: Final[dict[PublishedKind, type[Published]]] = {
    "organisation": Organisation,
    "agreement": Agreement,
    "protocol": Protocol,
    "policy": Policy,
    "calendar": Calendar,
    "taxonomy": Taxonomy,
    "crosswalk": Crosswalk,
    "rules": Rules,
    "regions": RegionTable,
}
"""What each kind is."""

KIND_OF: Final[dict[type[Message], PublishedKind]] = {form: kind for kind, form in PUBLISHED.items()}
"""What each is called."""
