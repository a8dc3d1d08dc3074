"""A backup of a bus that runs on, brought back on a new broker and a new database: everything before it is there, and life goes on. And the
database of it alone, where the broker lost nothing: what came since is there too."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from referral_bus.backup.cluster import cluster
from referral_bus.client.answers import Answer
from referral_bus.client.events import cloud_event
from referral_bus.client.webhooks import received_notice
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ids import parse_token, referral_id
from referral_bus.contracts.ledger import KeyDestroyed, OfferAccepted, OfferMade, SubmissionRepeated
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.embedded.kafka import EmbeddedKafka
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.postgres import EmbeddedPostgres, programs_folder
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing, Partition, Record
from referral_bus.log.reading import everything
from referral_bus.sealing.jwe import EncryptionKeys
from tests.support.commands import in_process, write_addresses
from tests.support.notifying import Receiver, receiving
from tests.support.whole_bus import WholeBus, bus_of, new_need, now_ms, of, plan_of, request, until, whole_bus

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(420)]

INBOX, LEDGER, LETTERS = topics.inbox("e2e"), topics.ledger("e2e"), topics.deadletter("e2e")


@dataclass
class Before:
    """What was so when the backup was taken, and what came after it."""

    keys: dict[str, EncryptionKeys]
    need: str
    said: dict[str, ReferralRequest]
    answers: dict[str, Answer]
    unit: str
    open_task: str
    at_the_door: str
    forgotten_before: str
    forgotten_after: str
    pseudonym: str
    heard: str
    letters: list[dict[str, Any]]
    inbox: list[Record]
    ledger: list[Record]


async def test_everything_of_a_backup_is_back_on_a_new_broker_and_database_and_the_bus_goes_on(
    tmp_path: Path,
) -> None:
    backup, later = tmp_path / "backup", tmp_path / "later"
    async with whole_bus(tmp_path / "first") as whole:
        before = await _lived(whole, backup, later)
    home = tmp_path / "second"
    shutil.copytree(tmp_path / "first" / "secrets", home / "secrets")
    with _servers(tmp_path / "kafka", tmp_path / "postgres") as (kafka, database):
        write_addresses(home, bus="e2e", kafka=kafka, database=database)
        forgotten = ("--forgotten", later / "forgotten.txt")
        await _command("restore", backup, *forgotten, "--home", home)
        await _is_as_it_was(kafka, before)
        refused = await _command("restore", backup, "--home", home, code=1)
        assert "goes into an empty one" in refused

        async with bus_of(replace(plan_of(home), kafka=kafka, database=database)) as whole:
            whole.keys = before.keys
            await _is_sound(whole)
            assert _outside(await _letters(whole)) == _outside(before.letters)
            await _goes_on(whole, before)
            await _stays_forgotten(whole, before)
            await _is_sound(whole)


@dataclass
class Known:
    """What was so when the database was lost."""

    keys: dict[str, EncryptionKeys]
    need: str
    said: ReferralRequest
    answer: Answer
    open_task: str
    events: dict[str, list[Any]]
    told_before: set[str]
    told: dict[str, Notice]
    secret: str
    heard: str
    pseudonym: str


async def test_where_the_database_alone_is_lost_it_is_brought_back_older_and_catches_up_with_the_broker(
    tmp_path: Path,
) -> None:
    home, backup = tmp_path / "bus", tmp_path / "backup"
    async with receiving() as receiver:
        async with whole_bus(home) as whole:
            known = await _known(whole, backup, receiver)
        # The other database has what the backup has, and the broker, matching's snapshots and the secrets are as they were.
        with _servers(home / "kafka", tmp_path / "postgres") as (kafka, database):
            write_addresses(home, bus="e2e", kafka=kafka, database=database)
            restore = ("restore", backup, "--database-alone", "--home", home)
            await _command(*restore)
            assert "goes into an empty one" in await _command(*restore, code=1)
            receiver.received.clear()
            async with bus_of(replace(plan_of(home), kafka=kafka, database=database)) as whole:
                whole.keys = known.keys
                await _nothing_is_lost_or_said_otherwise(whole, known, receiver)
                await _goes_on_with_what_the_backup_did_not_know(whole, known)
                await _is_sound(whole, no_key=True)


async def _known(whole: WholeBus, backup: Path, receiver: Receiver) -> Known:
    """A life up to a backup and beyond it, all of which was told."""
    hospital, harbor, need = whole.party("hospital"), whole.party("harbor"), new_need()
    await whole.service("harbor", need, places=4)
    subscription = await whole.subscribe("harbor", channel="webhook", role="provider", url=receiver.url)
    secret = subscription["secret"]
    first, second = [await whole.refer("hospital", need, subject=who) for who in ("known", "forgotten")]
    await harbor.accept(first.task)
    await until(lambda: len(_told(receiver, secret)) == 3)
    told_before = set(_told(receiver, secret))
    said = await _command(
        "backup", backup, "--metrics", backup.with_name("nowhere") / "a.prom", "--home", whole.home, code=1
    )
    assert "The backup is whole, but" in said

    # A referral of somebody who is new, and one of somebody the backup knows; an answer; somebody is forgotten.
    new = request(need)
    answer = await hospital.submit(new, id="new")
    timeline = await _timeline(whole, answer)
    later = await whole.refer("hospital", need, subject="known")
    await harbor.accept(later.task)
    tokens = (await hospital.forget("forgotten"))["tokens"]
    await hospital.timeline(second.referral, after=tokens["north"])
    await until(lambda: len(_told(receiver, secret)) >= 6)
    heard = await _last_heard(whole, later.referral)
    referrals = [first.referral, second.referral, later.referral, timeline["referral"]]
    return Known(
        keys=whole.keys,
        need=need,
        said=new,
        answer=answer,
        open_task=timeline["task"],
        events={one: (await hospital.timeline(one))["events"] for one in referrals},
        told_before=told_before,
        told=_told(receiver, secret),
        secret=secret,
        heard=heard,
        pseudonym=second.timeline["subject"],
    )


def _told(receiver: Receiver, secret: str) -> dict[str, Notice]:
    """What came by webhook, by its id."""
    return {
        one.headers["webhook-id"]: received_notice(secret, one.headers, one.body) for one in receiver.received
    }


async def _nothing_is_lost_or_said_otherwise(whole: WholeBus, known: Known, receiver: Receiver) -> None:
    """The views are those there were. Nobody is told anew what was told before the backup, nor anything under another id."""
    views = json.loads(await _command("check-views", "--json", "--home", whole.home))
    assert (views["equal"], views["different"]) == (True, 0)
    hospital = whole.party("hospital")
    assert {one: (await hospital.timeline(one))["events"] for one in known.events} == known.events
    since = known.told.keys() - known.told_before
    await until(lambda: since <= _told(receiver, known.secret).keys())
    again = _told(receiver, known.secret)
    assert again.keys() == since
    for id, notice in again.items():
        former = known.told[id]
        assert (notice.type, notice.referral, notice.at) == (former.type, former.referral, former.at)

    # Who was forgotten since stays so: the ledger says it.
    [row] = await whole.rows(
        "select count(*) as kept from sealing.subject_keys where subject = :subject and wrapped_key is not null",
        subject=known.pseudonym,
    )
    assert row.kept == 0


async def _goes_on_with_what_the_backup_did_not_know(whole: WholeBus, known: Known) -> None:
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    referral = known.answer.referral
    assert referral is not None
    # Sent again it is answered as it was, and not put to the inbox again.
    repeated = await hospital.submit(known.said, id="new")
    assert repeated.model_copy(update={"follow": known.answer.follow}) == known.answer
    put = [one for one in await whole.records(INBOX) if ("ce_id", b"new") in one.headers]
    assert len(put) == 1

    # What was sealed with a key the database has lost can't be shown; what is said from now on can.
    shown = await hospital.timeline(referral, show="identity")
    assert (shown["erased"], shown["identity"]) == (False, None)
    await harbor.accept(known.open_task)
    await harbor.start(referral, now_ms())
    token = (await harbor.outcome(referral, "need_met", "Well.")).token
    shown = await hospital.timeline(referral, after=token, show="outcome")
    assert shown["outcome"] == "need_met"

    # Whoever follows the stream hears behind what was heard last all that came since the backup, since it is numbered anew.
    wanted = {
        (notice.region, notice.sequence) for id, notice in known.told.items() if id not in known.told_before
    }
    accepted = False
    async with asyncio.timeout(30), aclosing(harbor.follow(last_event_id=known.heard)) as stream:
        async for one in stream:
            wanted.discard((one.notice.region, one.notice.sequence))
            accepted |= (one.notice.referral, one.notice.type) == (referral, OfferAccepted.event_type())
            if accepted and not wanted:
                break


async def _lived(whole: WholeBus, backup: Path, later: Path) -> Before:
    """A life up to a backup, and beyond it."""
    need = new_need()
    service = await whole.service("harbor", need, places=2)
    said = {id: request(need) for id in ("taken", "held", "after")}
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    answers = {id: await hospital.submit(said[id], id=id) for id in ("taken", "held")}
    taken = await _timeline(whole, answers["taken"])
    await harbor.accept(taken["task"])
    held = await _timeline(whole, answers["held"])

    # Two persons who are forgotten, one of them only after the backup.
    rest = new_need()
    await whole.service("harbor", rest, places=5)
    first = await whole.refer("hospital", rest, subject="forgotten before")
    second = await whole.refer("hospital", rest, subject="forgotten after")
    pseudonym = second.timeline["subject"]
    tokens = (await hospital.forget("forgotten before"))["tokens"]
    await hospital.timeline(first.referral, after=tokens["north"])

    # Two dead letters of an inbox that has a gap, where a transaction ended, and that lacks its beginning, which has expired.
    region, number, _ = parse_token(answers["held"].token)
    transactor = await whole.log.transactor("somebody-else")
    for _ in range(2):
        await transactor.commit(
            [Outgoing(INBOX, number, region.encode(), b"no submission")],
            "somebody-else",
            {Partition(INBOX, number): 0},
        )
    await transactor.close()
    letters = await until(lambda: _two(whole))
    await _command("deadletter", "discard", letters[1]["letter"], "--yes", "--home", whole.home)
    # A third of an outbox, and a submission behind it.
    await whole.put_bytes(topics.outbox("hospital"), b"not sealed")
    outbox = await whole.outbox("hospital")
    await outbox.put([cloud_event(request(rest), "hospital", "door-1", now_ms())])
    at_the_door = referral_id("north", "e2e", "hospital", "door-1")
    await _until_known(whole, at_the_door)
    async with cluster(whole.bus.addresses.kafka) as kafka:
        await kafka.expire(Partition(INBOX, number), 3)

    inbox, ledger = await whole.records(INBOX), await whole.records(LEDGER)
    said["between"] = request(rest)
    answers["between"] = await _backed_up_while_submitting(whole, backup, said["between"])
    letters = await _letters(whole)
    assert sorted(one["handled"] for one in letters) == [["discarded"], ["not yet"], ["not yet"]]

    # What the backup does not know: the open offer is accepted, somebody waits in vain, somebody is forgotten.
    await harbor.accept(held["task"])
    answers["after"] = await hospital.submit(said["after"], id="after")
    await _timeline(whole, answers["after"])
    tokens = (await hospital.forget("forgotten after"))["tokens"]
    await hospital.timeline(second.referral, after=tokens["north"])
    heard = await _last_heard(whole, held["referral"])
    await _command("backup", later, "--home", whole.home)
    assert pseudonym in (later / "forgotten.txt").read_text()
    assert pseudonym not in (backup / "forgotten.txt").read_text()
    return Before(
        keys=whole.keys,
        need=need,
        said=said,
        answers=answers,
        unit=service.units[0].unit,
        open_task=held["task"],
        at_the_door=at_the_door,
        forgotten_before=first.referral,
        forgotten_after=second.referral,
        pseudonym=pseudonym,
        heard=heard,
        letters=letters,
        inbox=inbox,
        ledger=ledger,
    )


async def _backed_up_while_submitting(whole: WholeBus, backup: Path, said: ReferralRequest) -> Answer:
    """A backup, and a submission that intake admits between the copies of the inbox and of what intake knows."""
    there, go_on = backup.with_name("there"), backup.with_name("go-on")
    real, programs = programs_folder(), backup.with_name("programs")
    programs.mkdir()
    wait = f"case $* in *--schema=intake*) touch {there}; until [ -e {go_on} ]; do sleep 0.1; done;; esac"
    for name, first in (("pg_dump", wait), ("psql", ":")):
        (programs / name).write_text(f'#!/bin/sh\n{first}\nexec {real / name} "$@"\n')
        (programs / name).chmod(0o755)
    taking = asyncio.create_task(_command("backup", backup, "--programs", programs, "--home", whole.home))
    await until(there.exists)
    answer = await whole.party("hospital").submit(said, id="between")
    await _timeline(whole, answer)
    go_on.touch()
    await taking
    return answer


async def _is_as_it_was(kafka: str, before: Before) -> None:
    """The ledger to the byte and the millisecond, and the inbox also to the offset."""
    log = KafkaLog(kafka)
    try:
        inbox, ledger = await everything(log, INBOX), await everything(log, LEDGER)
        reader = await log.reader(Partition(INBOX, parse_token(before.answers["held"].token)[1]))
        assert await reader.start() == 3
    finally:
        await log.close()
    assert [one for one in inbox if one.value] == before.inbox
    assert [replace(one, offset=0) for one in ledger] == [replace(one, offset=0) for one in before.ledger]


async def _is_sound(whole: WholeBus, no_key: bool = False) -> None:
    """Every decision comes out the same again, but for some of which the keys are lost if ``no_key``; every view is the fold of the ledger,
    and nothing was decided twice."""
    report = json.loads(await _command("verify", "--json", "--home", whole.home))
    assert (report["good"], report["different"], report["broken"], report["no_key"] > 0) == (
        True,
        0,
        [],
        no_key,
    )
    views = json.loads(await _command("check-views", "--json", "--home", whole.home))
    assert (views["equal"], views["different"]) == (True, 0)
    decided = Counter(
        (entry.meta.region, entry.meta.submission.source, entry.meta.submission.id)
        for entry in await whole.ledger()
        if entry.meta.submission is not None and not isinstance(entry.event, SubmissionRepeated)
    )
    assert set(decided.values()) == {1}


async def _goes_on(whole: WholeBus, before: Before) -> None:
    hospital, harbor = whole.party("hospital"), whole.party("harbor")
    # What is sent again is answered as it was; what the backup does not know of is taken anew, under the id it had.
    repeated = await hospital.submit(before.said["taken"], id="taken")
    # Only the query API is at another address.
    assert repeated.model_copy(update={"follow": before.answers["taken"].follow}) == before.answers["taken"]
    for id in ("between", "after"):
        again = await hospital.submit(before.said[id], id=id)
        assert again.referral == before.answers[id].referral
        assert (await _timeline(whole, again))["events"]

    # One place is taken, one held for an offer that is open again: there is none for a third.
    third = await _timeline(whole, again)
    assert third["standing"] not in {"offered", "accepted"}
    token = (await harbor.accept(before.open_task)).token
    places = of((await harbor.capacity(after=token)).items, "unit", before.unit)
    assert (places["total"], places["held"], places["taken"], places["free"]) == (2, 0, 2, 0)

    # What came by the door before is neither taken nor refused again.
    outbox, need = await whole.outbox("hospital"), new_need()
    await whole.service("harbor", need, places=1)
    await outbox.put([cloud_event(request(need), "hospital", "door-2", now_ms())])
    new = referral_id("north", "e2e", "hospital", "door-2")
    await _until_known(whole, new)
    inbox = [one for one in await whole.records(INBOX) if ("ce_id", b"door-1") in one.headers]
    assert len(inbox) == 1
    assert _outside(await _letters(whole)) == _outside(before.letters)

    # And whoever follows the stream hears of all that behind what was heard last.
    held = before.answers["held"].referral
    wanted = {(held, OfferAccepted.event_type()), (new, OfferMade.event_type())}
    async with asyncio.timeout(30), aclosing(harbor.follow(last_event_id=before.heard)) as stream:
        async for one in stream:
            wanted.discard((one.notice.referral, one.notice.type))
            if not wanted:
                break


async def _stays_forgotten(whole: WholeBus, before: Before) -> None:
    hospital = whole.party("hospital")
    [row] = await whole.rows(
        "select count(*) as kept from sealing.subject_keys where subject = :subject and wrapped_key is not null",
        subject=before.pseudonym,
    )
    assert row.kept == 0
    gone = await hospital.timeline(before.forgotten_before, show="identity")
    assert (gone["erased"], gone["identity"]) == (True, None)
    unreadable = await hospital.timeline(before.forgotten_after, show="identity")
    assert unreadable["identity"] is None

    # Said again, it stands on the ledger again.
    said = json.loads(await _command("forget", before.pseudonym, "--yes", "--home", whole.home))
    gone = await hospital.timeline(before.forgotten_after, after=said["tokens"]["north"], show="identity")
    assert (gone["erased"], gone["identity"]) == (True, None)
    destroyed = [one.event for one in await whole.ledger() if isinstance(one.event, KeyDestroyed)]
    assert before.pseudonym in {event.subject for event in destroyed}


async def _timeline(whole: WholeBus, answer: Answer) -> Any:
    assert answer.referral is not None
    return await whole.party("hospital").timeline(answer.referral, after=answer.token, wait=20.0)


async def _until_known(whole: WholeBus, referral: str) -> None:
    async def known() -> bool:
        page = await whole.party("hospital").caseload(limit=200)
        return referral in [row["referral"] for row in page.items]

    await until(known)


async def _last_heard(whole: WholeBus, referral: str) -> str:
    """The number under which harbor heard last of a referral: that its offer was accepted."""
    async with asyncio.timeout(30), aclosing(whole.party("harbor").follow(last_event_id="0")) as stream:
        async for one in stream:
            if (one.notice.referral, one.notice.type) == (referral, OfferAccepted.event_type()):
                return one.id
    raise AssertionError("the stream ended")


async def _two(whole: WholeBus) -> list[dict[str, Any]]:
    found = await _letters(whole)
    return found if len(found) == 2 else []


def _outside(letters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The letters, but for where they stand."""
    return [{**one, "letter": None} for one in letters]


async def _letters(whole: WholeBus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        await _command("deadletter", "list", "--all", "--json", "--home", whole.home)
    )
    return found


async def _command(*words: str | Path, code: int = 0) -> str:
    return await asyncio.to_thread(in_process, *words, code=code)


@contextmanager
def _servers(kafka_folder: Path, postgres_folder: Path) -> Iterator[tuple[str, str]]:
    """A broker and a database on these folders, and nobody who uses them."""
    kafka = EmbeddedKafka(kafka_folder, free_ports(1)[0])
    postgres = EmbeddedPostgres(postgres_folder, durable=False)
    try:
        bootstrap = kafka.start()
        postgres.start()
        yield bootstrap, postgres.url("refbus")
    finally:
        postgres.stop()
        kafka.stop()
