"""The admission, on a log and a key store in memory: what is sealed, reserved, appended and answered, and what an outage leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from sqlalchemy.exc import OperationalError

from referral_bus.contracts.facts import TextFact
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.inbox import (
    AcceptOffer,
    AmendReferral,
    ReportOutcome,
    SplitReferral,
    SubmitReferral,
)
from referral_bus.contracts.message import Part
from referral_bus.contracts.reference import RegionTable
from referral_bus.contracts.requests import (
    REQUESTS,
    AcceptRequest,
    AmendRequest,
    AskRequest,
    OutcomeRequest,
    PartRequest,
    ServiceRequest,
    SplitRequest,
)
from referral_bus.log import topics
from referral_bus.log.memory import MemoryAppender, MemoryLog
from referral_bus.log.port import Fenced, LogError, LogUnavailable, Outgoing, Partition, Position, Record
from referral_bus.runtime.health import Health
from referral_bus.runtime.logs import correlated, correlation
from referral_bus.sealing.memory import MemoryKeyStore
from referral_bus.sealing.port import KeyStoreUnavailable
from referral_bus.sealing.pseudonym import subject_id
from referral_bus.sealing.secrets import Secrets, new_key
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from referral_bus.wire.inbox import LARGEST_CONTENT, received
from services.intake.admission import Admission, Result, Speaker
from services.intake.answers import Admitted
from services.intake.checks import Door, Presented
from services.intake.reference import ReferenceView
from services.intake.refusals import Refused
from services.intake.repeats import Reservation, Standing
from tests.support.admitting import (
    FACTS,
    NAME,
    NOTE,
    PARTIES,
    REFERENCE,
    REFERRAL,
    REGIONS,
    SAID,
    TASK,
    long_definition,
    organisation,
    referral,
    until,
)
from tests.support.clocks import ManualClock
from tests.support.memory_database import Beside
from tests.support.memory_intake import IntakeTables, MemoryAdmissions

NOW = 1_700_000_000_000
CODEC = Codec.load()
T = TypeVar("T")


class Tables(MemoryAdmissions):
    """What PostgreSQL keeps of admissions, shared by the processes that are given it; ``fails`` names the step that fails next."""

    def __init__(self) -> None:
        super().__init__(Beside(), IntakeTables())
        self.fails: str | None = None
        self.reserved: list[int] = []

    async def reserve(self, reservations: Sequence[Reservation]) -> dict[tuple[str, str], Standing]:
        self.reserved.append(len(reservations))
        return await super().reserve(reservations)

    async def _ask(self, step: str, there: Callable[[], T]) -> T:
        if self.fails == step:
            self.fails = None
            raise OperationalError(step, None, Exception("away"))
        return await super()._ask(step, there)


@dataclass
class Border:
    """An intake process without its doors. ``beside`` makes another one that shares log, database and keys."""

    log: MemoryLog = field(default_factory=MemoryLog)
    admissions: Tables = field(default_factory=Tables)
    keys: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    secrets: Secrets = field(default_factory=lambda: Secrets.derive(new_key(), "main"))
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    admission: Admission = field(init=False)
    view: ReferenceView = field(init=False)
    following: asyncio.Task[None] = field(init=False)

    async def __aenter__(self) -> Border:
        await self.log.ensure(topics.topics("main", 2, 1))
        self.view = ReferenceView(self.log, topics.reference("main"), CODEC, Health())
        self.admission = Admission(
            view=self.view,
            admissions=self.admissions,  # type: ignore[arg-type]
            keys=self.keys,
            appender=await self.log.appender(),
            sealer=Sealer(CODEC),
            codec=CODEC,
            secrets=self.secrets,
            clock=self.clock,
            bus="main",
            topic=topics.inbox("main"),
        )
        self.following = asyncio.create_task(self.view.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.admission.close()
        self.following.cancel()
        await asyncio.gather(self.following, return_exceptions=True)

    def beside(self) -> Border:
        return Border(self.log, self.admissions, self.keys, self.secrets, self.clock)

    async def publish(self, *messages: Any) -> None:
        appender = await self.log.appender()
        for message in messages:
            envelope = Envelope(
                id="p", source=source_of("operations"), type=message.event_type(), time=NOW, subject="p",
                schema_id=CODEC.schema_id(type(message)), partitionkey="p", dataclassification="internal",
            )  # fmt: skip
            topic = topics.reference("main")
            record = Outgoing(topic, 0, b"p", CODEC.encode(message), envelope.to_headers())
            [at] = await appender.append([record])
        await self.view.reached(at.offset)

    async def open(self) -> None:
        await self.publish(RegionTable(version=1, partitions=REGIONS), *map(organisation, PARTIES))

    async def say(
        self, *requests: Part, by: str = "hospital", ids: Sequence[str] = (), correlation: str | None = None
    ) -> list[Result]:
        presented = [
            Presented(id, by, self.clock.now(), request, "events")
            for id, request in zip(ids or [f"s-{n}" for n in range(len(requests))], requests, strict=True)
        ]
        speaker = Speaker(by, frozenset(PARTIES[by][1]))
        return await self.admission.admit(presented, speaker, [correlation] * len(presented))

    async def inbox(self) -> list[Record]:
        found = []
        for number in range(2):
            reader = await self.log.reader(Partition(topics.inbox("main"), number))
            found += await reader.read(0)
            await reader.close()
        return found


def reasons(results: Sequence[Result]) -> list[str | None]:
    return [result.reason if isinstance(result, Refused) else None for result in results]


def answers(results: Sequence[Result]) -> list[Any]:
    assert all(isinstance(result, Admitted) for result in results), reasons(results)
    return [result.answer for result in results if isinstance(result, Admitted)]


@pytest.fixture
async def border() -> Any:
    async with Border() as border:
        await border.open()
        yield border


async def test_what_concerns_a_person_is_sealed_and_known_by_a_pseudonym(border: Border) -> None:
    [answer] = answers(await border.say(referral(), ids=["s-1"], correlation="about-this"))
    [record] = await border.inbox()
    region, taken = received(record, CODEC)
    body = taken.body
    assert isinstance(body, SubmitReferral) and body.sealed_identity is not None
    subject = subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)
    assert (region, body.region, body.subject) == ("north", "north", subject)
    assert body.referral == answer.referral == referral_id("north", "main", "hospital", "s-1")
    sealer = Sealer(CODEC)
    facts = (await border.keys.fetch([subject], "facts"))[subject]
    identity = (await border.keys.fetch([subject], "identity"))[subject]
    assert sealer.open_facts(facts, subject, body.sealed_facts) == referral().facts
    assert sealer.open_identity(identity, subject, body.sealed_identity) == referral().identity
    everything = repr(record)
    assert NAME not in everything and REFERENCE not in everything
    envelope = Envelope.from_headers(record.headers)
    assert (envelope.dataclassification, envelope.correlationid) == ("sealed", "about-this")
    assert answer.token == f"north.{record.partition}.{record.offset}"


async def test_a_note_is_sealed_with_the_identity_key_of_the_referrals_subject(border: Border) -> None:
    [opened] = answers(await border.say(referral()))
    report = OutcomeRequest(referral=opened.referral, result="need_met", note=NOTE)
    assert answers(await border.say(report, by="shelter"))
    record = (await border.inbox())[-1]
    body = received(record, CODEC)[1].body
    assert isinstance(body, ReportOutcome) and body.sealed_note is not None
    subject = border.admissions.tables.referrals[opened.referral]
    key = (await border.keys.fetch([subject], "identity"))[subject]
    assert Sealer(CODEC).open_note(key, subject, body.sealed_note).text == NOTE
    assert NOTE not in repr(record)


@pytest.mark.parametrize(
    ("by", "about", "request_"), SAID, ids=[type(request).__name__ for _, _, request in SAID]
)
async def test_nothing_clear_of_a_person_is_left_in_any_submission_and_the_rest_is_what_was_said(
    border: Border, by: str, about: str, request_: Part
) -> None:
    subject = subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)
    border.admissions.tables.referrals[REFERRAL] = subject
    assert answers(await border.say(request_, by=by))
    [record] = await border.inbox()
    body = received(record, CODEC)[1].body
    assert type(body) is REQUESTS[type(request_)]
    sealed = any(
        name in type(request_).model_fields for name in ("facts", "parts", "question", "answer", "note")
    )
    assert Envelope.from_headers(record.headers).dataclassification == ("sealed" if sealed else "internal")
    assert not any(
        clear in record.value for clear in (NAME.encode(), NOTE.encode(), FACTS.needs[0].code.encode())
    )

    keys = {
        section: (await border.keys.fetch([subject], section)).get(subject)
        for section in ("facts", "identity")
    }
    opened = clear(body.model_dump(), subject, keys)
    assert opened == clear(request_.model_dump(), subject, keys)


def clear(said: Any, subject: str, keys: dict[Any, Any]) -> Any:
    """What was said, with what is sealed in it opened; without the ids of parts, which nobody says."""
    sealer = Sealer(CODEC)
    if isinstance(said, list):
        return [clear({k: v for k, v in one.items() if k != "referral"}, subject, keys) for one in said]
    found: dict[str, Any] = {}
    for name, value in said.items():
        sealed = name.removeprefix("sealed_")
        if name == sealed or value is None:
            found[sealed] = clear(value, subject, keys) if name == "parts" else value
        elif sealed == "facts":
            found[sealed] = sealer.open_facts(keys["facts"], subject, value).model_dump()
        elif sealed == "identity":
            found[sealed] = sealer.open_identity(keys["identity"], subject, value).model_dump()
        else:
            found[sealed] = sealer.open_note(keys["identity"], subject, value).text
    return found


async def test_whoever_speaks_of_a_referral_what_they_say_is_sealed_for_the_person_it_is_about(
    border: Border,
) -> None:
    [opened] = answers(await border.say(referral()))
    await border.publish(organisation("clinic", roles=["agency"]))
    amended = AmendRequest(referral=opened.referral, facts=FACTS)
    presented = Presented("c-1", "clinic", border.clock.now(), amended, "api")
    answers(await border.admission.admit([presented], Speaker("clinic", frozenset({"agency"})), [None]))
    body = received((await border.inbox())[-1], CODEC)[1].body
    subject = subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)
    assert isinstance(body, AmendReferral) and body.sealed_facts is not None
    key = (await border.keys.fetch([subject], "facts"))[subject]
    assert Sealer(CODEC).open_facts(key, subject, body.sealed_facts) == FACTS


async def test_an_area_is_written_as_a_directory_names_it(border: Border) -> None:
    facts = FACTS.model_copy(update={"area": TextFact(status="stated", value="Cook County")})
    answers(await border.say(referral().model_copy(update={"facts": facts})))
    body = received((await border.inbox())[-1], CODEC)[1].body
    subject = subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)
    assert isinstance(body, SubmitReferral)
    key = (await border.keys.fetch([subject], "facts"))[subject]
    assert Sealer(CODEC).open_facts(key, subject, body.sealed_facts).area.value == "cook-county"


async def test_a_note_on_a_part_is_sealed_for_the_person_of_the_whole(border: Border) -> None:
    [whole] = answers(await border.say(referral(), ids=["s-1"]))
    parts = [PartRequest(urgency="urgent", facts=FACTS)] * 2
    split = SplitRequest(referral=whole.referral, parts=parts)
    [answer] = answers(await border.say(split, ids=["s-2"]))
    [again] = answers(await border.say(split, ids=["s-2"]))
    assert answer == again and len(set(answer.parts)) == 2
    report = OutcomeRequest(referral=answer.parts[1], result="need_met", note=NOTE)
    assert reasons(await border.say(report, by="shelter", ids=["o-1"])) == [None]
    subject = subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)
    bodies = [received(record, CODEC)[1].body for record in await border.inbox()]
    said, reported = bodies[1:]
    assert isinstance(said, SplitReferral) and [part.referral for part in said.parts] == list(answer.parts)
    assert isinstance(reported, ReportOutcome) and reported.sealed_note is not None
    key = (await border.keys.fetch([subject], "identity"))[subject]
    assert Sealer(CODEC).open_note(key, subject, reported.sealed_note).text == NOTE


async def test_a_split_that_died_before_it_was_heard_is_taken_up_by_its_repeat(border: Border) -> None:
    [whole] = answers(await border.say(referral(), ids=["s-1"]))
    split = SplitRequest(referral=whole.referral, parts=[PartRequest(urgency="urgent", facts=FACTS)] * 2)
    border.admissions.fails = "remember"
    assert reasons(await border.say(split, ids=["s-2"])) == ["unavailable"]
    [answer] = answers(await border.say(split, ids=["s-2"]))
    assert all(part in border.admissions.tables.referrals for part in answer.parts)


async def test_a_question_about_an_offer_nobody_was_made_is_refused(border: Border) -> None:
    [refused] = await border.say(AskRequest(task=TASK, question=NOTE), by="shelter")
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.field) == ("unknown_referral", "data.task")
    assert NOTE not in refused.detail


async def test_a_note_about_a_referral_that_was_never_admitted_is_refused(border: Border) -> None:
    nobodys = referral_id("north", "main", "hospital", "never")
    report = OutcomeRequest(referral=nobodys, result="need_met", note=NOTE)
    [refused] = await border.say(report, by="shelter")
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.field) == ("unknown_referral", "data.referral")
    assert await border.inbox() == []


async def test_a_repeat_is_answered_like_the_first_and_appended_no_second_time(border: Border) -> None:
    first = await border.say(referral(), ids=["s-1"])
    border.clock.advance(1000)
    again = await border.say(referral(), ids=["s-1"])
    assert answers(again) == answers(first)
    assert [one.repeated for one in (*first, *again) if isinstance(one, Admitted)] == [False, True]
    assert len(await border.inbox()) == 1


async def test_another_process_recognises_the_repeat(border: Border) -> None:
    first = await border.say(referral(), ids=["s-1"])
    async with border.beside() as other:
        await other.view.caught_up()
        assert answers(await other.say(referral(), ids=["s-1"])) == answers(first)
    assert len(await border.inbox()) == 1


async def test_the_same_id_with_another_body_is_refused_and_of_another_organisation_is_another(
    border: Border,
) -> None:
    await border.say(referral(), ids=["s-1"])
    assert reasons(await border.say(referral(urgency="crisis"), ids=["s-1"])) == ["id_reused"]
    assert reasons(await border.say(AcceptRequest(task=TASK), by="shelter", ids=["s-1"])) == [None]
    assert len(await border.inbox()) == 2


async def test_repeats_within_one_batch_are_judged_by_the_first_of_them(border: Border) -> None:
    results = await border.say(
        referral(), referral(), referral(urgency="crisis"), referral(), ids=["a", "a", "a", "b"]
    )
    assert reasons(results) == [None, None, "id_reused", None]
    first, again, other = answers([results[0], results[1], results[3]])
    assert first == again != other
    assert len(await border.inbox()) == 2


async def test_an_id_that_is_forgotten_opens_the_same_referral_never_again(border: Border) -> None:
    assert reasons(await border.say(referral(), ids=["s-1"])) == [None]
    border.admissions.tables.admissions.clear()
    results = await border.say(referral(subject="another"), referral(), ids=["s-1", "s-2"])
    assert reasons(results) == ["too_old", None]


async def test_a_bad_one_takes_no_other_along_and_the_others_keep_their_order(border: Border) -> None:
    bad = AcceptRequest(task=TASK)
    results = await border.say(referral(subject="a"), bad, referral(subject="b"), referral(region="west"))
    assert reasons(results) == [None, "role_missing", None, "unknown_region"]
    assert [Envelope.from_headers(one.headers).id for one in await border.inbox()] == ["s-0", "s-2"]


async def test_what_waits_together_takes_one_round(border: Border) -> None:
    results = await asyncio.gather(*(border.say(referral(), ids=[f"s-{n}"]) for n in range(20)))
    assert len({one.token for result in results for one in answers(result)}) == 20
    assert sum(border.admissions.reserved) == 20
    assert len(border.admissions.reserved) < 5


@pytest.mark.parametrize("step", ["reserve", "place"])
async def test_what_a_database_outage_interrupts_the_repeat_finishes(border: Border, step: str) -> None:
    border.admissions.fails = step
    [refused] = await border.say(referral(), ids=["s-1"])
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.status) == ("unavailable", 503)
    assert refused.retry_after > 0
    assert reasons(await border.say(referral(), ids=["s-1"])) == [None]
    records = await border.inbox()
    digests = {Envelope.from_headers(one.headers).bodydigest for one in records}
    assert len(records) == (2 if step == "place" else 1), (
        "died after the append: matching recognises the second"
    )
    assert len(digests) == 1


async def test_what_was_appended_and_not_placed_is_answered_alike_ever_after(border: Border) -> None:
    border.admissions.fails = "place"
    await border.say(referral(), ids=["s-1"])
    second = await border.say(referral(), ids=["s-1"])
    async with border.beside() as other:
        await other.view.caught_up()
        third = await other.say(referral(), ids=["s-1"])
    assert answers(second) == answers(third)


async def test_an_unfinished_submission_stays_in_its_region_when_the_agency_moves(border: Border) -> None:
    border.admissions.fails = "place"
    await border.say(referral(), ids=["s-1"])
    await border.publish(organisation("hospital", version=2, region="south"))
    [answer] = answers(await border.say(referral(), ids=["s-1"]))
    regions = {received(record, CODEC)[0] for record in await border.inbox()}
    assert regions == {"north"}
    assert (answer.region, answer.referral) == ("north", referral_id("north", "main", "hospital", "s-1"))
    [moved] = answers(await border.say(referral(), ids=["s-2"]))
    assert moved.region == "south"


async def test_while_the_log_is_away_nothing_is_taken_and_nothing_is_lost(border: Border) -> None:
    border.log.away = True
    assert reasons(await border.say(referral(), ids=["s-1"])) == ["unavailable"]
    border.log.away = False
    assert reasons(await border.say(referral(), ids=["s-1"])) == [None]
    assert len(await border.inbox()) == 1


async def test_while_the_log_is_away_all_who_wait_for_it_hear_so_of_one_try(border: Border) -> None:
    border.log.away = True
    results = await asyncio.gather(*(border.say(referral(), ids=[f"s-{n}"]) for n in range(20)))
    assert {reason for result in results for reason in reasons(result)} == {"unavailable"}
    assert sum(border.admissions.reserved) == 20, "nobody's was worked on again"


async def test_a_region_whose_inbox_does_not_answer_is_told_so_and_all_others_are_admitted_in_the_same_round(
    border: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = refusing(border, monkeypatch, LogUnavailable("append: away"), lambda one: one.partition == 1)
    results = await asyncio.gather(
        *(border.say(referral(region=("north", "south")[n % 2]), ids=[f"s-{n}"]) for n in range(20))
    )
    assert [reasons(result) for result in results] == [[None], ["unavailable"]] * 10
    assert tries == [f"s-{n}" for n in range(1, 20, 2)], "each was tried once"
    assert len(await border.inbox()) == 10


async def test_repeats_beside_what_the_log_does_not_take_now_hear_the_same(
    border: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = refusing(border, monkeypatch, LogUnavailable("append: away"), lambda _: True)
    said = await border.say(*[referral()] * 3, ids=["s-1"] * 3)
    assert (reasons(said), tries) == (["unavailable"] * 3, ["s-1"])


async def test_what_the_log_does_not_take_of_one_is_taken_of_the_others(
    border: Border, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(border, monkeypatch, LogError("append: RecordTooLarge"), lambda one: id_of(one) == "s-7")
    results = await asyncio.gather(*(border.say(referral(), ids=[f"s-{n}"]) for n in range(20)))
    assert [reasons(result) for result in results] == [
        ["unavailable"] if n == 7 else [None] for n in range(20)
    ]


def id_of(record: Outgoing) -> str:
    return Envelope.from_headers(record.headers).id


def refusing(
    border: Border, monkeypatch: pytest.MonkeyPatch, error: LogError, at: Callable[[Outgoing], bool]
) -> list[str]:
    """Nothing is appended that is put together with such a record. Returns the ids of what was not, as they come."""
    right, tries = MemoryAppender.append, list[str]()

    async def append(self: MemoryAppender, records: Sequence[Outgoing]) -> list[Position]:
        if any(map(at, records)):
            tries.extend(map(id_of, records))
            raise error
        return await right(self, records)

    monkeypatch.setattr(MemoryAppender, "append", append)
    return tries


async def test_while_the_key_store_is_away_nothing_leaves_unsealed(border: Border) -> None:
    border.keys.away = True
    results = await border.say(referral(), by="hospital")
    assert reasons(results) == ["unavailable"]
    assert await border.inbox() == []


async def test_a_fault_of_our_own_is_not_hidden_as_an_outage(border: Border) -> None:
    async def broken(_: object) -> None:
        raise ZeroDivisionError

    border.admissions.reserve = broken  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        await border.say(referral())


async def test_nobody_forgotten_is_referred_again_but_what_was_admitted_before_is_answered_as_it_was(
    border: Border,
) -> None:
    first = await border.say(referral(), ids=["s-1"])
    await border.keys.destroy([subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)])
    results = await border.say(referral(), referral(), referral(urgency="crisis"), ids=["s-1", "s-2", "s-1"])
    assert reasons(results) == [None, "subject_erased", "id_reused"]
    assert answers(results[:1]) == answers(first)
    assert len(await border.inbox()) == 1


async def test_an_id_that_was_refused_is_free_for_a_corrected_body(border: Border) -> None:
    await border.keys.destroy([subject_id(border.secrets.pseudonym_key, "hospital", REFERENCE)])
    assert reasons(await border.say(referral(), ids=["s-1"])) == ["subject_erased"]
    assert reasons(await border.say(referral(subject="case-4712"), ids=["s-1"])) == [None]


@pytest.mark.parametrize(
    ("door", "field"), [("api", "body"), ("events", "data.definition"), ("outbox", "data.definition")]
)
async def test_a_service_too_large_to_be_published_is_refused_at_every_door_and_its_id_stays_free(
    border: Border, door: Door, field: str
) -> None:
    def asked(areas: int) -> Presented:
        request = ServiceRequest(definition=long_definition(areas))
        return Presented("s-1", "shelter", border.clock.now(), request, door)

    speaker = Speaker("shelter", frozenset(PARTIES["shelter"][1]))
    [refused] = await border.admission.admit([asked(8_000)], speaker, [None])
    assert isinstance(refused, Refused)
    assert (refused.status, refused.reason, refused.field) == (413, "too_large", field)
    assert f"at most {LARGEST_CONTENT} bytes" in refused.detail
    assert await border.inbox() == []
    assert reasons(await border.admission.admit([asked(7_800)], speaker, [None])) == [None]


async def test_before_the_reference_data_is_read_nobody_is_turned_away_as_unknown() -> None:
    async with Border() as fresh:
        fresh.log.away = True
        assert reasons(await fresh.say(referral())) == ["unavailable"]
        fresh.log.away = False
        await until(lambda: fresh.view.ready)
        assert reasons(await fresh.say(referral())) == ["unknown_organisation"]


async def test_what_says_nothing_of_a_person_is_not_marked_as_sealed(border: Border) -> None:
    assert answers(await border.say(AcceptRequest(task=TASK), by="shelter"))
    [record] = await border.inbox()
    assert received(record, CODEC)[1].body == AcceptOffer(task=TASK)
    assert Envelope.from_headers(record.headers).dataclassification == "internal"


class Lines(logging.Handler):
    """What is logged, each line with the correlation id it carries."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str | None, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((correlation(), record.getMessage()))


@pytest.fixture
def lines() -> Iterator[Lines]:
    heard = Lines()
    logger = logging.getLogger("services.intake")
    logger.addHandler(heard)
    yield heard
    logger.removeHandler(heard)


async def test_each_submission_that_an_outage_stops_is_logged_by_its_own_correlation(
    border: Border, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise OperationalError("reserve", None, Exception("away"))

    monkeypatch.setattr(border.admissions, "reserve", away)

    async def asks(about: str, *ids: str) -> list[Result]:
        with correlated(about):
            return await border.say(*[referral()] * len(ids), ids=ids, correlation=about)

    answered = await asyncio.gather(asks("first", "s-1"), asks("second", "s-2", "s-3"), asks("third", "s-4"))
    assert {reason for results in answered for reason in reasons(results)} == {"unavailable"}
    assert sorted(lines.said) == [
        ("first", "1 submissions were not admitted: OperationalError"),
        ("second", "2 submissions were not admitted: OperationalError"),
        ("third", "1 submissions were not admitted: OperationalError"),
    ]


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (Fenced("append: another owner has started"), "The log does not answer."),
        (LogUnavailable("append: no answer from Kafka"), "The log does not answer."),
        (KeyStoreUnavailable("keys: the key store does not answer"), "The database does not answer."),
        (OperationalError("reserve", None, Exception("away")), "The database does not answer."),
    ],
)
async def test_what_does_not_answer_is_named(
    border: Border, monkeypatch: pytest.MonkeyPatch, error: Exception, what: str
) -> None:
    async def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(border.admissions, "reserve", away)
    [refused] = await border.say(referral())
    assert isinstance(refused, Refused) and refused.detail.startswith(what)
