"""What a known fault is, and how it is put back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Fault:
    """A rule, and what undoes it. ``shows`` are kinds of findings of which at least one is to be among those found."""

    name: str
    rule: str
    shows: frozenset[str]
    undone: Callable[[], AbstractContextManager[Any]]


FAULTS: Final[dict[str, Fault]] = {}


def fault(
    name: str, rule: str, *shows: str
) -> Callable[[Callable[[], AbstractContextManager[Any]]], Callable[[], AbstractContextManager[Any]]]:
    def known(undone: Callable[[], AbstractContextManager[Any]]) -> Callable[[], AbstractContextManager[Any]]:
        FAULTS[name] = Fault(name, rule, frozenset(shows), undone)
        return undone

    return known


def put_back(name: str | None) -> AbstractContextManager[Any]:
    """The fault of this name, while the context lasts; None is no fault."""
    return nullcontext() if name is None else FAULTS[name].undone()
