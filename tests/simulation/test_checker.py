"""What the simulator's checker finds of places that regions lend each other, on made-up ledgers: two regions, as nobody decided them."""

from __future__ import annotations

from collections import defaultdict

import pytest

from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.sealing.memory import KeyTable
from referral_bus.store.memory import MemoryViews
from services.projections.tables import SERVING
from tests.simulation.checker import Evidence, check
from tests.simulation.saying import Seen
from tests.simulation.world import PARTIES, REGIONS
from tests.support.chaos_stories import Story
from tests.support.deciding import BUS
from tests.support.lending_stories import (
    ACCEPTED,
    OFFERED,
    OVER,
    Borrowing,
    broadcast,
    goes,
    lending,
    overtaken,
    taken_elsewhere,
)
from tests.support.memory_notifier import NotifierTables
from tests.support.viewing import START, accepted

OF_PLACES = (
    *("oversold", "duplicated", "unanswered", "not relayed", "reordered"),
    *("accepted twice", "accepted wrongly", "refused wrongly", "expired early"),
)


async def found_in(story: Story) -> dict[str, list[str]]:
    """What is found of lent places and offers: that nobody decided any of it, nor showed or told it, is found too."""
    log = MemoryLog(lambda: START)
    await log.ensure(topics.topics(BUS, len(REGIONS), 1, PARTIES))
    appender = await log.appender()
    for topic in (topics.inbox(BUS), topics.ledger(BUS)):
        for one in story.history.records[topic]:
            await appender.append([Outgoing(topic, one.partition, one.key, one.value or b"", one.headers)])
    views, notifier = MemoryViews(SERVING.views), NotifierTables([])
    found = await check(Evidence(log, views, notifier, KeyTable(), "", "", Seen(), START))
    told: defaultdict[str, list[str]] = defaultdict(list)
    for kind, what in found:
        if kind in OF_PLACES:
            told[kind].append(what)
    return told


async def test_a_place_that_is_lent_used_and_given_back_is_good() -> None:
    assert await found_in(lending(*ACCEPTED, *OVER)) == {}


@pytest.mark.parametrize(
    ("steps", "kinds", "told"),
    [
        pytest.param(
            ("asked", "passed_on", "denied", "offered", *ACCEPTED[4:], *OVER),
            {"oversold"}, "was offered a place of un-south-beds that was not lent", id="not lent",
        ),
        pytest.param(
            (*OFFERED, "claimed", "passed_on", "denied_as_lost", "accepted", *OVER),
            {"oversold"}, "was given a place that its region did not let it take", id="lost",
        ),
        pytest.param(
            (*ACCEPTED, "over_without_return", "freed_by_itself"),
            {"oversold"}, "has a place that is free by its region, and did not return it", id="not returned",
        ),
        pytest.param(
            (*ACCEPTED, "let_go", "returned", "return_passed_on", "nothing_held"),
            {"oversold"}, "had taken the place that its region let go", id="let go",
        ),
        pytest.param(
            (*OFFERED, "lent_again", *ACCEPTED[4:], *OVER),
            {"duplicated"}, "CapacityLent 2 times", id="lent twice",
        ),
        pytest.param(
            (*ACCEPTED, "returned", "return_passed_on", "nothing_held"),
            {"unanswered"}, "has a place that nobody uses and that was never given back", id="kept",
        ),
        pytest.param(
            ("asked",), {"unanswered", "not relayed"}, "asked for a place and had no answer", id="not passed on",
        ),
    ],
)  # fmt: skip
async def test_a_place_that_its_regions_do_not_agree_on_is_found(
    steps: tuple[str, ...], kinds: set[str], told: str
) -> None:
    found = await found_in(lending(*steps))
    assert found.keys() == kinds
    assert any(told in what for sentences in found.values() for what in sentences)


async def test_a_lent_place_that_its_home_frees_and_gives_to_somebody_else_is_found() -> None:
    """Of its one place the home's own ledger never says that two had it."""
    story = Story()
    home = story.other
    story.decides(home.published(total=1), by=home)
    lent = Borrowing(story)
    goes(lent, (*OFFERED, "let_go"))
    own = home.opened()
    story.decides(own, home.offered(own), by=home)
    lent.accepted()
    found = await found_in(story)
    assert any("did not let it take" in what for what in found["oversold"])


async def test_what_is_passed_on_in_another_order_is_found() -> None:
    assert (await found_in(overtaken())).keys() == {"reordered"}


async def test_a_broadcast_that_one_accepts_is_good() -> None:
    assert await found_in(broadcast(accepted, taken_elsewhere)) == {}


async def test_a_broadcast_that_two_accept_is_found() -> None:
    assert (await found_in(broadcast(accepted, accepted))).keys() == {"accepted twice"}
