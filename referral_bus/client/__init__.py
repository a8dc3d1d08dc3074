"""The SDK: what an agency's or a provider's own system uses to talk to the bus.

:class:`Bus` is asynchronous, :class:`SyncBus` the same for programs that are not; :class:`Outbox` and
:class:`Feed` go through Kafka instead of HTTP. Nothing here knows how a service is made: it speaks the bus's
public contracts only.
"""

from referral_bus.client.answers import Answer, Heard, Page
from referral_bus.client.bus import Bus
from referral_bus.client.errors import (
    BusError,
    Conflict,
    Forbidden,
    NotFound,
    NotRecognised,
    NotYetVisible,
    Refused,
    Unavailable,
)
from referral_bus.client.events import cloud_event
from referral_bus.client.feed import Feed
from referral_bus.client.notices import open_notice
from referral_bus.client.outbox import Outbox
from referral_bus.client.sync import SyncBus
from referral_bus.client.tokens import RenewedToken

__all__ = [
    "Answer",
    "Bus",
    "BusError",
    "Conflict",
    "Feed",
    "Forbidden",
    "Heard",
    "NotFound",
    "NotRecognised",
    "NotYetVisible",
    "Outbox",
    "Page",
    "Refused",
    "RenewedToken",
    "SyncBus",
    "Unavailable",
    "cloud_event",
    "open_notice",
]
