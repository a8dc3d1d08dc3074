"""What is sealed of a person, by referral, and who was erased. Nothing here is ever in the clear.

``facts`` and ``identity`` are as they were given last. What was written with an event is named by its kind and sequence: a ``note`` with an
outcome or a follow-up, a ``question`` and its ``answer``; ``task`` is the attempt it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

from referral_bus.contracts.ledger import (
    Entry,
    Event,
    FollowedUp,
    InformationAsked,
    InformationGiven,
    KeyDestroyed,
    OutcomeReported,
    ReferralAmended,
    ReferralOpened,
    ReferralReopened,
)
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need, the

_LATER = (
    ReferralAmended | ReferralReopened | OutcomeReported | FollowedUp | InformationAsked | InformationGiven
)

HEARS: Final[frozenset[type[Event]]] = frozenset({ReferralOpened, KeyDestroyed, *get_args(_LATER)})


def needs(entry: Entry) -> Iterator[Need]:
    """Who was erased; for an erasure the person's sections; for what is given later whose it is."""
    event = entry.event
    match event:
        case ReferralOpened():
            yield Need("erasures", "subject", event.subject)
        case KeyDestroyed():
            yield Need("sections", "subject", event.subject)
        case _ if isinstance(event, _LATER):
            yield Need("referrals", "referral", event.referral)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """Sections as they are given, and without content once the person is erased."""
    event, meta = entry.event, entry.meta
    match event:
        case ReferralOpened() if known.row("erasures", meta.region, event.subject) is None:
            given = {"facts": event.sealed_facts, "identity": event.sealed_identity}
            yield from _sections(entry, event.referral, event.subject, None, given)
        case _ if isinstance(event, _LATER):
            referral = the(known, "referrals", event.referral)
            if referral["subject"] is not None:
                task = getattr(event, "task", referral["accepted_task"])
                given = _given(event, meta.sequence)
                yield from _sections(entry, event.referral, referral["subject"], task, given)
        case KeyDestroyed():
            for row in known.rows("sections", "subject", event.subject):
                if row["region"] == meta.region:
                    yield Put("sections", {**row, "subject": None, "sealed": None})
            yield Put("erasures", {"region": meta.region, "subject": event.subject, "at": meta.now})


def _given(event: Event, sequence: int) -> dict[str, bytes | None]:
    match event:
        case ReferralAmended():
            return {"facts": event.sealed_facts, "identity": event.sealed_identity}
        case ReferralReopened():
            return {"facts": event.sealed_facts}
        case OutcomeReported() | FollowedUp():
            return {f"note.{sequence}": event.sealed_note}
        case InformationAsked():
            return {f"question.{sequence}": event.sealed_question}
        case InformationGiven():
            return {f"answer.{sequence}": event.sealed_answer}
        case _:
            return {}


def _sections(
    entry: Entry, referral: str, subject: str, task: str | None, given: dict[str, bytes | None]
) -> Iterator[Put]:
    for section, sealed in given.items():
        if sealed is not None:
            yield Put(
                "sections",
                {
                    "referral": referral,
                    "section": section,
                    "region": entry.meta.region,
                    "subject": subject,
                    "task": None if section in ("facts", "identity") else task,
                    "sealed": sealed,
                },
            )
