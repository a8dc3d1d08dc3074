"""Good histories made up for the checker of ``make chaos``, to be spoiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from referral_bus.contracts.ids import inbox_token
from referral_bus.contracts.inbox import AcceptOffer, Submission, WithdrawReferral
from referral_bus.contracts.ledger import Event, OfferMade
from referral_bus.demo.audit import audit
from referral_bus.log.port import Outgoing, Record
from referral_bus.log.topics import feed, inbox, ledger
from referral_bus.wire.inbox import received, submission_record
from tests.chaos.cluster.checker import findings
from tests.chaos.cluster.history import History
from tests.support.checking import Seen, heard_of
from tests.support.viewing import CODEC, START, Region, accepted, completed

BUS = "main"
INBOX, LEDGER, FEED = inbox(BUS), ledger(BUS), feed(BUS, "hospital")
OTHER = "rf-north-bbbbbbbbbbbbbbbbbbbb"
BEGAN = 1_000.0
"""What the monotonic clock said at ``START``."""


@dataclass
class Story:
    """A history in the making: what is said at the inbox is answered on the ledger a second later. There is another region, which may
    lend places."""

    region: Region = field(default_factory=Region)
    other: Region = field(default_factory=lambda: Region("south", partition=1))
    history: History = field(
        default_factory=lambda: History(
            {"at": BEGAN, "what": "run", "bus": BUS, "wall": START, "skipped": {}}
        )
    )
    seconds: int = 0

    def decides(self, *events: Event, by: Region | None = None) -> None:
        """Events that nobody asked for."""
        for event in events:
            self._append(LEDGER, (by or self.region).put(event))

    def says(
        self, organisation: str, id: str, referral: str, *events: Event, kind: str = "AcceptOffer"
    ) -> None:
        """A submission, acknowledged and answered with these events."""
        self.answers(self.asks(organisation, id, referral, kind), *events)

    def asks(
        self,
        organisation: str,
        id: str,
        referral: str,
        kind: str = "AcceptOffer",
        said: Submission | None = None,
    ) -> Record:
        """A submission, acknowledged. Returns its record."""
        record = self._put(self.region, organisation, id, referral, said)
        self.history.lines["client-1"].append(
            {
                "at": BEGAN + self.seconds,
                "what": "acknowledged",
                "organisation": organisation,
                "id": id,
                "kind": kind,
                "referral": referral,
                "token": inbox_token("north", 0, record.offset),
            }
        )
        return record

    def accepts(self, offer: OfferMade, *events: Event, id: str | None = None) -> None:
        """The provider accepts the offer, which is answered with these events."""
        id, said = id or f"a-{offer.task}", AcceptOffer(task=offer.task)
        self.answers(self.asks(offer.provider, id, offer.referral, said=said), *events)

    def answers(self, record: Record, *events: Event, by: Region | None = None) -> None:
        """The submission is answered with these events, a second later."""
        self.seconds += 1
        first, *others = events
        self._append(LEDGER, (by or self.region).put(first, received(record, CODEC)[1].admitted))
        self.decides(*others, by=by)

    def passes_on(self, source: Region, to: Region, before: int = 0) -> Record:
        """The relay puts the last event of a region on the inbox of another, or one so many events before. Returns its record."""
        return self._put(to, "relay", f"{source.name}.{source.sequence - before}.{to.name}", OTHER)

    def refers(self, number: int) -> Any:
        """A referral is opened and offered a place. Returns the offer."""
        opened = self.region.opened()
        offer = self.region.offered(opened)
        events = (opened, self.region.matched(opened), offer)
        self.says("hospital", f"s-{number}", opened.referral, *events, kind="SubmitReferral")
        return offer

    def serves(self, offer: Any) -> None:
        """The offer is accepted, and what came of it is reported."""
        self.accepts(offer, accepted(offer))
        self.says("shelter", f"o-{offer.task}", offer.referral, *completed(offer))

    def ended(self) -> History:
        """The story's history, with the feed and the views as they must be."""
        history, at = self.history, BEGAN + self.seconds
        history.lines["client-1"].insert(
            0, {"at": BEGAN, "what": "subscribed", "organisation": "hospital", "role": "agency",
                "channel": "feed", "subscription": "sub"},
        )  # fmt: skip
        seen = seen_in(history)
        for place in sorted(heard_of("hospital", "agency", seen)):
            identity = ("ce_id", f"sub.{place[0]}.{place[1]}".encode())
            history.records[FEED].append(
                Record(FEED, 0, len(history.records[FEED]), START, b"k", b"v", (identity,))
            )
        referrals = {
            entry.event.referral: entry for entry in seen.entries if hasattr(entry.event, "referral")
        }
        for referral, last in referrals.items():
            reason = getattr(last.event, "reason", None)
            history.rows["referrals"].append({"referral": referral, "reason": reason})
        for entry in seen.entries:
            if type(entry.event).__name__ == "OfferAccepted":
                history.rows["tasks"].append({"task": entry.event.task, "accepted": True})
        counted = audit(seen.inbox, seen.ledger, CODEC)
        for region, (sequence, digest) in counted.ends.items():
            history.rows["regions"].append({"region": region, "sequence": sequence, "hash": digest.hex()})
        for unit, (total, taken, held) in counted.places.items():
            history.rows["units"].append({"unit": unit, "total": total, "taken": taken, "held": held})
        history.views = {"equal": True, "different": 0}
        history.verified = {"good": True, "decisions": 4, "same": 4}
        history.faults.append(
            {
                "at": BEGAN + 0.5,
                "number": 1,
                "how": "killed",
                "victims": ["kafka-1"],
                "backlog": {"undecided": 1},
            }
        )
        history.recovered[1] = 2.0
        history.positions += [
            {"at": when, "what": "positions", "views": {"0": int(when)}, "told": {"0": int(when)}}
            for when in (BEGAN, at)
        ]
        return history

    def _put(
        self, region: Region, organisation: str, id: str, about: str, said: Submission | None = None
    ) -> Record:
        """What a submission says plays no part here, but for acceptances."""
        outgoing = submission_record(
            said or WithdrawReferral(referral=about, reason="other"),
            codec=CODEC,
            topic=INBOX,
            partition=region.partition,
            region=region.name,
            id=id,
            organisation=organisation,
            sent_at=START,
            digest=bytes(32),
            about=about,
        )
        return self._append(INBOX, outgoing)

    def _append(self, topic: str, outgoing: Outgoing) -> Record:
        there, number = self.history.records[topic], outgoing.partition
        offset = sum(record.partition == number for record in there)
        when = START + self.seconds * 1000
        record = Record(topic, number, offset, when, outgoing.key, outgoing.value, tuple(outgoing.headers))
        there.append(record)
        return record


def seen_in(history: History) -> Seen:
    return Seen.of(history.records[INBOX], history.records[LEDGER], CODEC)


def story(places: int = 5) -> Story:
    made = Story()
    made.decides(made.region.published(total=places))
    first, second = made.refers(1), made.refers(2)
    made.serves(first)
    made.serves(second)
    return made


def wrong(history: History) -> set[str]:
    """The kinds of what is found wrong."""
    return {kind for kind, sentences in findings(history, CODEC).wrong.items() if sentences}
