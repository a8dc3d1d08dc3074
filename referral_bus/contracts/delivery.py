"""What became of the notifier's deliveries: the delivery topic."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from referral_bus.contracts.ids import OrganisationId, Region
from referral_bus.contracts.message import Code, Message, Millis


class Delivery(Message):
    """Any message on the delivery topic. ``delivery`` is the identity (subscription, event), so a repeat is recognised."""

    folder = "delivery"

    delivery: Code
    recipient: OrganisationId
    subscription: Code
    region: Region
    sequence: Annotated[int, Field(ge=1)]
    attempts: Annotated[int, Field(ge=1)]
    at: Millis


class Delivered(Delivery):
    """The recipient's system has taken it."""


class DeliveryFailed(Delivery):
    """An attempt failed; it is tried again at ``retry_at``."""

    reason: Code
    retry_at: Millis


class DeliveryGivenUp(Delivery):
    """The time for trying is over; somebody has to look."""

    reason: Code


DELIVERIES: tuple[type[Delivery], ...] = (Delivered, DeliveryFailed, DeliveryGivenUp)
