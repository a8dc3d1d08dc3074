"""A comparison as values, in sentences, and as a file with a line for each referral."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from services.matching.whatif.comparison import BYS, Acceptance, Comparison, Group

_MINUTE_MS: Final = 60_000
_HEADINGS: Final = (
    "referral",
    "urgency",
    "was_provider",
    "was_service",
    "was_accepted_at",
    "would_provider",
    "would_service",
    "would_accepted_at",
    "difference",
)

Difference = Literal["gained", "lost", "neither", "elsewhere", "sooner", "later", "same"]
"""What another policy would have changed for a referral: it would have been accepted only then, or only was as it was, or was and would not
be; or at another service; or at the same at least a minute sooner or later."""


def comparison_as_json(compared: Comparison) -> dict[str, object]:
    """The comparison as plain values; times are milliseconds, and null where they would be those of few."""
    was, would = compared.was, compared.would
    return {
        "referrals": len(was.opened),
        "erased": compared.erased,
        "split_once": compared.split_once,
        "answers_assumed": compared.assumed,
        "accepted": {"was": len(was.accepted), "would": len(would.accepted)},
        "median_wait_ms": {"was": compared.median_wait(was), "would": compared.median_wait(would)},
        "only_was": len(was.accepted.keys() - would.accepted.keys()),
        "only_would": len(compared.gained),
        "only_would_assumed": compared.gained_by_assumption,
        "elsewhere": compared.elsewhere,
        "by": {by: [group._asdict() for group in compared.groups(by)] for by in BYS},
    }


def comparison_lines(region: str, compared: Comparison) -> list[str]:
    """The comparison in sentences."""
    was, would = compared.was, compared.would
    left_out = (
        (compared.erased, "whose facts can't be opened any more"),
        (compared.split_once, "that were split in one of the lives alone"),
    )
    return [
        f"Region {region}: {len(was.opened)} referrals. {compared.assumed} answers of services and regions are assumed.",
        *(f"  left out: {count} {why}" for count, why in left_out if count),
        f"  accepted: {len(was.accepted)} as it was, {len(would.accepted)} as it would have been"
        f" ({len(compared.gained)} gained, of them {compared.gained_by_assumption} assumed,"
        f" {len(was.accepted.keys() - would.accepted.keys())} lost,"
        f" {compared.elsewhere} by another provider)",
        f"  median wait: {_minutes(compared.median_wait(was))} as it was, {_minutes(compared.median_wait(would))} as it would have been",
        *(f"  {by} {_in_words(group)}" for by in BYS for group in compared.groups(by)),
    ]


def write_referrals(path: Path, compared: Iterable[Comparison]) -> None:
    """A CSV line for each referral, with what the ledger says in clear and nothing that is sealed. Its owner alone can read it, also where
    it was there before. Raises OSError."""
    with open(
        path, "w", encoding="utf-8", newline="", opener=lambda name, flags: os.open(name, flags, 0o600)
    ) as file:
        os.fchmod(file.fileno(), 0o600)
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_HEADINGS)
        for one in compared:
            for name in sorted(one.was.opened, key=lambda name: (one.was.opened[name], name)):
                was, would = one.was.accepted.get(name), one.would.accepted.get(name)
                urgency = one.people[name].urgency
                rows.writerow([name, urgency, *_cells(was), *_cells(would), _difference(was, would)])


def _in_words(group: Group) -> str:
    return (
        f"{group.name}: {group.referrals} referrals, {group.was} accepted as it was, {group.would} as it would have been;"
        f" median wait {_minutes(group.was_wait_ms)}, {_minutes(group.would_wait_ms)}"
    )


def _minutes(milliseconds: int | None) -> str:
    return "of too few" if milliseconds is None else f"{milliseconds / _MINUTE_MS:.1f} min"


def _cells(acceptance: Acceptance | None) -> tuple[str, str, str]:
    if acceptance is None:
        return "", "", ""
    at = datetime.fromtimestamp(acceptance.at / 1000, UTC)
    return acceptance.provider, acceptance.service, f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _difference(was: Acceptance | None, would: Acceptance | None) -> Difference:
    if was is None:
        return "neither" if would is None else "gained"
    if would is None:
        return "lost"
    if was.service != would.service:
        return "elsewhere"
    if abs(would.at - was.at) < _MINUTE_MS:
        return "same"
    return "sooner" if would.at < was.at else "later"
