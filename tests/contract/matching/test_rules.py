"""Old and new versions of matching beside each other decide the same, until an event of the region activates the new rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.ledger import RulesActivated, SubmissionRefused
from referral_bus.log import topics
from referral_bus.log.port import Outgoing, Partition
from referral_bus.wire.codec import Codec
from services.matching.core.decide import decide, resume
from services.matching.core.fold import fold
from services.matching.core.rules import UnsupportedRules
from tests.support.deciding import (
    BUS,
    HOUR,
    OPERATIONS,
    REGION,
    Site,
    accept,
    decline,
    forget,
    of,
    offers,
    organisation,
    outcome,
    picture,
    publish,
    report,
    rules,
    start,
    subject_of,
    withdraw,
)

OLD, NEW = frozenset({1}), frozenset({1, 2})


@contextmanager
def version(supported: frozenset[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Matching as it is in a version that knows these rules."""
    with monkeypatch.context() as patched:
        patched.setattr("services.matching.partition.decide", lambda *given: decide(*given, supported))
        patched.setattr("services.matching.partition.resume", lambda *given: resume(*given, supported))
        patched.setattr("services.matching.chain.fold", lambda state, entry: fold(state, entry, supported))
        yield


async def inbox_of_a_day(site: Site) -> None:
    """Whatever a region gets, but for rules."""
    await site.put(accept(of(number=9)), "shelter")
    await site.put(publish(offers("beds", total=3)), "shelter")
    await site.put(publish(offers("rooms", "clinic", total=2, ages=None)), "clinic")
    for number in range(1, 7):
        await site.put(await site.submission(number=number), "police")
    await site.put(await site.submission(number=9), "police")
    await site.put(await site.submission(agency="court", number=10), "court")
    await site.put(organisation("court"), OPERATIONS)
    for number in range(1, 5):
        await site.put(accept(of(number=number)), "shelter")
        await site.put(decline(of(number=number)), "clinic")
        await site.put(start(of(number=number)), "shelter")
    await site.put(outcome(of(number=1)), "shelter")
    await site.put(withdraw(of(number=2)), "police")
    await site.put(report("beds", 9, 9, site.clock.now()), "shelter")
    await site.put(forget(subject_of(3)), OPERATIONS)
    await site.put(withdraw(of(number=77)), "hospital")
    await site.put_record(Outgoing(topics.inbox(BUS), 0, b"north", b"junk"))
    site.clock.advance(HOUR)
    await site.put(Tick(region=REGION, due=site.clock.now()), "matching")


async def ledger_records(site: Site) -> list[tuple[bytes | None, bytes | None, object]]:
    return [(record.key, record.value, record.headers) for record in await site.ledger()]


async def test_old_and_new_write_the_same_ledger_for_the_same_inbox(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await Site.opened(codec)
    await inbox_of_a_day(site)
    records = await site.waiting()
    outcomes = []
    for supported in (OLD, NEW):
        with version(supported, monkeypatch):
            await site.restarted()
            decided = await site.work.work(records)
        outcomes.append([record for record in decided if record.topic == topics.ledger(BUS)])
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) > 50


@pytest.mark.parametrize("first", [OLD, NEW], ids=["old first", "new first"])
async def test_a_partition_that_goes_back_and_forth_between_old_and_new_is_as_if_it_had_stayed(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, first: frozenset[int]
) -> None:
    site = await Site.opened(codec)
    await inbox_of_a_day(site)
    records = await site.waiting()
    stayed = await site.work.work(records)
    await site.restarted()

    versions = (OLD, NEW) if first is OLD else (NEW, OLD)
    writer = await site.log.transactor("matching-0")
    for number, at in enumerate(range(0, len(records), 5)):
        batch = records[at : at + 5]
        with version(versions[number % 2], monkeypatch):
            await site.restarted()
            await writer.commit(await site.work.work(batch), "matching", {})
    handed_over = (await ledger_records(site))[
        -len([one for one in stayed if one.topic == topics.ledger(BUS)]) :
    ]
    assert handed_over == [
        (one.key, one.value, one.headers) for one in stayed if one.topic == topics.ledger(BUS)
    ]


async def test_old_refuses_the_new_rules_and_new_reads_that_refusal_without_activating_them(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await Site.opened(codec)
    with version(OLD, monkeypatch):
        await site.put(rules(2), OPERATIONS)
        await site.decide()
    assert (await site.entries())[-1].event == SubmissionRefused(reason="rules_unsupported", about="matching")
    with version(NEW, monkeypatch):
        await site.restarted()
        assert site.chain.state.rules == 1


async def test_once_the_new_rules_are_activated_old_stops_and_new_goes_on(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await Site.opened(codec)
    with version(NEW, monkeypatch):
        await site.put(rules(2), OPERATIONS)
        await site.decide()
        lived = picture(site.chain.state)
        await site.put(publish(offers("beds")), "shelter")
        await site.decide()
    entries = await site.entries()
    assert entries[-2].event == RulesActivated(version=2)
    assert [entry.meta.rules for entry in entries[-2:]] == [1, 2]
    with version(OLD, monkeypatch), pytest.raises(UnsupportedRules):
        await site.restarted()
    with version(NEW, monkeypatch):
        await site.restarted()
        assert site.chain.state.rules == lived["rules"] == 2
    reader = await site.log.reader(Partition(topics.deadletter(BUS), 0))
    assert await reader.end() == 0
