"""What one region has to say to another: submissions for the other's inbox, made of the events of its own ledger.

What a region makes of one that comes late, or that it does not expect, is in ``docs/reference/relay.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from referral_bus.contracts.ids import region_of
from referral_bus.contracts.inbox import (
    AnswerCapacity,
    ListCapacity,
    ListService,
    RequestCapacity,
    ReturnCapacity,
    Submission,
    TakeCapacity,
)
from referral_bus.contracts.ledger import (
    AcceptanceClaimed,
    CapacityDenied,
    CapacityFreed,
    CapacityLent,
    CapacityOffered,
    CapacityRequested,
    CapacityReturned,
    CapacityTaken,
    Entry,
    Event,
    ServicePublished,
)
from referral_bus.contracts.vocabulary import LendingAnswer

CONCERNING: Final[frozenset[type[Event]]] = frozenset(
    {
        ServicePublished,
        CapacityOffered,
        CapacityRequested,
        AcceptanceClaimed,
        CapacityReturned,
        CapacityLent,
        CapacityDenied,
        CapacityTaken,
        CapacityFreed,
    }
)
"""The events that may concern another region."""


class Message(NamedTuple):
    """What another region is to be told: ``about`` is the id it speaks of."""

    region: str
    id: str
    body: Submission
    about: str


def messages(entry: Entry) -> list[Message]:
    """What an event says to other regions."""
    region, sequence = entry.meta.region, entry.meta.sequence
    return [
        Message(target, f"{region}.{sequence}.{target}", body, about)
        for target, body, about in _said(entry)
        if target != region
    ]


def _said(entry: Entry) -> Iterator[tuple[str, Submission, str]]:
    event, sequence = entry.event, entry.meta.sequence
    match event:
        case ServicePublished():
            for region in event.told:
                yield (
                    region,
                    ListService(definition=event.definition, home_sequence=sequence),
                    event.definition.service,
                )
        case CapacityOffered():
            for one in event.rooms:
                yield (
                    one.region,
                    ListCapacity(
                        unit=event.unit,
                        total=event.total,
                        room=one.room,
                        true_at=event.true_at,
                        home_sequence=sequence,
                    ),
                    event.unit,
                )
        case CapacityRequested():
            asked = RequestCapacity(
                task=event.task, service=event.service, unit=event.unit, until=event.until
            )
            yield region_of(event.unit), asked, event.task
        case AcceptanceClaimed():
            yield region_of(event.unit), TakeCapacity(task=event.task, unit=event.unit), event.task
        case CapacityReturned():
            returned = ReturnCapacity(
                task=event.task, unit=event.unit, because=event.because, until=event.until
            )
            yield region_of(event.unit), returned, event.task
        case CapacityLent():
            yield _answer(event, "held")
        case CapacityDenied():
            yield _answer(event, "lost" if event.reason == "lost" else "denied")
        case CapacityTaken():
            yield _answer(event, "taken")
        case CapacityFreed() if event.because == "expired":
            yield _answer(event, "expired")
        case _:
            return


def _answer(
    event: CapacityLent | CapacityDenied | CapacityTaken | CapacityFreed, answer: LendingAnswer
) -> tuple[str, Submission, str]:
    body = AnswerCapacity(task=event.task, unit=event.unit, answer=answer, total=event.total, room=event.room)
    return region_of(event.task), body, event.task
