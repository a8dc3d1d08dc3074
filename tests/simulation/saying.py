"""How a party's word gets to the bus: over HTTP, until it is answered, or on its own outbox, until the log has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple

from referral_bus.client import Outbox, cloud_event
from referral_bus.contracts.ids import referral_id, referral_of
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import AcceptRequest, AmendRequest, ReferralRequest, ServiceRequest
from referral_bus.log import topics
from referral_bus.log.port import Appender, LogUnavailable, Outgoing, Position
from referral_bus.sealing.jwe import seal_to
from services.intake.answers import Answer
from tests.simulation.doors import Door, asked, token
from tests.simulation.loop import Node
from tests.simulation.world import LATE, PARTIES, World
from tests.support.admitting import ROUTES
from tests.support.deciding import BUS, HOUSING

PATIENCE_SECONDS: Final = 3.0
TOO_OLD_MS: Final = 91 * 86_400_000
NEVER_REFERRED: Final = "rf-north-" + "n" * 20
NEVER_OFFERED: Final = NEVER_REFERRED.replace("rf-", "tk-") + "-1"
Key = tuple[str, str]
"""Who said it, and under which id."""
Person = tuple[str, str]
"""Somebody, by the agency and its own reference."""


class Put(NamedTuple):
    """What a party put on its outbox. ``refused`` is the reason for which it has to be, None where it has to be admitted."""

    id: str | None
    request: Part | None
    refused: str | None


@dataclass
class Seen:
    """What the parties know, and the checker may believe."""

    admitted: dict[Key, str] = field(default_factory=dict)
    """The token of each submission that was acknowledged, by who sent it and under which id."""
    contradicted: list[str] = field(default_factory=list)
    """Answers that can't be right: another token for the same, or a refusal nothing called for."""
    received: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The notices that were delivered, by the identity under which they came; a repeat is recognised by it."""
    put: dict[tuple[str, bytes], Put] = field(default_factory=dict)
    """What may stand on each outbox, by whose it is and by what was sealed, or by the record's bytes where nothing was."""
    stands: dict[tuple[str, int], bytes] = field(default_factory=dict)
    """Of that, what the log acknowledged, and where."""
    over_http: set[Key] = field(default_factory=set)
    """What was said over HTTP, answered or not."""
    whose: dict[str, Person] = field(default_factory=dict)
    """Of whom each referral is."""
    forgotten: set[Person] = field(default_factory=set)
    """Who was to be forgotten."""

    def may_be_erased(self, organisation: str, request: Part | None) -> bool:
        """Whether what it speaks of is somebody who was to be forgotten, perhaps meanwhile."""
        if isinstance(request, ReferralRequest):
            return (organisation, request.subject) in self.forgotten
        task = getattr(request, "task", None)
        referral = referral_of(task) if task is not None else getattr(request, "referral", None)
        return self.whose.get(str(referral)) in self.forgotten


class Said(NamedTuple):
    """What was said, and the referral that it opens or speaks of."""

    referral: str | None
    by_outbox: bool


class Saying:
    """All parties' ways to the bus. Some organisations have an outbox and use it, more or less."""

    def __init__(self, world: World, seen: Seen) -> None:
        self._world, self._seen, self._draw = world, seen, world.draw
        self._ids = count(1)
        self._share = {name: self._draw.choice([0.0, 0.0, 0.3, 1.0]) for name in PARTIES}
        self._share[LATE] = 1.0
        self._node = Node(world.loop, "the parties")
        self._appenders: dict[str, Appender] = {}
        self._tokens: dict[tuple[str, int], str] = {}

    async def say(self, organisation: str, request: Part) -> Said | None:
        """Say it until it is admitted or refused, or on its outbox; None where it was refused. Sometimes it is said again, rightly or
        wrongly."""
        id, at, draw = f"n-{next(self._ids)}", self._world.broker_clock.now(), self._draw
        home = PARTIES[organisation][2]
        if isinstance(request, ReferralRequest):
            self._seen.whose[referral_id(home, BUS, organisation, id)] = organisation, request.subject
        has_outbox, has_http = self._share[organisation] > 0, organisation != LATE
        by_outbox = draw.random() < self._share[organisation]

        async def once(request: Part, by_outbox: bool, refused: str | None = None) -> Answer | None:
            if not by_outbox:
                return await self._insist(organisation, id, request, refused)
            await self._put_event(organisation, cloud_event(request, organisation, id, at), request, refused)
            return None

        answer = await once(request, by_outbox)
        if draw.random() < 0.08:
            await self._pause(0.0, 3.0)
            await once(request, has_outbox and not (has_http and draw.random() < 0.5))
        if (
            isinstance(request, ReferralRequest)
            and draw.random() < 0.04
            and (by_outbox or answer is not None)
        ):
            other = request.model_copy(update={"subject": "somebody else"})
            # Over HTTP it could come before what is on the outbox.
            await once(other, by_outbox or (has_outbox and draw.random() < 0.5), "id_reused")
        if by_outbox:
            is_new = isinstance(request, ReferralRequest)
            return Said(referral_id(home, BUS, organisation, id) if is_new else None, True)
        return None if answer is None else Said(answer.referral, False)

    async def blunder(self) -> None:
        """Somebody puts on its outbox what can't be taken."""
        organisation, other = self._draw.sample(["police", "hospital"], 2)
        id, now = f"n-{next(self._ids)}", self._world.broker_clock.now()
        intake_key = self._world.intake_keys.public
        good = ReferralRequest(subject=f"case of {id}", urgency="routine", facts=HOUSING)
        event = cloud_event(good, organisation, id, now)
        text = json.dumps(event).encode()
        match self._draw.randrange(9):
            case 0:
                await self._put_bytes(organisation, text, text, "not_sealed")
            case 1:
                sealed = seal_to(self._world.operations_keys.public, text)
                await self._put_bytes(organisation, sealed, sealed, "not_sealed")
            case 2:
                await self._put_bytes(organisation, text[:-9], seal_to(intake_key, text[:-9]), "malformed")
            case 3:
                await self._put_event(organisation, {**event, "source": None}, None, "malformed")
            case 4:
                await self._put_event(organisation, {**event, "data": {"urgency": "urgent"}}, None, "invalid")
            case 5:
                old = cloud_event(good, organisation, id, now - TOO_OLD_MS)
                await self._put_event(organisation, old, good, "too_old")
            case 6:
                others = cloud_event(good, other, id, now)
                await self._put_event(organisation, others, good, "not_yourself")
            case 7:
                of_a_provider = AcceptRequest(task=NEVER_OFFERED)
                event = cloud_event(of_a_provider, organisation, id, now)
                await self._put_event(organisation, event, of_a_provider, "role_missing")
            case _:
                unknown = AmendRequest(referral=NEVER_REFERRED, facts=HOUSING)
                event = cloud_event(unknown, organisation, id, now)
                await self._put_event(organisation, event, unknown, "unknown_referral")

    async def forget(self, agency: str, reference: str) -> None:
        """The agency has the bus forget the person, until it says that it did."""
        self._seen.forgotten.add((agency, reference))
        while True:
            said = await self._post(agency, "POST", "/v1/subjects/forget", {}, {"subject": reference})
            if said is not None and said[0] == 200:
                self._world.told(f"{said[1]['subject']} is forgotten: {sorted(said[1]['tokens'].values())}")
                return
            await self._pause(0.1, 1.0)

    async def _pause(self, low: float, high: float) -> None:
        await asyncio.sleep(self._draw.uniform(low, high))

    # Over HTTP

    async def _insist(self, organisation: str, id: str, request: Part, refused: str | None) -> Answer | None:
        told, seen = f"{organisation}/{id} {type(request).__name__}", self._seen
        seen.over_http.add((organisation, id))
        while True:
            status, said = await self._present(organisation, id, request) or (503, {})
            if status == 202:
                break
            if status not in (429, 503):
                reason = said["code"]
                self._world.told(f"{told} is refused: {reason}")
                erased = reason == "subject_erased" and seen.may_be_erased(organisation, request)
                if reason != refused and not erased:
                    seen.contradicted.append(f"{told} is refused at the border: {reason}")
                return None
            await self._pause(0.5, 2.0)
        answer = Answer(**said)
        self._world.told(f"{told} is acknowledged: {answer.token} {answer.referral}")
        if refused is not None:
            seen.contradicted.append(f"{told} is acknowledged, and should be refused: {refused}")
        first = seen.admitted.setdefault((organisation, id), answer.token)
        if first != answer.token:
            seen.contradicted.append(f"{told} is acknowledged at {answer.token}, and was at {first}")
        return answer

    async def _present(self, organisation: str, id: str, request: Part) -> tuple[int, Any] | None:
        """By the route of its own, or as an event."""
        if self._draw.random() < 0.5:
            event = cloud_event(request, organisation, id, self._world.broker_clock.now())
            headers = {"content-type": "application/cloudevents+json"}
            return await self._post(organisation, "POST", "/v1/events", headers, event)
        method, path = ROUTES[type(request).__name__].split()
        body = request.model_dump(mode="json", exclude_none=True)
        if isinstance(request, ServiceRequest):
            about, body = request.definition.service, body["definition"]
        else:
            about = body.pop("task", None) or body.pop("referral", "")
        return await self._post(
            organisation, method, f"/v1{path.format(about)}", {"idempotency-key": id}, body
        )

    async def _post(
        self, organisation: str, method: str, path: str, headers: dict[str, str], body: Any
    ) -> tuple[int, Any] | None:
        bearer = {"authorization": f"Bearer {self._token(organisation)}"}
        return await self._at_a_door(lambda door: asked(door, method, path, bearer | headers, body))

    def _token(self, organisation: str) -> str:
        now = self._world.broker_clock.now()
        hour = organisation, now // 3_600_000
        if hour not in self._tokens:
            roles = PARTIES[organisation][1]
            self._tokens[hour] = token(self._world.signing_key, organisation, roles, now)
        return self._tokens[hour]

    async def _at_a_door(
        self, ask: Callable[[Door], Coroutine[Any, Any, tuple[int, Any]]]
    ) -> tuple[int, Any] | None:
        """One request to one of intake's processes; None where no answer comes."""
        world = self._world
        doors = [door for door in world.doors.values() if not door.node.dead]
        if not doors:
            return None
        door = self._draw.choice(doors)
        await world.weather.way()
        if door.node.cut:
            return None
        asking = door.node.spawn(ask(door))
        done, _ = await asyncio.wait([asking], timeout=PATIENCE_SECONDS)
        if not done or self._draw.random() < world.weather.lost:
            return None
        return asking.result()

    # On an outbox

    async def _put_event(
        self, organisation: str, event: dict[str, Any], request: Part | None, refused: str | None
    ) -> None:
        """As the SDK does it. Nothing is repeated of an event that can't be read, not even its id."""
        content = json.dumps(event).encode()
        id = None if refused == "malformed" else event["id"]
        outbox = Outbox(await self._appender(organisation), organisation, self._world.intake_keys.public)
        await self._put(organisation, content, Put(id, request, refused), lambda: outbox.put([event]))

    async def _put_bytes(self, organisation: str, content: bytes, value: bytes, refused: str) -> None:
        appender = await self._appender(organisation)
        record = Outgoing(topics.outbox(organisation), 0, None, value)
        put = Put(None, None, refused)
        await self._put(organisation, content, put, lambda: appender.append([record]))

    async def _put(
        self,
        organisation: str,
        content: bytes,
        what: Put,
        put: Callable[[], Coroutine[Any, Any, list[Position]]],
    ) -> None:
        self._seen.put[organisation, content] = what
        kind = what.refused or type(what.request).__name__
        while True:
            try:
                [at] = await put()
                break
            except LogUnavailable:
                await self._pause(0.1, 1.0)
        self._world.told(f"{organisation}/{what.id} {kind} is on its outbox: {at.offset}")
        self._seen.stands[organisation, at.offset] = content

    async def _appender(self, organisation: str) -> Appender:
        while organisation not in self._appenders:
            try:
                appender = await self._world.broker.reach(self._node).appender()
                self._appenders.setdefault(organisation, appender)
            except LogUnavailable:
                await self._pause(0.1, 1.0)
        return self._appenders[organisation]
