"""What stands in the simulator for the notifier's way out gives no answer and shows no notice that the real one would not."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.reference import Agreement
from referral_bus.disclosure.releases import Releases
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.sealing.memory import MemoryKeyStore
from referral_bus.sealing.secrets import new_key
from referral_bus.sealing.sections import Sealer
from referral_bus.wire.codec import Codec
from services.notifier.addresses import AddressRules
from services.notifier.disclosing import Disclosing
from services.notifier.secrets import WebhookSecrets
from services.notifier.webhook import WebhookSender
from tests.simulation.doubles import NoSecret, ShowsNothing, Webhooks
from tests.simulation.network import Weather
from tests.support.clocks import ManualClock
from tests.support.deciding import BUS, HOUR, START, World, of
from tests.support.heard import lively_ledger, located
from tests.support.notifying import receiving
from tests.support.told_tables import InPostgres


def may_hear_everything(agency: str) -> AdoptReference:
    content = Agreement(
        agreement=f"with-{agency}",
        recipient=agency,
        data_classes=["outcome"],
        purposes=["care_coordination"],
        legal_basis="consent",
        valid_from=START - HOUR,
        valid_until=START + HOUR,
    )
    return AdoptReference(kind="agreement", reference=content.agreement, version=1, agreement=content)


async def test_a_notice_shows_what_it_does_where_all_is_allowed_and_nobody_has_a_key_to_open_it(
    engine: AsyncEngine, codec: Codec
) -> None:
    agreed = World(codec, adopted=False, region="west")
    for agency in ("police", "hospital"):
        agreed.send(may_hear_everything(agency), "operations")
    real = InPostgres(engine)
    await real.fold().apply(located([entry for entry, _ in agreed.entries]), START)
    await real.fold().apply(lively_ledger(codec), START)
    claimed = await real.deliveries.claim(START, START + HOUR, 10_000, 10_000)
    # Who handed a referral on hears no more of it: in the simulator nobody does.
    notices = [one.notice for one in claimed if one.notice.referral != of(number=3)]
    assert len(notices) > 40
    log = MemoryLog()
    await log.ensure(topics.topics(BUS, 1, 1))
    releases = Releases(await log.appender(), BUS, codec, 1)
    disclosing = Disclosing(engine, MemoryKeyStore(), Sealer(codec), releases, ManualClock(START))
    assert await disclosing.prepare(notices, "webhook") == await ShowsNothing().prepare(notices, "webhook")


async def test_an_answer_is_one_of_those_that_the_sender_gives() -> None:
    sender = WebhookSender(AddressRules(http_loopback=True), seconds=1.0)
    secret = WebhookSecrets(new_key(), BUS).new()
    async with AsyncExitStack() as stack:
        takes, refuses, hangs = [await stack.enter_async_context(receiving()) for _ in range(3)]
        refuses.statuses = [503]
        hangs.open.clear()
        real = {
            await sender.send("shelter", one.url, secret, "id", b"{}", START)
            for one in (takes, refuses, hangs)
        }
        hangs.open.set()
    await sender.close()

    outside: list[asyncio.Task[Any]] = []

    def run(work: Any) -> asyncio.Task[Any]:
        outside.append(asyncio.create_task(work))
        return outside[-1]

    loop: Any = SimpleNamespace(draw=random.Random(1), outside=run)
    node: Any = SimpleNamespace(cut=False)
    weather = Weather(loop)
    weather.lost = 0.5
    arrived: set[str] = set()
    doors = Webhooks(node, weather, lambda identity, _: arrived.add(identity))
    answers = await asyncio.gather(
        *(doors.send("shelter", "https://x.example/", "", str(n), b"{}", START) for n in range(60))
    )
    for one in outside:
        one.cancel()
    await asyncio.gather(*outside, return_exceptions=True)
    assert set(answers) == real
    assert {str(number) for number, answer in enumerate(answers) if answer.taken} < arrived


def test_a_secret_looks_as_one_does() -> None:
    secrets = WebhookSecrets(new_key(), BUS)
    real = secrets.open("sb-1", secrets.seal("sb-1", secrets.new()))
    assert real.startswith(NoSecret().open("sb-1", b""))
