from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from referral_bus.client.errors import BusError, NotRecognised
from referral_bus.client.webhooks import received_notice
from referral_bus.contracts.feed import Notice

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NOTICE = Notice(organisation="food-bank", type="x.v1", region="north", sequence=1, at=1)
BODY = json.dumps(
    {
        "specversion": "1.0",
        "id": "d-1",
        "source": "/organisations/refbus-notifier",
        "type": Notice.event_type(),
        "data": NOTICE.model_dump(mode="json"),
    }
)


def signed(body: str, at: datetime, secret: str = SECRET) -> dict[str, str]:
    return {
        "Webhook-Id": "d-1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("d-1", at, body),
    }


def test_a_signed_notice_is_taken() -> None:
    assert received_notice(SECRET, signed(BODY, datetime.now(UTC)), BODY.encode()) == NOTICE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(BODY, datetime.now(UTC), "whsec_" + base64.b64encode(bytes(32)).decode()),
        signed(BODY, datetime.now(UTC) - timedelta(hours=1)),
        signed("another body", datetime.now(UTC)),
        {**signed(BODY, datetime.now(UTC)), "Webhook-Signature": "nonsense"},
    ],
)
def test_what_is_not_signed_by_the_bus_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(NotRecognised):
        received_notice(SECRET, headers, BODY.encode())


def test_a_signed_body_that_is_no_notice_is_refused() -> None:
    with pytest.raises(BusError):
        received_notice(SECRET, signed("{}", datetime.now(UTC)), b"{}")
