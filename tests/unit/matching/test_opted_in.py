"""What services say beyond ages, areas and languages, and what a policy may ask for: criteria, borders, reach, hours, mappings, trust.

What each of these means by itself is held by the tests of its module; here it decides whom a referral is offered to, and stands in the
certificate.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from referral_bus.contracts.certificates import CRITERIA
from referral_bus.contracts.criteria import Criterion, Eligibility, holds
from referral_bus.contracts.facts import (
    Facts,
    Household,
    Need,
    NumberFact,
    PlaceFact,
    TextFact,
    TraitAnswer,
    TravelFact,
)
from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.ledger import Certificate, Judged, MatchDecided
from referral_bus.contracts.localtime import UtcOffset
from referral_bus.contracts.places import MICRO, Place, Polygon, ReachLimit, Ring
from referral_bus.contracts.reference import OfferLimits, TrustStep
from referral_bus.contracts.services import OpeningHours
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.contracts.vocabulary import Urgency, Verdict
from referral_bus.directory.taxonomy import crosswalks, open_eligibility
from referral_bus.embedded.reference import STANDARD_POLICY
from tests.support.deciding import (
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    OPERATIONS,
    POLICY,
    World,
    accept,
    decline,
    offers,
    policy,
    report,
    service_of,
)

HERE = PlaceFact(status="stated", latitude=0, longitude=0)
SQUARE = Polygon(rings=[Ring(points=[0, 0, 0, MICRO, MICRO, MICRO, MICRO, 0])])
VETERANS = Eligibility(service=holds(Criterion(kind="trait", one_of=["veteran"])))


def opted(world: World, **changes: Any) -> None:
    version = world.state.versions["policy", POLICY.policy] + 1
    world.send(policy(POLICY.model_copy(update={"version": version, **changes})), OPERATIONS)


def known(**said: Any) -> Facts:
    return HOUSING.model_copy(update=said)


def certified(
    world: World, facts: Facts = HOUSING, number: int = 1, urgency: Urgency = "urgent"
) -> Certificate:
    world.refer(facts, number=number, urgency=urgency)
    return next(event for event in reversed(world.events) if isinstance(event, MatchDecided)).certificate


def judged(world: World, facts: Facts = HOUSING, number: int = 1, urgency: Urgency = "urgent") -> Judged:
    """The one published service."""
    certificate = certified(world, facts, number, urgency)
    [one] = [*certificate.best, *certificate.misses]
    return one


def said_of(one: Judged, criterion: str) -> Verdict:
    return one.verdicts[CRITERIA.index(criterion)]


def best(world: World, facts: Facts = HOUSING, number: int = 1) -> list[str]:
    return [one.service.removeprefix("sv-north-") for one in certified(world, facts, number).best]


def north(metres: int) -> Place:
    """So far to the north of :data:`HERE`, within a metre or two."""
    return Place(latitude=metres * MICRO // 111_195, longitude=0)


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([TraitAnswer(trait="veteran", answer="yes")], "yes"),
        ([TraitAnswer(trait="veteran", answer="no")], "no"),
        ([TraitAnswer(trait="veteran", answer="unknown")], "unknown"),
        ([], "unknown"),
    ],
)
def test_a_services_own_criteria_rule_out_and_leave_open(
    world: World, answers: list[TraitAnswer], verdict: str
) -> None:
    world.publish(offers("beds", eligibility=VETERANS))
    one = judged(world, known(traits=answers))
    assert said_of(one, "criteria") == verdict
    assert bool(one.score) is (verdict != "no")


def test_the_certificate_says_for_which_kinds_of_fact_and_never_their_values(world: World) -> None:
    world.publish(
        offers(
            "beds",
            eligibility=Eligibility(service=holds(Criterion(kind="income", maximum=150))),
            documents=["lease"],
        )
    )
    income = Household(income=NumberFact(status="stated", value=387))
    one = judged(world, known(household=income))
    assert one.because == ["income"]
    assert "387" not in one.model_dump_json()
    assert judged(world, number=2).because == ["income", "document"]


def test_what_is_unknown_of_its_criteria_rules_out_where_the_provider_does_not_screen(world: World) -> None:
    world.publish(offers("beds", eligibility=VETERANS, screens=False))
    certificate = certified(world)
    assert [(one.criterion, one.services) for one in certificate.eliminated] == [("certainty", 1)]


def test_an_area_is_served_by_name_or_by_borders(world: World) -> None:
    world.publish(offers("beds", areas=["harbour"], polygons=[SQUARE], total=9))
    inside, outside = HERE, PlaceFact(status="stated", latitude=-5, longitude=0)
    for number, (place, verdict) in enumerate(((inside, "yes"), (outside, "no"), (PlaceFact(), "unknown"))):
        assert said_of(judged(world, known(place=place), number), "area") == verdict


def test_where_borders_are_all_a_service_names_they_decide(world: World) -> None:
    world.publish(offers("beds", areas=None, polygons=[SQUARE], total=9))
    nowhere = known(place=HERE, area=TextFact())
    assert said_of(judged(world, nowhere), "area") == "yes"
    assert said_of(judged(world, known(place=PlaceFact()), 2), "area") == "unknown"


def test_without_a_limit_nobody_is_out_of_reach(world: World) -> None:
    world.publish(offers("beds", places=[north(900_000)]))
    assert said_of(judged(world, known(place=HERE)), "reach") == "yes"


def test_reach_is_limited_by_urgency_and_way_of_travelling(world: World) -> None:
    opted(world, reach=[ReachLimit(urgency="urgent", travel="walk", metres=2_000)])
    world.publish(offers("beds", places=[north(5_000)], total=9))
    walks = known(place=HERE, travel=TravelFact(status="stated", value="walk"))
    drives = known(place=HERE, travel=TravelFact(status="stated", value="car"))
    assert said_of(judged(world, walks, 1), "reach") == "no"
    assert said_of(judged(world, drives, 2), "reach") == "yes"
    assert said_of(judged(world, walks, 3, "crisis"), "reach") == "yes"
    assert said_of(judged(world, HOUSING, 4), "reach") == "unknown"


def test_unknown_reach_and_hours_are_nothing_a_provider_screens_for(world: World) -> None:
    opted(
        world,
        reach=[ReachLimit(urgency="urgent", travel="walk", metres=2_000)],
        opens_within=OfferLimits(crisis=HOUR, urgent=HOUR, routine=HOUR),
    )
    world.publish(offers("beds", screens=False))
    one = judged(world)
    assert [said_of(one, "reach"), said_of(one, "hours")] == ["unknown", "unknown"]
    assert one.score[0] == 2


WEDNESDAY = int(datetime(2026, 11, 25, 8, 30, 45, tzinfo=UTC).timestamp() * 1000)
MORNINGS = {
    "hours": [OpeningHours(days=["WE"], opens=9 * 60, closes=12 * 60)],
    "offsets": [UtcOffset(since=0, minutes=0)],
}


def test_a_service_that_opens_too_late_for_the_urgency_is_ruled_out(world: World) -> None:
    opted(world, opens_within=OfferLimits(crisis=10 * MINUTE, urgent=HOUR, routine=7 * DAY))
    world.publish(offers("beds", total=9, **MORNINGS))
    world.now = WEDNESDAY
    assert said_of(judged(world, urgency="crisis"), "hours") == "no"
    assert said_of(judged(world, number=2, urgency="urgent"), "hours") == "yes"
    world.now = WEDNESDAY + 4 * HOUR
    assert said_of(judged(world, number=3, urgency="urgent"), "hours") == "no"
    assert said_of(judged(world, number=4, urgency="routine"), "hours") == "yes"


def test_who_opens_sooner_comes_first_and_who_says_nothing_last(world: World) -> None:
    opted(world, rank_by=["wait"])
    afternoons = [OpeningHours(days=["WE"], opens=13 * 60, closes=17 * 60)]
    world.publish(
        offers("silent"),
        offers("later", hours=afternoons, offsets=MORNINGS["offsets"]),
        offers("soon", **MORNINGS),
    )
    world.now = WEDNESDAY
    certificate = certified(world)
    assert [one.service for one in certificate.best] == [
        service_of(one) for one in ("soon", "later", "silent")
    ]
    assert [one.score[0] for one in certificate.best[:2]] == [30, 270]


def test_who_is_nearer_comes_first_by_hundreds_of_metres(world: World) -> None:
    opted(world, rank_by=["reach"])
    world.publish(
        offers("silent"),
        offers("far", places=[north(5_050)]),
        offers("near", places=[north(650)]),
        offers("calls", remote=True),
    )
    certificate = certified(world, known(place=HERE))
    assert [(one.service, one.score[0]) for one in certificate.best] == [
        (service_of("calls"), 0),
        (service_of("near"), 6),
        (service_of("far"), 50),
    ]


def test_who_names_the_persons_language_comes_before_who_serves_it_otherwise(world: World) -> None:
    opted(world, rank_by=["language"])
    world.publish(offers("silent", languages=None), offers("any"), offers("named", languages=["en"]))
    certificate = certified(world)
    assert [one.service for one in certificate.best] == [
        service_of(one) for one in ("named", "any", "silent")
    ]
    assert [one.score[0] for one in certificate.best] == [0, 1, 2]


def test_a_count_is_trusted_by_the_published_curve(world: World) -> None:
    curve = [TrustStep(hours=2, thousandths=800), TrustStep(hours=24, thousandths=100)]
    opted(world, rank_by=["freshness"], trust=curve)
    world.publish(offers("days-old"), offers("hours-old"), offers("fresh"))
    world.now += 30 * HOUR
    world.send(report("hours-old", 1, 1, world.now), "shelter")
    world.now += 3 * HOUR
    world.send(report("fresh", 1, 1, world.now), "shelter")
    certificate = certified(world)
    assert [one.service for one in certificate.best] == [
        service_of(one) for one in ("fresh", "hours-old", "days-old")
    ]
    assert [one.score[0] for one in certificate.best] == [0, 200, 900]


def test_who_had_no_place_after_all_comes_behind_who_had_one(world: World) -> None:
    opted(world, rank_by=["reliability"], full_ms=0)
    world.publish(offers("promises", total=9))
    world.send(decline(world.refer(number=1), 1, "no_capacity"), "shelter")
    world.publish(offers("unknown", total=9))
    assert best(world, number=2)[0] == "unknown"
    world.publish(offers("keeps", "clinic", total=9, needs=["food"]))
    food = known(needs=[Need(code="food")])
    world.send(accept(world.refer(food, number=3)), "clinic")
    world.publish(offers("keeps", "clinic", total=9))
    certificate = certified(world, number=4)
    assert [one.service for one in certificate.best] == [
        service_of(one) for one in ("keeps", "unknown", "promises")
    ]
    assert [one.score[0] for one in certificate.best] == [333, 500, 666]


TAXONOMY = Taxonomy.model_validate(
    {
        "taxonomy": "openeligibility",
        "terms": [
            {"code": "housing"},
            {"code": "shelter", "parent": "housing"},
            {"code": "bed", "parent": "shelter"},
        ],
    }
)
CROSSWALK = Crosswalk.model_validate(
    {
        "crosswalk": "oe-211",
        "version": 3,
        "source": "openeligibility",
        "target": "taxonomy211",
        "mappings": [{"source": "shelter", "target": "BH-1800", "relation": "equal", "confidence": 850}],
    }
)


def adopt(world: World, content: Taxonomy | Crosswalk) -> None:
    kind: Any = "taxonomy" if isinstance(content, Taxonomy) else "crosswalk"
    name = content.taxonomy if isinstance(content, Taxonomy) else content.crosswalk
    body = AdoptReference.model_validate(
        {"kind": kind, "reference": name, "version": content.version, kind: content}
    )
    world.send(body, OPERATIONS)


def test_an_adopted_taxonomy_lets_a_need_find_narrower_services_from_then_on(world: World) -> None:
    world.publish(offers("beds", needs=["bed"]), offers("help", needs=["law"]))
    assert best(world) == []
    adopt(world, TAXONOMY)
    one = certified(world, number=2).best[0]
    assert (one.service, one.mapping, one.confidence) == (service_of("beds"), None, 1000)
    wider = known(needs=[Need(code="bed")])
    world.publish(offers("beds", active=False), offers("any", needs=["housing"]))
    assert best(world, wider, 3) == []


def test_a_need_finds_a_service_of_another_vocabulary_and_the_certificate_says_by_which_mapping(
    world: World,
) -> None:
    opted(world, rank_by=["mapping", "load"])
    adopt(world, TAXONOMY)
    adopt(world, CROSSWALK)
    coded = [Need(vocabulary="taxonomy211", code="BH-1800")]
    world.publish(offers("theirs").model_copy(update={"terms": coded}), offers("ours", total=2, available=1))
    certificate = certified(world)
    assert [(one.service, one.mapping, one.confidence) for one in certificate.best] == [
        (service_of("ours"), None, 1000),
        (service_of("theirs"), "oe-211@3", 850),
    ]
    assert [one.score[0] for one in certificate.best] == [0, 150]


@pytest.mark.parametrize(
    ("need", "term", "found_by"),
    [
        (Need(vocabulary="gravity", code="food-insecurity"), "1130", ("gravity-openeligibility@1", 950)),
        (Need(vocabulary="hud", code="1"), "1135", ("hud-openeligibility@1", 900)),
        (Need(vocabulary="hud", code="13"), "1140", ("hud-openeligibility@1", 650)),
    ],
    ids=lambda one: one.code if isinstance(one, Need) else "",
)
def test_a_need_of_another_vocabulary_is_offered_to_a_service_of_open_eligibility_by_a_shipped_crosswalk(
    world: World, need: Need, term: str, found_by: tuple[str, int]
) -> None:
    for content in (open_eligibility(), *crosswalks()):
        adopt(world, content)
    world.publish(offers("other", needs=["1375"]), offers("meets", needs=[term]))
    [one] = certified(world, known(needs=[need])).best
    assert (one.service, (one.mapping, one.confidence)) == (service_of("meets"), found_by)


def test_the_least_sure_of_several_needs_counts(world: World) -> None:
    adopt(world, TAXONOMY)
    adopt(world, CROSSWALK)
    coded = [Need(vocabulary="taxonomy211", code="BH-1800"), Need(code="food")]
    world.publish(offers("theirs").model_copy(update={"terms": coded}))
    one = judged(world, known(needs=[Need(code="food"), Need(code="housing")]))
    assert (one.mapping, one.confidence) == ("oe-211@3", 850)


def test_all_of_it_is_decided_again_alike_from_the_ledger(world: World) -> None:
    adopt(world, TAXONOMY)
    adopt(world, CROSSWALK)
    opted(
        world,
        rank_by=["certainty", "mapping", "wait", "reach", "language", "reliability", "freshness", "lottery"],
        reach=[ReachLimit(urgency="urgent", travel="walk", metres=2_000)],
        opens_within=OfferLimits(crisis=HOUR, urgent=7 * DAY, routine=7 * DAY),
        trust=[TrustStep(hours=1, thousandths=500)],
    )
    world.publish(
        offers("a", eligibility=VETERANS, places=[north(700)], total=4, **MORNINGS),
        offers("b", needs=["bed"], polygons=[SQUARE], areas=None, total=4),
        offers("c", remote=True, languages=["en"], total=4),
    )
    for number in range(1, 5):
        world.now += 5 * HOUR
        referral = world.refer(known(place=HERE), number=number)
        task = world.task(referral)
        world.send(decline(referral) if number % 2 else accept(referral), task.provider)
    assert world.again() == [value for _, value in world.entries]


def test_no_more_services_are_waited_for_than_an_event_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.matching.core.judging.match.MOST_WAITED_FOR", 2)
    world.publish(*(offers(f"s{number}", total=0) for number in range(4)))
    referral = world.refer(mode="waitlist")
    assert world.state.referrals[referral].waits_for == (service_of("s0"), service_of("s1"))


class TestStandardPolicy:
    """What the policy that is shipped makes of who lets people down, and of what makes no difference."""

    @staticmethod
    def near_and_not_so_near(world: World) -> Facts:
        """Two services that are alike, the shelter's 110 m away and the clinic's 280 m."""
        world.send(policy(STANDARD_POLICY), OPERATIONS)
        world.follow(maximum_offers=20)
        for local, provider, latitude in (("near", "shelter", 1_000), ("far", "clinic", 2_500)):
            place = Place(latitude=latitude, longitude=0)
            world.publish(offers(local, provider, total=200, places=[place]))
        at = PlaceFact(status="stated", latitude=0, longitude=0)
        return HOUSING.model_copy(update={"place": at})

    def test_who_again_and_again_has_no_place_is_asked_behind_who_is_as_good_and_does(
        self, world: World
    ) -> None:
        facts = self.near_and_not_so_near(world)
        doubting_nothing = STANDARD_POLICY.model_copy(
            update={"version": STANDARD_POLICY.version + 1, "full_ms": 0}
        )
        world.send(policy(doubting_nothing), OPERATIONS)
        asked = []
        for number in range(1, 21):
            referral = world.refer(facts, number=number)
            attempt = 1
            while (provider := world.state.referrals[referral].tasks[-1].provider) == "shelter":
                asked.append(provider)
                world.send(decline(referral, attempt, "no_capacity"), "shelter")
                attempt += 1
            asked.append(provider)
            world.send(accept(referral, attempt), provider)
        assert asked.count("shelter") <= 3
        assert asked[-10:] == ["clinic"] * 10

    def test_a_street_makes_no_difference_and_a_kilometre_does(self, world: World) -> None:
        facts = self.near_and_not_so_near(world)
        firsts = {
            world.state.referrals[world.refer(facts, number=number)].tasks[0].provider
            for number in range(1, 21)
        }
        assert firsts == {"shelter", "clinic"}
        world.publish(offers("far", "clinic", total=200, places=[Place(latitude=20_000, longitude=0)]))
        firsts = {
            world.state.referrals[world.refer(facts, number=number)].tasks[0].provider
            for number in range(21, 31)
        }
        assert firsts == {"shelter"}

    def test_the_certificate_shows_what_was_and_not_its_band(self, world: World) -> None:
        facts = self.near_and_not_so_near(world)
        world.refer(facts)
        certificate = next(
            entry.event.certificate for entry, _ in world.entries if isinstance(entry.event, MatchDecided)
        )
        by = STANDARD_POLICY.rank_by
        assert {one.score[by.index("reach")] for one in certificate.best} == {1, 2}
