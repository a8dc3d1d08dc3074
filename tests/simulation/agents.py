"""The parties: agencies that refer, providers that answer what they are offered, each keeping its own list of what the bus acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from referral_bus.access.caller import Caller
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import (
    AcceptRequest,
    AmendRequest,
    ContactRequest,
    DeclineRequest,
    FollowUpRequest,
    HoldRequest,
    NoShowRequest,
    OutcomeRequest,
    ReferralRequest,
    ResumeRequest,
    RetractRequest,
    ServiceRequest,
    StartRequest,
    WithdrawRequest,
)
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import URGENCIES
from referral_bus.log.port import LogUnavailable
from referral_bus.sealing.port import KeyStoreUnavailable
from referral_bus.sealing.pseudonym import subject_id
from services.intake.admission import Admission, Result, Speaker
from services.intake.answers import Admitted
from services.intake.checks import Presented
from services.intake.forgetting import Forgetting
from services.intake.refusals import Refused
from tests.simulation.world import PARTIES, SECRETS, World
from tests.support.deciding import HOUSING, START, offers

PATIENCE_SECONDS: Final = 3.0
SERVICES: Final[tuple[ServiceDefinition, ...]] = (
    offers("beds", "shelter", total=2, regions=["south"]),
    offers("rooms", "clinic", total=1, region="south", regions=["north"]),
    offers("cots", "pantry", total=1),
)


@dataclass
class Seen:
    """What the parties know, and the checker may believe."""

    admitted: dict[tuple[str, str], str] = field(default_factory=dict)
    """The token of each submission that was acknowledged, by who sent it and under which id."""
    contradicted: list[str] = field(default_factory=list)
    """Answers that can't be right: another token for the same, or a refusal nothing called for."""
    received: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The notices that were delivered, by the identity under which they came; a repeat is recognised by it."""


class Agents:
    """All parties. ``busy`` counts those that are about to say something."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.busy = 0
        self.forgot = False
        self._ids = count(1)
        self._world: World | None = None

    def open(self, world: World) -> None:
        self._world = world
        for definition in SERVICES:
            self._start(self._say(definition.organisation, ServiceRequest(definition=definition)))

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    def refer(self, agency: str) -> None:
        """An agency refers somebody, and may change its mind."""
        self._start(self._refer(agency))

    def receive(self, identity: str, event: dict[str, Any]) -> None:
        """A notice arrives at its recipient's door."""
        if identity in self.seen.received:
            self.world.told(f"{identity} is delivered again")
            return
        notice = self.seen.received[identity] = event["data"]
        kind = notice["type"].split(".")[-2]
        self.world.told(f"{identity} is delivered: {kind} to {notice['organisation']}")
        if identity.startswith(("sb-shelter", "sb-clinic", "sb-pantry")):
            if kind == "OfferMade":
                self._start(self._consider(notice))
            elif kind == "OfferAccepted":
                self._start(self._serve(notice))
            elif kind in ("ContactReported", "NoShowReported"):
                self._start(self._take_back(notice))
            elif kind == "FollowUpDue":
                self._start(self._follow_up(notice))
        elif kind == "ReferralClosed" and identity.split(".")[0] in ("sb-police", "sb-hospital"):
            self._start(self._look_again(notice))

    def _start(self, work: Any) -> None:
        async def run() -> None:
            self.busy += 1
            try:
                await work
            finally:
                self.busy -= 1

        self.world.loop.outside(run())

    async def _pause(self, low: float, high: float) -> None:
        await asyncio.sleep(self.world.draw.uniform(low, high))

    async def _refer(self, agency: str) -> None:
        draw = self.world.draw
        request = ReferralRequest(
            subject=f"case-{draw.randint(1, 8)}",
            urgency=draw.choice(URGENCIES),
            facts=HOUSING,
            mode=draw.choice(["match", "match", "match", "broadcast", "waitlist"]),
        )
        answer = await self._say(agency, request)
        if answer is None or answer.referral is None or draw.random() > 0.25:
            return
        referral = answer.referral
        await self._pause(0.0, 8.0)
        match draw.randrange(4):
            case 0:
                reason: Any = draw.choice(["moved_away", "moved_away", "entered_in_error"])
                await self._say(agency, WithdrawRequest(referral=referral, reason=reason))
            case 1:
                await self._say(agency, AmendRequest(referral=referral, urgency="crisis", facts=HOUSING))
            case 2:
                await self._forget(agency, request.subject)
            case _:
                await self._say(agency, HoldRequest(referral=referral, reason="person_asked"))
                await self._pause(0.0, 4.0)
                await self._say(agency, ResumeRequest(referral=referral))

    async def _consider(self, notice: dict[str, Any]) -> None:
        """A provider accepts, declines, does both, waits until the last moment, or says nothing."""
        draw, task, provider = self.world.draw, notice["task"], notice["organisation"]
        left = (notice["expires_at"] - START - self.world.broker_clock.elapsed()) / 1000
        mood = draw.random()
        if mood < 0.15:
            return
        if mood < 0.3:
            await self._pause(max(0.0, left - 0.3), max(0.1, left + 0.3))
        else:
            await self._pause(0.0, 1.5)
        if mood < 0.25 or mood > 0.4:
            await self._say(provider, AcceptRequest(task=task))
        if mood < 0.2 or 0.25 <= mood <= 0.4:
            await self._say(provider, DeclineRequest(task=task, reason="no_capacity"))

    async def _serve(self, notice: dict[str, Any]) -> None:
        draw, referral, provider = self.world.draw, notice["referral"], notice["organisation"]
        await self._pause(0.2, 3.0)
        now = self.world.broker_clock.now()
        reports = draw.random() < 0.25
        if reports:
            await self._report(provider, referral)
        if draw.random() < 0.7:
            await self._say(provider, StartRequest(referral=referral, started_at=now))
            await self._pause(0.2, 3.0)
        result: Any = draw.choice(["need_met", "need_met", "not_met"])
        await self._say(provider, OutcomeRequest(referral=referral, result=result))
        if reports and draw.random() < 0.3:
            # Late: the referral is closed.
            await self._report(provider, referral)

    async def _report(self, provider: str, referral: str) -> None:
        """The provider says that it tried to reach the person, or that the person did not come."""
        now = self.world.broker_clock.now()
        if self.world.draw.random() < 0.5:
            await self._say(provider, NoShowRequest(referral=referral, missed_at=now))
        else:
            said = ContactRequest(referral=referral, tried_at=now, channel="phone", reached=False)
            await self._say(provider, said)

    async def _take_back(self, notice: dict[str, Any]) -> None:
        """A provider hears what it reported, and that was wrong."""
        if self.world.draw.random() < 0.5:
            await self._pause(0.0, 4.0)
            said = RetractRequest(referral=notice["referral"], sequence=notice["sequence"])
            await self._say(notice["organisation"], said)

    async def _look_again(self, notice: dict[str, Any]) -> None:
        """An agency hears that its referral is closed, and should never have made it."""
        if self.world.draw.random() < 0.1:
            await self._pause(0.0, 4.0)
            said = WithdrawRequest(referral=notice["referral"], reason="entered_in_error")
            await self._say(notice["organisation"], said)

    async def _follow_up(self, notice: dict[str, Any]) -> None:
        """A month later a provider says how it is, and may think better of it."""
        draw, provider = self.world.draw, notice["organisation"]
        for _ in range(draw.choice([0, 1, 1, 2])):
            await self._pause(0.0, 3.0)
            result: Any = draw.choice(["need_met", "not_met"])
            await self._say(provider, FollowUpRequest(referral=notice["referral"], days=30, result=result))

    async def _forget(self, agency: str, reference: str) -> None:
        """The agency has the bus forget the person, until it says that it did."""
        self.forgot = True
        caller = Caller(agency, frozenset({"agency"}))
        subject = subject_id(SECRETS.pseudonym_key, agency, reference)
        while True:
            forgotten = await self._at_a_door(lambda _, forgetting: forgetting.forget(subject, caller))
            if forgotten is not None:
                self.world.told(f"{subject} is forgotten: {sorted(forgotten.values())}")
                return
            await self._pause(0.1, 1.0)

    async def _say(self, organisation: str, request: Part) -> Any:
        """Say it until it is admitted or refused; the answer, where it was admitted. Sometimes it is said again, rightly or wrongly."""
        id, draw = f"n-{next(self._ids)}", self.world.draw
        presented = Presented(id, organisation, self.world.broker_clock.now(), request, "api")
        answer = await self._insist(presented)
        if draw.random() < 0.08:
            await self._pause(0.0, 3.0)
            await self._insist(presented)
        if answer is not None and draw.random() < 0.04 and isinstance(request, ReferralRequest):
            other = request.model_copy(update={"subject": "somebody else"})
            await self._insist(Presented(id, organisation, presented.sent_at, other, "api"), "id_reused")
        return answer

    async def _insist(self, presented: Presented, expected: str | None = None) -> Any:
        told = f"{presented.organisation}/{presented.id} {type(presented.request).__name__}"
        while True:
            result = await self._present(presented)
            if isinstance(result, Admitted):
                break
            if result is not None and result.reason != "unavailable":
                self.world.told(f"{told} is refused: {result.reason}")
                if result.reason not in (expected, "subject_erased" if self.forgot else None):
                    self.seen.contradicted.append(f"{told} is refused at the border: {result.reason}")
                return None
            await self._pause(0.1, 1.0)
        answer = result.answer
        self.world.told(f"{told} is acknowledged: {answer.token} {answer.referral}")
        if expected is not None:
            self.seen.contradicted.append(f"{told} is acknowledged, and should be refused: {expected}")
        key = presented.organisation, presented.id
        first = self.seen.admitted.setdefault(key, answer.token)
        if first != answer.token:
            self.seen.contradicted.append(f"{told} is acknowledged at {answer.token}, and was at {first}")
        return answer

    async def _present(self, presented: Presented) -> Result | None:
        speaker = Speaker(presented.organisation, frozenset(PARTIES[presented.organisation][1]))
        results: Sequence[Result] | None = await self._at_a_door(
            lambda admission, _: admission.admit([presented], speaker, [None])
        )
        return None if results is None else results[0]

    async def _at_a_door(self, ask: Callable[[Admission, Forgetting], Coroutine[Any, Any, Any]]) -> Any:
        """One request to one of intake's processes; None where no answer comes, or that something is away."""
        world, draw = self.world, self.world.draw
        doors = [door for door in world.doors.values() if not door[0].dead]
        if not doors:
            return None
        node, admission, forgetting = draw.choice(doors)
        await world.weather.way()
        if node.cut:
            return None
        asking = node.spawn(ask(admission, forgetting))
        done, _ = await asyncio.wait([asking], timeout=PATIENCE_SECONDS)
        if not done or draw.random() < world.weather.lost:
            return None
        if isinstance(asking.exception(), LogUnavailable | KeyStoreUnavailable | Refused):
            return None  # as 503
        return asking.result()
