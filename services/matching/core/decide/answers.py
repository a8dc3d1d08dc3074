"""What the handlers of submissions share: what they are given, and how they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from referral_bus.contracts.facts import Facts
from referral_bus.contracts.ledger import Admitted, Event, SubmissionRefused
from services.matching.core.state import Region

FactsGone = Literal["erased", "unreadable"]
"""Why facts can't be opened: the person's key was destroyed, or the section or its key is not what it should be."""

Opened = Facts | FactsGone
AllOpened = Mapping[str, Opened]
"""The facts a decision reads, by referral (see :func:`~services.matching.core.decide.wanted_facts`)."""


class Asked(NamedTuple):
    """A submission to be answered: who sent it and when, what ``now`` is, the facts it needs, and the rules this version knows."""

    state: Region
    admitted: Admitted
    now: int
    facts: AllOpened
    supported: frozenset[int]


def refused(reason: str, about: str) -> list[Event]:
    """The submission changes nothing."""
    return [SubmissionRefused(reason=reason, about=about)]
