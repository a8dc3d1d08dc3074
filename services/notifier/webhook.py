"""One attempt to deliver by webhook (Standard Webhooks): signed, within time and size limits, following nothing.

The answer's body is never read: its status line says all there is to know.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
from standardwebhooks.webhooks import Webhook

from referral_bus.runtime import tracing
from services.notifier.addresses import AddressRefused, AddressRules
from services.notifier.names import Names
from services.notifier.notices import EVENT_CONTENT_TYPE

_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt: taken, or the reason why not. ``final``: trying again is no use."""

    taken: bool
    reason: str = ""
    final: bool = False


class WebhookSender:
    """Sends. One per process; ``seconds`` is the limit of one attempt."""

    def __init__(self, rules: AddressRules, seconds: float) -> None:
        self._rules = rules
        self._seconds = seconds
        self._names = Names()
        self._http = httpx.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=seconds,
            # Connections are pooled by IP address: one that is kept would serve another name without checking its certificate.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def send(
        self, organisation: str, url: str, secret: str, identity: str, body: bytes, at: int
    ) -> Answer:
        """Send once, to this organisation. ``at`` (epoch milliseconds) goes into the signature; ``identity`` is the ``webhook-id``."""
        try:
            async with asyncio.timeout(self._seconds):
                return await self._send(organisation, url, secret, identity, body, at)
        except (TimeoutError, httpx.TimeoutException):
            return Answer(False, "timeout")
        except AddressRefused as refused:
            return Answer(False, refused.reason)
        except (httpx.TransportError, httpx.InvalidURL, ssl.SSLError, OSError):
            return Answer(False, "connection_failed")

    async def _send(
        self, organisation: str, url: str, secret: str, identity: str, body: bytes, at: int
    ) -> Answer:
        target = self._rules.check(url)
        address = await self._rules.resolve(target, self._names, organisation)
        with tracing.tracer().requesting("POST") as asked:
            request = self._http.build_request(
                "POST",
                target.copy_with(host=address),
                content=body,
                headers={
                    **asked.headers,
                    **signed(secret, identity, body, at),
                    "host": target.netloc.decode(),
                    "content-type": EVENT_CONTENT_TYPE,
                },
                extensions={"sni_hostname": target.host},
            )
            response = await self._http.send(request, stream=True)
            asked.status = status = response.status_code
            await response.aclose()
        if httpx.codes.is_success(status):
            return Answer(True)
        return Answer(False, f"http_{status}", final=status == _GONE)


def signed(secret: str, identity: str, body: bytes, at: int) -> dict[str, str]:
    """The headers of Standard Webhooks for this body, signed at ``at`` (epoch milliseconds)."""
    moment = datetime.fromtimestamp(at // 1000, UTC)
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(at // 1000),
        "webhook-signature": Webhook(secret).sign(identity, moment, body.decode()),
    }
