"""What of a referral leaves, and to whom: ``may_disclose`` decides each class of data, and each release is recorded first.

A caller is a party in the roles its token carries. Operations see that a referral is there and where it stands, and nothing
that concerns the person: no pseudonym, no reasons, no outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from referral_bus.access.caller import Caller
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import DataClass, OrganisationKind
from referral_bus.disclosure.releases import Releases
from referral_bus.disclosure.rules import Standing, may_disclose
from referral_bus.runtime.clock import Clock
from referral_bus.sealing.port import Keys, Section
from referral_bus.sealing.sections import Erased, OpenError, Sealer
from services.projections.queries import Found, Queries

logger = logging.getLogger(__name__)

Withheld = Literal["not_granted", "erased", "none_given", "unreadable"]
SaidKind = Literal["note", "question", "answer"]
_SAID: dict[DataClass, frozenset[SaidKind]] = {
    "outcome": frozenset({"note"}),
    "exchange": frozenset({"question", "answer"}),
}
"""What was written with events, by the class of data it is."""


class Said(NamedTuple):
    """What a party wrote with an event, or why it is not shown."""

    sequence: int
    kind: SaidKind
    task: str | None
    text: str | None
    withheld: Withheld | None


class View:
    """One referral as one caller may see it. What it shows is remembered, to be recorded."""

    def __init__(
        self,
        referral: Found,
        offered_to: Iterable[str],
        caller: Caller,
        kind: OrganisationKind | None,
        agreements: Sequence[Agreement],
        at: int,
        escalated_to: Iterable[str] = (),
    ) -> None:
        self.referral = referral
        self.shown: dict[DataClass, str] = {}
        self._caller = caller
        self._agreements = agreements
        self._at = at
        self._standing = Standing(
            referral=referral["referral"],
            subject=referral["subject"] or "",
            agency=referral["agency"],
            agency_kind=kind,
            purpose=referral["purpose"],
            offered_to=frozenset(offered_to),
            accepted_by=referral["accepted_by"],
            escalated_to=frozenset(escalated_to),
        )

    @property
    def recipient(self) -> str:
        """The organisation it is shown to."""
        return self._caller.organisation

    @property
    def as_agency(self) -> bool:
        """Whether the caller is the agency that referred, and here as one."""
        return self._caller.organisation == self._standing.agency and self._caller.has("agency")

    @property
    def as_provider(self) -> bool:
        """Whether the caller is a provider the referral stands with, and here as one."""
        standing, organisation = self._standing, self._caller.organisation
        stands_with = organisation == standing.accepted_by or organisation in standing.offered_to
        return stands_with and self._caller.has("provider")

    @property
    def as_target(self) -> bool:
        """Whether an overdue step was escalated to the caller, which takes no other part in the referral here."""
        escalated = self._caller.organisation in self._standing.escalated_to
        return escalated and not (self.as_agency or self.as_provider)

    def shows(self, data: DataClass, asked_by: str | None = None) -> bool:
        """Whether this class of data may be shown; if so, it is taken for shown. ``asked_by`` is whose question it is about, if any."""
        if not (self.as_agency or self.as_provider or (self.as_target and data == "status")):
            return False
        grant = may_disclose(
            data,
            self._standing if asked_by is None else replace(self._standing, asked_by=asked_by),
            self._caller.organisation,
            self._standing.purpose,
            self._at,
            self._agreements,
        )
        if grant is not None:
            self.shown[data] = grant
        return grant is not None

    def hides(self, data: DataClass) -> None:
        """It was not shown after all."""
        self.shown.pop(data, None)

    def releases(self) -> list[Disclosed]:
        """What was shown, one record for each grant. Of somebody who was erased nothing is left that could be shown."""
        if self.referral["subject"] is None:
            return []
        by_grant: dict[str, list[DataClass]] = {}
        for data, grant in self.shown.items():
            by_grant.setdefault(grant, []).append(data)
        return [
            Disclosed(
                subject=self.referral["subject"],
                referral=self.referral["referral"],
                recipient=self._caller.organisation,
                data_classes=classes,
                purpose=self._standing.purpose,
                grant=grant,
                channel="api",
                at=self._at,
            )
            for grant, classes in by_grant.items()
        ]


class Showing:
    """Makes views of referrals, opens what is sealed, and records releases."""

    def __init__(
        self, queries: Queries, keys: Keys, sealer: Sealer, releases: Releases, clock: Clock
    ) -> None:
        self._queries = queries
        self._keys = keys
        self._sealer = sealer
        self._releases = releases
        self._clock = clock

    async def views(
        self, caller: Caller, referrals: Sequence[tuple[Found, Iterable[str]]], *, escalations: bool = False
    ) -> list[View]:
        """Each referral (or task, or what waits, with its referral's columns) and the providers it is offered to, as the caller may see
        it now. ``escalations``: whether a row may be one, and names whom it was escalated to."""
        at = self._clock.now()
        kinds = await self._queries.kinds({(row["region"], row["agency"]) for row, _ in referrals})
        agreements = await self._queries.agreements(caller.organisation) if referrals else {}
        return [
            View(
                row,
                offered_to,
                caller,
                kinds.get((row["region"], row["agency"])),
                agreements.get(row["region"], []),
                at,
                {row["target"]} - {None} if escalations else (),
            )
            for row, offered_to in referrals
        ]

    async def opened(self, view: View, data: DataClass, sections: Sequence[Found]) -> Any | Withheld:
        """The content of a sealed class (``outcome``: the note of the outcome that counts) as JSON, or why there is none."""
        if not view.shows(data):
            return "not_granted"
        if data == "outcome" and view.referral["outcome"] is None:
            view.hides(data)
            return "none_given"
        section = f"note.{view.referral['outcome_at']}" if data == "outcome" else data
        # A part's own identity, if it was given one, comes before that of the whole.
        given = sorted(
            (row for row in sections if row["section"] == section),
            key=lambda row: bool(row["referral"] != view.referral["referral"]),
        )
        result = await self._content(view.referral["subject"], data, given[0]["sealed"] if given else None)
        if isinstance(result, str) and data != "outcome":
            view.hides(data)
        return result

    async def said(self, view: View, data: DataClass, sections: Sequence[Found]) -> list[Said]:
        """What was written with the referral's events, of this class, in order; as a provider only what is about its own attempts."""
        found: list[Said] = []
        for row in sections:
            kind, _, sequence = row["section"].partition(".")
            own = view.as_agency or row["provider"] == view.recipient
            if kind not in _SAID[data] or not own or not view.shows(data, row["provider"]):
                continue
            content = await self._content(view.referral["subject"], data, row["sealed"])
            text, withheld = (None, content) if isinstance(content, str) else (content["text"], None)
            found.append(Said(int(sequence), kind, row["task"], text, withheld))
        if data == "exchange" and all(one.text is None for one in found):
            view.hides(data)
        return sorted(found)

    async def _content(
        self, subject: str | None, data: DataClass, sealed: bytes | None
    ) -> dict[str, Any] | Withheld:
        if subject is None:
            return "erased"
        if sealed is None:
            return "none_given"
        section: Section = "facts" if data == "facts" else "identity"
        try:
            key = (await self._keys.fetch([subject], section)).get(subject)
            match data:
                case "facts":
                    return self._sealer.open_facts(key, subject, sealed).model_dump(mode="json")
                case "identity":
                    return self._sealer.open_identity(key, subject, sealed).model_dump(mode="json")
                case _:
                    return self._sealer.open_note(key, subject, sealed).model_dump(mode="json")
        except Erased:
            return "erased"
        except OpenError as error:
            logger.error("a sealed section can't be shown: %s", error)
            return "unreadable"

    async def record(self, views: Iterable[View]) -> None:
        """Record what the views showed. Raises LogError: then nothing may leave."""
        await self._releases.record([release for view in views for release in view.releases()])
