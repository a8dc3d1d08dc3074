"""What the metrics tell of the regions a process owns, and of what was committed in them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import get_args

import pytest
from prometheus_client import REGISTRY

from referral_bus.contracts.facts import Need
from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.vocabulary import DECLINES, URGENCIES, CloseReason, OutcomeResult
from referral_bus.directory.taxonomy import categories
from referral_bus.log import topics
from referral_bus.log.port import Partition
from referral_bus.runtime.refusals import MostRefused
from referral_bus.wire.codec import Codec
from services.matching import batch
from services.matching.gauges import Gauges
from tests.support.deciding import (
    BUS,
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    REGION,
    Site,
    accept,
    decline,
    give_back,
    of,
    offers,
    outcome,
    publish,
    start,
    withdraw,
)

HERE = Partition(topics.inbox(BUS), 0)


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"refbus_matching_{name}", labels)


def of_region(name: str, **labels: str) -> float | None:
    return told(name, region=REGION, **labels)


@pytest.fixture
async def site(codec: Codec) -> Site:
    """One service with three places, and a crisis referral that was offered to it."""
    site = await Site.opened(codec)
    await site.put(publish(offers("beds", total=3)), "shelter")
    asked = await site.submission()
    await site.put(asked.model_copy(update={"urgency": "crisis"}), "police")
    await site.decide()
    return site


async def test_places_are_told_by_their_state_and_as_stale_after_a_day(site: Site) -> None:
    gauges = Gauges(site.clock)
    await site.put(accept(of()), "shelter")
    await site.put(await site.submission(number=2), "police")
    await site.decide()
    gauges.tell({HERE: site.work})
    assert [of_region("places", state=state) for state in ("free", "held", "taken")] == [1, 1, 1]
    assert (of_region("places_stale"), told("offers_open", partition="0")) == (0, 1)
    site.clock.advance(DAY + HOUR)
    gauges.tell({HERE: site.work})
    assert of_region("places_stale") == 1


async def test_a_crisis_referral_nobody_accepts_is_overdue_after_the_time_its_protocol_gives(
    site: Site,
) -> None:
    gauges = Gauges(site.clock)
    gauges.tell({HERE: site.work})
    assert (of_region("crisis_overdue"), of_region("unaccepted", urgency="crisis")) == (0, 1)
    site.clock.advance(MINUTE + 1_000)
    gauges.tell({HERE: site.work})
    assert of_region("crisis_overdue") == 1
    assert of_region("unaccepted_oldest_seconds", urgency="crisis") == pytest.approx(61, abs=1)
    await site.put(withdraw(of()), "police")
    await site.decide()
    gauges.tell({HERE: site.work})
    assert (of_region("crisis_overdue"), of_region("unaccepted", urgency="crisis")) == (0, 0)


async def test_who_waits_for_a_place_is_told(site: Site) -> None:
    for number in range(2, 5):
        asked = await site.submission(number=number)
        await site.put(asked.model_copy(update={"mode": "waitlist"}), "police")
    await site.decide()
    Gauges(site.clock).tell({HERE: site.work})
    assert of_region("waitlisted") == 1


async def test_what_another_process_owns_is_told_here_no_longer(site: Site) -> None:
    gauges = Gauges(site.clock)
    gauges.tell({HERE: site.work})
    assert of_region("places", state="free") == 2
    gauges.tell({})
    assert of_region("places", state="free") is None
    assert told("referrals_active", partition="0") is None


async def test_the_way_of_a_referral_is_told_once_it_is_committed(site: Site) -> None:
    def counts() -> list[float]:
        stages = [
            told("referral_seconds_count", stage=stage, urgency="crisis") for stage in ("accepted", "started")
        ]
        closed = told("closed_total", reason="outcome_reported", result="need_met")
        unmatched = told("unmatched_total", urgency="urgent")
        return [value or 0 for value in (*stages, closed, unmatched)]

    before = counts()
    await site.put(accept(of()), "shelter")
    await site.put(start(of(), site.clock.now()), "shelter")
    await site.put(outcome(of()), "shelter")
    for number in range(2, 6):
        await site.put(await site.submission(number=number), "police")
    await site.decide()
    assert [after - was for was, after in zip(before, counts(), strict=True)] == [1, 1, 1, 1]


async def test_whose_no_it_is_is_told_of_who_declines_and_of_who_gives_a_person_back(site: Site) -> None:
    def counts() -> list[float]:
        ours, theirs = ("provider", "no_capacity"), ("client", "could_not_reach")
        return [told("declined_total", side=side, reason=reason) or 0 for side, reason in (ours, theirs)]

    before = counts()
    await site.put(accept(of()), "shelter")
    await site.put(give_back(of(), 1, "could_not_reach"), "shelter")
    await site.decide()
    assert [after - was for was, after in zip(before, counts(), strict=True)] == [0, 1]
    await site.put(await site.submission(number=2), "police")
    await site.put(decline(of(number=2), 1, "no_capacity"), "shelter")
    await site.decide()
    assert [after - was for was, after in zip(before, counts(), strict=True)] == [1, 1]


_AT_THE_START = """
import json
from prometheus_client import REGISTRY
import services.matching.batch
samples = [sample for family in REGISTRY.collect() for sample in family.samples]
print(json.dumps([
    sorted([[s.labels["reason"], s.labels["result"]] for s in samples if s.name == "refbus_matching_closed_total"]),
    sorted([[s.labels["stage"], s.labels["urgency"]] for s in samples if s.name == "refbus_matching_referral_seconds_count"]),
    sorted([[s.labels["side"], s.labels["reason"]] for s in samples if s.name == "refbus_matching_declined_total"]),
]))
"""


def test_the_first_end_of_any_kind_and_the_first_to_reach_any_stage_are_an_increase() -> None:
    """In a process of its own: other tests have ended referrals by now in this one."""
    done = subprocess.run([sys.executable, "-c", _AT_THE_START], capture_output=True, text=True, check=True)
    closed, stages, declined = ([tuple(one) for one in labels] for labels in json.loads(done.stdout))
    results = get_args(OutcomeResult)
    # What came of a part that a no-show ended is, for the whole, that the need was not met.
    by_reason = {
        "outcome_reported": results,
        "withdrawn": ("none", *results),
        "parts_closed": ("none", *(one for one in results if one != "no_show")),
    }
    assert closed == sorted(
        (reason, result) for reason in get_args(CloseReason) for result in by_reason.get(reason, ("none",))
    )
    assert stages == sorted(itertools.product(("acknowledged", "accepted", "started"), URGENCIES))
    assert declined == sorted((meant.side, reason) for reason, meant in DECLINES.items())


async def test_a_refusal_is_its_sender_s(site: Site) -> None:
    await site.put(withdraw(of()), "hospital")
    await site.put(withdraw(of(number=9)), "police")
    await site.decide()
    was = REGISTRY.get_sample_value("refbus_refused_by_one", {"where": "ledger"})
    assert was is not None and was >= 1


async def test_a_row_of_refusals_ends_with_what_is_taken_and_not_with_what_is_repeated_or_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_a_row() -> float | None:
        await site.decide()
        return REGISTRY.get_sample_value("refbus_refused_in_a_row", {"where": "ledger"})

    monkeypatch.setattr(batch, "_MOST_REFUSED", MostRefused("ledger"))
    asked = await site.submission(number=2)
    await site.put(asked, "hospital", id="asked")
    for _ in range(3):
        await site.put(withdraw(of()), "hospital")
    assert await in_a_row() == 3
    await site.put(await site.submission(number=3), "police")
    await site.put(withdraw(of(number=9)), "hospital")
    await site.put(asked, "hospital", id="asked")
    assert await in_a_row() == 3
    await site.put(await site.submission(number=4), "hospital")
    assert await in_a_row() == 0


async def test_what_waited_in_vain_is_its_sender_s_refusal_and_what_waited_well_ends_a_row(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = MostRefused("ledger")
    monkeypatch.setattr(batch, "_MOST_REFUSED", most)
    added: list[str] = []
    monkeypatch.setattr(most, "add", lambda organisation, _: added.append(organisation))
    monkeypatch.setattr(most, "taken", lambda organisation: added.append(f"not {organisation}"))
    await site.put(withdraw(of(number=9)), "police")
    await site.put(withdraw(of("hospital", number=8)), "hospital")
    await site.decide()
    assert added == []
    await site.put(await site.submission(number=9), "police", id="s-9")
    await site.decide()
    assert set(added) == {"not police"}
    added.clear()
    due = next(due.at for due in site.work.chains[REGION].state.due if due.kind == "parked")
    site.clock.set(due)
    await site.put(Tick(region=REGION, due=due), "matching")
    await site.decide()
    assert added == ["hospital"]


async def test_unmet_need_is_told_by_kind_and_of_nobody(site: Site) -> None:
    def counts() -> dict[tuple[str, str], float]:
        return {
            (sample.labels["need"], sample.labels["result"]): sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == "refbus_matching_needs_total"
        }

    before = counts()
    assert {need for need, _ in before} == {*categories().values(), "other"} and len(before) == 24
    shelter, unheard_of = Need(code="1121"), Need(vocabulary="ours", code="hugs")
    await site.put(publish(offers("nights", needs=[shelter.code], total=1)), "shelter")
    for number in range(2, 4):
        needed = HOUSING.model_copy(update={"needs": [shelter, unheard_of]})
        await site.put(await site.submission(needed, number=number), "police")
    await site.decide()
    grown = {labels: value - before[labels] for labels, value in counts().items() if value > before[labels]}
    assert grown == dict.fromkeys(itertools.product(("emergency", "other"), ("found", "none")), 1)
