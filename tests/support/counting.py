"""What happened, what the views must say and who must have been told, counted from the ledger's events alone. None of it uses code of a
service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from referral_bus.contracts.ledger import (
    CapacityFreed,
    CapacityLent,
    CapacityTaken,
    Entry,
    OfferAccepted,
    OfferDeclined,
    OfferExpired,
    OfferMade,
    ReferralAmended,
    ReferralClosed,
    ReferralHeld,
    ReferralOpened,
    ReferralWaitlisted,
    ReferralWithdrawn,
)
from referral_bus.demo.audit import Audit

Rows = Sequence[Mapping[str, Any]]
Told = tuple[str, str, int]
"""An organisation, and the region and sequence of an event."""

SURELY_TOLD: Final = (ReferralOpened, OfferMade, OfferAccepted, OfferDeclined, OfferExpired, ReferralClosed)
"""Who hears of these the events themselves say."""


_WAYS: Final = ("places lent", "of them taken", "freed", "broadcasts", "waited", "rested", "amended")


def ways(entries: Iterable[Entry]) -> Counter[str]:
    """How often people came to their places otherwise than by one match in their own region: a check of what never happened proves
    nothing."""
    found: Counter[str] = Counter(dict.fromkeys(_WAYS, 0))
    waited: set[str] = set()
    for entry in entries:
        match entry.event:
            case CapacityLent():
                found["places lent"] += 1
            case CapacityTaken():
                found["of them taken"] += 1
            case CapacityFreed():
                found["freed"] += 1
            case ReferralOpened(mode="broadcast"):
                found["broadcasts"] += 1
            case ReferralWaitlisted():
                waited.add(entry.event.referral)
            case ReferralHeld():
                found["rested"] += 1
            case ReferralAmended():
                found["amended"] += 1
    found["waited"] = len(waited)
    return found


def views_differ(
    entries: Iterable[Entry], counted: Audit, referrals: Rows, tasks: Rows, regions: Rows, units: Rows
) -> Iterator[str]:
    """Some of what the views must say; ``counted`` is of the same ledger. ``tasks`` say by ``accepted`` whether they were, and
    ``regions`` have their last event's hash in hexadecimal."""
    opened: set[str] = set()
    closed: dict[str, str] = {}
    accepted: set[str] = set()
    for entry in entries:
        match entry.event:
            case ReferralOpened():
                opened.add(entry.event.referral)
            case ReferralClosed():
                closed[entry.event.referral] = entry.event.reason
            case ReferralWithdrawn() if entry.event.referral in closed:
                closed[entry.event.referral] = "withdrawn"  # it was entered in error, as shows later
            case OfferAccepted():
                accepted.add(entry.event.task)
    rows = {row["referral"]: row for row in referrals}
    for referral in sorted(opened - rows.keys()):
        yield f"{referral} is not in the views"
    for referral, row in rows.items():
        if referral not in opened:
            yield f"{referral} is in the views alone"
        elif row["reason"] != closed.get(referral):
            yield f"{referral} was closed for {closed.get(referral)} and the views say {row['reason']}"
    shown = {row["task"] for row in tasks if row["accepted"]}
    for task in sorted(shown ^ accepted):
        yield f"{task} is accepted {'in the views' if task in shown else 'on the ledger'} alone"
    stands = {row["region"]: (row["sequence"], row["hash"]) for row in regions}
    for region, (sequence, digest) in counted.ends.items():
        if stands.get(region) != (sequence, digest.hex()):
            yield f"{region} is at {sequence} {digest.hex()} and the views are at {stands.get(region)}"
    board = {row["unit"]: (row["total"], row["taken"], row["held"]) for row in units}
    for unit in sorted(board.keys() | counted.places.keys()):
        if board.get(unit) != counted.places.get(unit):
            yield f"{unit} has {counted.places.get(unit)} (places, taken, held) and in the views {board.get(unit)}"


def surely_told(entries: Iterable[Entry]) -> set[Told]:
    """Who must hear of what, of :data:`SURELY_TOLD`: a referral's agency of all, the provider of the offers made to it and of what became
    of them, and who accepted it of its end."""
    told: set[Told] = set()
    agencies: dict[str, str] = {}
    acceptors: dict[str, str] = {}
    for entry in entries:
        event, meta = entry.event, entry.meta
        if not isinstance(event, SURELY_TOLD):
            continue
        match event:
            case ReferralOpened():
                agencies[event.referral] = event.agency
                hear = {event.agency}
            case ReferralClosed():
                hear = {agencies[event.referral]} | {acceptors.get(event.referral, agencies[event.referral])}
            case _:
                hear = {agencies[event.referral], event.provider}
        if isinstance(event, OfferAccepted):
            acceptors[event.referral] = event.provider
        told |= {(one, meta.region, meta.sequence) for one in hear}
    return told
