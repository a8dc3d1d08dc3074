"""What is sealed of a person, by referral, and who was erased. Nothing here is ever in the clear."""

from __future__ import annotations

from collections.abc import Iterator

from referral_bus.contracts.ledger import Entry, KeyDestroyed, OutcomeReported, ReferralOpened
from referral_bus.store.rows import Put
from services.projections.known import Known
from services.projections.views.need import Need, the


def needs(entry: Entry) -> Iterator[Need]:
    """Who was erased; for an erasure the person's sections; for a note whose it is."""
    event = entry.event
    match event:
        case ReferralOpened():
            yield Need("erasures", "subject", event.subject)
        case KeyDestroyed():
            yield Need("sections", "subject", event.subject)
        case OutcomeReported() if event.sealed_note is not None:
            yield Need("referrals", "referral", event.referral)


def changes(entry: Entry, known: Known) -> Iterator[Put]:
    """Sections as they are given, and without content once the person is erased."""
    event, region = entry.event, entry.meta.region
    match event:
        case ReferralOpened() if known.row("erasures", region, event.subject) is None:
            yield _section(event.referral, "facts", region, event.subject, event.sealed_facts)
            if event.sealed_identity is not None:
                yield _section(event.referral, "identity", region, event.subject, event.sealed_identity)
        case OutcomeReported() if event.sealed_note is not None:
            subject = the(known, "referrals", event.referral)["subject"]
            if subject is not None:
                yield _section(event.referral, "note", region, subject, event.sealed_note)
        case KeyDestroyed():
            for row in known.rows("sections", "subject", event.subject):
                if row["region"] == region:
                    yield Put("sections", {**row, "subject": None, "sealed": None})
            yield Put("erasures", {"region": region, "subject": event.subject, "at": entry.meta.now})


def _section(referral: str, section: str, region: str, subject: str, sealed: bytes) -> Put:
    return Put(
        "sections",
        {"referral": referral, "section": section, "region": region, "subject": subject, "sealed": sealed},
    )
