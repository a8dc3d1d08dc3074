"""Made-up stories of places that regions lend each other, and of broadcasts, to be spoiled for checkers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from referral_bus.contracts.ids import task_id
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityRequested,
    CapacityReturned,
    CapacityTaken,
    OfferMade,
    SubmissionRefused,
    TaskCancelled,
)
from referral_bus.contracts.vocabulary import DenialReason, FreedBecause
from tests.support.chaos_stories import Story
from tests.support.viewing import START, accepted, completed

_UNIT: Final = "un-south-beds"
UNTIL: Final = START + 60_000


class Borrowing:
    """One task of the north, and its place in the south: each step is one that a region or the relay takes. A step's name in a list of them
    is its method's."""

    def __init__(self, story: Story, number: int = 1) -> None:
        self.story, self.number = story, number
        self.opened = story.region.opened()
        self.task = task_id(self.opened.referral, 1)
        self.offer = OfferMade(
            referral=self.opened.referral,
            task=self.task,
            service="sv-south-beds",
            unit=_UNIT,
            provider="shelter",
            expires_at=UNTIL,
        )

    def asked(self) -> None:
        north = self.story.region
        asking = CapacityRequested(**self._place(), until=UNTIL)
        events = (self.opened, north.matched(self.opened, service=None), asking)
        self.story.says("hospital", f"s-{self.number}", self.opened.referral, *events, kind="SubmitReferral")

    def passed_on(self) -> None:
        self.heard = self.story.passes_on(self.story.region, self.story.other)

    def lent(self) -> None:
        lending = CapacityLent(task=self.task, unit=_UNIT, until=UNTIL, total=5, room=5)
        self.story.answers(self.heard, lending, by=self.story.other)
        self._answered()

    def lent_again(self) -> None:
        lending = CapacityLent(task=self.task, unit=_UNIT, until=UNTIL, total=5, room=5)
        self.story.decides(lending, by=self.story.other)
        self._answered()
        self.not_wanted()

    def denied(self) -> None:
        self._denied("no_place")

    def denied_as_lost(self) -> None:
        self._denied("lost")

    def offered(self) -> None:
        self.story.answers(self.answer, self.offer)

    def not_wanted(self) -> None:
        self.story.answers(self.answer, SubmissionRefused(reason="no_longer_wanted"))

    def claimed(self) -> None:
        claim = AcceptanceClaimed(
            referral=self.opened.referral, task=self.task, provider="shelter", unit=_UNIT
        )
        self.story.says("shelter", f"a-{self.number}", self.opened.referral, claim)

    def taken(self) -> None:
        taking = CapacityTaken(task=self.task, unit=_UNIT, total=5, room=4)
        self.story.answers(self.heard, taking, by=self.story.other)
        self._answered()

    def accepted(self) -> None:
        self.story.answers(self.answer, accepted(self.offer))

    def returned(self) -> None:
        """The service is over, and the place returned with it."""
        outcome, closed = completed(self.offer)
        returning = CapacityReturned(referral=self.opened.referral, task=self.task, unit=_UNIT)
        self.story.says("shelter", f"o-{self.number}", self.opened.referral, outcome, returning, closed)

    def return_passed_on(self) -> None:
        self.heard = self.story.passes_on(self.story.region, self.story.other, before=1)

    def over_without_return(self) -> None:
        self.story.says("shelter", f"o-{self.number}", self.opened.referral, *completed(self.offer))

    def freed(self) -> None:
        self.story.answers(self.heard, self._freed("returned"), by=self.story.other)

    def freed_by_itself(self) -> None:
        self.story.decides(self._freed("returned"), by=self.story.other)

    def let_go(self) -> None:
        self.story.decides(self._freed("expired"), by=self.story.other)
        self._answered()
        self.not_wanted()

    def nothing_held(self) -> None:
        self.story.answers(self.heard, SubmissionRefused(reason="nothing_held"), by=self.story.other)

    def _denied(self, reason: DenialReason) -> None:
        denial = CapacityDenied(task=self.task, unit=_UNIT, reason=reason, total=5, room=0)
        self.story.answers(self.heard, denial, by=self.story.other)
        self._answered()

    def _answered(self) -> None:
        self.answer = self.story.passes_on(self.story.other, self.story.region)

    def _freed(self, because: FreedBecause) -> CapacityFreed:
        return CapacityFreed(task=self.task, unit=_UNIT, because=because, total=5, room=5)

    def _place(self) -> dict[str, str]:
        return {
            "referral": self.opened.referral,
            "task": self.task,
            "service": "sv-south-beds",
            "unit": _UNIT,
            "provider": "shelter",
        }


OFFERED: Final = ("asked", "passed_on", "lent", "offered")
ACCEPTED: Final = (*OFFERED, "claimed", "passed_on", "taken", "accepted")
OVER: Final = ("returned", "return_passed_on", "freed")


def lending(*steps: str, places: int = 5) -> Story:
    """A story of one place that is lent."""
    story = Story()
    story.decides(story.other.published(total=places), by=story.other)
    goes(Borrowing(story), steps)
    return story


def goes(borrowing: Borrowing, steps: Sequence[str]) -> None:
    for step in steps:
        getattr(borrowing, step)()


def broadcast(*ends: Callable[[OfferMade], object]) -> Story:
    """A referral that two services were asked for at once, and what became of each offer."""
    story = Story()
    story.decides(story.region.published(), story.region.published("rooms", "clinic"))
    opened = story.region.opened().model_copy(update={"mode": "broadcast"})
    offers = [story.region.offered(opened), story.region.offered(opened, "clinic", 2, "rooms")]
    events = (opened, story.region.matched(opened), *offers)
    story.says("hospital", "s-1", opened.referral, *events, kind="SubmitReferral")
    said = [end(offer) for end, offer in zip(ends, offers, strict=False)]
    story.says("shelter", "a-1", opened.referral, *said)  # type: ignore[arg-type]
    story.says("shelter", "o-1", opened.referral, *completed(offers[0]))
    return story


def taken_elsewhere(offer: OfferMade) -> TaskCancelled:
    return TaskCancelled(
        referral=offer.referral, task=offer.task, provider=offer.provider, reason="taken_elsewhere"
    )


def overtaken() -> Story:
    """What one region asks of the other twice is passed on in another order."""
    story = Story()
    story.decides(story.other.published(), by=story.other)
    first, second = Borrowing(story, 1), Borrowing(story, 2)
    goes(first, ("asked",))
    goes(second, ("asked", "passed_on"))
    first.heard = story.passes_on(story.region, story.other, before=3)
    for one in (second, first):
        goes(one, ("lent", "offered"))
    for one in (first, second):
        goes(one, (*ACCEPTED[4:], *OVER))
    return story
