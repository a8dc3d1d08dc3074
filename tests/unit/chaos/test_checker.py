"""The checker of ``make chaos`` must be able to find what it looks for: good histories are made up, and then spoiled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from referral_bus.contracts.ids import inbox_token
from referral_bus.contracts.inbox import WithdrawReferral
from referral_bus.contracts.ledger import Event
from referral_bus.demo.audit import audit
from referral_bus.log.port import Outgoing, Record
from referral_bus.log.topics import deadletter, feed, inbox, ledger
from referral_bus.wire.inbox import received, submission_record
from tests.chaos.cluster.checker import check, findings, report
from tests.chaos.cluster.history import History, Unfinished, Writer, packed, read
from tests.chaos.cluster.standstill import lanes, longest, percentile, standstills
from tests.support.checking import Seen, heard_of
from tests.support.viewing import CODEC, START, Region, accepted, completed

BUS = "main"
INBOX, LEDGER, FEED = inbox(BUS), ledger(BUS), feed(BUS, "hospital")
OTHER = "rf-north-bbbbbbbbbbbbbbbbbbbb"
BEGAN = 1_000.0
"""What the monotonic clock said at ``START``."""


@dataclass
class Story:
    """A history in the making: what is said at the inbox is answered on the ledger a second later."""

    region: Region = field(default_factory=Region)
    history: History = field(
        default_factory=lambda: History(
            {"at": BEGAN, "what": "run", "bus": BUS, "wall": START, "skipped": {}}
        )
    )
    seconds: int = 0

    def decides(self, *events: Event) -> None:
        """Events that nobody asked for."""
        for event in events:
            self._append(LEDGER, self.region.put(event))

    def says(
        self, organisation: str, id: str, referral: str, *events: Event, kind: str = "AcceptOffer"
    ) -> None:
        """A submission, acknowledged and answered with these events."""
        self.answers(self.asks(organisation, id, referral, kind), *events)

    def asks(self, organisation: str, id: str, referral: str, kind: str = "AcceptOffer") -> Record:
        """A submission, acknowledged. Returns its record."""
        outgoing = submission_record(
            WithdrawReferral(referral=referral, reason="other"),
            codec=CODEC,
            topic=INBOX,
            partition=0,
            region="north",
            id=id,
            organisation=organisation,
            sent_at=START,
            digest=bytes(32),
            about=referral,
        )
        record = self._append(INBOX, outgoing)
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

    def answers(self, record: Record, *events: Event) -> None:
        """The submission is answered with these events, a second later."""
        self.seconds += 1
        first, *others = events
        self._append(LEDGER, self.region.put(first, received(record, CODEC)[1].admitted))
        self.decides(*others)

    def refers(self, number: int) -> Any:
        """A referral is opened and offered a place. Returns the offer."""
        opened = self.region.opened()
        offer = self.region.offered(opened)
        events = (opened, self.region.matched(opened), offer)
        self.says("hospital", f"s-{number}", opened.referral, *events, kind="SubmitReferral")
        return offer

    def serves(self, offer: Any) -> None:
        """The offer is accepted, and what came of it is reported."""
        self.says("shelter", f"a-{offer.task}", offer.referral, accepted(offer))
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
        history.positions += [
            {"at": when, "what": "positions", "views": {"0": int(when)}, "told": {"0": int(when)}}
            for when in (BEGAN, at)
        ]
        return history

    def _append(self, topic: str, outgoing: Outgoing) -> Record:
        there = self.history.records[topic]
        when = START + self.seconds * 1000
        record = Record(topic, 0, len(there), when, outgoing.key, outgoing.value, tuple(outgoing.headers))
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


@pytest.fixture
def good() -> History:
    return story().ended()


def wrong(history: History) -> set[str]:
    """The kinds of what is found wrong."""
    return {kind for kind, sentences in findings(history, CODEC).wrong.items() if sentences}


def test_a_good_history_is_good(good: History) -> None:
    found = findings(good, CODEC)
    assert found.wrong == {kind: [] for kind in found.wrong}
    assert found.good
    assert found.counts["acknowledged"] == 6


def test_what_was_acknowledged_and_is_not_on_the_inbox_is_lost(good: History) -> None:
    good.lines["client-1"].append({**good.noted("acknowledged")[0], "id": "s-3", "token": None})
    assert wrong(good) == {"lost"}


def test_a_referral_that_was_acknowledged_and_never_opened_is_lost(good: History) -> None:
    good.noted("acknowledged")[0]["referral"] = OTHER
    assert wrong(good) == {"lost"}


def test_a_notice_that_never_came_is_lost(good: History) -> None:
    del good.records[FEED][1]
    assert wrong(good) == {"lost"}


def test_a_dead_letter_is_lost(good: History) -> None:
    good.records[deadletter(BUS)].append(Record(deadletter(BUS), 0, 0, START, b"k", b"v"))
    assert wrong(good) == {"lost"}


def test_a_second_answer_is_a_duplicate() -> None:
    made = story()
    answered = received(made.history.records[INBOX][0], CODEC)[1].admitted
    made.history.records[LEDGER].append(
        Record(LEDGER, 0, 99, START, b"north", made.region.put(made.region.counted(), answered).value)
    )
    assert wrong(made.ended()) == {"duplicated"}


def test_an_offer_that_ends_twice_is_a_duplicate() -> None:
    made = Story()
    made.decides(made.region.published())
    offer = made.refers(1)
    made.serves(offer)
    made.decides(accepted(offer))
    assert "duplicated" in wrong(made.ended())


def test_a_place_that_is_given_twice_is_oversold() -> None:
    assert wrong(story(places=1).ended()) == {"oversold"}


def test_an_answer_that_overtakes_another_is_reordered() -> None:
    made = story()
    before, behind = (made.asks("shelter", id, OTHER) for id in ("c-1", "c-2"))
    made.answers(behind, made.region.counted())
    made.answers(before, made.region.counted())
    assert wrong(made.ended()) == {"reordered"}


def test_a_gap_in_the_chain_is_reordered(good: History) -> None:
    moved = good.records[LEDGER]
    moved[2], moved[3] = moved[3], moved[2]
    assert "reordered" in wrong(good)


def test_a_token_that_names_another_place_is_reordered(good: History) -> None:
    first, second, *_ = good.noted("acknowledged")
    first["token"], second["token"] = second["token"], first["token"]
    assert wrong(good) == {"reordered"}


def test_notices_in_another_order_are_reordered(good: History) -> None:
    notices = good.records[FEED]
    notices[0], notices[1] = notices[1], notices[0]
    assert wrong(good) == {"reordered"}


def _row_is_gone(history: History) -> None:
    history.rows["referrals"].pop()


def _row_is_old(history: History) -> None:
    history.rows["referrals"][0]["reason"] = None


def _acceptance_is_missing(history: History) -> None:
    history.rows["tasks"].pop()


def _region_is_behind(history: History) -> None:
    history.rows["regions"][0]["sequence"] -= 1


def _region_ends_otherwise(history: History) -> None:
    history.rows["regions"][0]["hash"] = bytes(32).hex()


def _unit_is_missing(history: History) -> None:
    history.rows["units"].pop()


def _place_is_held_in_the_views_alone(history: History) -> None:
    history.rows["units"][0]["held"] += 1


def _own_comparison_differs(history: History) -> None:
    history.views = {"equal": False, "different": 1}


def _decided_otherwise(history: History) -> None:
    history.verified = {"good": False, "decisions": 4, "same": 3}


def _own_comparison_is_missing(history: History) -> None:
    history.views = None


def _decided_anew_is_missing(history: History) -> None:
    history.verified = None


@pytest.mark.parametrize(
    "spoil",
    [
        _row_is_gone,
        _row_is_old,
        _acceptance_is_missing,
        _region_is_behind,
        _region_ends_otherwise,
        _unit_is_missing,
        _place_is_held_in_the_views_alone,
        _own_comparison_differs,
        _decided_otherwise,
        _own_comparison_is_missing,
        _decided_anew_is_missing,
    ],
)
def test_views_that_say_something_else_are_different(good: History, spoil: Any) -> None:
    spoil(good)
    assert wrong(good) == {"views different"}


def test_a_submission_without_an_answer_is_unanswered() -> None:
    made = story()
    made.says("shelter", "c-1", OTHER, made.region.counted())
    made.history.records[LEDGER].pop()
    assert wrong(made.ended()) == {"unanswered"}


def test_a_referral_that_is_never_closed_is_unanswered() -> None:
    made = Story()
    made.decides(made.region.published())
    made.refers(1)
    assert wrong(made.ended()) == {"unanswered"}


def test_what_was_refused_though_it_was_good_is_told(good: History) -> None:
    good.lines["client-1"].append(
        {"at": BEGAN, "what": "refused", "id": "s-9", "organisation": "hospital", "code": "too_much"}
    )
    assert wrong(good) == {"refused"}


def test_a_fault_that_met_no_work_is_told(good: History) -> None:
    good.faults[0]["at"] = BEGAN + 3_600
    assert wrong(good) == {"idle faults"}


def test_a_run_without_a_fault_proves_nothing(good: History) -> None:
    good.faults.clear()
    assert wrong(good) == {"idle faults"}


def test_a_standstill_is_the_longest_time_between_two_marks_after_the_fault() -> None:
    assert longest([1.0, 2.0, 7.0, 8.0], 2.5, 9.0) == 4.5
    assert longest([], 2.0, 9.0) == 7.0
    assert longest([1.0, 10.0], 2.0, 9.0) == 7.0


def test_the_slowest_lane_is_the_one_that_stood_still(good: History) -> None:
    good.positions[1:] = [
        {"at": BEGAN + 2.5, "what": "positions", "views": {"0": 9_999}, "told": {"0": int(BEGAN)}},
    ]
    [(seconds, lane)] = standstills(good)
    assert (seconds, lane) == (4.5, "told 0")


def test_what_rests_on_an_outbox_makes_a_lane_of_it_stand_still() -> None:
    story = Story()
    for number in range(3):
        story.asks("hospital", f"sealed-{number}", OTHER, "SubmitReferral")
        story.asks("hospital", f"typed-{number}", OTHER, "SubmitReferral")
        story.seconds += 1
    story.seconds += 6
    story.asks("hospital", "sealed-3", OTHER, "SubmitReferral")
    history = story.ended()
    for line in history.noted("acknowledged"):
        line["door"] = "outbox" if line["id"].startswith("sealed") else "http"
    assert lanes(history)["outboxes client-1"] == [BEGAN, BEGAN + 1, BEGAN + 2, BEGAN + 9]
    assert lanes(history)["acknowledgements client-1"] == [BEGAN, BEGAN + 1, BEGAN + 2]


def test_only_the_time_in_which_all_clients_spoke_counts(good: History) -> None:
    before = standstills(good)
    good.lines["client-1"].append({"at": BEGAN + 2.0, "what": "finished"})
    assert before[0][0] > standstills(good)[0][0] == 1.5


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (1.0, 4.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_the_report_names_what_is_wrong(good: History) -> None:
    said: list[str] = []
    good.rows["referrals"].pop()
    assert not report(good, findings(good, CODEC), said.append)
    assert any(line.startswith("views different: rf-north-") for line in said)


def written(path: Path, history: History) -> Writer:
    writer = Writer(path)
    writer.note(**history.run)
    for line in (*history.faults, *history.positions):
        writer.note(**{"what": "fault", **line})
    for lines in history.lines.values():
        for line in lines:
            writer.note("line", client="client-1", line=line)
    for table, rows in history.rows.items():
        for row in rows:
            writer.note("row", table=table, row=row)
    writer.note("views", said=history.views)
    writer.note("verified", said=history.verified)
    for records in history.records.values():
        for record in records:
            writer.record(record)
    return writer


def test_a_kept_history_is_checked_like_a_fresh_one(good: History, tmp_path: Path) -> None:
    writer = written(tmp_path / "history.jsonl", good)
    writer.note("end")
    writer.close()
    kept = packed(tmp_path / "history.jsonl")
    assert findings(read(kept), CODEC).wrong == findings(good, CODEC).wrong
    assert check(kept) == 0


def test_a_bad_history_is_no_success(good: History, tmp_path: Path) -> None:
    del good.records[FEED][1]
    writer = written(tmp_path / "history.jsonl", good)
    writer.note("end")
    writer.close()
    assert check(tmp_path / "history.jsonl") == 1


def test_a_run_that_broke_off_is_no_success(good: History, tmp_path: Path) -> None:
    written(tmp_path / "history.jsonl", good).close()
    with pytest.raises(Unfinished):
        read(tmp_path / "history.jsonl")
    assert check(tmp_path / "history.jsonl") == 2
