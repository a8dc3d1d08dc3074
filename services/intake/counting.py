"""What became of what came to the doors, for the metrics: each once, whether intake refuses it or what stands before it does."""

from __future__ import annotations

from typing import Final

from referral_bus.runtime import metrics
from referral_bus.runtime.refusals import MostRefused
from referral_bus.web.problems import Problem
from services.intake.answers import Admitted
from services.intake.checks import Door
from services.intake.refusals import REASONS, Counted, Refused

_REASONS: Final = frozenset({*REASONS, "no_token", "token_refused"})
_OF_OPERATIONS: Final = ("/v1/reference", "/v1/subjects/")


_MOST_REFUSED: Final = MostRefused("border")


def count(door: Door, organisation: str, result: Admitted | Refused) -> None:
    """Count what became of a submission of this organisation."""
    if isinstance(result, Admitted):
        metrics.SUBMISSIONS.labels(door=door, result="repeated" if result.repeated else "admitted").inc()
        if not result.repeated:
            _MOST_REFUSED.taken(organisation)
        return
    _refused(door, result.reason)
    if result.reason != "unavailable":
        _MOST_REFUSED.add(organisation, result.reason)


def turned_away(path: str, problem: Problem, organisation: str | None) -> None:
    """Count a request of the organisation that was answered with a problem, unless it was counted where that was decided. Whoever asked for
    what is not there was not refused."""
    if isinstance(problem, Counted) or problem.code not in _REASONS or not path.startswith("/v1/"):
        return
    if path.startswith(_OF_OPERATIONS):
        metrics.REFUSED_AT_BORDER.labels(reason=problem.code).inc()
    else:
        _refused("events" if path == "/v1/events" else "api", problem.code)
        if organisation is not None and problem.code != "unavailable":
            _MOST_REFUSED.add(organisation, problem.code)


def _refused(door: Door, reason: str) -> None:
    result = "unavailable" if reason == "unavailable" else "refused"
    metrics.SUBMISSIONS.labels(door=door, result=result).inc()
    metrics.REFUSED_AT_BORDER.labels(reason=reason).inc()
