"""The checker of ``make chaos`` must be able to find what it looks for: good histories are made up, and then spoiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from referral_bus.log.port import Record
from referral_bus.log.topics import deadletter
from referral_bus.wire.inbox import received
from tests.chaos.cluster.checker import check, findings, report
from tests.chaos.cluster.history import History, Unfinished, Writer, packed, read
from tests.chaos.cluster.standstill import lanes, longest, percentile, standstills
from tests.support.chaos_stories import BEGAN, BUS, FEED, INBOX, LEDGER, OTHER, Story, story, wrong
from tests.support.viewing import CODEC, START, accepted


@pytest.fixture
def good() -> History:
    return story().ended()


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


def test_what_has_not_come_to_rest_in_the_end_is_unanswered(good: History) -> None:
    good.unsettled = {"seconds": 240.0, "left": {"undecided": 3, "not in the views": 0, "not told": 2}}
    assert findings(good, CODEC).wrong["unanswered"] == [
        "not all came to rest in 240 s: 3 undecided, 0 not in the views, 2 not told"
    ]
    assert wrong(good) == {"unanswered"}


def test_a_command_that_failed_is_told_with_why_and_all_else_is_checked(good: History) -> None:
    good.views, good.unsaid["check-views"] = None, "the views do not reflect the ledger after 60 s"
    good.noted("acknowledged")[0]["referral"] = OTHER
    found = findings(good, CODEC)
    assert found.wrong["views different"] == [
        "refbus check-views said nothing: the views do not reflect the ledger after 60 s"
    ]
    assert wrong(good) == {"lost", "views different"}


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


def test_only_what_lay_before_the_victim_is_work_it_met(good: History) -> None:
    good.faults[0].update(victims=["matching-2"], partitions=[0])
    assert wrong(good) == set()
    good.faults[0]["partitions"] = [1]
    assert wrong(good) == {"idle faults"}


def test_a_full_disk_on_which_no_write_was_refused_met_no_work(good: History) -> None:
    good.faults[0]["how"], good.full[1] = "disk filled", BEGAN + 0.6
    assert findings(good, CODEC).wrong["idle faults"] == [
        "fault 1 (disk filled kafka-1) had no write refused"
    ]
    good.unwritten[1] = "kafka-1 ended"
    assert wrong(good) == set()


def test_of_a_full_disk_in_an_older_history_it_is_said_that_nobody_noted_a_refusal(good: History) -> None:
    said: list[str] = []
    good.faults[0]["how"] = "disk filled"
    found = findings(good, CODEC)
    assert found.good
    report(good, found, said.append)
    assert "not known of fault 1, since the history is too old: was a write refused?" in said


def test_a_run_without_a_fault_proves_nothing(good: History) -> None:
    good.faults.clear()
    assert wrong(good) == {"idle faults"}


def test_a_fault_after_which_not_everything_goes_on_is_told(good: History) -> None:
    good.recovered.clear()
    assert wrong(good) == {"stuck"}


def test_a_standstill_is_the_longest_time_between_two_marks_after_the_fault() -> None:
    assert longest([1.0, 2.0, 7.0, 8.0], [2.5], 9.0) == [4.5]
    assert longest([], [2.0], 9.0) == [7.0]
    assert longest([1.0, 10.0], [2.0], 9.0) == [7.0]
    assert longest([1.0, 3.0, 8.0, 9.0], [2.0, 7.5], 10.0) == [4.5, 1.0]


def test_a_standstill_that_outlasts_the_gap_between_faults_is_whole_and_is_the_first_ones() -> None:
    marks = [*map(float, range(12)), 130.0, 131.0]
    assert longest(marks, [10.0, 25.0, 40.0, 55.0], 132.0) == [119.0, 0.0, 0.0, 1.0]


def test_a_standstill_that_had_hardly_begun_when_a_fault_struck_is_that_faults() -> None:
    marks = [*map(float, range(25)), 90.0, 91.0]
    assert longest(marks, [10.0, 25.0, 40.0], 92.0) == [1.0, 65.0, 1.0]


def test_faults_after_the_clients_have_spoken_have_no_standstill() -> None:
    assert longest([1.0, 2.0], [1.0, 5.0], 3.0) == [1.0, 0.0]
    assert longest([], [5.0, 6.0], 3.0) == [0.0, 0.0]


def test_an_outbox_that_is_unread_for_minutes_is_not_cut_in_pieces_by_the_faults_between() -> None:
    story = Story()
    for seconds in (0, 1, 2, 200, 201):
        story.seconds = seconds
        story.asks("hospital", f"sealed-{seconds}", OTHER, "SubmitReferral")
    for seconds in range(202):
        story.seconds = seconds
        story.asks("hospital", f"typed-{seconds}", OTHER, "SubmitReferral")
    history = story.ended()
    for line in history.noted("acknowledged"):
        line["door"] = "outbox" if line["id"].startswith("sealed") else "http"
    history.positions.clear()
    first = {**history.faults[0], "at": BEGAN + 1.5}
    history.faults[:] = [{**first, "number": n + 1, "at": BEGAN + 1.5 + 15 * n} for n in range(13)]
    (seconds, lane), *others = standstills(history)
    assert (seconds, lane) == (198.0, "outboxes client-1")
    assert {seconds for seconds, _ in others} == {1.0}


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


def test_what_nobody_submits_once_the_run_settles_is_no_standstill(good: History) -> None:
    good.lines["client-1"].append({"at": BEGAN + 40.0, "what": "finished"})
    assert standstills(good)[0][0] > 30.0
    good.settling = BEGAN + 2.0
    assert standstills(good)[0][0] == 1.5


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (1.0, 4.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_the_report_names_what_is_wrong(good: History) -> None:
    said: list[str] = []
    good.rows["referrals"].pop()
    assert report(good, findings(good, CODEC), said.append) == 1
    assert any(line.startswith("views different: rf-north-") for line in said)


def slow(history: History, *, seconds: float) -> History:
    """Nobody was told anything for so long after the only fault."""
    start = history.faults[0]["at"]
    history.positions[1:] = [
        {"at": start + seconds, "what": "positions", "views": {"0": 9_999}, "told": {"0": int(start)}},
    ]
    history.lines["client-1"].append({"at": start + seconds, "what": "finished"})
    return history


@pytest.mark.parametrize(
    ("seconds", "missed"), [(9.0, []), (12.0, ["p50 12.0"]), (31.0, ["p50 31.0", "worst 31.0"])]
)
def test_a_missed_target_is_named_and_is_no_success_and_nothing_wrong(
    good: History, seconds: float, missed: list[str]
) -> None:
    said: list[str] = []
    found = findings(slow(good, seconds=seconds), CODEC)
    assert found.good
    assert report(good, found, said.append) == (3 if missed else 0)
    targets = [line for line in said if line.startswith("target missed: time without progress: ")]
    assert [line.split(": ")[2].split(" s,")[0] for line in targets] == missed


def test_what_is_wrong_counts_for_more_than_a_missed_target(good: History) -> None:
    said: list[str] = []
    del good.records[FEED][1]
    assert report(slow(good, seconds=31.0), findings(good, CODEC), said.append) == 1
    assert any(line.startswith("target missed: ") for line in said)


def written(path: Path, history: History) -> Writer:
    writer = Writer(path)
    writer.note(**history.run)
    for line in (*history.faults, *history.positions):
        writer.note(**{"what": "fault", **line})
    for number, at in history.full.items():
        writer.note("full", at=at, number=number)
    for number, words in history.unwritten.items():
        writer.note("unwritten", number=number, said=words)
    for number, seconds in history.recovered.items():
        writer.note("recovered", number=number, seconds=seconds)
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
    good.full[1], good.unwritten[1] = BEGAN + 0.6, "kafka-1 ended"
    writer = written(tmp_path / "history.jsonl", good)
    writer.note("end")
    writer.close()
    kept = packed(tmp_path / "history.jsonl")
    assert (read(kept).full, read(kept).unwritten) == (good.full, good.unwritten)
    assert findings(read(kept), CODEC).wrong == findings(good, CODEC).wrong
    assert check(kept) == 0


def test_a_bad_history_is_no_success(good: History, tmp_path: Path) -> None:
    del good.records[FEED][1]
    writer = written(tmp_path / "history.jsonl", good)
    writer.note("end")
    writer.close()
    assert check(tmp_path / "history.jsonl") == 1


def test_a_kept_history_that_missed_a_target_misses_it_again(good: History, tmp_path: Path) -> None:
    writer = written(tmp_path / "history.jsonl", slow(good, seconds=31.0))
    writer.note("end")
    writer.close()
    assert check(packed(tmp_path / "history.jsonl")) == 3


def test_a_run_that_broke_off_is_no_success(good: History, tmp_path: Path) -> None:
    written(tmp_path / "history.jsonl", good).close()
    with pytest.raises(Unfinished):
        read(tmp_path / "history.jsonl")
    assert check(tmp_path / "history.jsonl") == 2
