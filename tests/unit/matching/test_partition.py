"""The owner of a partition: what it puts on the ledger and to the dead letters, and how it comes by its state."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from prometheus_client import REGISTRY

from referral_bus.contracts.inbox import AdoptReference, Tick
from referral_bus.contracts.ledger import (
    DuePutOff,
    Event,
    OfferMade,
    Received,
    ReferenceAdopted,
    SubmissionRefused,
)
from referral_bus.contracts.vocabularies import Taxonomy, TaxonomyTerm
from referral_bus.log import topics
from referral_bus.log.memory import MemoryReader
from referral_bus.log.port import LogUnavailable, Outgoing, Partition, Record
from referral_bus.runtime import tracing
from referral_bus.runtime.deadletters import TooManyDeadLetters
from referral_bus.sealing.port import Destroyed, Section
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope
from services.matching import partition as partitioning
from services.matching.chain import LedgerDamaged
from services.matching.core.decide import decide
from services.matching.core.fold import fold
from services.matching.core.rules import UnsupportedRules
from services.matching.core.state import Region
from services.matching.facts import FactsOpener
from services.matching.partition import BELIEVED_MS, MOST_DUE
from services.matching.ticks import REPEAT_MS, Ticks
from services.matching.verify import Report, verify_ledger
from tests.support.deciding import (
    BUS,
    DAY,
    HOUR,
    HOUSING,
    MINUTE,
    NAME,
    OPERATIONS,
    POLICY,
    REGION,
    Site,
    accept,
    decline,
    forget,
    inbox_record,
    kinds,
    of,
    offers,
    organisation,
    outcome,
    picture,
    policy,
    protocol,
    publish,
    refused,
    report,
    rules,
    stated_area,
    subject_of,
    withdraw,
)
from tests.support.traced import Kept

LEDGER = Partition(topics.ledger(BUS), 0)
INBOX = topics.inbox(BUS)


@pytest.fixture
async def site(codec: Codec) -> Site:
    return await Site.opened(codec)


async def verified(site: Site) -> Report:
    opener = FactsOpener(site.keys, site.sealer)
    return await verify_ledger(site.log, topics.ledger(BUS), site.codec, opener)


async def busy(site: Site) -> None:
    """Referrals offered, accepted, declined and closed."""
    await site.put(publish(offers("beds", total=3)), "shelter")
    await site.put(publish(offers("rooms", "clinic", total=3)), "clinic")
    for number in range(1, 5):
        await site.put(await site.submission(number=number), "police")
    await site.put(withdraw(of(number=77)), "police")
    await site.decide()
    for number in (1, 2):
        task = site.chain.state.referrals[of(number=number)].tasks[0]
        await site.put(accept(of(number=number)), task.provider)
    task = site.chain.state.referrals[of(number=3)].tasks[0]
    await site.put(decline(of(number=3)), task.provider)
    await site.put(withdraw(of(number=4)), "police")
    await site.decide()


def events_of(outcome: Sequence[Outgoing], codec: Codec) -> list[Event]:
    ledger = [record for record in outcome if record.topic == LEDGER.topic]
    return [codec.decode_entry(record.value).event for record in ledger]


async def test_each_event_is_a_cloudevent_with_its_place_and_its_cause(site: Site) -> None:
    await site.put(publish(offers("beds")), "shelter")
    await site.put(await site.submission(), "police", id="s-1", correlation="case-7")
    outcome = await site.decide()
    assert len(outcome) == 4
    for record in outcome:
        entry = site.codec.decode_entry(record.value)
        envelope = Envelope.from_headers(record.headers)
        assert (record.topic, record.partition, record.key) == (*LEDGER, b"north")
        assert envelope.id == f"north.{entry.meta.sequence}"
        assert envelope.source == f"/buses/{BUS}/matching"
        assert envelope.type == entry.event.event_type()
        assert envelope.time == entry.meta.now
        assert envelope.schema_id == site.codec.schema_id(type(entry.event))
        assert envelope.partitionkey == REGION
        assert dict(record.headers)["content-type"] == b"application/vnd.confluent.avro"
    causes = [Envelope.from_headers(record.headers) for record in outcome]
    assert causes[0].causationid == "shelter/n-7"
    assert causes[0].correlationid is None
    assert [one.causationid for one in causes[1:]] == ["police/s-1"] * 3
    assert [one.correlationid for one in causes[1:]] == ["case-7"] * 3
    assert [one.subject for one in causes] == [REGION, of(), of(), of()]


async def test_what_carries_something_sealed_is_classified_as_sealed(site: Site) -> None:
    await site.put(publish(offers("beds", "court")), "court")
    await site.put(await site.submission(agency="court"), "court")
    await site.put(organisation("court"), OPERATIONS)
    outcome = await site.decide()
    classes = {
        type(site.codec.decode_entry(record.value).event).__name__: Envelope.from_headers(
            record.headers
        ).dataclassification
        for record in outcome
    }
    assert classes["SubmissionParked"] == "sealed"
    assert classes["ReferralOpened"] == "sealed"
    assert classes["MatchDecided"] == classes["OfferMade"] == "internal"


async def test_a_resumed_decision_is_caused_by_what_resumed_it(site: Site) -> None:
    await site.put(accept(of()), "shelter", id="early", correlation="of-the-provider")
    await site.put(publish(offers("beds")), "shelter")
    await site.put(await site.submission(), "police", id="s-1", correlation="of-the-agency")
    outcome = await site.decide()
    accepted = Envelope.from_headers(outcome[-1].headers)
    assert kinds(events_of(outcome, site.codec))[-2:] == ["SubmissionResumed", "OfferAccepted"]
    assert (accepted.causationid, accepted.correlationid) == ("police/s-1", "of-the-agency")


async def test_nothing_of_a_person_is_clear_on_the_ledger(site: Site) -> None:
    facts = HOUSING.model_copy(update={"area": stated_area("Sevenoaks-Secretarea")})
    await site.put(publish(offers("beds")), "shelter")
    await site.put(await site.submission(facts), "police")
    await site.decide()
    for record in await site.ledger():
        everything = (record.value or b"") + (record.key or b"") + repr(record.headers).encode()
        assert b"Secretarea" not in everything
        assert NAME.encode() not in everything


JUNK: list[tuple[str, Callable[[Outgoing], Outgoing]]] = [
    ("no value", lambda good: Outgoing(INBOX, 0, b"north", None, good.headers)),
    ("no headers", lambda good: Outgoing(INBOX, 0, b"north", good.value)),
    (
        "random bytes",
        lambda good: Outgoing(INBOX, 0, b"north", b"\x00\x00\x00\x00\x01\xff\xff", good.headers),
    ),
    ("an unknown schema", lambda good: Outgoing(INBOX, 0, b"north", b"\0\xff\xff\xff\xff", good.headers)),
    ("bytes left over", lambda good: Outgoing(INBOX, 0, b"north", (good.value or b"") + b"!", good.headers)),
    ("another key", lambda good: Outgoing(INBOX, 0, b"south", good.value, good.headers)),
    ("no key", lambda good: Outgoing(INBOX, 0, None, good.value, good.headers)),
    ("another type", lambda good: changed(good, "ce_type", b"org.referralbus.inbox.Tick.v1")),
    ("a source that is no organisation", lambda good: changed(good, "ce_source", b"/somewhere")),
    ("an id that is too long", lambda good: changed(good, "ce_id", b"x" * 200)),
    ("a time that is none", lambda good: changed(good, "ce_time", b"yesterday")),
    ("a header that is no text", lambda good: changed(good, "ce_id", b"\xff\xfe")),
    ("a digest that is too long", lambda good: changed(good, "ce_bodydigest", b"ab" * 40)),
    (
        "a region that is none",
        lambda good: changed(
            Outgoing(INBOX, 0, b"No Region!", good.value, good.headers), "ce_partitionkey", b"No Region!"
        ),
    ),
]


def changed(record: Outgoing, header: str, value: bytes) -> Outgoing:
    headers = tuple((name, value if name == header else was) for name, was in record.headers)
    return Outgoing(record.topic, record.partition, record.key, record.value, headers)


@pytest.mark.parametrize("spoil", [one for _, one in JUNK], ids=[name for name, _ in JUNK])
async def test_what_is_no_submission_is_dead_lettered_and_the_rest_is_decided(
    site: Site, spoil: Callable[[Outgoing], Outgoing]
) -> None:
    good = inbox_record(withdraw(of()), "police", id="junk", sent_at=site.clock.now(), codec=site.codec)
    spoiled = spoil(good)
    await site.put(publish(offers("beds")), "shelter")
    at = await site.put_record(spoiled)
    await site.put(await site.submission(), "police")
    outcome = await site.decide()
    assert kinds(events_of(outcome, site.codec)) == [
        "ServicePublished",
        "ReferralOpened",
        "MatchDecided",
        "OfferMade",
    ]
    [letter] = await site.letters()
    content = site.opened_letter(letter)
    assert (letter.topic, letter.offset, letter.reason) == (INBOX, at, "unreadable")
    assert letter.service == "matching"
    value = None if content["value"] is None else base64.b64decode(content["value"])
    assert value == spoiled.value
    assert set(site.work.chains) == {REGION}


async def test_bad_input_never_counts_towards_the_limit(codec: Codec) -> None:
    site = await Site.opened(codec, limit=2)
    for _ in range(10):
        await site.put_record(Outgoing(INBOX, 0, b"north", b"junk"))
    await site.decide()
    assert len(await site.letters()) == 10


def failing(of_ids: set[str]) -> Callable[..., list[Event]]:
    """A version of matching with a fault."""

    def fails(state: Region, received: Received, *rest: Any) -> list[Event]:
        if received.admitted.id in of_ids:
            raise ZeroDivisionError("a fault of ours")
        return decide(state, received, *rest)

    return fails


async def test_what_a_fault_of_ours_keeps_from_being_decided_is_refused_and_dead_lettered_and_can_be_put_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.put(publish(offers("beds", total=2)), "shelter")
    await site.decide()
    body = await site.submission(number=1)
    with monkeypatch.context() as patched:
        patched.setattr(partitioning, "decide", failing({"bad"}))
        at = await site.put(body, "police", id="bad")
        assert refused(events_of(await site.decide(), site.codec)) == "undecidable"
        [letter] = await site.letters()
        assert (letter.offset, letter.reason) == (at, "undecidable")
        assert not site.chain.state.referrals
        await site.put(await site.submission(number=2), "police", id="good")
        assert kinds(events_of(await site.decide(), site.codec))[-1] == "OfferMade"
    await site.put(body, "police", id="bad")
    assert kinds(events_of(await site.decide(), site.codec))[-1] == "OfferMade"
    await site.put(body, "police", id="bad")
    assert kinds(events_of(await site.decide(), site.codec)) == ["SubmissionRepeated"]
    assert (await verified(site)).good


async def test_what_older_code_beside_could_not_read_is_refused_before_anything_of_it_is_so(
    codec: Codec,
) -> None:
    held = Codec(codec._writers, {one: id for one, id in codec._ids.items() if one is not OfferMade})
    site = await Site.opened(held)
    await site.put(publish(offers("beds", total=2)), "shelter")
    await site.decide()
    at = await site.put(await site.submission(number=1), "police")
    events = events_of(await site.decide(), codec)
    assert kinds(events) == ["SubmissionRefused"]
    assert refused(events) == "undecidable"
    assert [(letter.offset, letter.reason) for letter in await site.letters()] == [(at, "undecidable")]
    assert not site.chain.state.referrals
    assert (await verified(site)).good


def long_vocabulary(terms: int) -> AdoptReference:
    named = [
        TaxonomyTerm(
            code=f"B{number:05d}",
            name=f"{number} is a term of the county's own vocabulary, " + "of some length" * 4,
        )
        for number in range(terms)
    ]
    content = Taxonomy(taxonomy="county", terms=named)
    return AdoptReference(kind="taxonomy", reference="county", version=1, taxonomy=content)


async def test_what_is_too_large_to_be_answered_is_refused_and_stops_nothing(codec: Codec) -> None:
    site = await Site.opened(codec, limit=2)
    before = picture(site.chain.state)["vocabularies"]
    for number in range(4):
        at = await site.put(long_vocabulary(16_000), OPERATIONS, id=f"county-{number}")
    await site.put(publish(offers("beds")), "shelter")
    outcome = await site.decide()
    assert kinds(events_of(outcome, codec)) == ["SubmissionRefused"] * 4 + ["ServicePublished"]
    assert {event.reason for event in events_of(outcome, codec) if isinstance(event, SubmissionRefused)} == {
        "too_large"
    }
    assert picture(site.chain.state)["vocabularies"] == before
    assert await site.letters() == []
    await site.put(long_vocabulary(16_000), OPERATIONS, id="county-0")
    assert kinds(events_of(await site.decide(), codec)) == ["SubmissionRepeated"]
    lived = picture(site.chain.state)
    await site.restarted()
    assert picture(site.chain.state) == lived
    assert (await site.entries())[-2].meta.decided_through == at + 1
    assert (await verified(site)).good


async def test_nobody_is_refused_as_too_large_who_said_little(site: Site) -> None:
    await site.put(await site.submission(), "police")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partitioning, "decide", lambda *_: partitioning.too_large())
        assert refused(events_of(await site.decide(), site.codec)) == "too_large"
    assert not (await verified(site)).good


async def test_what_did_not_fit_when_records_were_smaller_was_rightly_refused(site: Site) -> None:
    await site.put(long_vocabulary(6_000), OPERATIONS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(partitioning, "decide", lambda *_: partitioning.too_large())
        assert refused(events_of(await site.decide(), site.codec)) == "too_large"
    assert (await verified(site)).good


async def test_a_tick_whose_events_are_too_large_is_dead_lettered_and_refuses_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted = long_vocabulary(20_000)
    large = ReferenceAdopted.model_validate(adopted.model_dump())
    await site.put(Tick(region=REGION, due=site.clock.now()), "matching")
    monkeypatch.setattr(partitioning, "decide", lambda *_: [large])
    assert events_of(await site.decide(), site.codec) == []
    assert [letter.reason for letter in await site.letters()] == ["undecidable"]


def stuck(about: str = "whatever") -> Callable[..., list[Event]]:
    """A version of matching with a fault in what is to be done when this falls due."""

    def fails(state: Region, received: Received, now: int, *rest: Any) -> list[Event]:
        due = state.next_due()
        is_due = isinstance(received.body, Tick) and due is not None and due.at <= now
        if is_due and due is not None and about in (due.about, "whatever"):
            raise ZeroDivisionError("a fault of ours")
        return decide(state, received, now, *rest)

    return fails


async def two_offers(site: Site) -> int:
    """Two offers, and when both are over."""
    await site.put(publish(offers("beds", total=2)), "shelter")
    for number in (1, 2):
        await site.put(await site.submission(number=number), "police")
    await site.decide()
    site.clock.advance(HOUR)
    return site.clock.now()


async def test_a_fault_with_what_is_due_puts_that_off_alone_and_tries_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_offers(site)
    [(_, due)] = site.work.next_due()
    at = await site.put(Tick(region=REGION, due=due), "matching", id="tick")
    with monkeypatch.context() as patched:
        patched.setattr(partitioning, "decide", stuck(of(number=1)))
        events = events_of(await site.decide(), site.codec)
    now = site.chain.state.now
    put_off = DuePutOff(kind="offer", about=of(number=1), number=1, due=due, until=now + HOUR)
    assert (events[0], kinds(events[1:])) == (put_off, ["OfferExpired", "MatchDecided", "ReferralClosed"])
    assert [(letter.offset, letter.reason) for letter in await site.letters()] == [(at, "undecidable")]
    assert set(site.chain.state.referrals) == {of(number=1)}
    lived = picture(site.chain.state)
    await site.restarted()
    assert picture(site.chain.state) == lived
    assert site.work.next_due() == [(REGION, now + HOUR)]
    site.clock.set(now + HOUR)
    await site.put(Tick(region=REGION, due=now + HOUR), "matching")
    assert kinds(events_of(await site.decide(), site.codec))[0] == "OfferExpired"
    assert site.work.next_due() == []
    report = await verified(site)
    assert report.good and report.outcomes["gave_up"] == 1
    assert report.gave_up[0].endswith("it comes to OfferExpired, MatchDecided, ReferralClosed now")


async def test_what_is_due_and_can_never_be_decided_stops_nothing_however_long_it_lasts(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A letter an hour, and no partition of the process stops for it."""
    site = await Site.opened(codec, limit=2)
    began = await two_offers(site)
    ticks = Ticks(await site.log.appender(), BUS, codec, site.clock)
    monkeypatch.setattr(partitioning, "decide", stuck(of(number=1)))
    while site.clock.now() < began + 5 * HOUR + MINUTE:
        await ticks.put([site.work])
        if await site.waiting():
            await site.decide()
        site.clock.advance(10_000)
    assert set(site.chain.state.referrals) == {of(number=1)}
    assert len(await site.letters()) == 6
    assert (await verified(site)).outcomes["gave_up"] == 6


async def test_a_tick_that_puts_much_off_has_one_letter(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await two_offers(site)
    await site.put(Tick(region=REGION, due=1), "matching")
    monkeypatch.setattr(partitioning, "decide", stuck())
    assert kinds(events_of(await site.decide(), site.codec)) == ["DuePutOff", "DuePutOff"]
    assert len(await site.letters()) == 1


async def much_due(codec: Codec, many: int) -> Site:
    """So many submissions wait for what never comes, all until the same moment, which has come."""
    site = await Site.opened(codec)
    sources = ("police", "hospital", "shelter", "clinic")
    records = [
        inbox_record(
            withdraw(of(number=100 + number)),
            sources[number % len(sources)],
            id=f"early-{number}",
            sent_at=site.clock.now(),
            codec=codec,
        )
        for number in range(many)
    ]
    await (await site.log.appender()).append(records)
    await site.decide()
    [(_, due)] = site.work.next_due()
    site.clock.set(due)
    return site


async def test_whatever_is_due_at_once_is_decided_in_batches_that_are_bounded_right_after_each_other(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 9 * MOST_DUE // 2
    site, unbounded = await much_due(codec, many), await much_due(codec, many)
    ticks = Ticks(await site.log.appender(), BUS, codec, site.clock)
    began, sizes = site.clock.now(), []
    while site.work.next_due():
        await ticks.put([site.work])
        sizes.append(len(events_of(await site.decide(), codec)))
        site.clock.advance(50)
    assert sizes == [*[MOST_DUE] * 4, MOST_DUE // 2]
    assert site.clock.now() - began < REPEAT_MS
    monkeypatch.setattr(partitioning, "MOST_DUE", many)
    await unbounded.put(Tick(region=REGION, due=began), "matching")
    await unbounded.decide()
    assert [one.event for one in await site.entries()] == [one.event for one in await unbounded.entries()]
    assert (await verified(site)).good


async def test_many_ticks_in_a_batch_decide_no_more_than_one_and_what_they_left_is_known(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitioning, "MOST_DUE", 4)
    site = await much_due(codec, 10)
    left = []
    for _ in range(3):
        for _ in range(3):
            last = await site.put(Tick(region=REGION, due=site.clock.now()), "matching")
        left.append(last)
        assert len(events_of(await site.decide(), codec)) in (4, 2)
        assert site.work.left_over == {REGION: left[-1] if site.work.next_due() else left[-2]}
    assert site.work.next_due() == []


async def test_regions_of_a_partition_share_what_a_batch_decides_of_what_is_due(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitioning, "MOST_DUE", 6)
    site = await much_due(codec, 10)
    for adopted in (organisation("police"), protocol()):
        await site.put_record(for_south(site, adopted))
    for number in range(10):
        await site.put(withdraw(of(number=number, region="south")), "police")
    await site.decide()
    site.clock.advance(DAY)
    ticks = Ticks(await site.log.appender(), BUS, codec, site.clock)
    shares: list[list[int]] = []
    await ticks.put([site.work])
    while site.work.next_due():
        await ticks.put([site.work])
        decided = Counter(one.key for one in await site.decide() if one.topic == LEDGER.topic)
        shares.append([decided[b"north"], decided[b"south"]])
        site.clock.advance(50)
    assert shares == [[3, 3], [3, 3], [3, 3], [1, 1]]


async def test_the_keys_of_what_is_due_together_are_fetched_together(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.put(publish(offers("beds", total=5)), "shelter")
    for number in range(1, 6):
        await site.put(await site.submission(number=number), "police")
    await site.put(forget(subject_of(5)), OPERATIONS)
    await site.decide()
    site.clock.advance(HOUR)
    asked: list[list[str]] = []
    fetch = site.keys.fetch

    async def counted(subjects: Iterable[str], section: Section) -> dict[str, bytes | Destroyed]:
        asked.append(sorted(subjects))
        return await fetch(asked[-1], section)

    monkeypatch.setattr(site.keys, "fetch", counted)
    monkeypatch.setattr(partitioning, "MOST_DUE", 3)
    for _ in range(2):
        await site.put(Tick(region=REGION, due=1), "matching")
        await site.decide()
    assert site.work.next_due() == []
    assert asked == [sorted(subject_of(number) for number in range(1, 4)), [subject_of(4)]]


async def test_a_tick_whose_fault_older_code_beside_could_not_read_is_dead_lettered_and_comes_again(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Codec(codec._writers, {one: id for one, id in codec._ids.items() if one is not DuePutOff})
    site = await Site.opened(held)
    await site.put(publish(offers("beds")), "shelter")
    await site.put(await site.submission(), "police")
    await site.decide()
    [(region, due)] = site.work.next_due()
    site.clock.advance(due - site.clock.now())
    before = picture(site.chain.state)
    await site.put(Tick(region=region, due=due), "matching", id="tick")
    with monkeypatch.context() as patched:
        patched.setattr(partitioning, "decide", failing({"tick"}))
        assert events_of(await site.decide(), site.codec) == []
    assert picture(site.chain.state) == before and len(await site.letters()) == 1
    assert site.work.next_due() == [(region, due)]


async def test_a_fault_with_what_was_parked_refuses_that_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> list[Event]:
        raise ZeroDivisionError("a fault of ours")

    await site.put(report("beds", 2, 1, site.clock.now()), "shelter", id="early")
    await site.decide()
    with monkeypatch.context() as patched:
        patched.setattr(partitioning, "resume", fails)
        await site.put(publish(offers("beds", total=2)), "shelter")
        events = events_of(await site.decide(), site.codec)
    assert kinds(events) == ["ServicePublished", "SubmissionResumed", "SubmissionRefused"]
    assert refused(events[-1:]) == "undecidable"
    assert not site.chain.state.parked
    assert (await verified(site)).good


async def test_a_fault_with_who_is_called_lets_them_rest_and_tries_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> list[Event]:
        raise ZeroDivisionError("a fault of ours")

    body = (await site.submission(number=1)).model_copy(update={"mode": "waitlist"})
    await site.put(publish(offers("beds", total=1, available=0)), "shelter")
    await site.put(body, "police")
    await site.decide()
    with monkeypatch.context() as patched:
        patched.setattr(partitioning, "call", fails)
        await site.put(report("beds", 1, 1, site.clock.now()), "shelter")
        events = events_of(await site.decide(), site.codec)
    assert kinds(events) == ["CapacityChanged", "ReferralCalled", "ReferralHeld"]
    [(region, due)] = site.work.next_due()
    site.clock.advance(due - site.clock.now())
    await site.put(Tick(region=region, due=due), "matching")
    assert kinds(events_of(await site.decide(), site.codec))[-1] == "OfferMade"
    assert (await verified(site)).good


async def test_faults_in_a_row_stop_the_worker_at_the_limit_once_they_are_kept(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await Site.opened(codec, limit=3)
    monkeypatch.setattr(partitioning, "decide", failing({"a", "b", "c", "d", "e"}))
    for id in ("a", "b", "good", "c", "d"):
        await site.put(await site.submission(number=1), "police", id=id)
    await site.decide()
    await site.put(await site.submission(number=1), "police", id="e")
    with pytest.raises(TooManyDeadLetters, match="3 records in a row"):
        await site.decide()
    assert len(await site.letters()) == 5


async def test_what_is_put_away_counts_once_it_is_committed_however_often_that_failed(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = await Site.opened(codec, limit=3)
    monkeypatch.setattr(partitioning, "decide", failing({"a"}))
    before = put_away()
    await site.put_record(Outgoing(INBOX, 0, b"x", b"no submission"))
    await site.put(await site.submission(number=1), "police", id="a")
    for _ in range(5):
        await site.work.work(await site.waiting())
        await site.restarted()
    assert put_away() == before, "each turn failed, and its letters were aborted"
    await site.decide()
    assert [one.reason for one in await site.letters()] == ["unreadable", "undecidable"]
    assert put_away() == [count + 1 for count in before]


def put_away() -> list[float]:
    """How many records were put to the dead letters, as metrics have it."""
    found = [
        REGISTRY.get_sample_value("refbus_dead_letters_total", {"reason": reason})
        for reason in ("unreadable", "undecidable")
    ]
    return [count or 0.0 for count in found]


async def test_a_key_store_that_is_away_is_waited_for(site: Site) -> None:
    await site.put(publish(offers("beds")), "shelter")
    await site.put(await site.submission(), "police")
    site.keys.away = True
    with pytest.raises(LogUnavailable, match="facts can't be opened now"):
        await site.decide()
    site.keys.away = False
    await site.restarted()
    assert kinds(events_of(await site.decide(), site.codec))[-1] == "OfferMade"
    assert await site.letters() == []


async def test_the_keys_of_a_forgotten_person_are_dropped_as_soon_as_the_ledger_says_so(site: Site) -> None:
    await site.put(forget(subject_of(1)), OPERATIONS)
    await site.decide()
    assert site.keys.forgotten == [subject_of(1)]
    site.keys.forgotten.clear()
    await site.restarted()
    assert site.keys.forgotten == [subject_of(1)]


async def test_a_person_whose_keys_are_destroyed_is_refused_and_an_unknown_key_is_unreadable(
    site: Site,
) -> None:
    known, unknown = await site.submission(number=1), await site.submission(number=2)
    await site.all_keys.destroy([subject_of(1)])
    site.key_table.rows.pop(subject_of(2))
    await site.put(known, "police")
    await site.put(unknown, "police")
    refusals = events_of(await site.decide(), site.codec)
    assert [one.reason for one in refusals if isinstance(one, SubmissionRefused)] == [
        "subject_erased",
        "facts_unreadable",
    ]


async def test_a_window_with_somebody_forgotten_can_not_be_decided_again_and_breaks_nothing(
    site: Site,
) -> None:
    gathering = POLICY.model_copy(update={"version": 2, "window_ms": HOUR})
    await site.put(policy(gathering), OPERATIONS)
    await site.put(publish(offers("beds", total=1)), "shelter")
    for number in (1, 2):
        asked = await site.submission(number=number)
        await site.put(asked.model_copy(update={"urgency": "routine"}), "police")
    await site.decide()
    [(region, due)] = site.work.next_due()
    site.clock.advance(HOUR)
    await site.put(Tick(region=region, due=due), "matching")
    assert kinds(events_of(await site.decide(), site.codec))[0] == "WindowClosed"
    assert (await verified(site)).good
    await site.all_keys.destroy([subject_of(1)])
    report = await verified(site)
    assert report.good
    assert report.outcomes["erased"] > 0


async def test_facts_sealed_for_another_person_are_not_taken(site: Site) -> None:
    one, other = await site.submission(number=1), await site.submission(number=2)
    await site.put(one.model_copy(update={"sealed_facts": other.sealed_facts}), "police")
    [refusal] = events_of(await site.decide(), site.codec)
    assert refusal == SubmissionRefused(reason="facts_unreadable", about=of(number=1))


async def test_whoever_loads_the_ledger_comes_to_the_state_that_was_lived(site: Site) -> None:
    await busy(site)
    lived, last = picture(site.chain.state), site.chain.prev_hash
    assert await site.restarted() == site.next_offset
    assert picture(site.chain.state) == lived
    assert site.chain.prev_hash == last


async def test_an_aborted_decision_leaves_no_trace_and_is_decided_again_to_the_same_bytes(site: Site) -> None:
    await busy(site)
    await site.put(await site.submission(number=9), "police")
    await site.put(outcome(of(number=1)), "clinic")
    first = await site.work.work(await site.waiting())
    await site.log.abort(first)
    await site.restarted()
    again = await site.decide()
    assert again == first
    state = picture(site.chain.state)
    await site.restarted()
    assert picture(site.chain.state) == state


async def test_progress_is_told_while_a_ledger_is_folded(site: Site) -> None:
    await busy(site)
    shares: list[float] = []
    site.work = site.owner()
    await site.work.load(shares.append)
    assert shares[-1] == 1.0
    assert shares == sorted(shares)


async def test_a_ledger_that_gives_nothing_more_before_its_end_is_no_progress(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await busy(site)

    async def nothing(*_: Any) -> list[Record]:
        await asyncio.sleep(0)
        return []

    shares: list[float] = []
    monkeypatch.setattr(MemoryReader, "read", nothing)
    with pytest.raises(TimeoutError):
        # The worker's own limit is this one, moved on by each progress.
        async with asyncio.timeout(0.05):
            await site.owner().load(shares.append)
    assert shares == []


async def test_an_empty_ledger_proves_that_nothing_was_worked_through(codec: Codec) -> None:
    site = Site(codec)
    await site.log.ensure(topics.topics(BUS, 1, 1))
    assert await site.restarted() == 0


async def test_nothing_is_decided_on_a_ledger_somebody_changed(site: Site) -> None:
    await busy(site)
    last = (await site.ledger())[-1]
    value = bytearray(last.value or b"")
    value[-1] ^= 1
    await site.put_record(Outgoing(*LEDGER, last.key, bytes(value), last.headers))
    with pytest.raises(LedgerDamaged, match=rf"{re.escape(LEDGER.topic)}/0/\d+: .*refbus verify"):
        await site.restarted()


async def test_an_event_of_a_schema_this_version_does_not_know_stops_the_load(site: Site) -> None:
    await site.put_record(Outgoing(*LEDGER, b"north", b"\0\x00\x0f\xff\xff", ()))
    with pytest.raises(LedgerDamaged, match="schema id 1048575 is not in"):
        await site.restarted()


async def test_an_old_worker_does_not_take_over_a_region_under_newer_rules(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = frozenset({1, 2})
    with monkeypatch.context() as newer:
        newer.setattr(partitioning, "decide", lambda *given: decide(*given, both))
        newer.setattr("services.matching.chain.fold", lambda state, entry: fold(state, entry, both))
        await site.put(rules(2), OPERATIONS)
        await site.decide()
    with pytest.raises(UnsupportedRules, match="activated rules 2"):
        await site.restarted()


async def test_a_tick_decides_all_that_is_due_and_one_that_finds_nothing_leaves_nothing(site: Site) -> None:
    await busy(site)
    due = {region: at for region, at in site.work.next_due()}
    assert set(due) == {REGION}
    site.clock.advance(HOUR)
    await site.put(Tick(region=REGION, due=due[REGION]), "matching")
    events = kinds(events_of(await site.decide(), site.codec))
    assert events.count("OfferExpired") == 1
    assert "SubmissionRefused" in events
    assert site.work.next_due() == []
    await site.put(Tick(region=REGION, due=due[REGION]), "matching")
    assert await site.decide() == []


async def test_a_broker_that_stamps_a_record_with_another_year_does_not_take_the_region_there(
    site: Site,
) -> None:
    await site.put(publish(offers("beds")), "shelter")
    await site.decide()
    right = site.clock.now()
    site.clock.set(right + 200 * DAY)
    offset = await site.put(withdraw(of(number=77)), "police")
    site.clock.set(right)
    await site.decide()
    assert site.chain.state.now == right + BELIEVED_MS
    assert site.chain.state.decided_through == offset
    await site.put(await site.submission(), "police")
    outcome = await site.decide()
    [offer] = [event for event in events_of(outcome, site.codec) if isinstance(event, OfferMade)]
    assert offer.expires_at == right + BELIEVED_MS + 10 * MINUTE
    assert (await verified(site)).good


async def test_each_region_of_a_partition_has_its_own_chain(site: Site) -> None:
    await site.put(publish(offers("beds")), "shelter")
    await site.put_record(for_south(site, organisation("court")))
    await site.put(await site.submission(), "police")
    await site.decide()
    assert {region: chain.state.sequence for region, chain in site.work.chains.items()} == {
        "north": 7 + 4,
        "south": 1,
    }
    lived = {region: picture(chain.state) for region, chain in site.work.chains.items()}
    assert await site.restarted() == site.next_offset
    assert {region: picture(chain.state) for region, chain in site.work.chains.items()} == lived


def for_south(site: Site, body: AdoptReference) -> Outgoing:
    """What operations say to another region of the same partition."""
    good = inbox_record(body, OPERATIONS, id=f"adopt-{body.kind}", sent_at=site.clock.now(), codec=site.codec)
    return changed(Outgoing(INBOX, 0, b"south", good.value, good.headers), "ce_partitionkey", b"south")


async def test_the_ledgers_bytes_are_a_chain_of_hashes(site: Site) -> None:
    await busy(site)
    before = bytes(32)
    for record in await site.ledger():
        assert site.codec.decode_entry(record.value).meta.prev_hash == before
        before = sha256(record.value or b"").digest()


async def test_an_offer_stands_under_the_time_the_broker_gave_the_submission(site: Site) -> None:
    await site.put(publish(offers("beds")), "shelter")
    await site.put(await site.submission(HOUSING), "police", id="s-1")
    appended = site.clock.now()
    site.clock.advance(5_000)
    made = events_of(await site.decide(), site.codec)[-1]
    assert isinstance(made, OfferMade)
    assert made.expires_at == appended + 600_000


async def test_a_brokers_clock_that_goes_back_does_not_turn_back_the_region(site: Site) -> None:
    await site.put(publish(offers("beds")), "shelter")
    await site.decide()
    ahead = site.chain.state.now
    site.clock.advance(-HOUR)
    await site.put(await site.submission(), "police")
    made = events_of(await site.decide(), site.codec)[-1]
    assert (await site.entries())[-1].meta.now == ahead
    assert isinstance(made, OfferMade)
    assert made.expires_at == ahead + 600_000


async def test_what_is_decided_is_the_same_with_traces_but_for_the_header_of_the_cause(site: Site) -> None:
    await busy(site)
    await site.put(accept(of(number=4)), "shelter")
    await site.put(await site.submission(number=9), "police")
    records = await site.waiting()
    outcomes: list[list[Outgoing]] = []
    for tracer in (tracing.Tracer(), Kept().tracer):
        tracing.use(tracer)
        try:
            owner = site.owner()
            await owner.load(lambda _: None)
            outcomes.append(await owner.work(records))
        finally:
            tracing.use(tracing.Tracer())
            tracer.close()
    without, traced = outcomes
    assert len(without) >= 4
    assert all(record.headers[-1][0] == tracing.HEADER for record in traced)
    assert [replace(record, headers=record.headers[:-1]) for record in traced] == without
