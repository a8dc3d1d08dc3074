"""Random bytes on a real inbox, among good submissions: every good one is answered, the rest is kept as dead letters, nothing stops."""

from __future__ import annotations

import os
import random
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr

from referral_bus.contracts.inbox import AdoptReference, ForgetSubject
from referral_bus.contracts.reference import Organisation
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Outgoing
from referral_bus.log.reading import everything
from referral_bus.sealing.jwe import new_encryption_keys
from referral_bus.sealing.secrets import Secrets, new_key, write_key
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record
from services.matching.service import build
from services.matching.settings import MatchingSettings
from tests.support.notifying import until
from tests.support.running import running

_GOOD = 40
_NOW = 1_800_000_000_000


async def test_random_bytes_on_the_inbox_cost_no_good_submission_its_answer(
    kafka: str, postgres: str, tmp_path: Path, codec: Codec
) -> None:
    bus, chance = f"b{uuid4().hex[:8]}", random.Random(11)
    log = KafkaLog(kafka)
    await log.ensure(topics.topics(bus, 2, 1))
    settings = MatchingSettings(
        bus=bus,
        kafka=kafka,
        database_url=SecretStr(postgres),
        facts_key=SecretStr(write_key(Secrets.derive(new_key(), bus).facts_key)),
        operations_public_key=new_encryption_keys().public,
        data_dir=tmp_path,
    )
    good = [_good(codec, bus, number) for number in range(_GOOD)]
    garbage = [_garbage(record, chance) for record in good] + [
        Outgoing(topics.inbox(bus), n % 2, os.urandom(5), os.urandom(chance.randrange(0, 300)))
        for n in range(40)
    ]
    mixed = [*good, *garbage]
    chance.shuffle(mixed)
    async with running(build, settings):
        appender = await log.appender()
        await appender.append(mixed)

        async def answered() -> bool:
            entries = [codec.decode_entry(one.value) for one in await everything(log, topics.ledger(bus))]
            decided = [entry.meta.submission for entry in entries if entry.meta.submission is not None]
            letters = await everything(log, topics.deadletter(bus))
            # Garbage that can still be read is a submission like any other; all else is among the dead letters.
            assert len(decided) + len(letters) <= len(mixed)
            good_ones = {f"good-{number}" for number in range(_GOOD)}
            return good_ones <= {one.id for one in decided} and len(decided) + len(letters) == len(mixed)

        await until(answered)
    await log.close()


def _good(codec: Codec, bus: str, number: int) -> Outgoing:
    name = f"party-{number}"
    body = (
        AdoptReference(
            kind="organisation",
            reference=name,
            version=1,
            organisation=Organisation(
                organisation=name, name=name, kind="shelter", roles=["agency"], home_region="north"
            ),
        )
        if number % 2
        else ForgetSubject(subject="sj-" + "abcdefghijklmnopqrstuvwxyz"[number % 26] * 26)
    )
    return submission_record(
        body,
        codec=codec,
        topic=topics.inbox(bus),
        partition=number % 2,
        region="north" if number % 2 == 0 else "south",
        id=f"good-{number}",
        organisation="operations",
        sent_at=_NOW,
        digest=b"d" * 32,
        about=name,
    )


def _garbage(record: Outgoing, chance: random.Random) -> Outgoing:
    """A good record with some of its bytes, or one of its headers, changed."""
    value = bytearray(record.value or b"")
    for _ in range(chance.randrange(1, 6)):
        value[chance.randrange(len(value))] = chance.randrange(256)
    headers = list(record.headers)
    headers.pop(chance.randrange(len(headers)))
    return Outgoing(record.topic, record.partition, record.key, bytes(value), tuple(headers))
