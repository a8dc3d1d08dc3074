"""What a chaos run left behind, read by an outsider, and the table it is shown as."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from referral_bus.demo.audit import Audit, audit
from referral_bus.log.port import Record
from referral_bus.log.topics import deadletter, delivery, feed, inbox, ledger
from tests.chaos.strikes import Strike
from tests.chaos.town import Town
from tests.support.checking import Line, Seen, command, inbox_doubles, outside_records
from tests.support.counting import ways
from tests.support.load import LoadPlan


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that can be held against everything else once a bus has settled."""

    load: LoadPlan
    strikes: list[Strike]
    unwanted: list[str]
    """Processes that were found ended though nobody had killed them."""
    runs: dict[str, int]
    """How often each process was started."""
    starts: dict[str, int]
    """How often each process said that it runs."""
    lines: list[Line]
    seen: Seen
    found: Audit
    letters: list[Record]
    words: list[Record]
    """The delivery topic."""
    feeds: dict[str, list[Record]]
    views: dict[str, Any]
    """What ``refbus check-views`` says."""
    verified: dict[str, Any]
    """What ``refbus verify`` says."""
    fenced: int
    """Transactions that did not commit since another owner had started, as the paused worker counts them."""

    def noted(self, what: str) -> list[Line]:
        return [line for line in self.lines if line["what"] == what]

    @property
    def acknowledged(self) -> list[Line]:
        return self.noted("acknowledged")

    @property
    def referrals(self) -> set[str]:
        """Those whose submission was acknowledged."""
        return {line["referral"] for line in self.acknowledged if line["kind"] == "SubmitReferral"}

    def subscription(self, organisation: str, channel: str) -> str:
        """The one this organisation has on this channel."""
        [line] = [
            line
            for line in self.noted("subscribed")
            if (line["organisation"], line["channel"]) == (organisation, channel)
        ]
        return str(line["subscription"])

    def table(self) -> str:
        """For people to read."""
        rows = [("", "who", "left undone", "standstill")]
        rows += [
            (
                strike.how,
                " and ".join(strike.victims),
                ", ".join(f"{count} {what}" for what, count in strike.backlog.items()),
                "" if strike.standstill is None else f"{strike.standstill:.1f} s",
            )
            for strike in self.strikes
        ]
        found = self.found
        counts = {
            "acknowledged": len(self.acknowledged),
            "requests broken off": len(self.noted("broken")),
            "on the inbox": found.submitted,
            "of them again": inbox_doubles(self.seen),
            "answered": found.decided,
            "lost": found.lost,
            "duplicated": found.duplicated,
            "oversold": found.oversold,
            "breaks in the chain": found.broken_chain,
            "referrals": found.events["ReferralOpened"],
            "offers": found.events["OfferMade"],
            "accepted": found.events["OfferAccepted"],
            "expired": found.events["OfferExpired"],
            "closed": found.closed.total(),
            **ways(self.seen.entries),
            "events": sum(found.events.values()),
            "fenced": self.fenced,
            "notices by webhook": len(self.noted("webhook")),
            "by event stream": len(self.noted("heard")),
            "by feed": sum(map(len, self.feeds.values())),
        }
        return _aligned(rows) + "\n\n" + ", ".join(f"{name} {count}" for name, count in counts.items())


async def result_of(town: Town, strikes: list[Strike], unwanted: list[str], fenced: int) -> Result:
    """Read everything. The bus must have settled."""
    bus, load = town.bus, town.client.plan
    kafka, name = bus.addresses.kafka, bus.plan.bus
    views = await command(bus, "projections", "check-views", "--json")
    verified = await command(bus, "matching", "verify", "--json")

    async def read(topic: str) -> list[Record]:
        return await asyncio.to_thread(outside_records, kafka, topic)

    asked, said = await read(inbox(name)), await read(ledger(name))
    return Result(
        load=load,
        strikes=strikes,
        unwanted=[*unwanted, *town.ended_by_themselves()],
        runs=dict(town.runs),
        starts=town.starts(),
        lines=town.client.lines,
        seen=Seen.of(asked, said, town.codec),
        found=audit(asked, said, town.codec),
        letters=await read(deadletter(name)),
        words=await read(delivery(name)),
        feeds={
            organisation: await read(feed(name, organisation))
            for organisation, _, channel in load.subscriptions
            if channel == "feed"
        },
        views=views,
        verified=verified,
        fenced=fenced,
    )


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
