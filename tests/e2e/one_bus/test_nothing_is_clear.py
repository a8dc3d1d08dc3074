"""Nothing that concerns a person rests anywhere in the clear. People whose every field can be told from everything else go through all
that can happen to a referral; then everything the bus has left is searched for them, in every encoding they might rest in."""

from __future__ import annotations

import asyncio
import base64
import secrets
from contextlib import aclosing
from typing import Any, Final

import pytest

from referral_bus.client.answers import Answer
from referral_bus.client.events import cloud_event
from referral_bus.contracts.facts import Facts, Identity, ListFact, Need, NumberFact, PlaceFact, TextFact
from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.log import topics
from referral_bus.log.port import Outgoing
from tests.support.clear_text import Search, everywhere, needles
from tests.support.commands import in_process
from tests.support.notifying import Receiver
from tests.support.whole_bus import WholeBus, new_need, now_ms, request, until

pytestmark = pytest.mark.timeout(240)

_LIVES: Final = 15
"""With the others more events than a snapshot is made for."""
_KINDS: Final = frozenset(
    {"topic", "table", "metrics", "file of kafka", "file of postgres", "file of logs", "file of state"}
)


class Marked:
    """A person of whom each field is a text that stands nowhere else. ``marks`` holds them by field.

    Age, household, traits, documents and means of travel have too few values to tell one from everything else; they stand in the same
    sealed section as the area and the place.
    """

    def __init__(self) -> None:
        def letters() -> str:
            return "zq" + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(14))

        def digits(count: int) -> str:
            return "".join(secrets.choice("0123456789") for _ in range(count))

        self.marks: dict[str, str] = {
            "name": f"{letters()} Ż{letters()}",
            "phone": f"+1 {digits(3)} {digits(3)} {digits(6)}",
            "email": f"{letters()}@{letters()}.example",
            "address": f"{digits(6)} {letters()} street",
            "birth date": f"{secrets.randbelow(100) + 1700}-{secrets.randbelow(12) + 1:02d}-{secrets.randbelow(28) + 1:02d}",
            "note": f"a note of {letters()}",
            "outcome note": f"said about {letters()}",
            "question": f"asked about {letters()}",
            "answer": f"answered about {letters()}",
            "subject reference": f"case {letters()}",
            "area": letters(),
            "language": f"x-{letters()}",
            "need": letters(),
            "latitude": f"{secrets.randbelow(10_000_000) + 40_000_000}",
            "longitude": f"{-secrets.randbelow(10_000_000) - 80_000_000}",
        }

    @property
    def identity(self) -> Identity:
        return Identity(
            name=self.marks["name"],
            phone=self.marks["phone"],
            email=self.marks["email"],
            address=self.marks["address"],
            birth_date=self.marks["birth date"],
            note=self.marks["note"],
        )

    def request(self, need: str, **changed: Any) -> ReferralRequest:
        facts = Facts(
            age=NumberFact(status="stated", value=42),
            languages=ListFact(status="stated", values=[self.marks["language"]]),
            area=TextFact(status="stated", value=self.marks["area"]),
            needs=[Need(code=need), Need(code=self.marks["need"])],
            place=PlaceFact(
                status="stated",
                latitude=int(self.marks["latitude"]),
                longitude=int(self.marks["longitude"]),
            ),
        )
        return request(
            need,
            **{
                "subject": self.marks["subject reference"],
                "facts": facts,
                "identity": self.identity,
                **changed,
            },
        )


@pytest.mark.asyncio(loop_scope="session")
async def test_nothing_of_a_person_is_found_anywhere(whole: WholeBus, receiver: Receiver) -> None:
    person, forgotten = Marked(), Marked()
    refused = await _everything_happens(whole, receiver, person, forgotten)
    marks = {f"{field} of the person": mark for field, mark in person.marks.items()}
    marks |= {f"{field} of the forgotten": mark for field, mark in forgotten.marks.items()}
    await until(lambda: list((whole.home / "state" / "matching-1" / "snapshots").glob("*.jsonl")))

    search = await everywhere(whole, marks)
    assert search.found == []
    assert {kind for kind in _KINDS if search.searched[kind] < 100} == set()
    # What was refused was refused without being repeated.
    answers = Search(marks)
    for answer in refused:
        answers.look("answer", "", answer.encode())
    assert answers.found == []
    assert len(refused) >= 4


@pytest.mark.asyncio(loop_scope="session")
async def test_the_search_finds_what_is_there(whole: WholeBus) -> None:
    in_log, in_broker, in_table, in_bytes, in_topic, in_header = (
        f"planted {secrets.token_hex(8)}" for _ in range(6)
    )
    marks = {"log": in_log, "broker": in_broker, "table": in_table, "bytes": in_bytes}
    marks |= {"topic": in_topic, "header": in_header}
    log, broker = whole.home / "logs" / "planted.log", whole.home / "kafka" / "planted"
    log.write_bytes(b"x" * 70_000 + in_log.encode("utf-16-le"))
    # Segments are compressed: what they hold is found by reading the topics, what else the broker leaves in its files.
    broker.write_bytes(in_broker.encode())
    await whole.rows(
        "create table public.planted as select cast(:t as text) as t, cast(:b as bytea) as b",
        t=in_table,
        b=in_bytes.encode(),
    )
    planted = Outgoing(
        topics.deadletter(whole.name), 0, None, in_topic.encode().hex().encode(), (("h", in_header.encode()),)
    )
    try:
        await (await whole.log.appender()).append([planted])
        search = await everywhere(whole, marks)
    finally:
        log.unlink()
        broker.unlink()
        await whole.rows("drop table public.planted")
    found = set(search.found)
    assert "file of logs logs/planted.log: log as UTF-16 little-endian" in found
    assert 'table "public"."planted": table as UTF-8' in found
    assert 'table "public"."planted".b: bytes as UTF-8' in found
    assert any(
        one.startswith("topic refbus.e2e.deadletter/0/") and one.endswith("topic as hex") for one in found
    )
    assert any(
        one.startswith("topic refbus.e2e.deadletter/0/") and one.endswith("header as UTF-8") for one in found
    )
    assert "file of kafka kafka/planted: broker as UTF-8" in found
    assert any(one.startswith("file of postgres postgres/") for one in found)


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc", b"abcd"])
def test_the_search_knows_a_text_in_the_middle_of_base64(before: bytes) -> None:
    search = Search({"name": "Wilhelmina Ashgrove"})
    search.look("answer", "here", base64.b64encode(before + b"Wilhelmina Ashgrove" + b"after"))
    assert len(search.found) >= 1


def test_the_search_knows_a_text_in_json_and_finds_nothing_in_another() -> None:
    assert needles("Żółć i wiśnie")["JSON escapes"] == b"\\u017b\\u00f3\\u0142\\u0107 i wi\\u015bnie"
    search = Search({"name": "Wilhelmina Ashgrove"})
    search.look("answer", "here", b"Wilhelmina Ashgrow")
    assert search.found == []


async def _everything_happens(
    whole: WholeBus, receiver: Receiver, person: Marked, forgotten: Marked
) -> list[str]:
    """Each door, each answer and each way out sees these people. Returns what was answered where something was refused."""
    need = new_need()
    await whole.service("harbor", need, places=100)
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    wanted = [
        ("hospital", {"channel": "feed", "role": "agency"}),
        ("harbor", {"channel": "feed", "role": "provider"}),
        ("harbor", {"channel": "webhook", "role": "provider", "url": receiver.url}),
    ]
    subscriptions = [(one, (await whole.subscribe(one, **body))["subscription"]) for one, body in wanted]
    try:
        said, note = person.request(need), person.marks["outcome note"]
        first = last = ""
        for number in range(_LIVES):
            answer = await hospital.submit(said, id=f"marked-{whole.name}-{number}-{secrets.token_hex(4)}")
            assert answer.referral is not None
            task = (await hospital.timeline(answer.referral, after=answer.token, wait=20.0))["task"]
            if not number:
                await harbor.ask(task, person.marks["question"])
                await hospital.answer(task, person.marks["answer"])
            await harbor.accept(task)
            await harbor.start(answer.referral, now_ms())
            await harbor.outcome(answer.referral, "need_met", note)
            last = answer.referral
            first = first or answer.referral
        exchange = (await hospital.timeline(first, show="exchange"))["exchange"]
        assert [one["text"] for one in exchange] == [person.marks["question"], person.marks["answer"]]
        for show in ("facts", "identity", "matches"):
            assert (await hospital.timeline(last, show=show))[show]
        assert await asyncio.to_thread(
            in_process, "explain", last, "--as", "hospital", "--full", "--home", whole.home
        )
        await _other_ends(whole, person, need)
        refused = await _bad_requests(whole, person, need)
        refused += await _by_kafka(whole, person)
        await _forget(whole, forgotten, need)
        await until(lambda: len(receiver.received) >= _LIVES)
        async with aclosing(harbor.follow("provider", last_event_id="0")) as stream:
            async for one in stream:
                if one.notice.referral == last and one.notice.type.endswith("ReferralClosed.v1"):
                    break
        return refused
    finally:
        for subscription in subscriptions:
            await whole.unsubscribe(*subscription)


async def _other_ends(whole: WholeBus, person: Marked, need: str) -> None:
    """Declined, expired, withdrawn, and nobody to ask."""
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    declined = await hospital.submit(person.request(need))
    expired = await hospital.submit(person.request(need, urgency="crisis"))
    withdrawn = await hospital.submit(person.request(need))
    nobody = await hospital.submit(person.request(need, facts=Facts(needs=[Need(code=person.marks["need"])])))
    tasks = {
        one.referral: (await hospital.timeline(one.referral or "", after=one.token, wait=20.0))["task"]
        for one in (declined, expired, withdrawn, nobody)
    }
    assert tasks.pop(nobody.referral) is None
    await harbor.decline(tasks[declined.referral], "not_eligible")
    await hospital.withdraw(withdrawn.referral or "", "moved_away")

    async def closed() -> bool:
        return bool((await hospital.timeline(expired.referral or ""))["standing"] == "closed")

    await until(closed)


async def _bad_requests(whole: WholeBus, person: Marked, need: str) -> list[str]:
    """What is wrong about each stands in a field that concerns the person."""
    good = person.request(need).model_dump(mode="json")
    marks = person.marks
    bad = [
        {**good, "urgency": marks["note"]},
        {**good, "identity": {**good["identity"], "birth_date": marks["name"]}},
        {**good, "identity": {**good["identity"], "name": marks["name"] * 50}},
        {**good, "facts": {**good["facts"], "age": {"status": "stated", "value": marks["note"]}}},
        {**good, "subject": marks["subject reference"] * 20},
    ]
    intake, headers = whole.bus.addresses.intake, whole.authorization("hospital")
    answers: list[str] = []
    for body in bad:
        response = await whole.http.post(f"{intake}/v1/referrals", json=body, headers=headers)
        assert response.status_code == 422
        answers.append(response.text)
    torn = await whole.http.post(
        f"{intake}/v1/referrals",
        content=f'{{"subject": "{marks["subject reference"]}", "identity": {{"name": "{marks["name"]}'.encode(),
        headers={**headers, "content-type": "application/json"},
    )
    assert 400 <= torn.status_code < 500
    answers.append(torn.text)
    events = [
        cloud_event(person.request(need), "hospital", f"bad-{secrets.token_hex(6)}", now_ms()) for _ in bad
    ]
    for event, body in zip(events, bad, strict=True):
        event["data"] = body
    results = await whole.party("hospital").send(events)
    assert not any(isinstance(one, Answer) for one in results)
    answers += [str(one) for one in results]
    asked = await whole.http.get(
        f"{whole.bus.addresses.queries}/v1/caseload", params={"cursor": marks["email"]}, headers=headers
    )
    assert asked.status_code in (400, 422)
    answers.append(asked.text)
    return answers


async def _by_kafka(whole: WholeBus, person: Marked) -> list[str]:
    """Good and bad through an outbox, and what the feed says of the bad."""
    outbox, feed = await whole.outbox("school"), topics.feed(whole.name, "school")
    good = cloud_event(person.request(new_need()), "school", f"good-{secrets.token_hex(6)}", now_ms())
    bad = cloud_event(person.request(new_need()), "school", f"bad-{secrets.token_hex(6)}", now_ms())
    bad["data"]["identity"]["birth_date"] = person.marks["name"]
    await outbox.put([good, bad])

    async def refusals() -> list[str]:
        return [
            one.model_dump_json()
            for one in await whole.messages(feed)
            if isinstance(one, AdmissionRefused) and one.submission == bad["id"]
        ]

    found: list[str] = await until(refusals)
    return found


async def _forget(whole: WholeBus, person: Marked, need: str) -> None:
    asked = await whole.party("hospital").submit(person.request(need))
    # Decided first: with the keys gone before that it would be refused, and there would be no timeline to look at.
    await whole.party("hospital").timeline(asked.referral or "", after=asked.token, wait=20.0)
    await whole.party("hospital").forget(person.marks["subject reference"])
    await whole.party("hospital").timeline(asked.referral or "", after=asked.token, wait=20.0)
