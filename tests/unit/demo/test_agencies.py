from __future__ import annotations

from collections.abc import Sequence

from referral_bus.client.answers import Answer
from referral_bus.client.errors import BusError, Conflict, Refused
from referral_bus.contracts.facts import Facts, Need
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.demo.agencies import Agency, Event
from referral_bus.demo.expectations import Expectations


class Books:
    """A door that answers as the bus must: the first body under an id counts."""

    def __init__(self, later: bool = False) -> None:
        self.events: list[Event] = []
        self._bodies: dict[str, Event] = {}
        self._later = later

    async def put(self, events: Sequence[Event]) -> list[Answer | BusError | None]:
        self.events += events
        return [None if self._later else self._answer(event) for event in events]

    def _answer(self, event: Event) -> Answer | BusError:
        if self._bodies.setdefault(event["id"], event) != event:
            return Conflict("Used before.", status=409, code="id_reused")
        if event["id"].endswith("-malformed"):
            return Refused("Wrong.", status=422, code="invalid")
        if event["id"].endswith("-nothing"):
            return Refused("No such referral.", status=422, code="unknown_referral")
        referral = referral_id("north", "main", "line-211", event["id"])
        return Answer(submission=event["id"], region="north", token="north.0.1", referral=referral)


def requests(count: int) -> list[ReferralRequest]:
    facts = Facts(needs=[Need(code="1130")])
    return [
        ReferralRequest(subject=f"c-{n}", urgency="routine", facts=facts, region="north")
        for n in range(count)
    ]


async def test_among_twelve_referrals_there_is_everything_that_can_go_wrong() -> None:
    door, expected = Books(), Expectations()
    await Agency("line-211", "main", door, expected, seed=1, pause=0.0).run(requests(12))

    assert expected.faults == []
    assert len(expected.referrals) == 12 and expected.repeats == 2
    assert expected.refused_at_once == {"id_reused": 1, "invalid": 1, "unknown_referral": 1}


async def test_at_the_kafka_door_the_same_is_expected_later() -> None:
    door, expected = Books(later=True), Expectations()
    await Agency("line-211", "main", door, expected, seed=1, pause=0.0).run(requests(12))

    assert len(expected.referrals) == 12
    assert {next(iter(reasons)) for reasons in expected.refusals.values()} <= {
        "id_reused",
        "invalid",
        "malformed",
        "unknown_referral",
    }
    assert len(expected.refusals) == 3


async def test_a_bus_that_takes_everything_is_found_out() -> None:
    class TakesAll(Books):
        def _answer(self, event: Event) -> Answer | BusError:
            referral = referral_id("north", "main", "line-211", event["id"])
            token = f"north.0.{len(self.events)}"
            self.events.append(event)
            return Answer(submission=event["id"], region="north", token=token, referral=referral)

    expected = Expectations()
    await Agency("line-211", "main", TakesAll(), expected, seed=1, pause=0.0).run(requests(12))

    assert any("not answered like the first" in fault for fault in expected.faults)
    assert len(expected.refusals) == 3
