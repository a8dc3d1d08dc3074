"""A run of ``make chaos`` waits for its end, and says what is left where it does not come."""

from __future__ import annotations

from typing import cast

import pytest

from tests.chaos.cluster import run
from tests.chaos.cluster.observing import Observer
from tests.chaos.town import Client


class Load:
    """A client that has nothing left to say."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def finish(self) -> None:
        self.did.append("finish")

    async def rest(self) -> None: ...

    async def end(self) -> None:
        self.did.append("end")

    async def stop(self) -> None:
        self.did.append("stop")


class Seen:
    """What an observer sees: so many submissions never get an answer."""

    def __init__(self, undecided: int) -> None:
        self.views, self.told = {0: 10}, {0: 10}
        self._undecided = undecided

    def undecided(self) -> int:
        return self._undecided

    def behind(self, positions: dict[int, int]) -> int:
        return 10 - positions.get(0, 0)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SETTLE_SECONDS", 2.0)
    monkeypatch.setattr(run, "_QUIET_SECONDS", 0.6)


async def test_once_nothing_is_left_and_nothing_new_comes_the_clients_end() -> None:
    load = Load()
    assert await run.settled([cast(Client, load)], cast(Observer, Seen(undecided=0))) == {}
    assert load.did == ["finish", "end"]


async def test_what_is_left_in_the_end_is_said_and_the_clients_are_stopped() -> None:
    load = Load()
    left = await run.settled([cast(Client, load)], cast(Observer, Seen(undecided=3)))
    assert left == {"undecided": 3, "not in the views": 0, "not told": 0}
    assert load.did == ["finish", "stop"]
