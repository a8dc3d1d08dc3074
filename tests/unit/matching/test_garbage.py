"""Anything at all may lie on the inbox: nothing of it stops the partition, and what is good is answered."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from referral_bus.contracts.inbox import Submission, Tick
from referral_bus.log import topics
from referral_bus.log.port import Outgoing, Partition
from referral_bus.wire.codec import Codec
from referral_bus.wire.errors import WireError
from referral_bus.wire.inbox import received
from tests.support.deciding import (
    BUS,
    OPERATIONS,
    REGION,
    START,
    Site,
    accept,
    decline,
    forget,
    inbox_record,
    of,
    offers,
    organisation,
    outcome,
    picture,
    protocol,
    publish,
    report,
    rules,
    start,
    subject_of,
    withdraw,
)

CODEC = Codec.load()
INBOX = topics.inbox(BUS)
BODIES: list[tuple[Submission, str]] = [
    (withdraw(of()), "police"),
    (accept(of()), "shelter"),
    (decline(of()), "shelter"),
    (start(of()), "shelter"),
    (outcome(of()), "shelter"),
    (report("beds", 3, 2, START), "shelter"),
    (publish(offers("beds", total=3)), "shelter"),
    (organisation("court"), OPERATIONS),
    (protocol(), OPERATIONS),
    (rules(2), OPERATIONS),
    (forget(subject_of(3)), OPERATIONS),
    (Tick(region=REGION, due=START), "matching"),
]
GOOD = [
    inbox_record(body, source, id=f"g-{number}", sent_at=START, codec=CODEC)
    for number, (body, source) in enumerate(BODIES)
]

junk = st.binary(max_size=200)
headers = st.lists(
    st.tuples(
        st.sampled_from([name for name, _ in GOOD[0].headers] + ["ce_correlationid", "x"]),
        st.binary(max_size=40),
    ),
    max_size=14,
).map(tuple)
anything = st.builds(
    Outgoing,
    st.just(INBOX),
    st.just(0),
    st.sampled_from([b"north", b"south", b"", b"\xff"]) | junk,
    st.none() | junk,
    headers,
)


@st.composite
def damaged(draw: Any) -> Outgoing:
    """A good record in which something is changed."""
    record: Outgoing = draw(st.sampled_from(GOOD))
    value, given_headers = bytearray(record.value or b""), list(record.headers)
    for _ in range(draw(st.integers(1, 3))):
        how = draw(st.sampled_from(["flip", "cut", "insert", "header", "swap", "drop"]))
        if how in ("flip", "cut", "insert") and value:
            at = draw(st.integers(0, len(value) - 1))
            if how == "flip":
                value[at] ^= 1 << draw(st.integers(0, 7))
            elif how == "cut":
                del value[at:]
            else:
                value[at:at] = draw(st.binary(min_size=1, max_size=6))
        elif how == "swap":
            other: Outgoing = draw(st.sampled_from(GOOD))
            value = bytearray(other.value or b"")
        elif given_headers:
            at = draw(st.integers(0, len(given_headers) - 1))
            name, was = given_headers[at]
            if how == "drop":
                del given_headers[at]
            else:
                given_headers[at] = (name, draw(junk | st.just(was + b"x") | st.just(was[:-1])))
    return Outgoing(INBOX, 0, record.key, bytes(value), tuple(given_headers))


@settings(max_examples=60)
@given(records=st.lists(anything | damaged() | damaged() | st.sampled_from(GOOD), min_size=1, max_size=12))
def test_whatever_lies_on_the_inbox_is_answered_or_kept_for_operations(records: list[Outgoing]) -> None:
    asyncio.run(_each_is_answered_once(records))


async def _each_is_answered_once(records: list[Outgoing]) -> None:
    site = await Site.opened(CODEC)
    await site.put(publish(offers("beds", total=3)), "shelter", id="the-service")
    await site.put(await site.submission(), "police", id="the-referral")
    await site.decide()
    for record in records:
        await site.put_record(record)
    last = await site.put(report("beds", 5, 4, site.clock.now() + 5), "shelter", id="the-last")
    waiting = await site.waiting()
    await site.decide()

    letters = {letter.offset: letter.reason for letter in await site.letters()}
    entries = await site.entries()
    answered = [entry.meta.submission.offset for entry in entries if entry.meta.submission is not None]
    assert last in answered
    for record in waiting:
        try:
            _, submission = received(record, CODEC)
        except WireError:
            assert letters[record.offset] == "unreadable"
            assert record.offset not in answered
            continue
        assert record.offset not in letters, "what can be read was not decided"
        is_tick = isinstance(submission.body, Tick)
        assert answered.count(record.offset) == 1 or is_tick
    lived = {region: picture(chain.state) for region, chain in site.work.chains.items()}
    await site.restarted()
    assert {region: picture(chain.state) for region, chain in site.work.chains.items()} == lived


@settings(max_examples=40)
@given(value=st.binary(max_size=300) | damaged().map(lambda record: record.value or b""))
def test_sealed_facts_of_any_bytes_are_refused_and_nothing_more(value: bytes) -> None:
    async def refused() -> None:
        site = await Site.opened(CODEC)
        await site.put(publish(offers("beds", total=3)), "shelter")
        body = await site.submission()
        await site.put(body.model_copy(update={"sealed_facts": value or b"\0"}), "police")
        await site.decide()
        entries = await site.entries()
        assert entries[-1].event.reason == "facts_unreadable"  # type: ignore[attr-defined]
        reader = await site.log.reader(Partition(topics.deadletter(BUS), 0))
        assert await reader.end() == 0

    asyncio.run(refused())
