"""Intake put together from its settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from referral_bus.access.tokens import TokenVerifier
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Partition
from referral_bus.runtime.clock import Clock, SystemClock
from referral_bus.runtime.deadletters import DeadLetters
from referral_bus.runtime.expiry import tell_keys
from referral_bus.runtime.health import Health
from referral_bus.runtime.service import Task
from referral_bus.sealing.jwe import public_part
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.replay import replay_destroyed
from referral_bus.sealing.secrets import Secrets, read_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.web.app import new_app
from referral_bus.web.server import serve
from referral_bus.wire.codec import Codec
from services.intake import tables
from services.intake.admission import Admission
from services.intake.api import LARGER, LARGEST_SUBMISSION, Doors
from services.intake.checks import HORIZON_MS
from services.intake.counting import turned_away
from services.intake.forgetting import Forgetting
from services.intake.outages import OUTAGES
from services.intake.outboxes import Outboxes
from services.intake.publishing import Publishing
from services.intake.quotas import Quotas
from services.intake.reach import Reach
from services.intake.reference import PART, ReferenceView
from services.intake.registry import Registry
from services.intake.relay import Relay
from services.intake.repeats import Admissions
from services.intake.settings import IntakeSettings

logger = logging.getLogger(__name__)

_PRUNE_SECONDS = 3600.0
_KEPT_DAYS = HORIZON_MS // 86_400_000 + 1
"""A day more than repeats are recognised: clocks differ."""
_CONNECTIONS = 12


@asynccontextmanager
async def build(
    settings: IntakeSettings, health: Health, clock: Clock | None = None
) -> AsyncIterator[list[Task]]:
    """The parts: the reference data, the doors, its relay, and housekeeping."""
    clock, codec, bus = clock or SystemClock(), Codec.load(settings.write_schemas_up_to), settings.bus
    master = read_key(settings.master_key.get_secret_value(), "REFBUS_MASTER_KEY")
    intake_key = settings.intake_key.get_secret_value()
    public_key = public_part(intake_key)
    secrets = Secrets.derive(master, bus)
    health.starting(PART, "connects")
    async with AsyncExitStack() as stack:
        engine = new_engine(settings.database_url.get_secret_value(), _CONNECTIONS)
        stack.push_async_callback(engine.dispose)
        await migrate(engine, "sealing", "referral_bus.sealing.migrations")
        await migrate(engine, tables.SCHEMA, "services.intake.migrations")
        log = KafkaLog(settings.kafka_access())
        stack.push_async_callback(log.close)
        await replay_destroyed(log, topics.ledger(bus), codec, engine)
        appender = await log.appender()
        keys = KeyStore(engine, {"facts": secrets.facts_key, "identity": secrets.identity_key})
        verifier = TokenVerifier(settings.jwks, bus)
        await verifier.start()
        tell_keys(verifier)
        inbox, reference = topics.inbox(bus), topics.reference(bus)
        view = ReferenceView(log, reference, codec, health)
        reach = Reach(log, Partition(reference, 0), engine, health)
        admissions = Admissions(engine)
        quotas = Quotas(settings.quota_per_second, settings.quota_burst)
        admission = Admission(
            view=view,
            admissions=admissions,
            keys=keys,
            appender=appender,
            sealer=Sealer(codec),
            codec=codec,
            secrets=secrets,
            clock=clock,
            bus=bus,
            topic=inbox,
            queries=settings.queries or "",
        )
        stack.push_async_callback(admission.close)
        app = new_app(
            "Referral bus: intake",
            "Where agencies and providers submit.",
            verifier,
            min(settings.maximum_body, LARGEST_SUBMISSION),
            turned_away,
            dict.fromkeys(LARGER, settings.maximum_body),
        )
        Doors(
            admission=admission,
            publishing=Publishing(
                log=log,
                appender=appender,
                view=view,
                codec=codec,
                clock=clock,
                bus=bus,
                replication=settings.replication,
            ),
            forgetting=Forgetting(
                view=view,
                keys=keys,
                appender=appender,
                codec=codec,
                secrets=secrets,
                clock=clock,
                topic=inbox,
            ),
            quotas=quotas,
            reach=reach,
            clock=clock,
            public_key=public_key,
            maximum_batch=settings.maximum_batch,
        ).install(app)
        Registry(bus).install(app)
        outboxes = Outboxes(
            log=log,
            view=view,
            admission=admission,
            appender=appender,
            dead_letters=DeadLetters(bus, settings.service, settings.operations_public_key, codec, clock),
            quotas=quotas,
            codec=codec,
            clock=clock,
            health=health,
            bus=bus,
            group=topics.group(bus, "intake"),
            intake_key=intake_key,
        )
        relay = Relay(
            view=view,
            appender=appender,
            engine=engine,
            codec=codec,
            secrets=secrets,
            clock=clock,
            health=health,
            bus=bus,
            topic=inbox,
        )
        yield [
            Task("reference", view.run()),
            Task("reach", reach.run()),
            Task("api", serve(app, settings.host, settings.port)),
            Task("outboxes", outboxes.run()),
            Task("relay", relay.run()),
            Task("token keys", verifier.keep()),
            Task("housekeeping", _keep_house(admissions)),
        ]


async def _keep_house(admissions: Admissions) -> None:
    while True:
        try:
            gone = await admissions.prune(_KEPT_DAYS)
            if gone:
                logger.info("%d admissions older than %d days were deleted", gone, _KEPT_DAYS)
        except OUTAGES as error:
            logger.warning("old admissions could not be deleted and are next time: %s", type(error).__name__)
        await asyncio.sleep(_PRUNE_SECONDS)
