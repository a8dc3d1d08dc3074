"""The bell wakes those whom something concerns, and nobody else."""

from __future__ import annotations

import asyncio

from services.notifier.bell import Bell, Listening

LONG = 30.0


async def woken(listening: Listening) -> bool:
    """Whether it has been woken by now: what waits any longer does not end."""
    waiting = asyncio.create_task(listening.wait(LONG))
    for _ in range(5):
        await asyncio.sleep(0)
    done = waiting.done()
    waiting.cancel()
    return done


async def test_who_listens_to_an_organisation_is_woken_by_what_concerns_it_alone() -> None:
    bell = Bell()
    harbor, maple, anything = bell.listen("harbor"), bell.listen("maple"), bell.listen()
    bell.ring({"harbor"})
    assert (await woken(harbor), await woken(maple), await woken(anything)) == (True, False, True)


async def test_all_are_woken_at_once() -> None:
    bell = Bell()
    listening = [bell.listen("harbor"), bell.listen("harbor"), bell.listen("maple"), bell.listen()]
    bell.ring_all()
    assert [await woken(one) for one in listening] == [True] * 4


async def test_what_rings_before_somebody_listens_is_not_heard_again() -> None:
    bell = Bell()
    bell.ring({"harbor"})
    assert not await woken(bell.listen("harbor"))
    assert not await woken(bell.listen())


async def test_what_rings_between_listening_and_waiting_is_heard() -> None:
    bell = Bell()
    listening = bell.listen("harbor")
    bell.ring({"harbor"})
    bell.ring({"harbor"})
    assert await woken(listening)
