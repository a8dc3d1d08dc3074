"""Notices as they come by stream and webhook, and what of a person they show, opened with the organisation's
own key."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from referral_bus.client.errors import BusError
from referral_bus.contracts.feed import Notice
from referral_bus.sealing.jwe import open_with
from referral_bus.wire.cloudevents import from_structured
from referral_bus.wire.errors import WireError


def notice_of(text: str) -> Notice:
    """A notice off the stream. Raises BusError where it is none."""
    try:
        return Notice.model_validate_json(text)
    except ValidationError:
        raise BusError(
            "The bus sent something that is no notice. Update the SDK.", code="no_notice"
        ) from None


def notice_in(event: bytes) -> Notice:
    """The notice in a structured CloudEvent, as webhooks carry it. Raises BusError where it holds none."""
    try:
        return notice_of(json.dumps(from_structured(json.loads(event)).data))
    except (ValueError, WireError):
        raise BusError(
            "The bus sent something that is no notice. Update the SDK.", code="no_notice"
        ) from None


def open_notice(notice: Notice, private_jwk: str) -> dict[str, Any] | None:
    """What the organisation may see of the person: ``facts``, ``identity``, ``outcome``, ``note``, as far as
    they are disclosed; None where there is nothing to show. Raises JweError where it was not sealed to this
    key."""
    if notice.disclosed is None:
        return None
    shown = json.loads(open_with(private_jwk, notice.disclosed))
    if not isinstance(shown, dict):
        raise BusError("What the notice discloses is no JSON object. Update the SDK.", code="no_notice")
    return shown
