"""Requests as CloudEvents 1.0 in the JSON event format: what batches and outboxes carry."""

from __future__ import annotations

import uuid
from typing import Any

from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import REQUESTS
from referral_bus.wire.envelope import format_time, source_of


def new_id() -> str:
    """An id for a submission that has none yet. Keep it: with it a repeat is recognised."""
    return str(uuid.uuid4())


def cloud_event(request: Part, organisation: str, id: str, sent_at: int) -> dict[str, Any]:
    """The request as a structured CloudEvent of ``organisation``; ``sent_at`` in epoch milliseconds UTC. Send
    a repeat with the same ``id`` and ``sent_at``. Raises KeyError for what is not a request of
    :mod:`referral_bus.contracts.requests`."""
    return {
        "specversion": "1.0",
        "id": id,
        "source": source_of(organisation),
        "type": REQUESTS[type(request)].event_type(),
        "time": format_time(sent_at),
        "datacontenttype": "application/json",
        "data": request.model_dump(mode="json", exclude_none=True),
    }
