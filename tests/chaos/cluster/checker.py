"""The checker: what a kept history says went wrong, by kinds, each of which must be nought, and which targets of time it missed.

It knows no code of a service. It holds the clients' own lists, the topics as an outsider read them, and the rows of the views against
each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from referral_bus.contracts.ledger import SubmissionRepeated
from referral_bus.demo.audit import Audit, audit
from referral_bus.log.topics import deadletter, feed, inbox, ledger
from referral_bus.wire.codec import Codec
from tests.chaos.cluster.faults import ROUND
from tests.chaos.cluster.history import History, Unfinished, read
from tests.chaos.cluster.standstill import percentile, standstills
from tests.support.checking import (
    Seen,
    answered_once,
    at_their_tokens,
    ended,
    feed_places,
    heard_of,
    in_order,
    told_all,
)
from tests.support.counting import views_differ, ways
from tests.support.lending import (
    given_and_not_lent,
    lent_twice,
    never_given_back,
    not_passed_on,
    passed_on_out_of_order,
)
from tests.support.offering import misjudged

KINDS: Final = (
    "lost",
    "duplicated",
    "oversold",
    "reordered",
    "views different",
    "unanswered",
    "refused",
    "idle faults",
    "stuck",
    "untried",
)
"""The last four: what was refused though it was good, or ended before its time; faults that met no work; faults after which not everything
went on in time; and ways to a place that nobody went in a whole round."""
_OFFERS: Final = {
    "refused wrongly": "refused",
    "expired early": "refused",
    "accepted wrongly": "oversold",
    "accepted twice": "duplicated",
}
_SHOWN: Final = 5
P50_SECONDS: Final = 10.0
WORST_SECONDS: Final = 30.0


@dataclass(slots=True)
class Findings:
    """What is wrong, in sentences, by kind."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    counts: Counter[str] = field(default_factory=Counter)
    """What was looked at."""

    def add(self, kind: str, sentences: Iterable[str]) -> None:
        self.wrong[kind] += sentences

    @property
    def good(self) -> bool:
        return not any(self.wrong.values())


def findings(history: History, codec: Codec) -> Findings:
    """Everything that is wrong in a history."""
    bus, found = history.run["bus"], Findings()
    seen = Seen.of(history.records[inbox(bus)], history.records[ledger(bus)], codec)
    acknowledged, gone = history.noted("acknowledged"), ways(seen.entries)
    found.counts.update(
        {
            "acknowledged": len(acknowledged),
            "requests broken off": len(history.noted("broken")),
            "on the inbox": len(seen.inbox),
            "events": len(seen.entries),
            "referrals": len(seen.agencies),
            **gone,
        }
    )
    _answers(found, acknowledged, seen)
    _ends(found, acknowledged, seen)
    counted = audit(seen.inbox, seen.ledger, codec)
    _audit(found, counted)
    found.add("reordered", _out_of_order(seen))
    _lending(found, seen)
    for one in misjudged(seen):
        found.add(_OFFERS[one.kind], [one.what])
    _feeds(found, history, seen)
    found.add("views different", _views(history, seen, counted))
    found.add("lost", (f"a dead letter at {record.offset}" for record in history.records[deadletter(bus)]))
    found.add(
        "refused",
        (f"{line['id']} of {line['organisation']}: {line['code']}" for line in history.noted("refused")),
    )
    found.add(
        "duplicated",
        (f"{line['id']} was answered unlike the first time" for line in history.noted("differs")),
    )
    found.add("unanswered", _unsettled(history))
    found.add("idle faults", _idle(history, seen))
    if len(history.faults) >= ROUND:
        # With fewer the run may be too short for it.
        found.add("untried", (f"{way}: 0 in {len(history.faults)} faults" for way in gone if not gone[way]))
    found.add(
        "stuck",
        (f"after fault {n}" for fault in history.faults if (n := fault["number"]) not in history.recovered),
    )
    return found


def _answers(found: Findings, acknowledged: list[dict[str, object]], seen: Seen) -> None:
    for sentence in answered_once(acknowledged, seen):
        if "not on the inbox" in sentence:
            found.add("lost", [sentence])
        elif sentence.endswith("answered 0 times"):
            found.add("unanswered", [sentence])
        else:
            found.add("duplicated", [sentence])
    found.add("reordered", at_their_tokens(acknowledged, seen))


def _ends(found: Findings, acknowledged: list[dict[str, object]], seen: Seen) -> None:
    referrals = {str(line["referral"]) for line in acknowledged if line["kind"] == "SubmitReferral"}
    for sentence in ended(referrals, seen):
        if "never opened" in sentence:
            found.add("lost", [sentence])
        else:
            found.add("unanswered" if sentence.endswith(" 0 times") else "duplicated", [sentence])


def _audit(found: Findings, counted: Audit) -> None:
    found.add(
        "unanswered", [f"{counted.lost} submissions on the inbox have no answer"] if counted.lost else []
    )
    found.add("duplicated", [f"{counted.duplicated} answers too many"] if counted.duplicated else [])
    found.add(
        "oversold",
        [f"{counted.oversold} times a place was given that was not free"] if counted.oversold else [],
    )
    found.add("reordered", [f"{counted.broken_chain} breaks in the chain"] if counted.broken_chain else [])
    found.add("lost", [f"{counted.undecodable} unreadable on the inbox"] if counted.undecodable else [])


def _lending(found: Findings, seen: Seen) -> None:
    found.add("lost", not_passed_on(seen))
    found.add("duplicated", lent_twice(seen.entries))
    found.add("oversold", given_and_not_lent(seen.entries))
    found.add("reordered", passed_on_out_of_order(seen))
    found.add("unanswered", never_given_back(seen.entries))


def _out_of_order(seen: Seen) -> Iterable[str]:
    """A region answers its inbox in order. What was parked is answered again later, by right: the first answer counts."""
    last: dict[str, int] = {}
    answered: set[tuple[str, int]] = set()
    for entry in seen.entries:
        submission, region = entry.meta.submission, entry.meta.region
        if submission is None or (region, submission.offset) in answered:
            continue
        answered.add((region, submission.offset))
        if submission.offset < last.get(region, -1):
            yield f"{region} answered inbox offset {submission.offset} behind {last[region]}"
        last[region] = max(last.get(region, -1), submission.offset)


def _feeds(found: Findings, history: History, seen: Seen) -> None:
    for line in history.noted("subscribed"):
        if line["channel"] == "feed":
            organisation = line["organisation"]
            came = feed_places(history.records[feed(history.run["bus"], organisation)], line["subscription"])
            for sentence in told_all(organisation, heard_of(organisation, line["role"], seen), came):
                found.add("lost" if sentence.endswith("never came") else "duplicated", [sentence])
            found.add("reordered", in_order(organisation, came, seen))


def _views(history: History, seen: Seen, counted: Audit) -> Iterable[str]:
    """Some of what the views must say, told from the ledger anew; and what the bus's own comparisons said."""
    rows = {table: history.rows[table] for table in ("referrals", "tasks", "regions", "units")}
    yield from views_differ(seen.entries, counted, **rows)
    if history.views is None:
        yield f"refbus check-views said nothing: {history.unsaid.get('check-views', 'it was not kept')}"
    elif not history.views["equal"]:
        yield f"refbus check-views: {history.views['different']} rows differ"
    if history.verified is None:
        yield f"refbus verify said nothing: {history.unsaid.get('verify', 'it was not kept')}"
    elif not history.verified["good"]:
        yield f"refbus verify: {history.verified['decisions'] - history.verified['same']} decisions come out otherwise"


def _unsettled(history: History) -> Iterable[str]:
    if history.unsettled is not None:
        left = ", ".join(f"{count} {what}" for what, count in history.unsettled["left"].items())
        yield f"not all came to rest in {history.unsettled['seconds']:.0f} s: {left}"


def _idle(history: History, seen: Seen) -> Iterable[str]:
    """Faults that met no work. Of decisions the topics know themselves what was asked before the fault and answered after it; what was
    under way elsewhere, and whether a full disk refused a write, was seen by the run."""
    answered: dict[tuple[int, int], float] = {}
    for record, entry in zip(seen.ledger, seen.entries, strict=True):
        if entry.meta.submission is not None and not isinstance(entry.event, SubmissionRepeated):
            place = entry.meta.submission.partition, entry.meta.submission.offset
            answered.setdefault(place, history.monotonic(record.timestamp))
    spans = [
        (record.partition, history.monotonic(record.timestamp), answered[record.partition, record.offset])
        for record in seen.inbox
        if (record.partition, record.offset) in answered
    ]
    for fault in history.faults:
        own = fault.get("partitions")
        undecided = sum(
            asked <= fault["at"] < said and (own is None or number in own) for number, asked, said in spans
        )
        first = next(iter(fault["backlog"]))
        if (undecided if first == "undecided" else fault["backlog"][first]) < 1:
            yield f"fault {fault['number']} ({fault['how']} {' and '.join(fault['victims'])}) met no work"
        elif fault["number"] in history.full.keys() - history.unwritten.keys():
            yield f"fault {fault['number']} ({fault['how']} {' and '.join(fault['victims'])}) had no write refused"
    if not history.faults:
        yield "there was no fault"


def report(history: History, found: Findings, say: Callable[[str], None] = print) -> int:
    """Say what happened, what is wrong, and which targets were missed. Returns 0 where all is as it must be, 1 where something is wrong, 3
    where nothing is but a target was missed."""
    stood = standstills(history)
    say(f"{'':3} {'':16} {'':28} {'left undone':26} {'stood still':>11}  where")
    for fault, (seconds, lane) in zip(history.faults, stood, strict=True):
        what, count = next(iter(fault["backlog"].items()))
        say(
            f"{fault['number']:3} {fault['how']:16} {' and '.join(fault['victims']):28} {count:6} {what:19} {seconds:9.1f} s  {lane}"
        )
    times = [seconds for seconds, _ in stood]
    p50, worst = percentile(times, 0.5), max(times, default=0.0)
    missed = [
        f"time without progress: {name} {seconds:.1f} s, target {target:.0f} s"
        for name, seconds, target in (("p50", p50, P50_SECONDS), ("worst", worst, WORST_SECONDS))
        if seconds > target
    ]
    for fault in history.faults:
        if fault["how"] == "disk filled" and fault["number"] not in history.full:
            say(f"not known of fault {fault['number']}, since the history is too old: was a write refused?")
    for how, why in history.run["skipped"].items():
        say(f"skipped: {how}, since {why}")
    say(", ".join(f"{name} {count}" for name, count in found.counts.items()))
    say(", ".join(f"{kind} {len(sentences)}" for kind, sentences in found.wrong.items()))
    say(
        f"ended by themselves and started again: {', '.join(sorted(line['part'] for line in history.fell)) or 'none'}"
    )
    say(
        f"time without progress: p50 {p50:.1f} s (target {P50_SECONDS:.0f}), worst {worst:.1f} s (target {WORST_SECONDS:.0f})"
    )
    for kind, sentences in found.wrong.items():
        for sentence in sentences[:_SHOWN]:
            say(f"{kind}: {sentence}")
    for sentence in missed:
        say(f"target missed: {sentence}")
    if not found.good:
        return 1
    return 3 if missed else 0


def check(path: Path) -> int:
    """What the report returns; 2 where there is nothing to check."""
    try:
        history = read(path)
    except (Unfinished, OSError, ValueError) as error:
        print(f"{path} can't be checked: {error}")
        return 2
    return report(history, findings(history, Codec.load()))
