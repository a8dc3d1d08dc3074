"""What is refused before it is a submission is its sender's as well."""

from __future__ import annotations

import logging

import pytest

from referral_bus.runtime.refusals import TOLD_FROM
from referral_bus.web.problems import Problem
from services.intake.counting import turned_away


def test_an_organisation_that_sends_the_same_wrong_thing_again_and_again_is_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = Problem(422, "invalid", "urgency is missing. Correct it and send it again.", field="urgency")
    with caplog.at_level(logging.WARNING):
        for _ in range(TOLD_FROM):
            turned_away("/v1/referrals", wrong, "county-jail")
            turned_away("/v1/referrals", Problem(401, "no_token", "Send the token."), None)
            turned_away("/v1/reference", wrong, "operations")
    assert caplog.messages == [
        f"county-jail had {TOLD_FROM} submissions refused in ten minutes (border), the last as invalid"
    ]
