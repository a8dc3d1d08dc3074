"""A database in memory, as the doubles of what stands in SQL see it: what is done there is done at once or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Database(Protocol):
    """A way to the database."""

    async def ask(self, what: Callable[[], T], silent: Callable[[], Exception]) -> T:
        """Have it done there. Raises what ``silent`` makes where no answer comes."""


class Beside:
    """The way is short: nothing gets lost on it and nothing takes time, but ``away`` is away."""

    def __init__(self) -> None:
        self.away = False

    async def ask(self, what: Callable[[], T], silent: Callable[[], Exception]) -> T:
        if self.away:
            raise silent()
        return what()


def away() -> OSError:
    """What a driver says of a database that is not there."""
    return OSError("the database does not answer")
