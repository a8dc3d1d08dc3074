"""Messages survive the way to bytes and back; anything else is refused with a reason that repeats no content."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.contracts.facts import Facts, Need, NumberFact
from referral_bus.contracts.inbox import AcknowledgeOffer, AskForInformation, SubmitReferral, Tick
from referral_bus.contracts.ledger import GENESIS_HASH, Admitted, Entry, Meta, OfferAccepted
from referral_bus.contracts.vocabularies import Taxonomy, TaxonomyTerm
from referral_bus.log.port import LARGEST_VALUE, Record
from referral_bus.wire.codec import MAXIMUM_BYTES, Codec
from referral_bus.wire.errors import TooLarge, WireError
from referral_bus.wire.inbox import LARGEST_ANSWERED, admitted_again, received, submission_record
from referral_bus.wire.schemas import registered

CODEC = Codec.load()
REFERRAL = "rf-north-dfohh3tkkgisoaiials4"
TASK = "tk-north-dfohh3tkkgisoaiials4-1"
META = Meta(region="north", sequence=7, prev_hash=GENESIS_HASH, decided_through=4, now=5, rules=1)


def submission() -> SubmitReferral:
    return SubmitReferral(
        referral=REFERRAL,
        region="north",
        subject="sj-" + "a" * 26,
        urgency="crisis",
        purpose="emergency",
        sealed_facts=b"facts",
    )


def record(body=None, **changes) -> Record:
    outgoing = submission_record(
        body or submission(),
        codec=CODEC,
        topic="refbus.main.inbox",
        partition=2,
        region="north",
        id="one",
        organisation="county-police",
        sent_at=1_700_000_000_123,
        digest=bytes(32),
        about=REFERRAL,
    )
    fields = {"key": outgoing.key, "value": outgoing.value, "headers": outgoing.headers, **changes}
    return Record("refbus.main.inbox", 2, 9, 1_700_000_000_999, **fields)


def test_a_value_is_framed_as_confluent_does_it() -> None:
    data = CODEC.encode(Tick(region="north", due=5))
    assert data[0] == 0
    assert int.from_bytes(data[1:5], "big") == CODEC.schema_id(Tick)


def test_a_message_comes_back_as_it_went() -> None:
    assert CODEC.decode(CODEC.encode(submission())) == submission()


def test_unknown_not_said_and_stated_stay_three_different_values() -> None:
    for age in (
        NumberFact(status="unknown"),
        NumberFact(status="not_said"),
        NumberFact(status="stated", value=0),
    ):
        facts = Facts(age=age, needs=[Need(code="1121")])
        assert CODEC.decode(CODEC.encode(facts)) == facts


def test_an_event_and_its_meta_come_back_as_they_went() -> None:
    entry = Entry(META, OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter"))
    assert CODEC.decode_entry(CODEC.encode_entry(entry)) == entry


def test_an_event_is_not_read_without_its_meta_nor_a_submission_as_an_event() -> None:
    with pytest.raises(WireError, match="read with its meta"):
        CODEC.decode(
            CODEC.encode_entry(Entry(META, OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter")))
        )
    with pytest.raises(WireError, match="is not an event"):
        CODEC.decode_entry(CODEC.encode(Tick(region="north", due=5)))


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_and_never_crash(data: bytes) -> None:
    for frame in (b"", b"\x00\x00\x00\x00\x04", b"\x00\x00\x00\x00\x10"):
        try:
            CODEC.decode(frame + data)
        except WireError as error:
            assert len(str(error)) < 300


def test_a_value_that_is_too_large_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(WireError, match="at most"):
        CODEC.decode(b"\x00" * (MAXIMUM_BYTES + 1))


def test_what_no_record_can_hold_is_not_written_either() -> None:
    fits = Admitted(
        type=SubmitReferral.event_type(),
        id="one",
        source="shelter",
        digest=bytes(32),
        sent_at=1,
        partition=0,
        offset=0,
        append_time=1,
        value=bytes(LARGEST_VALUE - 400),
    )
    event = OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter")
    assert CODEC.encode_entry(Entry(META.model_copy(update={"submission": fits}), event))
    large = fits.model_copy(update={"value": bytes(LARGEST_VALUE)})
    with pytest.raises(TooLarge, match=f"at most {LARGEST_VALUE}"):
        CODEC.encode_entry(Entry(META.model_copy(update={"submission": large}), event))
    terms = [TaxonomyTerm(code=f"{number:0128}") for number in range(20_000)]
    with pytest.raises(TooLarge, match="Taxonomy"):
        CODEC.encode(Taxonomy(taxonomy="large", terms=terms))


def test_a_submission_without_room_for_an_answer_is_none() -> None:
    sent = record(AskForInformation(task=TASK, sealed_question=bytes(60_000)))
    assert received(sent, CODEC)
    longest = replace(sent, value=(sent.value or b"") + bytes(LARGEST_ANSWERED - len(sent.value or b"")))
    with pytest.raises(WireError, match="left over"):
        received(longest, CODEC)
    with pytest.raises(WireError, match="no answer"):
        received(replace(longest, value=(longest.value or b"") + b"!"), CODEC)


def test_an_unknown_schema_id_says_to_upgrade_readers_first() -> None:
    with pytest.raises(WireError, match="upgrade readers before writers"):
        CODEC.decode(b"\x00\x00\x0f\xff\xff")


def test_what_an_older_schema_has_no_field_for_never_comes_out_as_what_was_written_by_it() -> None:
    plain = OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter")
    first = next(one for one in registered() if one.name == OfferAccepted.schema_name())
    body = BytesIO(b"\x00" + first.id.to_bytes(4, "big"))
    body.seek(5)
    fastavro.schemaless_writer(
        body, fastavro.parse_schema(first.parsed()), {**plain.model_dump(), "meta": META.model_dump()}
    )
    old = body.getvalue()
    assert CODEC.encode_entry(Entry(META, plain), like=old) == old
    later = plain.model_copy(update={"starts_at": 5})
    assert CODEC.encode_entry(Entry(META, later), like=old) == CODEC.encode_entry(Entry(META, later)) != old


def number(data: bytes) -> int:
    return int.from_bytes(data[1:5], "big")


def test_a_message_is_written_by_an_older_schema_while_older_code_reads_beside() -> None:
    first = next(one.id for one in registered() if one.name == SubmitReferral.schema_name())
    held = Codec.load(write_up_to=first)
    assert number(held.encode(submission())) == first == held.schema_id(SubmitReferral)
    assert number(CODEC.encode(submission())) > first
    assert CODEC.decode(held.encode(submission())) == submission()


def test_what_is_new_in_a_schema_is_read_by_who_does_not_write_it_yet() -> None:
    direct = submission().model_copy(update={"mode": "direct", "service": "sv-north-beds"})
    first = next(one.id for one in registered() if one.name == SubmitReferral.schema_name())
    assert Codec.load(write_up_to=first).decode(CODEC.encode(direct)) == direct


def test_what_an_older_schema_has_no_field_for_is_refused_and_never_left_out() -> None:
    direct = submission().model_copy(update={"mode": "direct", "service": "sv-north-beds"})
    first = next(one.id for one in registered() if one.name == SubmitReferral.schema_name())
    with pytest.raises(WireError, match=f"schema {first} can't say this SubmitReferral"):
        Codec.load(write_up_to=first).encode(direct)
    scheduled = OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter", starts_at=5)
    oldest = next(one.id for one in registered() if one.name == OfferAccepted.schema_name())
    held = Codec.load(write_up_to=oldest)
    with pytest.raises(WireError, match=f"schema {oldest} can't say this OfferAccepted"):
        held.encode_entry(Entry(META, scheduled))


def test_a_message_that_is_new_altogether_is_not_written_while_older_code_reads_beside() -> None:
    first = next(one.id for one in registered() if one.name == Tick.schema_name())
    held = Codec.load(write_up_to=first - 1)
    tick = Tick(region="north", due=5)
    for write in (lambda: held.encode(tick), lambda: held.schema_id(Tick)):
        with pytest.raises(WireError, match="can't say this Tick"):
            write()
    assert held.decode(CODEC.encode(tick)) == tick


def test_an_event_is_written_by_an_older_schema_and_again_by_the_one_it_was_written_by() -> None:
    accepted = Entry(META, OfferAccepted(referral=REFERRAL, task=TASK, provider="shelter"))
    first, *_, newest = [one.id for one in registered() if one.name == OfferAccepted.schema_name()]
    held = Codec.load(write_up_to=first)
    old, new = held.encode_entry(accepted), CODEC.encode_entry(accepted)
    assert (number(old), number(new)) == (first, newest)
    assert held.decode_entry(new) == held.decode_entry(old) == accepted
    assert (held.encode_entry(accepted, like=new), CODEC.encode_entry(accepted, like=old)) == (new, old)


def test_bytes_left_over_are_refused() -> None:
    with pytest.raises(WireError, match="left over"):
        CODEC.decode(CODEC.encode(Tick(region="north", due=5)) + b"x")


def test_an_invalid_field_is_named_and_its_value_is_not_shown() -> None:
    schema = {"type": "record", "name": "AcknowledgeOffer", "fields": [{"name": "task", "type": "string"}]}
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, {"task": "Jane Roe"})
    frame = b"\x00" + CODEC.schema_id(AcknowledgeOffer).to_bytes(4, "big")
    with pytest.raises(WireError, match="look at task") as caught:
        CODEC.decode(frame + out.getvalue())
    assert "Jane" not in str(caught.value)


def test_a_submission_record_says_who_and_where_and_decodes_to_what_was_admitted() -> None:
    region, got = received(record(), CODEC)
    assert region == "north"
    assert got.body == submission()
    assert got.admitted == Admitted(
        type="org.referralbus.inbox.SubmitReferral.v1",
        id="one",
        source="county-police",
        digest=bytes(32),
        sent_at=1_700_000_000_123,
        partition=2,
        offset=9,
        append_time=1_700_000_000_999,
        value=record().value,
    )


def test_a_submission_can_be_decoded_again_from_what_the_ledger_carries() -> None:
    _, got = received(record(), CODEC)
    assert admitted_again(got.admitted, CODEC) == got


@pytest.mark.parametrize(
    "missing", ["ce_id", "ce_source", "ce_type", "ce_time", "ce_partitionkey", "ce_specversion"]
)
def test_a_record_without_an_attribute_is_refused_by_its_name(missing: str) -> None:
    headers = tuple(header for header in record().headers if header[0] != missing)
    with pytest.raises(WireError, match=missing.removeprefix("ce_")):
        received(record(headers=headers), CODEC)


def test_headers_that_name_another_message_than_the_value_are_refused() -> None:
    with pytest.raises(WireError, match="type"):
        received(record(value=CODEC.encode(Tick(region="north", due=1))), CODEC)


def test_a_key_of_another_region_is_refused() -> None:
    with pytest.raises(WireError, match="partitionkey"):
        received(record(key=b"south"), CODEC)
