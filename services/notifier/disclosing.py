"""What a notice shows of the person: decided by ``may_disclose`` when it is about to leave, recorded, and sealed to the recipient.

It is decided then and not when the event came: an offer that has expired meanwhile, an agreement that ended, or a person who was
forgotten shows nothing any more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from referral_bus.contracts.disclosure import Channel, Disclosed
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import (
    ContactReported,
    Escalated,
    FollowedUp,
    FollowUpDue,
    InformationAsked,
    InformationGiven,
    JoinedOutcomeCorrected,
    NoShowReported,
    OfferAccepted,
    OfferMade,
    OutcomeReported,
    ReferralAmended,
    ReferralClosed,
    ReferralTransferred,
    ReportRetracted,
    SubmissionParked,
    SubmissionRefused,
    TaskCancelled,
    TaskHeld,
)
from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import DECLINES, DataClass, HoldReason, OrganisationKind
from referral_bus.disclosure.releases import Releases
from referral_bus.disclosure.rules import Standing, may_disclose
from referral_bus.runtime import metrics
from referral_bus.runtime.clock import Clock
from referral_bus.sealing.jwe import JweError, seal_to
from referral_bus.sealing.port import Keys
from referral_bus.sealing.sections import Erased, OpenError, Sealer
from services.notifier import tables
from services.notifier.fold import load_standings
from services.notifier.hearing import HearingRole
from services.notifier.notices import Kept
from services.notifier.reports import CLASSES, TEXTS, Report
from services.notifier.standing import ReferralStanding

logger = logging.getLogger(__name__)

_ANSWERS: Final = frozenset({SubmissionRefused.event_type(), SubmissionParked.event_type()})
"""Say something about what the organisation itself sent, and nothing about a person."""

_NEEDS: Final[dict[tuple[HearingRole, str], DataClass]] = {
    ("agency", told.event_type()): "outcome"
    for told in (
        OutcomeReported,
        JoinedOutcomeCorrected,
        NoShowReported,
        ContactReported,
        ReportRetracted,
        FollowUpDue,
        FollowedUp,
    )
}
"""Without this class the organisation must not even hear of it: it tells what came of the referral. Every other notice needs ``status``."""

_SHOWS: Final[dict[tuple[HearingRole, str], tuple[DataClass, ...]]] = {
    ("provider", OfferMade.event_type()): ("facts",),
    ("provider", OfferAccepted.event_type()): ("facts", "identity"),
    ("provider", ReferralAmended.event_type()): ("facts", "identity"),
    ("provider", InformationGiven.event_type()): ("exchange",),
    ("agency", InformationAsked.event_type()): ("exchange",),
    ("agency", ReferralTransferred.event_type()): ("facts", "identity"),
    ("agency", OutcomeReported.event_type()): ("outcome",),
    ("agency", JoinedOutcomeCorrected.event_type()): ("outcome",),
    ("agency", FollowedUp.event_type()): ("outcome",),
}
"""What is put into ``disclosed``, as far as it is allowed."""


_TELLS_THE_OUTCOME: Final[dict[str, frozenset[str]]] = {
    ReferralClosed.event_type(): frozenset({"outcome_reported"}),
    TaskCancelled.event_type(): frozenset(DECLINES),
    TaskHeld.event_type(): frozenset(get_args(HoldReason)),
}
"""The reasons that say how it goes with the service, by type: they are left out where ``outcome`` may not be shown."""


@dataclass(frozen=True, slots=True)
class _Parties:
    """A notice's referral and recipient as they stand now. ``identity``, sealed, is the referral's own, or that of the
    whole it is part of."""

    known: ReferralStanding
    identity: bytes | None
    agency_kind: OrganisationKind | None
    recipient_key: str | None
    agreements: list[Agreement] = field(default_factory=list)

    def grant(self, data: DataClass, kept: Kept, at: int) -> str | None:
        recipient = frozenset({kept.organisation})
        escalated = kept.type == Escalated.event_type()
        standing = Standing(
            referral=self.known.referral,
            subject=self.known.subject,
            agency=self.known.agency,
            agency_kind=self.agency_kind,
            purpose=self.known.purpose,
            offered_to=frozenset(self.known.offers.values()),
            accepted_by=self.known.accepted_by,
            # A provider hears of its own offers only, an agency of a transfer from or to it, and of an escalation whom it goes to.
            was_offered_to=recipient if kept.role == "provider" and not escalated else frozenset(),
            was_own_of=recipient if kept.type == ReferralTransferred.event_type() else frozenset(),
            escalated_to=recipient if escalated else frozenset(),
            asked_by=self.known.provider_of(kept.task),
        )
        return may_disclose(data, standing, kept.organisation, self.known.purpose, at, self.agreements)


class Disclosing:
    """Makes notices ready to leave."""

    def __init__(
        self, engine: AsyncEngine, keys: Keys, sealer: Sealer, releases: Releases, clock: Clock
    ) -> None:
        self._engine = engine
        self._keys = keys
        self._sealer = sealer
        self._releases = releases
        self._clock = clock

    async def prepare(self, notices: Sequence[Kept], channel: Channel) -> list[Notice | None]:
        """Each notice as it may leave now, every release in it recorded; None where the organisation must not hear of it.

        Raises LogError where a release can't be recorded: then nothing may leave.
        """
        if not notices:
            return []
        at = self._clock.now()
        prepared: list[Notice | None] = []
        releases: list[Disclosed] = []
        async with self._engine.connect() as connection:
            parties = await _parties(connection, notices)
            reports = await _reports(connection, notices)
        for kept in notices:
            notice, released = await self._prepare(
                kept,
                parties.get((kept.referral, kept.organisation)),
                reports.get((kept.region, kept.sequence)),
                channel,
                at,
            )
            prepared.append(notice)
            releases.extend(released)
        await self._releases.record(releases)
        return prepared

    async def _prepare(
        self, kept: Kept, parties: _Parties | None, said: Report | None, channel: Channel, at: int
    ) -> tuple[Notice | None, list[Disclosed]]:
        if kept.referral is None or kept.type in _ANSWERS:
            return _notice(kept, kept.reason, None), []
        if parties is None:
            return None, []
        granted: dict[DataClass, str] = {}
        for needed in ("status", _NEEDS.get((kept.role, kept.type), "status")):
            grant = parties.grant(needed, kept, at)
            if grant is None:
                return None, []
            granted[needed] = grant
        content = await self._content(kept, parties, said, at, granted)
        reason = kept.reason
        telling = reason in _TELLS_THE_OUTCOME.get(kept.type, ())
        if telling and parties.grant("outcome", kept, at) is None:
            reason = None
        return _notice(kept, reason, content), _releases(kept, parties.known, channel, at, granted)

    async def _content(
        self, kept: Kept, parties: _Parties, said: Report | None, at: int, granted: dict[DataClass, str]
    ) -> bytes | None:
        """What is shown, sealed to the recipient. ``granted`` is told what that is."""
        shown: dict[str, Any] = {}
        for data in _SHOWS.get((kept.role, kept.type), ()):
            grant = parties.grant(data, kept, at)
            clear = (
                await self._clear(data, kept, parties, said)
                if grant is not None and parties.recipient_key
                else None
            )
            if grant is not None and clear is not None:
                granted[data] = grant
                shown |= clear
        if not shown or parties.recipient_key is None:
            return None
        try:
            return seal_to(parties.recipient_key, json.dumps({"referral": kept.referral, **shown}).encode())
        except JweError as error:
            for data in _SHOWS[kept.role, kept.type]:
                granted.pop(data, None)
            metrics.NOTICES_UNSEALED.labels(reason="recipient_key").inc()
            logger.error("a notice to %s leaves without content: %s", kept.organisation, error)
            return None

    async def _clear(
        self, data: DataClass, kept: Kept, parties: _Parties, said: Report | None
    ) -> dict[str, Any] | None:
        """The content of one class; None where there is none, or it was erased."""
        known = parties.known
        try:
            match data:
                case "facts" if known.sealed_facts is not None:
                    key = (await self._keys.fetch([known.subject], "facts")).get(known.subject)
                    facts = self._sealer.open_facts(key, known.subject, known.sealed_facts)
                    return {"facts": facts.model_dump(mode="json")}
                case "identity" if parties.identity is not None:
                    key = (await self._keys.fetch([known.subject], "identity")).get(known.subject)
                    identity = self._sealer.open_identity(key, known.subject, parties.identity)
                    return {"identity": identity.model_dump(mode="json")}
                case _ if said is not None and CLASSES.get(kept.type) == data:
                    shown = dict(said.codes)
                    if said.sealed_text is not None:
                        key = (await self._keys.fetch([known.subject], "identity")).get(known.subject)
                        note = self._sealer.open_note(key, known.subject, said.sealed_text)
                        shown[TEXTS[kept.type]] = note.text
                    return shown
                case _:
                    return None
        except Erased:
            return None
        except OpenError as error:
            metrics.NOTICES_UNSEALED.labels(reason="sealed_section").inc()
            logger.error("a notice leaves without %s: %s", data, error)
            return None


async def _reports(connection: AsyncConnection, notices: Sequence[Kept]) -> dict[tuple[str, int], Report]:
    """What was said in the events of these notices, by region and sequence."""
    events = {(kept.region, kept.sequence) for kept in notices if (kept.role, kept.type) in _SHOWS}
    if not events:
        return {}
    reports = tables.reports.c
    rows = await connection.execute(
        select(reports.region, reports.sequence, reports.codes, reports.sealed_text).where(
            tuple_(reports.region, reports.sequence).in_(events)
        )
    )
    return {(row.region, row.sequence): Report(row.codes, row.sealed_text) for row in rows}


async def _parties(
    connection: AsyncConnection, notices: Sequence[Kept]
) -> dict[tuple[str | None, str], _Parties]:
    """By referral and recipient; without those whose referral was never opened."""
    known = await load_standings(connection, {kept.referral for kept in notices if kept.referral is not None})
    split = {one.part_of for one in known.values() if one.part_of is not None and one.sealed_identity is None}
    wholes = await load_standings(connection, split)
    recipients = {kept.organisation for kept in notices}
    organisations = tables.organisations.c
    rows = {
        row.organisation: row
        for row in await connection.execute(
            select(organisations.organisation, organisations.kind, organisations.encryption_key).where(
                organisations.organisation.in_(recipients | {one.agency for one in known.values()})
            )
        )
    }
    agreements: dict[str, list[Agreement]] = {}
    for row in await connection.execute(
        select(tables.agreements.c.recipient, tables.agreements.c.content).where(
            tables.agreements.c.recipient.in_(recipients)
        )
    ):
        agreements.setdefault(row.recipient, []).append(Agreement.model_validate(row.content))
    found: dict[tuple[str | None, str], _Parties] = {}
    for kept in notices:
        if kept.referral is not None and (standing := known.get(kept.referral)) is not None:
            agency, recipient = rows.get(standing.agency), rows.get(kept.organisation)
            found[kept.referral, kept.organisation] = _Parties(
                known=standing,
                identity=_identity(standing, wholes),
                agency_kind=None if agency is None else agency.kind,
                recipient_key=None if recipient is None else recipient.encryption_key,
                agreements=agreements.get(kept.organisation, []),
            )
    return found


def _identity(standing: ReferralStanding, wholes: Mapping[str, ReferralStanding]) -> bytes | None:
    whole = wholes.get(standing.part_of or "")
    return whole.sealed_identity if standing.sealed_identity is None and whole else standing.sealed_identity


def _notice(kept: Kept, reason: str | None, disclosed: bytes | None) -> Notice:
    return Notice(
        organisation=kept.organisation,
        type=kept.type,
        region=kept.region,
        sequence=kept.sequence,
        at=kept.at,
        referral=kept.referral,
        task=kept.task,
        unit=kept.unit,
        reason=reason,
        expires_at=kept.expires_at,
        disclosed=disclosed,
    )


def _releases(
    kept: Kept, known: ReferralStanding, channel: Channel, at: int, granted: dict[DataClass, str]
) -> list[Disclosed]:
    """One release for each grant, so that each says why all of its classes were allowed."""
    by_grant: dict[str, list[DataClass]] = {}
    for data, grant in granted.items():
        by_grant.setdefault(grant, []).append(data)
    return [
        Disclosed(
            subject=known.subject,
            referral=known.referral,
            recipient=kept.organisation,
            data_classes=classes,
            purpose=known.purpose,
            grant=grant,
            channel=channel,
            at=at,
        )
        for grant, classes in by_grant.items()
    ]
