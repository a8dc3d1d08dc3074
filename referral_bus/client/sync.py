"""The same client for programs that are not asynchronous."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from referral_bus.client.answers import Heard
from referral_bus.client.bus import PATIENCE_SECONDS, Bus
from referral_bus.client.tokens import TokenSource
from referral_bus.contracts.vocabulary import Role

P = ParamSpec("P")
T = TypeVar("T")


def _waited(
    method: Callable[Concatenate[Bus, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncBus, P], T]:
    def call(self: SyncBus, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._bus, *args, **kwargs))

    call.__doc__ = method.__doc__
    return call


class SyncBus:
    """:class:`~referral_bus.client.bus.Bus`, each call waited for. Not for use inside a running event loop,
    nor by two threads at once."""

    def __init__(
        self,
        token: TokenSource,
        *,
        intake: str | None = None,
        queries: str | None = None,
        notifier: str | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._runner = asyncio.Runner()
        self._bus = Bus(token, intake=intake, queries=queries, notifier=notifier, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._wait(self._bus.close())
        self._runner.close()

    submit = _waited(Bus.submit)
    amend = _waited(Bus.amend)
    hold = _waited(Bus.hold)
    resume = _waited(Bus.resume)
    transfer = _waited(Bus.transfer)
    split = _waited(Bus.split)
    reopen = _waited(Bus.reopen)
    withdraw = _waited(Bus.withdraw)
    answer = _waited(Bus.answer)
    forget = _waited(Bus.forget)
    acknowledge = _waited(Bus.acknowledge)
    accept = _waited(Bus.accept)
    decline = _waited(Bus.decline)
    ask = _waited(Bus.ask)
    propose = _waited(Bus.propose)
    contact = _waited(Bus.contact)
    no_show = _waited(Bus.no_show)
    start = _waited(Bus.start)
    outcome = _waited(Bus.outcome)
    confirm_handoff = _waited(Bus.confirm_handoff)
    follow_up = _waited(Bus.follow_up)
    retract = _waited(Bus.retract)
    deliveries = _waited(Bus.deliveries)
    resend_deliveries = _waited(Bus.resend_deliveries)
    report_capacity = _waited(Bus.report_capacity)
    publish_service = _waited(Bus.publish_service)
    send = _waited(Bus.send)
    publish = _waited(Bus.publish)
    intake_key = _waited(Bus.intake_key)
    timeline = _waited(Bus.timeline)
    caseload = _waited(Bus.caseload)
    inbox = _waited(Bus.inbox)
    capacity = _waited(Bus.capacity)
    references = _waited(Bus.references)
    reference = _waited(Bus.reference)
    queue = _waited(Bus.queue)
    waiting_list = _waited(Bus.waiting_list)
    submissions = _waited(Bus.submissions)

    def follow(self, role: Role | None = None, *, last_event_id: str | None = None) -> Iterator[Heard]:
        """See :meth:`Bus.follow <referral_bus.client.bus.Bus.follow>`."""
        stream = self._bus.follow(role, last_event_id=last_event_id)

        async def following() -> Heard:
            return await anext(stream)

        while True:
            yield self._wait(following())

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)
