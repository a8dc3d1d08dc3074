"""Receiving notices by webhook (Standard Webhooks)."""

from __future__ import annotations

from collections.abc import Mapping

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from referral_bus.client.errors import NotRecognised
from referral_bus.client.notices import notice_in
from referral_bus.contracts.feed import Notice


def received_notice(secret: str, headers: Mapping[str, str], body: bytes) -> Notice:
    """The notice in a request that came to the organisation's webhook, once its signature, made with the
    subscription's ``secret`` (``whsec_...``), is verified and it is not older than five minutes. The header
    ``webhook-id`` recognises a repeat.

    Raises :class:`NotRecognised` where the signature is not right, :class:`Refused` where the body is no
    notice.
    """
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):
        raise NotRecognised(
            "The webhook's signature is not the bus's, or too old. Do not trust its content.", status=401
        ) from None
    return notice_in(body)
