"""The Kafka door: an organisation puts what it submits on its own topic, sealed to intake."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from referral_bus.log.port import Appender, Outgoing, Position
from referral_bus.log.topics import outbox
from referral_bus.sealing.jwe import seal_to

CONTENT_TYPE = "application/jose"
"""Media type of a JWE in compact form (RFC 7515, section 9.2.1)."""


class Outbox:
    """Seals structured CloudEvents to intake's public key and appends them. What is refused comes back on the
    organisation's feed."""

    def __init__(self, appender: Appender, organisation: str, intake_key: str) -> None:
        self._appender = appender
        self._topic = outbox(organisation)
        self._intake_key = intake_key

    async def put(self, events: Sequence[dict[str, Any]]) -> list[Position]:
        """Append the events and return where each stands, once the brokers have acknowledged all of them.

        Make them with :func:`~referral_bus.client.events.cloud_event`. Raises LogUnavailable where no broker
        acknowledges in time; put the same events again then. Raises JweError where an event is too long.
        """
        records = [
            Outgoing(
                topic=self._topic,
                partition=0,
                key=None,
                value=seal_to(self._intake_key, json.dumps(event).encode()),
                headers=(("content-type", CONTENT_TYPE.encode()),),
            )
            for event in events
        ]
        return await self._appender.append(records)
