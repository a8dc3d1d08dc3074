"""What a party said in an event that another is shown: an outcome, how it is later, a question about an offer, its answer. Pure.

The codes stand in the event in clear; free text is sealed with the person's identity key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from referral_bus.contracts.ledger import (
    Event,
    FollowedUp,
    InformationAsked,
    InformationGiven,
    JoinedOutcomeCorrected,
    OutcomeReported,
)
from referral_bus.contracts.vocabulary import DataClass


@dataclass(frozen=True, slots=True)
class Report:
    """What was said. ``sealed_text`` is the free text that came with it, if any did."""

    codes: Mapping[str, Any]
    sealed_text: bytes | None = None


CLASSES: Final[dict[str, DataClass]] = {
    OutcomeReported.event_type(): "outcome",
    JoinedOutcomeCorrected.event_type(): "outcome",
    FollowedUp.event_type(): "outcome",
    InformationAsked.event_type(): "exchange",
    InformationGiven.event_type(): "exchange",
}
"""The class of data a report is, by the type of its event."""

TEXTS: Final[dict[str, str]] = {
    OutcomeReported.event_type(): "note",
    FollowedUp.event_type(): "note",
    InformationAsked.event_type(): "question",
    InformationGiven.event_type(): "answer",
}
"""What the free text is called where it is shown."""


def report(event: Event) -> Report | None:
    """What was said in the event, if it is of a kind that says something."""
    match event:
        case OutcomeReported():
            said = {"outcome": event.result, "cause": event.cause, "corrects": event.corrects}
            return Report(_given(said), event.sealed_note)
        case JoinedOutcomeCorrected():
            return Report({"outcome": event.result, "corrects": event.corrects})
        case FollowedUp():
            said = {"outcome": event.result, "days": event.days, "corrects": event.corrects}
            return Report(_given(said), event.sealed_note)
        case InformationAsked():
            return Report({}, event.sealed_question)
        case InformationGiven():
            return Report({}, event.sealed_answer)
        case _:
            return None


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}
