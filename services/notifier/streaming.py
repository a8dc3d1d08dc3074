"""Event streams (server-sent events): an organisation's notices by their numbers, from where the client was."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from referral_bus.contracts.feed import Notice
from referral_bus.log.port import LogError
from referral_bus.runtime import metrics
from referral_bus.sealing.port import KeyStoreUnavailable
from referral_bus.web.problems import Problem
from services.notifier.bell import Bell
from services.notifier.disclosing import Disclosing
from services.notifier.notices import Filter, Notices

logger = logging.getLogger(__name__)

MOST_EACH: Final = 20
"""Streams an organisation may have open at once, with one process."""
LONGEST_SECONDS: Final = 900.0
"""A stream ends then, and the client comes back with a token that is still good."""
_POLL_SECONDS: Final = 1.0
_AT_ONCE: Final = 100
_RETRY_SECONDS: Final = 30


class Streams:
    """The open streams. ``heartbeat``: seconds after which a silent one says that it is alive."""

    def __init__(self, notices: Notices, disclosing: Disclosing, bell: Bell, heartbeat: float) -> None:
        self._notices = notices
        self._disclosing = disclosing
        self._bell = bell
        self._heartbeat = heartbeat
        self._stopping = False
        self._open: Counter[str] = Counter()

    async def end_with_service(self) -> None:
        """Wait to be cancelled, and then let every open stream come to its end: the server waits for them."""
        try:
            await asyncio.Event().wait()
        finally:
            self._stopping = True
            self._bell.ring_all()

    async def open(self, wanted: Filter, last_seen: int | None) -> EventSourceResponse:
        """A stream of what follows notice ``last_seen``, or of what comes from now on.

        Raises Problem: 410 where it can't go on behind that number, 429 where too many are open.
        """
        if self._open[wanted.organisation] >= MOST_EACH:
            raise Problem(
                429,
                "too_many_streams",
                f"An organisation has at most {MOST_EACH} streams open. Close one first.",
                retry_after=_RETRY_SECONDS,
            )
        # The place is taken before anything is waited for: who asks in the meantime finds it taken.
        self._open[wanted.organisation] += 1
        metrics.STREAMS_OPEN.inc()
        try:
            start = await self._start(wanted.organisation, last_seen)
        except BaseException:
            self._left(wanted.organisation)
            raise
        return _Placed(
            self._events(wanted, start),
            ended=lambda: self._left(wanted.organisation),
            ping=self._heartbeat,
            headers={"Cache-Control": "no-store"},
        )

    def _left(self, organisation: str) -> None:
        metrics.STREAMS_OPEN.dec()
        self._open[organisation] -= 1

    async def _start(self, organisation: str, number: int | None) -> int:
        oldest, last = await self._notices.span(organisation)
        if number is None:
            return last
        if not oldest - 1 <= number <= last:
            raise Problem(
                410,
                "resume_impossible",
                f"The stream can't go on behind {number}: notices {oldest} to {last} are kept. Connect without "
                "Last-Event-ID, and look up where your referrals stand.",
                field="Last-Event-ID",
            )
        return number

    async def _events(self, wanted: Filter, number: int) -> AsyncIterator[ServerSentEvent]:
        """The first event only says where the stream begins, so that a connection that breaks early resumes there."""
        until = time.monotonic() + LONGEST_SECONDS
        try:
            yield ServerSentEvent(id=str(number))
            while not self._stopping and time.monotonic() < until:
                heard = self._bell.listen(wanted.organisation)
                kept = await self._notices.after(wanted, number, _AT_ONCE) if wanted.cover else []
                for one, notice in zip(kept, await self._disclosing.prepare(kept, "sse"), strict=True):
                    number = one.number
                    if notice is not None:
                        metrics.DELIVERY_ATTEMPTS.labels(channel="sse", result="delivered").inc()
                        yield _sent(number, notice)
                if not kept:
                    await heard.wait(_POLL_SECONDS)
        except (SQLAlchemyError, KeyStoreUnavailable, LogError, OSError) as error:
            logger.warning("an event stream ends early, and its client comes back: %s", type(error).__name__)


class _Placed(EventSourceResponse):
    """A stream that says once when it has ended. Its events can't say so: of one whose client hung up before the first they never begin."""

    def __init__(
        self, events: AsyncIterator[ServerSentEvent], *, ended: Callable[[], None], **how: Any
    ) -> None:
        super().__init__(events, **how)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _sent(number: int, notice: Notice) -> ServerSentEvent:
    return ServerSentEvent(
        id=str(number), event=notice.type.rsplit(".", 2)[-2], data=notice.model_dump_json()
    )
