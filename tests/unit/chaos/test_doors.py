"""A client of ``make chaos`` goes on to the twin of whoever gives no answer, and comes back: so each of the two has work before it."""

from __future__ import annotations

import httpx

from tests.support.load import _AWAY_SECONDS, Door

OWN, TWIN = httpx.URL("http://a:1"), httpx.URL("http://b:1")


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def door() -> tuple[Door, Clock]:
    clock = Clock()
    return Door(str(OWN), str(TWIN), clock), clock


def test_a_client_talks_to_its_own() -> None:
    assert door()[0].address() == OWN


def test_what_follows_a_request_that_broke_off_goes_to_the_twin_and_after_a_while_back() -> None:
    one, clock = door()
    one.broke_off(one.address())
    assert one.address() == TWIN
    clock.seconds += _AWAY_SECONDS - 0.1
    assert one.address() == TWIN
    clock.seconds += 0.1
    assert one.address() == OWN


def test_where_the_twin_gives_no_answer_either_the_own_is_asked_again_at_once() -> None:
    one, _ = door()
    one.broke_off(one.address())
    one.broke_off(one.address())
    assert one.address() == OWN


def test_requests_that_break_off_together_change_the_door_once() -> None:
    one, clock = door()
    first = second = one.address()
    one.broke_off(first)
    clock.seconds += 5
    one.broke_off(second)
    assert one.address() == TWIN
    clock.seconds += _AWAY_SECONDS - 5
    assert one.address() == OWN
