"""Several regions, and a relay between them that a test can slow down, stop, and let say everything again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from referral_bus.contracts.ids import region_of, task_id
from referral_bus.contracts.inbox import AnswerCapacity, ListCapacity, ListService, ReportCapacity, Submission
from referral_bus.contracts.ledger import Event, ServicePublished
from referral_bus.contracts.reference import Protocol
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import LendingAnswer
from referral_bus.wire.codec import Codec
from services.matching.core.referral import Task
from services.matching.messages import Message, messages
from services.matching.relay import SOURCE, digest_of
from tests.support.deciding import (
    OPERATIONS,
    PROTOCOL,
    START,
    World,
    accept,
    offers,
    protocol,
    publish,
    unit_of,
)

NAMES: Final = ("north", "south", "east")


class Between:
    """Regions that share one clock. Nothing gets from one to another but through :attr:`lines`, in order, and maybe more than once."""

    def __init__(self, codec: Codec, names: Iterable[str] = NAMES, protocol_of: Protocol = PROTOCOL) -> None:
        self.now = START
        self.worlds = {name: World(codec, region=name) for name in names}
        for world in self.worlds.values():
            if protocol_of is not PROTOCOL:
                world.send(protocol(protocol_of), OPERATIONS)
            self.now = max(self.now, world.now)
        self.lines: dict[tuple[str, str], deque[Message]] = {
            (one, other): deque() for one in self.worlds for other in self.worlds if one != other
        }
        """What is on its way, by where it comes from and goes to."""
        self.down: set[str] = set()
        """Regions that decide nothing now. What is put to them waits."""
        self._read = dict.fromkeys(self.worlds, 0)
        self._stored = dict.fromkeys(self.worlds, 0)

    def __getitem__(self, name: str) -> World:
        return self.worlds[name]

    def say(self, name: str, body: Submission, source: str, **envelope: object) -> list[Event]:
        """Somebody says something to a region, now."""
        world = self.worlds[name]
        world.now = self.now
        events = world.send(body, source, **envelope)
        self.now = max(self.now, world.now)
        return events

    def publish(self, *definitions: ServiceDefinition) -> None:
        """Services are published in their own regions, and everything they say arrives."""
        for definition in definitions:
            self.say(region_of(definition.service), publish(definition), definition.organisation)
        self.flow()

    def count(
        self, local: str, total: int, available: int, region: str, source: str = "shelter"
    ) -> list[Event]:
        body = ReportCapacity(unit=unit_of(local, region), total=total, available=available, true_at=self.now)
        return self.say(region, body, source)

    def refer(self, name: str, number: int = 1, **more: object) -> str:
        """Somebody is referred in a region; returns the referral's id."""
        world = self.worlds[name]
        world.now = self.now
        referral = world.refer(number=number, **more)  # type: ignore[arg-type]
        self.now = max(self.now, world.now)
        return referral

    def task(self, referral: str, attempt: int = 1) -> Task:
        return self.worlds[region_of(referral)].task(referral, attempt)

    def accepts(self, referral: str, attempt: int = 1, starts_at: int | None = None) -> list[Event]:
        """Who was asked accepts."""
        name = region_of(referral)
        return self.say(name, accept(referral, attempt, starts_at), self.task(referral, attempt).provider)

    def listing_of(self, one: str, other: str) -> Submission:
        """What a region last told another of its services."""
        said = [message for entry, _ in self.worlds[one].entries for message in messages(entry)]
        return [m.body for m in said if m.region == other and isinstance(m.body, ListService)][-1]

    # The relay

    def read(self, *names: str) -> None:
        """The relay reads what regions decided, and puts what they say on its way."""
        for name in names or tuple(self.worlds):
            entries = self.worlds[name].entries
            for entry, _ in entries[self._read[name] :]:
                for message in messages(entry):
                    self.lines[name, message.region].append(message)
            self._read[name] = len(entries)

    def stored(self, *names: str) -> None:
        """The relay stores how far it has read."""
        for name in names or tuple(self.worlds):
            self._stored[name] = self._read[name]

    def restarted(self, *names: str) -> None:
        """The relay was killed, and goes on from what it stored: it says again what it said since. What it put is put."""
        for name in names or tuple(self.worlds):
            self._read[name] = self._stored[name]

    def deliver(self, one: str, other: str, most: int = 1_000_000) -> int:
        """A region decides what comes from another; returns how many messages that were."""
        line, delivered = self.lines[one, other], 0
        while line and delivered < most and other not in self.down:
            message = line.popleft()
            self.say(other, message.body, SOURCE, id=message.id, digest=digest_of(message))
            delivered += 1
        return delivered

    def flow(self) -> None:
        """Everything that is said arrives where it can, until nobody has anything to say."""
        while True:
            self.read()
            if not sum([self.deliver(one, other) for one, other in self.lines]):
                return

    def pass_time(self, milliseconds: int) -> None:
        """Time passes, and what falls due in the regions that are up happens."""
        self.now += milliseconds
        for name, world in self.worlds.items():
            if name not in self.down:
                world.tick(max(self.now, world.now))


def lent_out(local: str, region: str, to: Iterable[str] = NAMES, **more: object) -> ServiceDefinition:
    """A service that takes the other regions' referrals too."""
    return offers(local, region=region, regions=[one for one in to if one != region], **more)  # type: ignore[arg-type]


def heard_of(world: World, definition: ServiceDefinition) -> None:
    """A region hears of another's service, and of its places."""
    world.send(ListService(definition=definition, home_sequence=1), SOURCE)
    for one in definition.units:
        told = ListCapacity(
            unit=one.unit, total=one.total, room=one.available, true_at=world.now, home_sequence=2
        )
        world.send(told, SOURCE)


def answers(world: World, referral: str, answer: LendingAnswer, attempt: int = 1) -> list[Event]:
    """The region of the service that was asked for answers, with nothing left."""
    unit = world.task(referral, attempt).unit
    body = AnswerCapacity(task=task_id(referral, attempt), unit=unit, answer=answer, total=1, room=1)
    return world.send(body, SOURCE)


def told(events: Iterable[Event]) -> list[str]:
    """The regions that hear of what was published."""
    [published] = [event for event in events if isinstance(event, ServicePublished)]
    return published.told
