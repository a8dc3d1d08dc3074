"""Projections put together from their settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from referral_bus.access.tokens import TokenVerifier
from referral_bus.disclosure.releases import Releases
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Partition, Record
from referral_bus.runtime.clock import Clock, SystemClock
from referral_bus.runtime.expiry import tell_keys
from referral_bus.runtime.health import Health
from referral_bus.runtime.projector import Project, Projector
from referral_bus.runtime.service import Task
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import Keys
from referral_bus.sealing.replay import replay_destroyed
from referral_bus.sealing.secrets import Secrets, read_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.store.postgres import PostgresViews
from referral_bus.store.rows import Put
from referral_bus.web.app import new_app
from referral_bus.web.server import serve
from referral_bus.wire.codec import Codec
from services.projections.api import Doors
from services.projections.fold import Fold
from services.projections.queries import Queries
from services.projections.rebuild import MIGRATIONS
from services.projections.reflected import Reflected
from services.projections.settings import ProjectionsSettings
from services.projections.showing import Showing
from services.projections.tables import SCHEMA, SERVING

PART = "views"


@asynccontextmanager
async def build(
    settings: ProjectionsSettings, health: Health, clock: Clock | None = None
) -> AsyncIterator[list[Task]]:
    """The parts: the projector and the query API."""
    clock, codec = clock or SystemClock(), Codec.load(settings.write_schemas_up_to)
    master = read_key(settings.master_key.get_secret_value(), "REFBUS_MASTER_KEY")
    derived = Secrets.derive(master, settings.bus)
    health.starting(PART, "connects")
    async with AsyncExitStack() as stack:
        engine = new_engine(settings.database_url.get_secret_value())
        stack.push_async_callback(engine.dispose)
        await migrate(engine, "sealing", "referral_bus.sealing.migrations")
        await migrate(engine, SCHEMA, MIGRATIONS)
        log = KafkaLog(settings.kafka_access())
        stack.push_async_callback(log.close)
        ledger = topics.ledger(settings.bus)
        await replay_destroyed(log, ledger, codec, engine)
        keys = KeyStore(engine, {"facts": derived.facts_key, "identity": derived.identity_key})
        store = PostgresViews(engine, SERVING.positions, SERVING.views)
        projector = Projector(
            log,
            store,
            _forgetting(Fold(store, codec), keys),
            health,
            topic=ledger,
            group=topics.group(settings.bus, "projections"),
            part=PART,
            batch=settings.batch_records,
        )
        verifier = TokenVerifier(settings.jwks, settings.bus)
        await verifier.start()
        tell_keys(verifier)
        queries = Queries(engine)
        releases = Releases(
            await log.appender(), settings.bus, codec, await log.partitions(topics.disclosure(settings.bus))
        )
        app = new_app("Referral bus: queries", "What the views know, for those who may see it.", verifier)
        showing = Showing(queries, keys, Sealer(codec), releases, clock)
        Doors(queries, showing, Reflected(engine), clock).install(app)
        yield [
            Task("views", projector.run()),
            Task("api", serve(app, settings.host, settings.port)),
            Task("token keys", verifier.keep()),
        ]


def _forgetting(fold: Fold, keys: Keys) -> Project[Put]:
    """The fold; whose keys are destroyed is forgotten here at once."""

    async def project(partition: Partition, records: Sequence[Record]) -> list[Put]:
        changes = await fold.project(partition, records)
        for change in changes:
            if change.table == "erasures":
                keys.forget(change.row["subject"])
        return changes

    return project
