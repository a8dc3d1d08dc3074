"""The deliveries at work: claim what is due, attempt it, write down what came of it.

The order within an attempt is what makes it right: the release is recorded, the notice leaves, the delivery topic is told, then SQL.
A process that dies in between leaves a lease that ends, and the attempt is made again under the same identity.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import groupby

from cryptography.exceptions import InvalidTag
from sqlalchemy.exc import SQLAlchemyError

from referral_bus.contracts.feed import Notice
from referral_bus.log.port import LogError
from referral_bus.runtime import metrics, tracing
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.health import Health
from referral_bus.sealing.port import KeyStoreUnavailable
from referral_bus.wire.codec import Codec
from services.notifier.backoff import retry
from services.notifier.bell import Bell
from services.notifier.deliveries import Claimed, Deliveries
from services.notifier.disclosing import Disclosing
from services.notifier.feed import Feeds
from services.notifier.gathered import Gathered
from services.notifier.notices import Kept, structured
from services.notifier.secrets import WebhookSecrets
from services.notifier.webhook import Answer, WebhookSender
from services.notifier.words import Words

logger = logging.getLogger(__name__)

PART = "deliveries"
POLL_SECONDS = 0.5
ALIVE_SECONDS = 60.0
FEED_LONGEST_MS = 30_000
"""The longest pause of a feed. Waiting spares a receiver that is overloaded, and here there is none: the broker is the bus's own. And while
a feed pauses, all that comes later waits too."""

Attempt = Callable[[list[Claimed]], Awaitable[None]]

_AWAY = (SQLAlchemyError, KeyStoreUnavailable, LogError, OSError)
"""Database or log fail."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a delivery is tried, in milliseconds, and how many attempts run at once: to each webhook from all processes,
    and in total from this one, a feed's batch being one."""

    first_ms: int
    longest_ms: int
    give_up_ms: int
    lease_ms: int
    each: int
    total: int


class Dispatcher:
    """Delivers webhooks and feeds until cancelled. Any number may run side by side."""

    def __init__(
        self,
        *,
        deliveries: Deliveries,
        disclosing: Disclosing,
        sender: WebhookSender,
        secrets: WebhookSecrets,
        feeds: Feeds,
        words: Words,
        codec: Codec,
        clock: Clock,
        health: Health,
        bell: Bell,
        patience: Patience,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._deliveries = deliveries
        self._disclosing = disclosing
        self._sender = sender
        self._secrets = secrets
        self._feeds = feeds
        self._words = words
        self._schema_id = codec.schema_id(Notice)
        self._clock = clock
        self._health = health
        self._bell = bell
        self._patience = patience
        self._chance = chance
        # Each of many webhooks would be a transaction of its own, and a wait for the disk.
        self._preparing = Gathered(self._prepared, _AWAY)
        self._writing = Gathered(self._taken, _AWAY)
        self._under_way: dict[asyncio.Task[None], list[Claimed]] = {}
        self._unstarted: list[Claimed] = []

    async def run(self) -> None:
        """Deliver what is due, as it comes due. A failing database or log is waited for."""
        self._health.starting(PART, "looks for deliveries")
        try:
            while True:
                self._health.beat(PART, ALIVE_SECONDS)
                heard = self._bell.listen()
                if not await self._begin():
                    await heard.wait(POLL_SECONDS)
        finally:
            self._health.silent(PART)
            await self._interrupt()

    async def _interrupt(self) -> None:
        """End what is under way, and let whoever comes next begin it at once."""
        under_way = dict(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        left = self._unstarted + [
            one for task, claimed in under_way.items() if task.cancelled() for one in claimed
        ]
        try:
            await self._deliveries.postpone(left, self._clock.now(), "interrupted")
        except (SQLAlchemyError, OSError) as error:
            logger.warning("deliveries under way wait for their lease to end: %s", type(error).__name__)

    async def _begin(self) -> bool:
        """Start the attempts that are due, as far as there is room. False where there was nothing to start."""
        room = self._patience.total - len(self._under_way)
        if room <= 0:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED, timeout=POLL_SECONDS)
            return True
        now = self._clock.now()
        try:
            claimed = await self._claim(now, room)
        except (SQLAlchemyError, OSError) as error:
            logger.warning("deliveries wait for the database: %s", type(error).__name__)
            self._health.starting(PART, "the database does not answer")
            return False
        self._health.ready(PART)
        for (_, channel), rows in groupby(claimed, key=lambda one: (one.subscription, one.channel)):
            if channel == "feed":
                self._start(self._feed, list(rows))
            else:
                for row in rows:
                    self._start(self._webhook, [row])
        return bool(claimed)

    async def _claim(self, now: int, room: int) -> list[Claimed]:
        """What is ours to attempt, for ``room`` attempts. A claim that is made while this is cancelled is remembered, to be let go."""
        claiming = asyncio.create_task(
            self._deliveries.claim(now, now + self._patience.lease_ms, self._patience.each, room)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # A database that is away has given nothing to let go; its error must not stand in for the cancellation.
            with suppress(SQLAlchemyError, OSError):
                self._unstarted = await claiming
            raise

    def _start(self, attempt: Attempt, claimed: list[Claimed]) -> None:
        task = asyncio.create_task(self._guarded(attempt, claimed))
        self._under_way[task] = claimed
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        self._bell.ring()

    async def _guarded(self, attempt: Attempt, claimed: list[Claimed]) -> None:
        """Where database or log fail, the attempt is left to its lease, and made again when that ends. Any other fault counts as a
        failed attempt, so that it is given up in the end and somebody hears of it."""
        try:
            try:
                with tracing.tracer().delivering(claimed[0].channel, [one.notice for one in claimed]):
                    await attempt(claimed)
            except _AWAY:
                raise
            except Exception:
                logger.exception("an attempt to deliver failed for a fault of our own")
                await self._not_taken(claimed, Answer(False, "internal_error"))
        except _AWAY as error:
            logger.warning("an attempt was not finished and is made again: %s", type(error).__name__)

    async def _webhook(self, claimed: list[Claimed]) -> None:
        [one] = claimed
        notice = await self._preparing.do(one.notice)
        if notice is None:
            await self._withhold(claimed)
            return
        with metrics.ATTEMPT_SECONDS.labels(channel="webhook").time():
            answer = await self._send(one, notice)
        if answer.taken:
            await self._writing.do(one)
        else:
            await self._not_taken(claimed, answer)

    async def _prepared(self, notices: Sequence[Kept]) -> list[Notice | None]:
        with _together(notices):
            return await self._disclosing.prepare(notices, "webhook")

    async def _taken(self, claimed: Sequence[Claimed]) -> list[None]:
        with _together(claimed):
            await self._delivered(claimed)
        return [None] * len(claimed)

    async def _send(self, claimed: Claimed, notice: Notice) -> Answer:
        try:
            secret = self._secrets.open(claimed.subscription, claimed.sealed_secret or b"")
        except (InvalidTag, ValueError):
            return Answer(False, "secret_unreadable")
        body = structured(notice, claimed.notice, claimed.identity, self._schema_id)
        return await self._sender.send(
            claimed.notice.organisation, claimed.url or "", secret, claimed.identity, body, self._clock.now()
        )

    async def _feed(self, claimed: list[Claimed]) -> None:
        prepared = await self._disclosing.prepare([one.notice for one in claimed], "feed")
        leaving = [(one, notice) for one, notice in zip(claimed, prepared, strict=True) if notice is not None]
        told = [one for one, _ in leaving]
        try:
            with metrics.ATTEMPT_SECONDS.labels(channel="feed").time():
                await self._feeds.write(leaving)
        except LogError as error:
            logger.warning("a feed could not be written: %s", error)
            await self._not_taken(told, Answer(False, "log_unavailable"))
        else:
            await self._delivered(told)
        await self._withhold([one for one, notice in zip(claimed, prepared, strict=True) if notice is None])

    async def _withhold(self, claimed: list[Claimed]) -> None:
        for one in claimed:
            metrics.DELIVERY_ATTEMPTS.labels(channel=one.channel, result="withheld").inc()
        await self._deliveries.finish(claimed, "withheld", self._clock.now())

    async def _delivered(self, claimed: Sequence[Claimed]) -> None:
        at = self._clock.now()
        for one in claimed:
            metrics.DELIVERY_ATTEMPTS.labels(channel=one.channel, result="delivered").inc()
        await self._words.delivered(claimed, at)
        await self._deliveries.finish(claimed, "delivered", at)

    async def _not_taken(self, claimed: list[Claimed], answer: Answer) -> None:
        """Give up those whose time is over, and try the others again later: together, so that a feed stays in order."""
        if not claimed:
            return
        at = self._clock.now()
        for one in claimed:
            metrics.DELIVERY_ATTEMPTS.labels(channel=one.channel, result="failed").inc()
        over, due = self._next(claimed, at)
        if answer.final:
            over = len(claimed)
        given_up, later = claimed[:over], claimed[over:]
        if given_up:
            for one in given_up:
                metrics.DELIVERIES_GIVEN_UP.labels(channel=one.channel).inc()
            await self._words.given_up(given_up, at, answer.reason)
            await self._deliveries.finish(given_up, "given_up", at, answer.reason)
        if later:
            await self._words.failed(later, at, answer.reason, due)
            await self._deliveries.postpone(later, due, answer.reason)

    def _next(self, claimed: list[Claimed], at: int) -> tuple[int, int]:
        """How many of the first are given up, and when the others are tried again."""
        longest_ms = self._patience.longest_ms
        if claimed[0].channel == "feed":
            longest_ms = min(longest_ms, FEED_LONGEST_MS)
        return retry(
            at,
            [one.enqueued_at for one in claimed],
            max(one.tries for one in claimed),
            first_ms=self._patience.first_ms,
            longest_ms=longest_ms,
            give_up_ms=self._patience.give_up_ms,
            chance=self._chance(),
        )


def _together(several: Sequence[object]) -> AbstractContextManager[object]:
    """Work on several webhooks at once is in the trace of none of them: that of the one whose task does it would tell of the others."""
    return tracing.tracer().together("deliver", []) if len(several) > 1 else nullcontext()
