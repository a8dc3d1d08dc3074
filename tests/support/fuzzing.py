"""Requests made up from a service's own OpenAPI page, valid and invalid ones, on every route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

_EXAMPLES = 20


def fuzz(
    base: str,
    tokens: Sequence[str],
    expected: set[int],
    change: Callable[[Any], None] = lambda _: None,
    examples: int = _EXAMPLES,
) -> dict[str, set[int]]:
    """Try every operation, each request with each of the tokens, and return the statuses each answered with. Fails on a status that is not
    ``expected``; ``change`` may alter a request before it is sent. Answers are not read beyond their headers: some never end."""
    schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
    schema.config.update(base_url=base)
    seen: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        statuses = seen.setdefault(operation.label, set())
        for mode in schemathesis.GenerationMode:
            try:
                _tried(base, operation, mode, tokens, expected, change, statuses, examples)()
            except Unsatisfiable:
                # A route that takes nothing can't be asked wrongly.
                if mode is not schemathesis.GenerationMode.NEGATIVE:
                    raise
    return seen


def _tried(
    base: str,
    operation: Any,
    mode: Any,
    tokens: Sequence[str],
    expected: set[int],
    change: Callable[[Any], None],
    statuses: set[int],
    examples: int,
) -> Callable[[], None]:
    @settings(max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def try_it(case: Any) -> None:
        change(case)
        for token in tokens:
            request = case.as_transport_kwargs(base_url=base, headers={"authorization": f"Bearer {token}"})
            with requests.request(stream=True, timeout=30, **request) as response:
                statuses.add(response.status_code)
                assert response.status_code in expected, (operation.label, response.status_code)

    return try_it
