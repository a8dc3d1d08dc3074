"""What the typed routes take is the contract's request without what stands in the path."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from referral_bus.contracts.requests import (
    AcceptRequest,
    CapacityRequest,
    DeclineRequest,
    OutcomeRequest,
    StartRequest,
    WithdrawRequest,
)
from services.intake.api import AcceptBody, CapacityBody, DeclineBody, OutcomeBody, StartBody, WithdrawBody


@pytest.mark.parametrize(
    ("body", "request_", "in_path"),
    [
        (WithdrawBody, WithdrawRequest, "referral"),
        (AcceptBody, AcceptRequest, "task"),
        (DeclineBody, DeclineRequest, "task"),
        (StartBody, StartRequest, "referral"),
        (OutcomeBody, OutcomeRequest, "referral"),
        (CapacityBody, CapacityRequest, "unit"),
    ],
)
def test_a_body_is_its_request_without_the_id_in_the_path(
    body: type[BaseModel], request_: type[BaseModel], in_path: str
) -> None:
    wanted = request_.model_json_schema()
    del wanted["properties"][in_path]
    wanted["required"] = [name for name in wanted["required"] if name != in_path]
    given = body.model_json_schema()
    assert given.get("properties", {}) == wanted["properties"]
    assert given.get("required", []) == wanted["required"]
    assert given["additionalProperties"] is False
