"""What an outsider counts of the answers on a topic."""

from typing import Any

from benchmarks.outside import Counted, Datum, Tally


def offer(referral: str, unit: str = "u1") -> Datum:
    return Datum("OfferMade", {"referral": referral, "unit": unit})


def counted(events: list[Datum], referrals: tuple[str, ...] = ("r1", "r2"), **places: int) -> Counted:
    tally = Tally(referrals, places or {"u1": 9})
    for at, event in enumerate(events):
        tally.add(event, at)
    return tally.counted()


def test_each_referral_answered_once_is_neither_lost_nor_twice() -> None:
    assert counted([offer("r1"), Datum("ReferralClosed", {"referral": "r2"})])[:3] == (0, 0, 0)


def test_a_refusal_answers_the_referral_it_is_about() -> None:
    assert counted([offer("r1"), Datum("SubmissionRefused", {"about": "r2"})]).lost == 0


def test_what_has_no_answer_is_lost_whatever_else_was_written_of_it() -> None:
    others: list[tuple[str, dict[str, Any]]] = [
        ("ReferralOpened", {"referral": "r2"}),
        ("MatchDecided", {"referral": "r2"}),
    ]
    assert counted([offer("r1"), *(Datum(*one) for one in others)]).lost == 1


def test_every_answer_beyond_the_first_is_a_repeat() -> None:
    assert counted([offer("r1"), offer("r1"), offer("r1"), offer("r2")]).twice == 2


def test_offers_beyond_a_units_places_are_oversold_unit_by_unit() -> None:
    events = [offer("r1", "u1"), offer("r2", "u1"), offer("r1", "u2"), offer("r2", "u3")]
    assert counted(events, u1=1, u2=1, u3=0).oversold == 2


def test_a_place_sold_to_a_repeat_is_sold() -> None:
    assert counted([offer("r1"), offer("r1")], u1=1).oversold == 1


def test_an_answer_to_somebody_else_counts_only_against_places() -> None:
    found = counted([offer("r1"), offer("r2"), offer("other")], u1=2)
    assert (found.lost, found.twice, found.oversold) == (0, 0, 1)


def test_the_rate_is_what_came_after_the_first_moment_in_the_time_from_there_to_the_last() -> None:
    tally = Tally(("r1", "r2", "r3", "r4"), {"u1": 9})
    for referral, at in (("r1", 1_000), ("r2", 1_000), ("r3", 1_500), ("r4", 2_000)):
        tally.add(offer(referral), at)
    assert (tally.counted().per_second, tally.counted().last) == (2.0, 2_000)


def test_no_answers_have_no_rate() -> None:
    assert counted([]) == (2, 0, 0, 0.0, 0)
