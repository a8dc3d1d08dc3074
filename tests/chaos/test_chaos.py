"""A worker is thought dead and comes back, then each service is killed while it has work before it; then all is counted.

One run serves all tests here. Everything is read by outsiders: a client that kept its own list of what was acknowledged, another Kafka
client that reads committed data only, and the commands that anyone can run.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import httpx
import pytest

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import OfferMade, ReferralOpened
from referral_bus.contracts.vocabulary import Role
from referral_bus.demo.audit import audit
from tests.chaos.conftest import TABLES
from tests.chaos.results import Result, result_of
from tests.chaos.strikes import Striker
from tests.chaos.town import PLACES, town
from tests.support.checking import (
    answered_once,
    at_their_tokens,
    ended,
    feed_places,
    heard_of,
    in_order,
    told_all,
    told_of_deliveries,
)
from tests.support.counting import ways
from tests.support.lending import (
    given_and_not_lent,
    lent_twice,
    never_given_back,
    not_passed_on,
    passed_on_out_of_order,
)
from tests.support.offering import misjudged

# On a machine that is busy with more than this it takes eight minutes: the notifier falls behind, offers expire, and there is more to tell.
pytestmark = pytest.mark.timeout(900)

_BURST = 18
_FENCED_SECONDS = 5.0
_PAUSES = 10
_FENCED = re.compile(r'^refbus_matching_transactions_failed_total\{reason="fenced"\} (\d+)', re.MULTILINE)
_ROUND = (
    ("intake-1",),
    ("matching-1",),
    ("notifier-1",),
    ("matching-2",),
    ("projections-1",),
    ("matching-1", "matching-2"),
)


@pytest.fixture(scope="module")
def result(
    request: pytest.FixtureRequest, kafka: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    done = asyncio.run(_run(tmp_path_factory.mktemp("chaos"), kafka, postgres))
    request.config.stash.setdefault(TABLES, []).append(done.table())
    return done


async def _run(home: Path, kafka: str, database: str) -> Result:
    async with town(home, "chaos", kafka, database) as place:
        striker = Striker(place, _BURST)
        fenced = await _paused(striker, "matching-1")
        for victims in _ROUND:
            await striker.kill_and_restart(*victims)
        # Once more, and this time a worker dies while the other is still coming back.
        await striker.kill("matching-1")
        async with asyncio.TaskGroup() as group:
            group.create_task(place.restart("matching-1"))
            second = await striker.kill("matching-2")
            group.create_task(place.restart("matching-2"))
            group.create_task(striker.watch(second))
        await place.settled()
        return await result_of(place, striker.strikes, striker.unwanted, fenced)


async def _paused(striker: Striker, worker: str) -> int:
    """Pause a matching worker (SIGSTOP) until the other has taken over what it was at, and let it go on. Returns how many of its
    transactions did not commit since another owner had started.

    A worker that was stopped between two batches may hear first that it is out of the group, and then has nothing to be fenced from:
    it is paused again.
    """
    for _ in range(_PAUSES):
        strike = await striker.pause(worker)
        await striker.watch(strike)
        striker.go_on(worker)
        if fenced := await _fenced(striker, worker):
            return fenced
        striker.strikes.remove(strike)
    raise AssertionError(
        f"{worker} was paused {_PAUSES} times and was in the midst of a transaction at none of them"
    )


async def _fenced(striker: Striker, worker: str) -> int:
    """How many transactions were fenced, once there is one; 0 where there is none in time."""
    deadline = time.monotonic() + _FENCED_SECONDS
    async with httpx.AsyncClient(trust_env=False) as http:
        while time.monotonic() < deadline:
            metrics = await http.get(f"{striker.town.bus.addresses.operations[worker]}/metrics")
            found = _FENCED.search(metrics.text)
            if found is not None and int(found[1]) > 0:
                return int(found[1])
            await asyncio.sleep(0.1)
    return 0


def test_a_worker_that_was_thought_dead_is_fenced(result: Result) -> None:
    [paused] = [strike for strike in result.strikes if strike.how == "paused"]
    assert paused.undone > 0
    assert result.fenced > 0


def test_every_victim_left_something_undone(result: Result) -> None:
    assert len(result.strikes) == 1 + len(_ROUND) + 2
    assert [strike.victims for strike in result.strikes if strike.undone <= 0] == []


def test_a_killed_intake_leaves_requests_without_an_answer(result: Result) -> None:
    """Without them the client would have had nothing to send again."""
    for strike in result.strikes:
        if strike.victims == ("intake-1",):
            before = {line["number"] for line in result.noted("try") if line["at"] < strike.at}
            answered = {line["number"] for line in result.noted("answered") if line["at"] < strike.at}
            broken = {line["number"] for line in result.noted("broken")}
            assert (before - answered) & broken


def test_what_was_acknowledged_is_answered_exactly_once(result: Result) -> None:
    assert result.acknowledged
    assert answered_once(result.acknowledged, result.seen) == []
    assert (result.found.lost, result.found.duplicated, result.found.undecodable) == (0, 0, 0)


def test_every_answer_names_the_place_on_the_inbox(result: Result) -> None:
    assert at_their_tokens(result.acknowledged, result.seen) == []


def test_nothing_good_was_refused_and_every_repeat_was_answered_like_the_first(result: Result) -> None:
    assert result.noted("refused") == []
    assert result.noted("repeated")
    assert result.noted("differs") == []


def test_no_place_is_sold_twice(result: Result) -> None:
    assert result.found.oversold == 0


def test_people_came_to_their_places_in_all_ways(result: Result) -> None:
    assert [way for way, count in ways(result.seen.entries).items() if count == 0] == []


def test_offers_are_taken_in_time_once_and_end_at_their_time(result: Result) -> None:
    assert list(misjudged(result.seen)) == []


def test_regions_agree_on_the_places_they_lend(result: Result) -> None:
    assert given_and_not_lent(result.seen.entries) == []
    assert lent_twice(result.seen.entries) == []
    assert never_given_back(result.seen.entries) == []


def test_what_a_region_says_to_another_arrives_in_order(result: Result) -> None:
    assert not_passed_on(result.seen) == []
    assert passed_on_out_of_order(result.seen) == []


def test_the_chain_is_unbroken_and_dense(result: Result) -> None:
    assert result.found.broken_chain == 0


def test_every_referral_and_every_offer_comes_to_one_end(result: Result) -> None:
    assert ended(result.referrals, result.seen) == []


def test_the_ledger_comes_out_the_same_when_it_is_decided_again(result: Result) -> None:
    assert result.verified["good"]
    assert result.verified["same"] == result.verified["decisions"] > 0
    assert result.verified["events"] == len(result.seen.ledger)


def test_the_views_equal_the_ledger(result: Result) -> None:
    assert result.views["equal"], result.views["differences"]


def test_nothing_went_to_the_dead_letters(result: Result) -> None:
    assert result.letters == []


def test_every_notice_came_by_webhook(result: Result) -> None:
    for organisation, role, channel in result.load.subscriptions:
        if channel == "webhook":
            wanted = heard_of(organisation, role, result.seen)
            came = [
                (line["region"], line["sequence"])
                for line in result.noted("webhook")
                if line["organisation"] == organisation and line["taken"]
            ]
            assert wanted
            assert told_all(organisation, wanted, came) == []


def test_every_notice_came_on_the_feed_in_order(result: Result) -> None:
    for organisation, role, channel in result.load.subscriptions:
        if channel == "feed":
            subscription = result.subscription(organisation, channel)
            came = feed_places(result.feeds[organisation], subscription)
            assert told_all(organisation, heard_of(organisation, role, result.seen), came) == []
            assert in_order(organisation, came, result.seen) == []


def test_every_notice_came_by_event_stream(result: Result) -> None:
    for organisation, role in result.load.streams:
        came = [
            (line["region"], line["sequence"])
            for line in result.noted("heard")
            if line["organisation"] == organisation
        ]
        assert told_all(organisation, heard_of(organisation, role, result.seen), came) == []


def test_the_delivery_topic_tells_of_every_delivery(result: Result) -> None:
    wanted = {
        result.subscription(organisation, channel): heard_of(organisation, role, result.seen)
        for organisation, role, channel in result.load.subscriptions
    }
    assert told_of_deliveries(result.words, wanted, result.seen.codec) == []


def test_no_service_ended_by_itself_or_was_started_in_vain(result: Result) -> None:
    assert result.unwanted == []
    assert result.starts == result.runs


def test_the_checks_would_notice(result: Result) -> None:
    """The same checks, on what was read with something wrong put into it."""
    seen, codec = result.seen, result.seen.codec
    at, answer = next(
        (at, entry)
        for at, entry in enumerate(seen.entries)
        if isinstance(entry.event, ReferralOpened) and entry.meta.submission is not None
    )
    without, twice = [*seen.ledger[:at], *seen.ledger[at + 1 :]], [*seen.ledger, seen.ledger[at]]
    assert audit(seen.inbox, without, codec).lost == 1
    assert audit(seen.inbox, without, codec).broken_chain > 0
    assert audit(seen.inbox, twice, codec).duplicated > 0
    assert ended(result.referrals, seen.of(seen.inbox, without, codec))
    made = next(
        at
        for at, entry in enumerate(seen.entries)
        if isinstance(entry.event, OfferMade) and region_of(entry.event.unit) == entry.meta.region
    )
    again = [seen.ledger[made]] * (PLACES + 1)
    assert audit(seen.inbox, [*seen.ledger[:made], *again, *seen.ledger[made:]], codec).oversold > 0
    submission = answer.meta.submission
    assert submission is not None
    lost = [line for line in result.acknowledged if line["id"] == submission.id]
    emptied = seen.of([], [*seen.ledger], codec)
    assert answered_once(lost, emptied)
    role: Role = "agency"
    organisation = result.load.batching
    wanted = heard_of(organisation, role, seen)
    assert told_all(organisation, wanted, list(wanted)[1:])
