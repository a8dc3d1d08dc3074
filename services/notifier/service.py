"""The notifier put together from its settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sqlalchemy.exc import SQLAlchemyError

from referral_bus.access.tokens import TokenVerifier
from referral_bus.disclosure.releases import Releases
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogError
from referral_bus.runtime import metrics
from referral_bus.runtime.clock import Clock, SystemClock
from referral_bus.runtime.expiry import tell_keys
from referral_bus.runtime.health import Health
from referral_bus.runtime.service import Task
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.replay import replay_destroyed
from referral_bus.sealing.secrets import Secrets, read_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.store.migrate import migrate
from referral_bus.web.app import new_app
from referral_bus.web.server import serve
from referral_bus.wire.codec import Codec
from services.notifier import hearer, tables
from services.notifier.addresses import AddressRules
from services.notifier.api import Doors
from services.notifier.bell import Bell
from services.notifier.clock import DatabaseClock
from services.notifier.deliveries import Deliveries
from services.notifier.disclosing import Disclosing
from services.notifier.dispatch import Dispatcher, Patience
from services.notifier.feed import Feeds
from services.notifier.fold import Fold
from services.notifier.hearer import Hearer
from services.notifier.notices import Notices
from services.notifier.secrets import WebhookSecrets
from services.notifier.settings import NotifierSettings
from services.notifier.stream import LedgerStream
from services.notifier.streaming import Streams
from services.notifier.subscriptions import Subscriptions
from services.notifier.webhook import WebhookSender
from services.notifier.words import Words

logger = logging.getLogger(__name__)

_LAG_SECONDS = 1.0
_BEHIND_SECONDS = 0.25
"""How often it is asked whether the ledger is caught up with."""
_COUNT_SECONDS = 2.0
_PRUNE_SECONDS = 3600.0
_LARGEST_BODY = 65_536
"""Bytes; a subscription to all there is, at the longest address, has less than half of that."""
_DAY_MS = 86_400_000
_LEASE_SPARE_SECONDS = 15.0
"""What an attempt may take besides the sending: opening, recording, writing down."""


@asynccontextmanager
async def build(
    settings: NotifierSettings, health: Health, clock: Clock | None = None
) -> AsyncIterator[list[Task]]:
    """The parts: the ledger's stream, the deliveries, the HTTP API, and housekeeping."""
    codec, bell = Codec.load(settings.write_schemas_up_to), Bell()
    master = read_key(settings.master_key.get_secret_value(), "REFBUS_MASTER_KEY")
    derived = Secrets.derive(master, settings.bus)
    health.starting(hearer.PART, "connects")
    async with AsyncExitStack() as stack:
        engine = new_engine(settings.database_url.get_secret_value())
        stack.push_async_callback(engine.dispose)
        await migrate(engine, "sealing", "referral_bus.sealing.migrations")
        await migrate(engine, tables.SCHEMA, "services.notifier.migrations")
        shared = DatabaseClock(engine, clock or SystemClock())
        await shared.ask()
        access = settings.kafka_access()
        log = KafkaLog(access)
        stack.push_async_callback(log.close)
        await replay_destroyed(log, topics.ledger(settings.bus), codec, engine)
        appender = await log.appender()
        keys = KeyStore(engine, {"facts": derived.facts_key, "identity": derived.identity_key})
        releases = Releases(
            appender, settings.bus, codec, await log.partitions(topics.disclosure(settings.bus))
        )
        words = Words(appender, settings.bus, codec, await log.partitions(topics.delivery(settings.bus)))
        disclosing = Disclosing(engine, keys, Sealer(codec), releases, shared)
        rules = AddressRules(settings.webhook_allow_http_loopback, settings.webhook_allow_private)
        sender = WebhookSender(rules, settings.webhook_timeout_seconds)
        stack.push_async_callback(sender.close)
        secrets, deliveries, notices = (
            WebhookSecrets(master, settings.bus),
            Deliveries(engine),
            Notices(engine),
        )
        dispatcher = Dispatcher(
            deliveries=deliveries,
            disclosing=disclosing,
            sender=sender,
            secrets=secrets,
            feeds=Feeds(appender, settings.bus, codec),
            words=words,
            codec=codec,
            clock=shared,
            health=health,
            bell=bell,
            patience=_patience(settings),
        )
        handler = Hearer(
            log=log, fold=Fold(engine, bell), codec=codec, keys=keys, clock=shared, health=health
        )
        stream = LedgerStream(
            access,
            topics.group(settings.bus, "notifier"),
            topics.ledger(settings.bus),
            handler.handle,
        )
        verifier = TokenVerifier(settings.jwks, settings.bus)
        await verifier.start()
        tell_keys(verifier)
        app = new_app(
            "Referral bus: notifier",
            "Subscriptions, the event stream, and deliveries.",
            verifier,
            _LARGEST_BODY,
        )
        streams = Streams(notices, disclosing, bell, settings.stream_heartbeat_seconds)
        Doors(
            subscriptions=Subscriptions(engine),
            deliveries=deliveries,
            streams=streams,
            secrets=secrets,
            rules=rules,
            clock=shared,
            resend_pause_ms=round(settings.resend_pause_seconds * 1000),
        ).install(app)
        yield [
            Task("ledger", stream.run()),
            Task("deliveries", dispatcher.run()),
            Task("clock", shared.run()),
            Task("waiting", _count(deliveries, shared)),
            Task("api", serve(app, settings.host, settings.port)),
            Task("token keys", verifier.keep()),
            Task("streams", streams.end_with_service()),
            Task("lag", _watch(stream, topics.ledger(settings.bus), health)),
            Task("housekeeping", _keep_house(notices, shared, settings.keep_days)),
        ]


def _patience(settings: NotifierSettings) -> Patience:
    return Patience(
        first_ms=round(settings.webhook_first_retry_seconds * 1000),
        longest_ms=round(settings.webhook_longest_retry_seconds * 1000),
        give_up_ms=round(settings.webhook_give_up_seconds * 1000),
        lease_ms=round((settings.webhook_timeout_seconds + _LEASE_SPARE_SECONDS) * 1000),
        each=settings.webhook_concurrency,
        total=settings.webhook_total_concurrency,
    )


async def _watch(stream: LedgerStream, topic: str, health: Health) -> None:
    """Lag for the metrics, and whether the ledger is heard up to the end there was when the partitions came."""
    shown: set[int] = set()
    while True:
        try:
            lags = await stream.lag()
        except LogError as error:
            logger.warning("the lag is not known: %s", error)
        else:
            for partition in shown | lags.keys():
                metrics.LAG.labels(topic=topic, partition=str(partition)).set(lags.get(partition, 0))
            shown = set(lags)
            for partition, position in stream.positions.items():
                metrics.POSITION.labels(topic=topic, partition=str(partition)).set(position)
            if stream.behind is None:
                health.starting(hearer.PART, "waits for its partitions")
            elif stream.behind:
                health.starting(hearer.PART, f"{stream.behind} partitions have not caught up with the ledger")
            else:
                health.ready(hearer.PART)
        await asyncio.sleep(_BEHIND_SECONDS if stream.behind != 0 else _LAG_SECONDS)


async def _count(deliveries: Deliveries, clock: Clock) -> None:
    """Count what waits for the metrics. Beside the deliveries, so that it is seen where nobody gets round to them; now and then, since the
    longer the queue, the longer it takes."""
    while True:
        try:
            waiting = await deliveries.waiting(clock.now())
        except (SQLAlchemyError, OSError) as error:
            logger.warning("how many deliveries wait is not known: %s", type(error).__name__)
        else:
            metrics.DELIVERIES_WAITING.set(waiting.deliveries)
            metrics.OLDEST_DUE_SECONDS.set(waiting.due_ms / 1000)
            metrics.OLDEST_FAILED_SECONDS.set(waiting.failed_ms / 1000)
        await asyncio.sleep(_COUNT_SECONDS)


async def _keep_house(notices: Notices, clock: Clock, days: int) -> None:
    while True:
        try:
            gone = await notices.prune(clock.now() - days * _DAY_MS)
            if gone:
                logger.info("%d notices older than %d days were deleted", gone, days)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("old notices could not be deleted and are next time: %s", type(error).__name__)
        await asyncio.sleep(_PRUNE_SECONDS)
