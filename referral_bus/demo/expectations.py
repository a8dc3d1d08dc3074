"""What must have come of everything the demo submitted, good and bad."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from referral_bus.client.answers import Answer
from referral_bus.client.errors import BusError
from referral_bus.demo.watch import Seen, Submitted


@dataclass(slots=True)
class Expectations:
    """What the parties of the demo expect of the bus, and where it did not keep to it."""

    referrals: set[str] = field(default_factory=set)
    """They must be opened, and closed in the end."""
    refusals: dict[Submitted, frozenset[str]] = field(default_factory=dict)
    """They must be refused on the ledger or on a feed, for one of these reasons."""
    unread: Counter[str] = field(default_factory=Counter)
    """So many records of outboxes must be refused for these reasons."""
    refused_at_once: Counter[str] = field(default_factory=Counter)
    """What was refused over HTTP as it had to be, by reason: it is on no topic."""
    repeats: int = 0
    faults: list[str] = field(default_factory=list)
    """Where the bus answered otherwise than it must."""

    def repeated(self, organisation: str, first: Answer | BusError, again: Answer | BusError) -> None:
        """A repeat was answered; it must be answered like the first."""
        self.repeats += 1
        if not isinstance(first, Answer) or first != again:
            self.faults.append(
                f"{organisation}: a repeated submission was not answered like the first: {_said(again)}"
            )

    def refused(self, organisation: str, id: str, reasons: frozenset[str], answer: Answer | BusError) -> None:
        """Something bad was answered: refused at once for one of these reasons, or else it must be refused
        later."""
        if isinstance(answer, Answer):
            self.refusals[organisation, id] = reasons
        elif answer.code in reasons:
            self.refused_at_once[answer.code] += 1
        else:
            wanted = " or ".join(sorted(reasons))
            self.faults.append(
                f"{organisation}: {id} was to be refused for {wanted}, and was answered: {_said(answer)}"
            )

    def opened(self, organisation: str, id: str, answer: Answer | BusError) -> None:
        """A good referral was answered; it must be taken."""
        if isinstance(answer, Answer) and answer.referral is not None:
            self.referrals.add(answer.referral)
        else:
            self.faults.append(f"{organisation}: {id} is a good referral and was answered: {_said(answer)}")

    def settled(self, seen: Seen) -> bool:
        """Whether everything has come about, as far as it has been submitted."""
        return (
            self.referrals <= seen.closed.keys()
            and self.refusals.keys() <= seen.refused.keys()
            and all(seen.unread[reason] >= count for reason, count in self.unread.items())
        )

    def missing(self, seen: Seen) -> str:
        """What has not come about yet, in a sentence."""
        not_opened = sorted(self.referrals - seen.opened.keys())
        still_open = sorted((self.referrals & seen.opened.keys()) - seen.closed.keys())
        not_refused = sorted(id for _, id in self.refusals.keys() - seen.refused.keys())
        unread = sum((self.unread - seen.unread).values())
        parts = [
            f"{len(ids)} {what} (such as {ids[0]})"
            for ids, what in (
                (not_opened, "referrals are not decided"),
                (still_open, "referrals are still open"),
                (not_refused, "bad submissions are not refused"),
            )
            if ids
        ]
        if unread:
            parts.append(f"{unread} unreadable records of outboxes are not refused")
        return ", ".join(parts) or "everything is settled"

    def wrong_reasons(self, seen: Seen) -> list[str]:
        """Those that were refused for another reason than they should, in sentences."""
        return [
            f"{organisation}: {id} was refused for {seen.refused[organisation, id]}"
            for (organisation, id), reasons in sorted(self.refusals.items())
            if seen.refused.get((organisation, id)) not in reasons
        ]


def _said(answer: Answer | BusError) -> str:
    return "it was taken" if isinstance(answer, Answer) else f"{answer.status} {answer.code}"
