"""The database alone, brought back beside a Kafka that has gone on: what intake admitted since is told to it, once and as it was said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from referral_bus.backup.cluster import Cluster, cluster
from referral_bus.backup.database import Database
from referral_bus.backup.database_alone import restore_database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Folder
from referral_bus.backup.taking import SCHEMAS, take
from referral_bus.contracts.inbox import ReferralPart, SplitReferral, Submission, SubmitReferral
from referral_bus.embedded.postgres import programs_folder
from referral_bus.log import topics
from referral_bus.log.port import Outgoing
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record

WHOLE, SUBJECT = f"rf-north-{'a' * 20}", f"sj-{'a' * 26}"
PARTS = tuple(f"rf-north-{one * 20}" for one in "bc")
ODD = "it's:one\\%s;--$1"
"""An id as a party may give one."""
MIGRATIONS = {
    "sealing": "referral_bus.sealing.migrations",
    "intake": "services.intake.migrations",
    "notifier": "services.notifier.migrations",
}


@asynccontextmanager
async def _empty_backup(
    kafka: str, postgres: str, folder: Folder
) -> AsyncIterator[tuple[Cluster, Database, str]]:
    """A backup of a bus on which nothing happened yet, and its database lost."""
    bus, database = f"b{uuid4().hex[:8]}", Database(postgres, programs_folder())
    engine = new_engine(postgres)
    for schema, package in MIGRATIONS.items():
        await migrate(engine, schema, package)
    await engine.dispose()
    async with cluster(kafka) as there:
        await there.log.ensure(topics.topics(bus, 2, 1))
        await take(there, database, folder, bus, lambda *_: None)
        lost = folder.path.with_suffix(".sql")
        lost.write_text("".join(f"drop schema {one} cascade;" for one in SCHEMAS))
        await database.load([lost])
        yield there, database, bus


def _said(bus: str, id: str, body: Submission, about: str) -> Outgoing:
    return submission_record(
        body,
        codec=Codec.load(),
        topic=topics.inbox(bus),
        partition=1,
        region="north",
        id=id,
        organisation="line-211",
        sent_at=1_700_000_000_000,
        digest=b"\x00\xff" * 16,
        about=about,
    )


async def test_intake_knows_what_it_admitted_since_where_it_is_and_whose_it_is(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "backup")
    opened = SubmitReferral(
        referral=WHOLE,
        region="north",
        subject=SUBJECT,
        urgency="urgent",
        purpose="care_coordination",
        sealed_facts=b"x",
    )
    parts = [ReferralPart(referral=one, urgency="urgent", sealed_facts=b"x") for one in PARTS]
    async with _empty_backup(kafka, postgres, folder) as (there, database, bus):
        first = _said(bus, ODD, opened, WHOLE)
        split = _said(bus, "split", SplitReferral(referral=WHOLE, parts=parts), WHOLE)
        poison = Outgoing(topics.inbox(bus), 1, b"north", b"no submission")
        appender = await there.log.appender()
        placed, *_ = await appender.append([first, poison, first, split])
        await restore_database(there, database, folder, Codec.load(), lambda *_: None)
        admissions = await database.ask(
            "select concat_ws(' ', source, id, encode(digest, 'hex'), region, referral, \"partition\", \"offset\", times) "
            "from intake.admissions"
        )
        whose = await database.ask("select referral || ' ' || subject from intake.referrals order by 1")
    assert admissions == [f"line-211 {ODD} {'00ff' * 16} north {WHOLE} 1 {placed.offset} 1"]
    assert whose == [f"{one} {SUBJECT}" for one in (WHOLE, *PARTS)]


async def test_beside_a_kafka_that_lacks_what_the_backup_knows_nothing_is_done(
    kafka: str, postgres: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "backup")
    async with _empty_backup(kafka, postgres, folder) as (there, database, bus):
        await there.log.delete(topics.ledger(bus))
        with pytest.raises(BackupError, match=r"this Kafka has not all .* on refbus\.\w+\.ledger"):
            await restore_database(there, database, folder, Codec.load(), lambda *_: None)
        assert await database.ask("select nspname from pg_namespace where nspname = 'intake'") == []
