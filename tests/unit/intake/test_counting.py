"""What is refused before it is a submission is its sender's as well."""

from __future__ import annotations

import logging

import pytest

from referral_bus.runtime.refusals import TOLD_FROM, TOLD_IN_A_ROW
from referral_bus.web.problems import Problem
from services.intake.answers import Admitted, answer_of
from services.intake.counting import count, turned_away
from services.intake.refusals import Refused


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
        f"county-jail had {TOLD_IN_A_ROW} submissions refused one after the other (border), the last as invalid",
        f"county-jail had {TOLD_FROM} submissions refused in ten minutes (border), the last as invalid",
    ]


def test_an_organisation_of_which_something_is_taken_is_not_refused_in_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = answer_of("one", "north", 0, 1, None, (), "")
    refused, admitted, again = (
        Refused("invalid"),
        Admitted(answer, repeated=False),
        Admitted(answer, repeated=True),
    )
    for _ in range(3):
        for _ in range(TOLD_IN_A_ROW - 1):
            count("api", "county-court", refused)
        count("api", "county-court", admitted)
    assert caplog.messages == []
    for _ in range(TOLD_IN_A_ROW):
        count("api", "county-court", refused)
        count("api", "county-court", again)
    assert len(caplog.messages) == 1
