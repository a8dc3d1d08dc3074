"""Dead letters after the mending: found, opened, and back where they came from as they were; where that is no help, it is said."""

from __future__ import annotations

import json

import pytest

from referral_bus.contracts.deadletter import DeadLetter
from referral_bus.contracts.inbox import Tick
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing, Partition, Record
from referral_bus.runtime.deadletters import MOST_CLEAR, DeadLetters
from referral_bus.runtime.resending import (
    MEANINGS,
    Kept,
    NotOpened,
    NotResendable,
    Place,
    kept,
    note,
    opened,
    record_of,
    resend,
    way_back,
)
from referral_bus.sealing.jwe import new_encryption_keys, seal_to
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record
from tests.support.clocks import ManualClock

BUS = "main"
INBOX = topics.inbox(BUS)
KEYS = new_encryption_keys()
NAME = b"Quentin Featherstonehaugh"


class Post:
    """A bus's log with the letters of one service on it."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.clock = ManualClock(7_000)
        self.log = MemoryLog(self.clock.now)
        self.letters = DeadLetters(BUS, "matching", KEYS.public, codec, self.clock)

    async def keep(
        self,
        topic: str = INBOX,
        offset: int = 3,
        value: bytes | None = b"as it was",
        reason: str = "undecidable",
        headers: tuple[tuple[str, bytes], ...] = (("ce_id", b"s-1"),),
    ) -> None:
        record = Record(topic, 1, offset, 1_000, b"north", value, headers)
        await (await self.log.appender()).append([self.letters.letter(record, reason)])

    async def all(self) -> list[Kept]:
        return list((await kept(self.log, BUS, self.codec)).values())

    async def resend(self, one: Kept) -> None:
        await resend(await self.log.appender(), one, KEYS.private, BUS, self.codec, self.clock)

    async def records(self, topic: str, partition: int) -> list[Record]:
        return await (await self.log.reader(Partition(topic, partition))).read(0)


@pytest.fixture
async def post(codec: Codec) -> Post:
    post = Post(codec)
    await post.log.ensure(topics.topics(BUS, 2, 1, ["hospital"]))
    return post


async def test_letters_come_in_the_order_in_which_their_records_stood(post: Post) -> None:
    for offset in (9, 4, 7):
        await post.keep(offset=offset)
    assert [one.letter.offset for one in await post.all()] == [4, 7, 9]


async def test_what_is_resent_is_the_same_to_the_byte_and_noted_after_it(post: Post) -> None:
    await post.keep()
    [one] = await post.all()
    assert one.is_open
    await post.resend(one)
    [again] = await post.records(INBOX, 1)
    assert (again.key, again.value, again.headers) == (b"north", b"as it was", (("ce_id", b"s-1"),))
    [done] = await post.all()
    assert (done.is_open, done.handled) == (False, ("resent",))


async def test_what_is_opened_is_still_open_and_what_is_discarded_is_not(post: Post) -> None:
    await post.keep()
    [one] = await post.all()
    appender = await post.log.appender()
    await note(appender, one, "opened", BUS, post.codec, post.clock)
    assert [one.is_open for one in await post.all()] == [True]
    await note(appender, one, "discarded", BUS, post.codec, post.clock)
    assert [one.is_open for one in await post.all()] == [False]


async def test_a_tick_is_not_resent_since_matching_puts_its_own(post: Post) -> None:
    tick = submission_record(
        Tick(region="north", due=5),
        codec=post.codec,
        topic=INBOX,
        partition=1,
        region="north",
        id="tick.north.5",
        organisation="matching",
        sent_at=5,
        digest=b"",
        about="north",
    )
    await post.keep(value=tick.value, headers=tick.headers)
    [one] = await post.all()
    with pytest.raises(NotResendable, match="tick"):
        await post.resend(one)
    assert await post.records(INBOX, 1) == []


async def test_an_outbox_record_goes_back_only_if_it_was_sealed(post: Post) -> None:
    outbox = topics.outbox("hospital")
    sealed = seal_to(new_encryption_keys().public, NAME)
    await post.keep(outbox, 0, NAME, "not_sealed")
    await post.keep(outbox, 1, sealed, "not_sealed")
    clear, jwe = await post.all()
    with pytest.raises(NotResendable, match="never sealed"):
        record_of(clear.letter, opened(clear.letter, KEYS.private), BUS)
    assert record_of(jwe.letter, opened(jwe.letter, KEYS.private), BUS).value == sealed


async def test_an_outbox_record_that_hit_a_fault_of_ours_goes_back_once_that_is_mended(post: Post) -> None:
    sealed = seal_to(new_encryption_keys().public, NAME)
    await post.keep(topics.outbox("hospital"), 0, sealed, "internal")
    [one] = await post.all()
    assert "fault of the bus" in MEANINGS["internal"]
    assert "once intake is mended" in way_back(one.letter, BUS)
    assert record_of(one.letter, opened(one.letter, KEYS.private), BUS).value == sealed


async def test_an_outbox_record_whose_refusal_could_not_be_told_goes_back_once_it_can(post: Post) -> None:
    sealed = seal_to(new_encryption_keys().public, NAME)
    await post.keep(topics.outbox("hospital"), 0, sealed, "untold")
    [one] = await post.all()
    assert "feed" in MEANINGS["untold"]
    assert "once the organisation's feed can be written" in way_back(one.letter, BUS)
    assert record_of(one.letter, opened(one.letter, KEYS.private), BUS).value == sealed


@pytest.mark.parametrize(
    ("topic", "instead"),
    [("refbus.main.ledger", "start the reader"), ("refbus.main.feed.hospital", "discard")],
)
async def test_what_nothing_takes_up_again_is_not_resent_and_it_says_what_instead(
    post: Post, topic: str, instead: str
) -> None:
    await post.keep(topic)
    [one] = await post.all()
    with pytest.raises(NotResendable, match=instead):
        way_back(one.letter, BUS)
    with pytest.raises(NotResendable, match=instead):
        await post.resend(one)


async def test_what_was_cut_is_not_resent(post: Post) -> None:
    await post.keep(value=b"x" * MOST_CLEAR)
    [one] = await post.all()
    with pytest.raises(NotResendable, match=f"of its {MOST_CLEAR} bytes"):
        await post.resend(one)


async def test_another_key_opens_nothing_and_a_letter_that_holds_no_record_is_said_to(post: Post) -> None:
    await post.keep()
    [one] = await post.all()
    with pytest.raises(NotOpened, match="not a JWE sealed"):
        opened(one.letter, new_encryption_keys().private)
    for content in (b"no json", b"{}", json.dumps({"key": 1, "value": "?", "headers": []}).encode()):
        odd = DeadLetter(**{**one.letter.model_dump(), "sealed": seal_to(KEYS.public, content)})
        with pytest.raises(NotOpened, match="no record"):
            opened(odd, KEYS.private)


async def test_a_note_about_a_letter_that_is_gone_is_passed_over(post: Post) -> None:
    await post.keep()
    [one] = await post.all()
    gone = Kept(Place(0, 40), one.letter)
    await note(await post.log.appender(), gone, "resent", BUS, post.codec, post.clock)
    assert [one.place for one in await post.all()] == [Place(0, 0)]


@pytest.mark.parametrize("text", ["", "1", "1/", "a/b", "1/2/3", "-1/2", "1/٣"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Place.read(text)
    assert Place.read(str(Place(2, 17))) == Place(2, 17)


def test_outgoing_names_the_partition_it_came_from(codec: Codec) -> None:
    letter = DeadLetter(
        service="matching",
        topic=INBOX,
        partition=1,
        offset=3,
        reason="undecidable",
        tries=1,
        at=1,
        sealed=b"s",
    )
    content = opened(
        letter.model_copy(
            update={"sealed": seal_to(KEYS.public, b'{"key": null, "value": null, "headers": []}')}
        ),
        KEYS.private,
    )
    assert record_of(letter, content, BUS) == Outgoing(INBOX, 1, None, None, ())
