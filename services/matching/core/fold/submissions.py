"""Submissions that wait for what they refer to."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, get_args

from referral_bus.contracts.inbox import OfAService
from referral_bus.contracts.ledger import Meta, SubmissionParked, SubmissionRefused, SubmissionResumed
from services.matching.core.state import Due, Parked, Region

OF_A_SERVICE: Final = frozenset(report.event_type() for report in get_args(OfAService))
"""The types of what waits not only for its referral but for that to be accepted."""


def parked(state: Region, meta: Meta, event: SubmissionParked) -> None:
    if meta.submission is None:
        raise ValueError("it parks nothing")
    state.park(meta.sequence, Parked(meta.submission, event.waiting_for, event.until))
    state.expects(Due(event.until, "parked", "", meta.sequence))


def refused(state: Region, _: Meta, event: SubmissionRefused) -> None:
    if event.parked is not None:
        state.unpark(event.parked)


def resumed(state: Region, _: Meta, event: SubmissionResumed) -> None:
    state.ready.remove(event.parked)
    state.unpark(event.parked)


def wake(state: Region, what: str, but: Collection[str] = ()) -> None:
    """What was waited for has come, ``but`` not for submissions of these types."""
    waiting = state.waiting.get(what, ())
    state.ready.extend(one for one in waiting if state.parked[one].admitted.type not in but)
