"""A submission that could not be decided, on a real Kafka: kept, looked at, resent after the mending, decided once."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

import services.matching.partition as partition
from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.ledger import ReferenceAdopted, SubmissionRefused, SubmissionRepeated
from referral_bus.contracts.reference import Organisation
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing
from referral_bus.log.reading import everything
from referral_bus.runtime.resending import kept
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.sealing.secrets import Secrets, new_key, write_key
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record
from services.matching.service import build
from services.matching.settings import MatchingSettings
from tests.support.commands import in_process, write_addresses
from tests.support.notifying import until
from tests.support.running import running

NAME = "Wilhelmina Ashgrove-Tester"


@dataclass
class Place:
    """A bus with a matching and the folder in which operations give their commands."""

    bus: str
    log: KafkaLog
    codec: Codec
    home: Path
    settings: MatchingSettings

    async def put(self, *records: Outgoing) -> None:
        await (await self.log.appender()).append(list(records))

    async def command(self, *words: str, code: int = 0) -> str:
        return await asyncio.to_thread(
            in_process, "deadletter", words[0], *words[1:], "--home", self.home, code=code
        )

    async def listed(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self.command("list", "--json", *words))
        return found

    async def letters(self) -> int:
        return len(await kept(self.log, self.bus, self.codec))

    async def decided(self, id: str) -> list[str]:
        """The events that answer a submission, by type, in order."""
        entries = [
            self.codec.decode_entry(record.value)
            for record in await everything(self.log, topics.ledger(self.bus))
        ]
        return [
            type(entry.event).__name__
            for entry in entries
            if entry.meta.submission is not None and entry.meta.submission.id == id
        ]

    def submission(self, id: str) -> Outgoing:
        return submission_record(
            AdoptReference(
                kind="organisation",
                reference=id,
                version=1,
                organisation=Organisation(
                    organisation=id, name=NAME, kind="shelter", roles=["agency"], home_region="north"
                ),
            ),
            codec=self.codec,
            topic=topics.inbox(self.bus),
            partition=1,
            region="north",
            id=id,
            organisation="operations",
            sent_at=1_800_000_000_000,
            digest=b"d" * 32,
            about=id,
        )


@pytest.fixture
async def place(kafka: str, postgres: str, tmp_path: Path, codec: Codec) -> AsyncIterator[Place]:
    bus, keys = f"b{uuid4().hex[:8]}", new_encryption_keys()
    log = KafkaLog(kafka)
    await log.ensure(topics.topics(bus, 2, 1))
    settings = MatchingSettings(
        bus=bus,
        kafka=kafka,
        database_url=SecretStr(postgres),
        facts_key=SecretStr(write_key(Secrets.derive(new_key(), bus).facts_key)),
        operations_public_key=keys.public,
        data_dir=tmp_path / "state",
    )
    home = tmp_path / "home"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "operations_key").write_text(keys.private)
    write_addresses(home, bus=bus, kafka=kafka, database=postgres)
    yield Place(bus, log, codec, home, settings)
    await log.close()


async def test_an_undecidable_submission_is_resent_after_the_mending_and_decided_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = partition.decide

    def faulty(state: Any, submission: Any, *more: Any) -> Any:
        if submission.admitted.id == "bad":
            raise ZeroDivisionError
        return sound(state, submission, *more)

    monkeypatch.setattr(partition, "decide", faulty)
    async with running(build, place.settings):
        await place.put(place.submission("bad"), place.submission("good"))
        await until(place.letters)
        await until(lambda: place.decided("good"))
        refused = SubmissionRefused.__name__
        assert await place.decided("bad") == [refused]
        [letter] = await place.listed()
        assert (letter["reason"], letter["from"]) == ("undecidable", f"{topics.inbox(place.bus)}/1/0")

        # Before the mending it comes back as another letter, and the first is done with.
        await place.command("resend", letter["letter"])
        await until(lambda: _counts(place, 2))
        [letter] = await place.listed()
        assert letter["from"] == f"{topics.inbox(place.bus)}/1/2"

        monkeypatch.setattr(partition, "decide", sound)
        said = await place.command("resend", "--reason", "undecidable")
        assert "1 of 1 were resent." in said
        await until(lambda: _times(place, "bad", 3))
        assert await place.listed() == []
        assert [one["handled"] for one in await place.listed("--all")] == [["resent"], ["resent"]]

        await place.command("resend", letter["letter"])
        await until(lambda: _times(place, "bad", 4))
        decided, repeated = ReferenceAdopted.__name__, SubmissionRepeated.__name__
        assert await place.decided("bad") == [refused, refused, decided, repeated]
        assert await place.letters() == 2


async def _counts(place: Place, count: int) -> bool:
    return await place.letters() == count


async def _times(place: Place, id: str, times: int) -> bool:
    return len(await place.decided(id)) == times


async def test_nothing_of_a_letter_is_shown_unless_it_is_opened_and_that_is_recorded(
    place: Place, codec: Codec
) -> None:
    async with running(build, place.settings):
        await place.put(Outgoing(topics.inbox(place.bus), 0, b"north", NAME.encode(), (("h", b"\x1b[2J"),)))
        await until(place.letters)
    [letter] = await place.listed()
    outside = await place.command("show", letter["letter"])
    assert "unreadable" in outside and "to do" in outside and NAME not in outside
    assert NAME not in await place.command("list", "--all")

    key = place.home / "secrets" / "operations_key"
    private = key.read_text()
    key.unlink()
    refused = await place.command("show", letter["letter"], "--open", code=1)
    assert "REFBUS_OPERATIONS_KEY_FILE" in refused and NAME not in refused
    key.write_text(new_encryption_keys().private)
    refused = await place.command("show", letter["letter"], "--open", code=1)
    assert "can't be opened" in refused and "Traceback" not in refused
    assert [one["handled"] for one in await place.listed()] == [["not yet"]]

    key.write_text(private)
    inside = await place.command("show", letter["letter"], "--open")
    assert NAME in inside and "\x1b" not in inside
    assert [one["handled"] for one in await place.listed()] == [["opened"]]

    assert "1 were discarded" in await place.command("discard", letter["letter"], "--yes")
    assert await place.listed() == []


async def test_prometheus_is_told_how_many_letters_are_open_and_when_that_was_so(
    place: Place, tmp_path: Path
) -> None:
    told = tmp_path / "letters.prom"

    async def open_ones(*words: str) -> float:
        began = time.time()
        await place.command("list", "--metrics", str(told), *words)
        found = {name: float(value) for name, value in _SAMPLE.findall(told.read_text())}
        assert began <= found.pop("refbus_dead_letters_looked_timestamp_seconds") <= time.time()
        [(name, count)] = found.items()
        assert name == "refbus_dead_letters_open"
        return count

    assert await open_ones() == 0
    async with running(build, place.settings):
        await place.put(*(Outgoing(topics.inbox(place.bus), 0, b"north", b"none") for _ in range(2)))
        await until(lambda: _counts(place, 2))
    assert await open_ones() == await open_ones("--json") == 2
    first, second = [one["letter"] for one in await place.listed()]
    assert "2 dead letters." in await place.command("list", "--exit-code", code=3)
    await place.command("show", first, "--open")
    assert await open_ones() == 2, "who looked into it has not handled it"
    await place.command("discard", first, "--yes")
    assert await open_ones("--all") == 1, "what is shown beside them is not open"
    await place.command("resend", second)
    assert await open_ones("--exit-code") == await open_ones("--exit-code", "--all") == 0
    said = await place.command("list", "--metrics", str(tmp_path / "nowhere" / "a.prom"), code=1)
    assert "No dead letters." in said and "can't be written" in said


_SAMPLE = re.compile(r"(?m)^(\w+) (\S+)$")


async def test_what_cannot_be_done_is_said_in_a_sentence(place: Place) -> None:
    for words in (("resend",), ("resend", "0/9"), ("show", "x"), ("discard", "0/0", "--reason", "a")):
        said = await place.command(*words, code=1)
        assert said.startswith("refbus: ") and "Traceback" not in said
    assert "No dead letters." in await place.command("list")
