"""Agencies and providers as a process of their own: it puts load on a bus and keeps its own list of what was acknowledged.

``python -m tests.support.load PLAN`` with a :class:`LoadPlan` as JSON. Commands come on standard input, a line each: ``begin`` begins
submitting, where the plan says to wait for it, ``burst N`` puts N referrals to the bus at once, a third through each door, ``finish`` ends
submitting, ``rest`` asks when nobody has anything under way, ``end`` ends it. What happens goes to the journal, a JSON object a line with
``at`` (seconds of the machine's monotonic clock) and ``what``:

| what | when | with |
|---|---|---|
| subscribed | a subscription was made | subscription, organisation, role, channel |
| ready | everybody listens | |
| try, answered, broken | a request to intake begins, got its answer, broke off | number, door (the address it goes to); status; error |
| acknowledged | the bus took a submission | door, organisation, id, kind, referral, token |
| repeated, differs | a repeat was answered like the first, or not | organisation, id |
| refused | intake refused what was good | organisation, id, status, code |
| heard | a notice came by event stream | organisation, role, region, sequence, number |
| webhook | a notice came by webhook, signed | organisation, delivery, region, sequence, taken |
| finished | all was submitted | |
| rested | nothing was under way, as was asked | |
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from referral_bus.access.tokens import issue_token
from referral_bus.client.answers import Answer
from referral_bus.client.bus import Bus
from referral_bus.client.errors import BusError, Unavailable
from referral_bus.client.events import cloud_event
from referral_bus.client.outbox import Outbox
from referral_bus.client.tokens import RenewedToken
from referral_bus.client.webhooks import received_notice
from referral_bus.contracts.facts import Facts, Identity, ListFact, Need, NumberFact, TextFact
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.ledger import OfferAccepted, OfferMade
from referral_bus.contracts.requests import ReferralRequest, WithdrawRequest
from referral_bus.contracts.vocabulary import Mode, Role, Urgency
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogUnavailable

NEED: Final = Need(code="1135")
"""What everybody needs and every service offers: what decides is whether there is a place."""

_URGENCIES: Final[tuple[Urgency, ...]] = ("crisis", "urgent", "routine")
_AT_ONCE: Final = 24
_REPEATED_EVERY: Final = 10
_WITHDRAWN_EVERY: Final = 17
_AMENDED_EVERY: Final = 5
_HELD_EVERY: Final = 4
_HELD_MS: Final = 3_000
_MODES: Final[tuple[Mode, ...]] = ("match", "match", "match", "broadcast", "waitlist")
_AWAY_SECONDS: Final = 10.0
"""As long as whoever gave no answer is left alone: a door that always went on to its twin would leave the other without work."""
_FAILING_EVERY: Final = 9
"""So many webhooks there are for one that answers 500 at first."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What a load needs to know. ``pace`` is in referrals a second; ``token_key`` and ``journal`` are paths; ``twins`` names for an
    address the one to go on to where it does not answer, for a while; ``patience`` and ``answer_seconds`` are how long the SDK keeps at a
    request, and waits for one answer; ``waits`` is for a load that others must be ready for.

    Organisations are named by ``party``, or else by the bus: outboxes of all buses of a Kafka share its names."""

    bus: str
    kafka: str
    intake: str
    notifier: str
    token_key: str
    journal: str
    regions: list[str]
    pace: float
    party: str = ""
    twins: dict[str, str] = field(default_factory=dict)
    patience: float = 120.0
    answer_seconds: float = 30.0
    webhooks: bool = True
    waits: bool = False

    @property
    def _party(self) -> str:
        return self.party or self.bus

    @property
    def typed(self) -> str:
        """The agency that uses the typed routes."""
        return f"{self._party}-hospital"

    @property
    def batching(self) -> str:
        """The agency that sends batches of CloudEvents."""
        return f"{self._party}-helpline"

    @property
    def sealing(self) -> str:
        """The agency that goes through the Kafka door."""
        return f"{self._party}-school"

    @property
    def agencies(self) -> tuple[str, ...]:
        return self.typed, self.batching, self.sealing

    @property
    def providers(self) -> tuple[str, ...]:
        return f"{self._party}-shelter", f"{self._party}-clinic"

    @property
    def subscriptions(self) -> list[tuple[str, Role, str]]:
        """Who subscribes to what: organisation, role, channel."""
        return [
            (self.batching, "agency", "webhook" if self.webhooks else "feed"),
            (self.providers[0], "provider", "webhook" if self.webhooks else "feed"),
            (self.sealing, "agency", "feed"),
            (self.providers[1], "provider", "feed"),
        ]

    @property
    def streams(self) -> list[tuple[str, Role]]:
        """Who follows the event stream."""
        return [(self.typed, "agency"), *((provider, "provider") for provider in self.providers)]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Journal:
    """Written a line at a time, so that what is noted can be read at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1, encoding="utf-8")

    def note(self, what: str, **more: Any) -> None:
        self._file.write(json.dumps({"at": time.monotonic(), "what": what, **more}) + "\n")

    def close(self) -> None:
        self._file.close()


class Door:
    """Where requests to an address go: there, or for a while to its twin, where that gives no answer. ``now`` is in seconds."""

    def __init__(self, own: str, twin: str, now: Callable[[], float] = time.monotonic) -> None:
        self._own, self._twin = httpx.URL(own), httpx.URL(twin)
        self._now = now
        self._away_until = float("-inf")

    def address(self) -> httpx.URL:
        return self._twin if self._now() < self._away_until else self._own

    def broke_off(self, address: httpx.URL) -> None:
        """A request to ``address`` did, so what follows goes to the other. What went to the one that is left already says nothing new."""
        if address is self.address():
            self._away_until = self._now() + _AWAY_SECONDS if address is self._own else float("-inf")


class NotingTransport(httpx.AsyncHTTPTransport):
    """Notes each try of a request to intake: the SDK tries again by itself, and a kill is seen in the tries. It stands in for a load
    balancer too: what follows a try that broke off goes to the twin of the address, where that has one, and after a while back."""

    def __init__(self, journal: Journal, plan: LoadPlan) -> None:
        super().__init__(limits=httpx.Limits(max_connections=None, max_keepalive_connections=64))
        self._journal = journal
        self._intake = httpx.URL(plan.intake).netloc
        self._doors = {httpx.URL(one).netloc: Door(one, other) for one, other in plan.twins.items()}
        self._numbers = itertools.count(1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = request.url.netloc
        door = self._doors.get(asked)
        if door is None:
            return await self._tried(request, asked)
        address = door.address()
        request.url = request.url.copy_with(host=address.host, port=address.port)
        try:
            return await self._tried(request, asked)
        except httpx.TransportError:
            door.broke_off(address)
            raise

    async def _tried(self, request: httpx.Request, asked: bytes) -> httpx.Response:
        if asked != self._intake:
            return await super().handle_async_request(request)
        number = next(self._numbers)
        self._journal.note("try", number=number, door=request.url.netloc.decode())
        try:
            response = await super().handle_async_request(request)
        except httpx.TransportError as error:
            self._journal.note("broken", number=number, error=type(error).__name__)
            raise
        self._journal.note("answered", number=number, status=response.status_code)
        return response


class Load:
    """Everybody who talks to the bus."""

    def __init__(self, plan: LoadPlan, journal: Journal, http: httpx.AsyncClient) -> None:
        self._plan = plan
        self._journal = journal
        self._http = http
        self._key = Path(plan.token_key).read_text(encoding="utf-8")
        self._numbers = itertools.count(1)
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._submitting: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._following: set[asyncio.Task[None]] = set()
        self._buses: dict[tuple[str, Role], Bus] = {}
        self._outbox: Outbox | None = None

    async def run(self, stack: AsyncExitStack) -> None:
        """Until it is told to end."""
        log = KafkaLog(self._plan.kafka)
        stack.push_async_callback(log.close)
        key = await self._bus(self._plan.sealing, "agency").intake_key()
        self._outbox = Outbox(await log.appender(), self._plan.sealing, key)
        receiver = Receiver(self._journal)
        server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
        stack.callback(server.close)
        await self._subscribe(receiver, server.sockets[0].getsockname()[1])
        for organisation, role in self._plan.streams:
            self._start(self._following, self._follow(organisation, role))
        self._journal.note("ready")
        begun = asyncio.Event()
        if not self._plan.waits:
            begun.set()
        pacing = asyncio.create_task(self._pace(begun))
        async for command, _, argument in _commands():
            if command == "begin":
                begun.set()
            elif command == "burst":
                self._burst(int(argument))
            elif command == "finish":
                pacing.cancel()
                await _all(self._submitting)
                self._journal.note("finished")
            elif command == "rest":
                await _all(self._serving)
                self._journal.note("rested")
            elif command == "end":
                break
        pacing.cancel()
        for task in self._following:
            task.cancel()
        await asyncio.wait([pacing, *self._following])

    def _bus(self, organisation: str, role: Role) -> Bus:
        bus = self._buses.get((organisation, role))
        if bus is None:
            token = RenewedToken(
                lambda: issue_token(self._key, self._plan.bus, organisation, [role], 3_600), 3_000.0
            )
            bus = self._buses[organisation, role] = Bus(
                token,
                intake=self._plan.intake,
                notifier=self._plan.notifier,
                patience=self._plan.patience,
                http=self._http,
            )
        return bus

    def _start(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(lambda done: self._ended(tasks, done))

    def _ended(self, tasks: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A load that lost a part of itself would prove nothing: nobody would miss what that part never sent.
            task.print_stack(file=sys.stderr)
            os._exit(3)

    async def _subscribe(self, receiver: Receiver, port: int) -> None:
        for organisation, role, channel in self._plan.subscriptions:
            request: dict[str, str] = {"channel": channel, "role": role}
            if channel == "webhook":
                request["url"] = f"http://127.0.0.1:{port}/{organisation}"
            token = issue_token(self._key, self._plan.bus, organisation, [role])
            response = await self._http.post(
                f"{self._plan.notifier}/v1/subscriptions",
                json=request,
                headers={"authorization": f"Bearer {token}"},
            )
            response.raise_for_status()
            made = response.json()
            if channel == "webhook":
                receiver.secrets[organisation] = made["secret"]
            self._journal.note(
                "subscribed",
                subscription=made["subscription"],
                organisation=organisation,
                role=role,
                channel=channel,
            )

    # What agencies do.

    async def _pace(self, begun: asyncio.Event) -> None:
        await begun.wait()
        while True:
            number = next(self._numbers)
            self._submit(number, [number])
            await asyncio.sleep(1 / self._plan.pace)

    def _burst(self, count: int) -> None:
        numbers = [next(self._numbers) for _ in range(count)]
        for turn in range(3):
            self._submit(turn, numbers[turn::3])

    def _submit(self, turn: int, numbers: Sequence[int]) -> None:
        """Through the door whose turn it is."""
        door = (self._typed, self._batch, self._sealed)[turn % 3]
        self._start(self._submitting, door(numbers))

    async def _typed(self, numbers: Sequence[int]) -> None:
        await asyncio.gather(*map(self._typed_one, numbers))

    async def _typed_one(self, number: int) -> None:
        organisation, id = self._plan.typed, f"r-{number}"
        bus, request = self._bus(organisation, "agency"), self._request(organisation, number)
        async with self._room:
            answer = await self._said(organisation, id, "SubmitReferral", bus.submit(request, id=id))
            if answer is None:
                return
            if number % _REPEATED_EVERY == 0:
                again = await bus.submit(request, id=id)
                self._journal.note(
                    "repeated" if again == answer else "differs", organisation=organisation, id=id
                )
            if answer.referral is None:
                return
            if number % _AMENDED_EVERY == 0:
                amending = bus.amend(answer.referral, urgency="urgent", id=f"{id}-amended")
                await self._said(organisation, f"{id}-amended", "AmendReferral", amending)
            if number % _HELD_EVERY == 0:
                until = time.time_ns() // 1_000_000 + _HELD_MS
                holding = bus.hold(answer.referral, "other", until, id=f"{id}-held")
                await self._said(organisation, f"{id}-held", "HoldReferral", holding)
            if number % _WITHDRAWN_EVERY == 0:
                withdrawing = bus.withdraw(answer.referral, "other", id=f"{id}-withdrawn")
                await self._said(organisation, f"{id}-withdrawn", "WithdrawReferral", withdrawing)

    async def _batch(self, numbers: Sequence[int]) -> None:
        organisation = self._plan.batching
        waiting = self._events(organisation, numbers)
        async with self._room:
            while waiting:
                answers = await self._bus(organisation, "agency").send(waiting)
                again = []
                for event, answer in zip(waiting, answers, strict=True):
                    if isinstance(answer, Unavailable):
                        again.append(event)
                    else:
                        self._note(organisation, event["id"], event["type"].split(".")[-2], answer)
                waiting = again
                if waiting:
                    await asyncio.sleep(0.2)

    async def _sealed(self, numbers: Sequence[int]) -> None:
        organisation = self._plan.sealing
        events = self._events(organisation, numbers)
        events += [
            event for event, number in zip(events, numbers, strict=False) if number % _REPEATED_EVERY == 0
        ]
        assert self._outbox is not None
        while True:
            try:
                await self._outbox.put(events)
                break
            except LogUnavailable:
                await asyncio.sleep(0.2)
        for event in events:
            self._journal.note(
                "acknowledged",
                door="outbox",
                organisation=organisation,
                id=event["id"],
                kind=event["type"].split(".")[-2],
                referral=referral_id(event["data"]["region"], self._plan.bus, organisation, event["id"])
                if "region" in event["data"]
                else None,
                token=None,
            )

    def _events(self, organisation: str, numbers: Sequence[int]) -> list[Event]:
        """The referrals as CloudEvents, and behind them some withdrawals of them."""
        now = time.time_ns() // 1_000_000
        requests = [(f"r-{number}", self._request(organisation, number)) for number in numbers]
        events = [cloud_event(request, organisation, id, now) for id, request in requests]
        for number, (id, request) in zip(numbers, requests, strict=True):
            if number % _WITHDRAWN_EVERY == 0 and request.region is not None:
                referral = referral_id(request.region, self._plan.bus, organisation, id)
                withdrawal = WithdrawRequest(referral=referral, reason="other")
                events.append(cloud_event(withdrawal, organisation, f"{id}-withdrawn", now))
        return events

    def _request(self, organisation: str, number: int) -> ReferralRequest:
        chance = random.Random(f"request {number}")
        return ReferralRequest(
            subject=f"{organisation}-{number}",
            mode=chance.choice(_MODES),
            urgency=chance.choice(_URGENCIES),
            region=chance.choice(self._plan.regions),
            facts=Facts(
                age=NumberFact(status="stated", value=chance.randint(1, 90)),
                languages=ListFact(status="stated", values=["en"]),
                area=TextFact(status="stated", value="00011"),
                needs=[NEED],
            ),
            identity=Identity(name=f"Invented Person {number}"),
        )

    async def _said(
        self, organisation: str, id: str, kind: str, saying: Coroutine[Any, Any, Answer]
    ) -> Answer | None:
        try:
            answer = await saying
        except BusError as error:
            self._note(organisation, id, kind, error)
            return None
        self._note(organisation, id, kind, answer)
        return answer

    def _note(self, organisation: str, id: str, kind: str, answer: Answer | BusError) -> None:
        if isinstance(answer, Answer):
            self._journal.note(
                "acknowledged",
                door="http",
                organisation=organisation,
                id=id,
                kind=kind,
                referral=answer.referral,
                token=answer.token,
            )
        else:
            self._journal.note(
                "refused", organisation=organisation, id=id, status=answer.status, code=answer.code
            )

    # What providers do.

    async def _follow(self, organisation: str, role: Role) -> None:
        seen: set[tuple[str, int]] = set()
        async for heard in self._bus(organisation, role).follow(role, last_event_id="0"):
            notice = heard.notice
            self._journal.note(
                "heard",
                organisation=organisation,
                role=role,
                region=notice.region,
                sequence=notice.sequence,
                number=int(heard.id),
            )
            if role == "provider" and (notice.region, notice.sequence) not in seen:
                seen.add((notice.region, notice.sequence))
                self._react(organisation, notice)

    def _react(self, organisation: str, notice: Notice) -> None:
        if notice.type == OfferMade.event_type() and notice.task is not None:
            self._start(self._serving, self._answer(organisation, notice.task))
        elif notice.type == OfferAccepted.event_type() and notice.referral is not None:
            self._start(self._serving, self._serve(organisation, notice.referral))

    async def _answer(self, organisation: str, task: str) -> None:
        """Most offers are accepted, some declined, some left to expire; of some, two people in the office say different things."""
        bus, chance = self._bus(organisation, "provider"), random.Random(f"answer {task}")
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        drawn = chance.random()
        async with self._room:
            if drawn < 0.76:
                accepting = bus.accept(task, id=f"accept-{task}")
                await self._said(organisation, f"accept-{task}", "AcceptOffer", accepting)
            elif drawn < 0.88:
                declining = bus.decline(task, "other", id=f"decline-{task}")
                await self._said(organisation, f"decline-{task}", "DeclineOffer", declining)
            elif drawn < 0.94:
                await asyncio.gather(
                    self._said(
                        organisation, f"accept-{task}", "AcceptOffer", bus.accept(task, id=f"accept-{task}")
                    ),
                    self._said(
                        organisation, f"too-{task}", "AcceptOffer", bus.accept(task, id=f"too-{task}")
                    ),
                    self._said(
                        organisation,
                        f"decline-{task}",
                        "DeclineOffer",
                        bus.decline(task, "other", id=f"decline-{task}"),
                    ),
                )

    async def _serve(self, organisation: str, referral: str) -> None:
        bus, chance = self._bus(organisation, "provider"), random.Random(f"serve {referral}")
        await asyncio.sleep(chance.uniform(0.05, 0.2))
        async with self._room:
            starting = bus.start(referral, time.time_ns() // 1_000_000, id=f"start-{referral}")
            await self._said(organisation, f"start-{referral}", "ReportServiceStart", starting)
        await asyncio.sleep(chance.uniform(0.1, 0.4))
        async with self._room:
            note = "An invented note." if chance.random() < 0.2 else None
            reporting = bus.outcome(referral, "need_met", note, id=f"outcome-{referral}")
            await self._said(organisation, f"outcome-{referral}", "ReportOutcome", reporting)


class Receiver:
    """Where webhooks go: each organisation's under a path of its name. Now and then one fails at the first attempt."""

    def __init__(self, journal: Journal) -> None:
        self.secrets: dict[str, str] = {}
        self._journal = journal
        self._seen: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                status = self._take(head[0].split(" ")[1].strip("/"), headers, body)
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The notifier was killed, or has no more to say, or the load ends.
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _take(self, organisation: str, headers: dict[str, str], body: bytes) -> int:
        notice = received_notice(self.secrets[organisation], headers, body)
        delivery = headers["webhook-id"]
        fails = delivery not in self._seen and len(self._seen) % _FAILING_EVERY == 0
        self._seen.add(delivery)
        self._journal.note(
            "webhook",
            organisation=organisation,
            delivery=delivery,
            region=notice.region,
            sequence=notice.sequence,
            taken=not fails,
        )
        return 500 if fails else 204


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    while tasks:
        await asyncio.wait(set(tasks))


async def _commands() -> AsyncIterator[tuple[str, str, str]]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        yield line.decode().strip().partition(" ")


async def main(path: Path) -> None:
    plan = LoadPlan(**json.loads(path.read_text(encoding="utf-8")))
    async with AsyncExitStack() as stack:
        journal = Journal(Path(plan.journal))
        stack.callback(journal.close)
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=NotingTransport(journal, plan), timeout=plan.answer_seconds, trust_env=False
            )
        )
        await Load(plan, journal, http).run(stack)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
