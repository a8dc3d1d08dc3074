"""The parties: agencies that refer, providers that answer what they are offered, each keeping its own list of what it was told."""

from __future__ import annotations

import asyncio
from typing import Any, Final

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
from tests.simulation.saying import Saying, Seen
from tests.simulation.world import World
from tests.support.deciding import HOUSING, START, offers

SERVICES: Final[tuple[ServiceDefinition, ...]] = (
    offers("beds", "shelter", total=2, regions=["south"]),
    offers("rooms", "clinic", total=1, region="south", regions=["north"]),
    offers("cots", "pantry", total=1),
)


class Agents:
    """All parties. ``busy`` counts those that are about to say something."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.busy = 0
        self._opened: set[str] = set()
        """The referrals of which the agencies heard that they are open."""
        self._world: World | None = None
        self._saying: Saying | None = None

    def open(self, world: World) -> None:
        self._world = world
        self._saying = Saying(world, self.seen)
        for definition in SERVICES:
            self._start(self._say(definition.organisation, ServiceRequest(definition=definition)))

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    @property
    def _say(self) -> Any:
        assert self._saying is not None
        return self._saying.say

    def refer(self, agency: str) -> None:
        """An agency refers somebody, and may change its mind."""
        self._start(self._refer(agency))

    def blunder(self) -> None:
        """Somebody puts on its outbox what can't be taken."""
        assert self._saying is not None
        self._start(self._saying.blunder())

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
        elif identity.split(".")[0] in ("sb-police", "sb-hospital", "sb-school"):
            if kind == "ReferralOpened":
                self._opened.add(notice["referral"])
            elif kind == "ReferralClosed":
                self._start(self._look_again(notice))

    def _start(self, work: Any) -> None:
        async def run() -> None:
            self.busy += 1
            try:
                await work
            finally:
                self.busy -= 1

        self.world.loop.unattended("a party", run())

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
        said = await self._say(agency, request)
        if said is None or draw.random() > 0.25:
            return
        if said.by_outbox and not await self._hears(said.referral):
            return
        await self._change_its_mind(agency, said.referral, request.subject)

    async def _hears(self, referral: str) -> bool:
        """Whether the agency is told in time that the referral is open; else it leaves it at that."""
        for _ in range(20):
            if referral in self._opened:
                return True
            await self._pause(0.5, 1.5)
        return False

    async def _change_its_mind(self, agency: str, referral: str, subject: str) -> None:
        draw = self.world.draw
        await self._pause(0.0, 8.0)
        match draw.randrange(4):
            case 0:
                reason: Any = draw.choice(["moved_away", "moved_away", "entered_in_error"])
                await self._say(agency, WithdrawRequest(referral=referral, reason=reason))
            case 1:
                await self._say(agency, AmendRequest(referral=referral, urgency="crisis", facts=HOUSING))
            case 2:
                assert self._saying is not None
                await self._saying.forget(agency, subject)
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
