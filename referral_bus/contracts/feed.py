"""What an organisation hears: the messages on its own feed topic."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from referral_bus.contracts.ids import OrganisationId, ReferralId, Region, TaskId, UnitId
from referral_bus.contracts.message import Code, Message, Millis, Text


class Notice(Message):
    """Something happened that concerns this organisation. ``disclosed`` is what of the person it may see, as a JWE to the
    organisation's own key; None where there is nothing to show. ``type`` is the CloudEvents type of the ledger event."""

    folder = "feed"

    organisation: OrganisationId
    type: Code
    region: Region
    sequence: Annotated[int, Field(ge=1)]
    at: Millis
    referral: ReferralId | None = None
    task: TaskId | None = None
    reason: Code | None = None
    expires_at: Millis | None = None
    disclosed: bytes | None = None
    unit: UnitId | None = None
    """The unit whose places it is about."""


class AdmissionRefused(Message):
    """Something the organisation put in its outbox was refused at the border, and why. ``submission`` is its CloudEvents id,
    None where it could not be read; ``outbox_offset`` says where it stands."""

    folder = "feed"

    organisation: OrganisationId
    submission: Annotated[str, Field(max_length=128)] | None = None
    outbox_partition: Annotated[int, Field(ge=0)]
    outbox_offset: Annotated[int, Field(ge=0)]
    at: Millis
    status: Annotated[int, Field(ge=400, le=599)]
    reason: Code
    field: Text | None = None
    detail: Text


FEED: tuple[type[Message], ...] = (Notice, AdmissionRefused)
