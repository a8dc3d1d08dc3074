"""What the checker of ``make chaos`` finds wrong with places that regions lend each other, with broadcasts and with waiting lists."""

from __future__ import annotations

import pytest

from referral_bus.contracts.ledger import ReferralCalled, ReferralWaitlisted
from tests.chaos.cluster.checker import findings
from tests.support.chaos_stories import Story, wrong
from tests.support.lending_stories import (
    ACCEPTED,
    OFFERED,
    OVER,
    UNTIL,
    broadcast,
    lending,
    overtaken,
    taken_elsewhere,
)
from tests.support.viewing import CODEC, accepted


def test_a_place_that_is_lent_used_and_given_back_is_good() -> None:
    found = findings(lending(*ACCEPTED, *OVER).ended(), CODEC)
    assert found.wrong == {kind: [] for kind in found.wrong}
    assert (found.counts["places lent"], found.counts["of them taken"], found.counts["freed"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("steps", "kinds"),
    [
        pytest.param(
            ("asked", "passed_on", "denied", "offered", *ACCEPTED[4:], *OVER), {"oversold"}, id="denied"
        ),
        pytest.param(
            (*OFFERED, "claimed", "passed_on", "denied_as_lost", "accepted", *OVER), {"oversold"}, id="lost"
        ),
        pytest.param((*ACCEPTED, "over_without_return", "freed_by_itself"), {"oversold"}, id="not returned"),
        pytest.param(
            (*ACCEPTED, "let_go", "returned", "return_passed_on", "nothing_held"), {"oversold"}, id="in use"
        ),
        pytest.param((*ACCEPTED, "returned", "return_passed_on", "nothing_held"), {"unanswered"}, id="kept"),
        pytest.param((*ACCEPTED, "over_without_return"), {"unanswered"}, id="forgotten"),
        pytest.param((*ACCEPTED, "returned"), {"lost", "unanswered"}, id="return lost"),
        pytest.param(("asked", "passed_on", "lent", "not_wanted"), {"unanswered"}, id="no end"),
        pytest.param(("asked",), {"lost", "unanswered"}, id="question lost"),
        pytest.param((*OFFERED, "lent_again", *ACCEPTED[4:], *OVER), {"duplicated"}, id="lent twice"),
        pytest.param((*ACCEPTED, *OVER, "freed_by_itself"), {"duplicated"}, id="freed twice"),
    ],
)
def test_a_place_that_its_regions_do_not_agree_on_is_found(steps: tuple[str, ...], kinds: set[str]) -> None:
    assert wrong(lending(*steps).ended()) == kinds


def test_a_place_that_two_regions_people_have_is_oversold() -> None:
    """The one was lent it, and the home gives it to its own."""
    story = lending(*ACCEPTED, places=1)
    own = story.other.opened()
    story.decides(own, story.other.offered(own), by=story.other)
    assert "oversold" in wrong(story.ended())


def test_what_is_passed_on_in_another_order_is_reordered() -> None:
    assert wrong(overtaken().ended()) == {"reordered"}


def test_a_broadcast_that_one_accepts_is_good() -> None:
    found = findings(broadcast(accepted, taken_elsewhere).ended(), CODEC)
    assert found.wrong == {kind: [] for kind in found.wrong}
    assert found.counts["broadcasts"] == 1


def test_a_broadcast_that_two_accept_is_a_duplicate() -> None:
    assert "duplicated" in wrong(broadcast(accepted, accepted).ended())


def test_an_offer_of_a_broadcast_that_is_left_open_is_unanswered() -> None:
    assert wrong(broadcast(accepted).ended()) == {"unanswered"}


def waiting(*, is_called: bool) -> Story:
    story = Story()
    story.decides(story.region.published())
    opened = story.region.opened().model_copy(update={"mode": "waitlist"})
    waits = ReferralWaitlisted(referral=opened.referral, services=["sv-north-beds"], review=UNTIL)
    events = (opened, story.region.matched(opened, service=None), waits)
    story.says("hospital", "s-1", opened.referral, *events, kind="SubmitReferral")
    if is_called:
        offer = story.region.offered(opened)
        story.decides(ReferralCalled(referral=opened.referral, service="sv-north-beds"), offer)
        story.serves(offer)
    return story


def test_who_waits_and_is_called_is_good() -> None:
    found = findings(waiting(is_called=True).ended(), CODEC)
    assert found.wrong == {kind: [] for kind in found.wrong}
    assert found.counts["waited"] == 1


def test_who_waits_for_ever_is_unanswered() -> None:
    assert wrong(waiting(is_called=False).ended()) == {"unanswered"}
