"""What the checkers of ``make chaos`` and of the simulator find wrong with offers and acceptances."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    Event,
    OfferMade,
    ReferralClosed,
    ReferralReopened,
    ServiceProposed,
    SubmissionRefused,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import CancelReason
from tests.chaos.cluster.checker import findings
from tests.chaos.cluster.faults import ROUND
from tests.chaos.cluster.history import History
from tests.support.chaos_stories import Story, seen_in, story, wrong
from tests.support.counting import ways
from tests.support.lending_stories import ACCEPTED, OVER, lending
from tests.support.offering import misjudged
from tests.support.viewing import CODEC, SEALED, accepted, completed, expired

Says = Callable[[OfferMade], Event]


def offered() -> tuple[Story, OfferMade]:
    """One referral, and its offer, which is open."""
    made = Story()
    made.decides(made.region.published())
    return made, made.refers(1)


def offered_to_two(transfer: bool = False) -> tuple[Story, OfferMade, OfferMade]:
    """One referral that two are asked for, the second perhaps to take the person over."""
    made = Story()
    made.decides(made.region.published(), made.region.published("rooms", "clinic"))
    opened = made.region.opened()
    first = made.region.offered(opened)
    second = made.region.offered(opened, "clinic", 2, "rooms").model_copy(update={"transfer": transfer})
    made.decides(opened, first, second)
    return made, first, second


def claimed(offer: OfferMade) -> AcceptanceClaimed:
    return AcceptanceClaimed(
        referral=offer.referral, task=offer.task, provider=offer.provider, unit=offer.unit
    )


def cancelled(offer: OfferMade, reason: CancelReason) -> TaskCancelled:
    return TaskCancelled(referral=offer.referral, task=offer.task, provider=offer.provider, reason=reason)


def nobody_came(made: Story, offer: OfferMade, after: int) -> History:
    """The offer ends after so many milliseconds, and its referral with it."""
    made.region.now += after
    made.decides(
        expired(offer), ReferralClosed(referral=offer.referral, status="revoked", reason="offers_exhausted")
    )
    return made.ended()


def kinds(made: Story) -> list[str]:
    return [one.kind for one in misjudged(seen_in(made.history))]


def test_an_offer_that_ends_as_its_time_is_over_is_good() -> None:
    assert wrong(nobody_came(*offered(), after=60_000)) == set()


def test_an_offer_that_ends_before_its_time_is_refused() -> None:
    assert wrong(nobody_came(*offered(), after=59_000)) == {"refused"}


def test_an_offer_that_ends_while_its_acceptance_is_to_be_confirmed_ends_before_its_time() -> None:
    made, offer = offered()
    made.accepts(offer, claimed(offer))
    made.region.now += 60_000
    made.decides(expired(offer))
    assert kinds(made) == ["expired early"]


def refused_first(seconds: int) -> Story:
    """Of two acceptances the first, so long after the offer, is refused."""
    made, offer = offered()
    made.seconds = seconds
    made.accepts(offer, SubmissionRefused(reason="offer_expired"), id="a-1")
    made.serves(offer)
    return made


def test_an_acceptance_in_time_that_is_refused_is_told() -> None:
    assert wrong(refused_first(seconds=30).ended()) == {"refused"}


def test_an_acceptance_that_came_late_is_refused_by_right() -> None:
    assert wrong(refused_first(seconds=61).ended()) == set()


def test_a_bus_that_refuses_every_acceptance_is_found() -> None:
    made, offer = offered()
    made.accepts(offer, SubmissionRefused(reason="offer_not_open"))
    assert wrong(nobody_came(made, offer, after=60_000)) == {"refused"}


def test_what_is_to_be_confirmed_can_not_be_accepted_again_nor_anything_else_of_its_referral() -> None:
    made, first, second = offered_to_two()
    made.accepts(first, claimed(first))
    made.accepts(first, SubmissionRefused(reason="offer_not_open"), id="again")
    made.accepts(second, SubmissionRefused(reason="acceptance_pending"))
    made.decides(accepted(first), cancelled(second, "taken_elsewhere"))
    assert kinds(made) == []


def test_nothing_is_to_be_confirmed_once_that_came_to_nothing() -> None:
    made, first, second = offered_to_two()
    made.accepts(first, claimed(first))
    made.decides(cancelled(first, "no_answer"))
    made.accepts(second, SubmissionRefused(reason="acceptance_pending"), id="a-1")
    made.accepts(second, accepted(second))
    assert kinds(made) == ["refused wrongly"]


def test_an_acceptance_of_an_offer_that_is_over_is_oversold() -> None:
    made, offer = offered()
    made.region.now += 60_000
    made.decides(expired(offer))
    made.serves(offer)
    assert "oversold" in wrong(made.ended())


@pytest.mark.parametrize("end", [expired, lambda offer: cancelled(offer, "held")])
@pytest.mark.parametrize("accept", [accepted, claimed])
def test_what_is_over_is_accepted_wrongly(end: Says, accept: Says) -> None:
    made, offer = offered()
    made.region.now += 60_000
    made.decides(end(offer), accept(offer))
    assert kinds(made) == ["accepted wrongly"]


def test_who_proposed_another_service_can_not_accept_any_more() -> None:
    made, offer = offered()
    proposed = ServiceProposed(
        referral=offer.referral, task=offer.task, provider=offer.provider, service="sv-north-rooms"
    )
    made.decides(proposed)
    made.accepts(offer, SubmissionRefused(reason="offer_not_open"))
    assert kinds(made) == []
    made.decides(accepted(offer))
    assert kinds(made) == ["accepted wrongly"]


@pytest.mark.parametrize(
    ("first_says", "second_says"), [(accepted, accepted), (claimed, accepted), (claimed, claimed)]
)
def test_a_referral_that_two_accept_is_found(
    first_says: Says,
    second_says: Says,
) -> None:
    made, first, second = offered_to_two()
    made.accepts(first, first_says(first))
    made.accepts(second, second_says(second))
    assert kinds(made) == ["accepted twice"]


def test_who_takes_a_person_over_accepts_by_right() -> None:
    made, first, second = offered_to_two(transfer=True)
    made.accepts(first, accepted(first))
    made.accepts(second, claimed(second))
    made.decides(accepted(second), cancelled(first, "transferred"))
    assert kinds(made) == []


def test_who_is_given_back_is_accepted_by_another_by_right() -> None:
    made, first, second = offered_to_two()
    made.accepts(first, accepted(first))
    made.decides(cancelled(first, "given_back"))
    made.accepts(second, accepted(second))
    assert kinds(made) == []


def test_what_is_reopened_is_accepted_anew_by_right() -> None:
    made, first, second = offered_to_two()
    made.accepts(first, accepted(first))
    made.decides(*completed(first))
    made.decides(ReferralReopened(referral=first.referral, reason="need_returned", sealed_facts=SEALED))
    made.accepts(second, accepted(second))
    assert kinds(made) == []


def struck(history: History, times: int) -> History:
    [fault] = history.faults
    history.faults = [{**fault, "number": number} for number in range(1, times + 1)]
    history.recovered = dict.fromkeys(range(1, times + 1), 2.0)
    return history


def test_a_way_that_nobody_went_in_a_whole_round_is_told() -> None:
    history = struck(story().ended(), ROUND)
    assert wrong(history) == {"untried"}
    found = findings(history, CODEC).wrong["untried"]
    assert found == [f"{way}: 0 in {ROUND} faults" for way in ways([])]


def test_a_way_that_somebody_went_is_not_told() -> None:
    found = findings(struck(lending(*ACCEPTED, *OVER).ended(), ROUND), CODEC).wrong["untried"]
    told = {sentence.split(":")[0] for sentence in found}
    assert told == ways([]).keys() - {"places lent", "of them taken", "freed"}


def test_in_less_than_a_round_nobody_need_have_gone_all_ways() -> None:
    assert wrong(struck(story().ended(), ROUND - 1)) == set()
