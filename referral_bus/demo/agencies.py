"""The agencies of the demo: what each submits, good and bad, and the three doors they do it through."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from referral_bus.client.answers import Answer
from referral_bus.client.bus import Bus
from referral_bus.client.errors import BusError
from referral_bus.client.events import cloud_event
from referral_bus.client.outbox import Outbox
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.requests import ReferralRequest, WithdrawRequest
from referral_bus.contracts.vocabulary import WithdrawReason
from referral_bus.demo.expectations import Expectations

BATCH: Final = 10
"""How many events go in one HTTP batch, or one send to an outbox."""

_WITHDRAWN_EVERY: Final = 17
_REPEATED: Final = (8, 3)
_REUSED: Final = (11, 5)
_MALFORMED: Final = (12, 7)
_NOTHING: Final = (12, 9)
"""Every so-many-th referral, beginning with which, is followed by one of these."""

_REASONS: Final[tuple[WithdrawReason, ...]] = ("need_met_elsewhere", "person_declined", "moved_away")
_BAD: Final[dict[str, frozenset[str]]] = {
    "reused": frozenset({"id_reused"}),
    "malformed": frozenset({"invalid", "malformed"}),
    "nothing": frozenset({"unknown_referral"}),
}
"""What is bad, and the reasons for which it may be refused."""

Event = dict[str, Any]


class Door(Protocol):
    """A way to put events to the bus. The answers come in their order; None where they come later, on the
    feed."""

    async def put(self, events: Sequence[Event]) -> list[Answer | BusError | None]: ...


@dataclass(frozen=True, slots=True)
class HttpDoor:
    """CloudEvents over HTTP; ``at_once`` of them in one request."""

    bus: Bus
    at_once: int

    async def put(self, events: Sequence[Event]) -> list[Answer | BusError | None]:
        answers: list[Answer | BusError | None] = []
        for start in range(0, len(events), self.at_once):
            answers += await self.bus.send(events[start : start + self.at_once])
        return answers


@dataclass(frozen=True, slots=True)
class KafkaDoor:
    """An outbox: what is refused is heard on the feed."""

    outbox: Outbox

    async def put(self, events: Sequence[Event]) -> list[Answer | BusError | None]:
        await self.outbox.put(events)
        return [None] * len(events)


@dataclass(frozen=True, slots=True)
class TypedDoor:
    """The typed routes, for what is a good request; anything else goes as a CloudEvent, which is where bad
    things can be said."""

    bus: Bus

    async def put(self, events: Sequence[Event]) -> list[Answer | BusError | None]:
        return [await self._put(event) for event in events]

    async def _put(self, event: Event) -> Answer | BusError:
        try:
            if "facts" in event["data"]:
                request = ReferralRequest.model_validate(event["data"])
                return await self.bus.submit(request, id=event["id"])
            if "reason" in event["data"]:
                data = event["data"]
                return await self.bus.withdraw(data["referral"], data["reason"], id=event["id"])
        except BusError as error:
            return error
        return (await self.bus.send([event]))[0]


@dataclass(frozen=True, slots=True)
class _Sent:
    """An event of the plan. ``kind`` says what must come of it."""

    kind: str
    event: Event


class Agency:
    """One agency: it puts its referrals to the bus at a pace, and with them now and then something that is
    not as it should be."""

    def __init__(
        self, organisation: str, bus_id: str, door: Door, expectations: Expectations, seed: int, pause: float
    ) -> None:
        self._organisation = organisation
        self._bus_id = bus_id
        self._door = door
        self._expected = expectations
        self._chance = random.Random(f"{organisation} {seed}")  # noqa: S311
        self._pause = pause
        self._first: dict[str, Answer | BusError] = {}
        self.submitted = 0

    async def run(self, requests: Sequence[ReferralRequest]) -> None:
        """Submit all of them. ``pause`` seconds go by for each."""
        waiting: list[_Sent] = []
        for number, request in enumerate(requests, 1):
            waiting += self._plan(number, request)
            if len(waiting) >= BATCH or number == len(requests):
                began = time.monotonic()
                await self._put(waiting)
                referrals = sum(1 for sent in waiting if sent.kind == "good")
                self.submitted += referrals
                waiting = []
                await asyncio.sleep(max(0.0, referrals * self._pause - (time.monotonic() - began)))

    def _plan(self, number: int, request: ReferralRequest) -> list[_Sent]:
        now = time.time_ns() // 1_000_000
        id = f"{self._organisation}-{number:05d}"
        good = cloud_event(request, self._organisation, id, now)
        plan = [_Sent("good", good)]
        if _falls(number, _REPEATED):
            plan.append(_Sent("repeat", good))
        if _falls(number, _REUSED):
            other = request.model_copy(
                update={"urgency": "crisis" if request.urgency != "crisis" else "routine"}
            )
            plan.append(_Sent("reused", cloud_event(other, self._organisation, id, now)))
        if _falls(number, _MALFORMED):
            bad = {"subject": request.subject, "urgency": "whenever"}
            plan.append(_Sent("malformed", {**good, "id": f"{id}-malformed", "data": bad}))
        if _falls(number, _NOTHING):
            nothing = WithdrawRequest(
                referral=referral_id(
                    request.region or "north", self._bus_id, self._organisation, f"{id}-never-sent"
                ),
                reason="other",
            )
            plan.append(_Sent("nothing", cloud_event(nothing, self._organisation, f"{id}-nothing", now)))
        if number % _WITHDRAWN_EVERY == 0:
            withdrawal = WithdrawRequest(referral=self._referral(good), reason=self._chance.choice(_REASONS))
            plan.append(
                _Sent("withdrawal", cloud_event(withdrawal, self._organisation, f"{id}-withdrawn", now))
            )
        return plan

    async def _put(self, plan: Sequence[_Sent]) -> None:
        answers = await self._door.put([sent.event for sent in plan])
        for sent, answer in zip(plan, answers, strict=True):
            self._judge(sent, answer)

    def _judge(self, sent: _Sent, answer: Answer | BusError | None) -> None:
        """Hold an answer against what must come of it; where it comes later, note what has to be on ledger or
        feed then."""
        id, expected = sent.event["id"], self._expected
        if sent.kind in _BAD:
            if answer is None:
                expected.refusals[self._organisation, id] = _BAD[sent.kind]
            else:
                expected.refused(self._organisation, id, _BAD[sent.kind], answer)
        elif sent.kind == "good":
            if answer is None:
                expected.referrals.add(self._referral(sent.event))
            else:
                self._first[id] = answer
                expected.opened(self._organisation, id, answer)
        elif sent.kind == "repeat":
            if answer is None:
                expected.repeats += 1
            else:
                expected.repeated(self._organisation, self._first[id], answer)
        elif isinstance(answer, BusError):
            expected.faults.append(f"{self._organisation}: the withdrawal {id} was answered {answer.code}")

    def _referral(self, event: Event) -> str:
        return referral_id(event["data"]["region"], self._bus_id, self._organisation, event["id"])


def _falls(number: int, every: tuple[int, int]) -> bool:
    return number % every[0] == every[1]
