"""What must be true after a run, by the :class:`Evidence`: what stands on the topics and in the database, and what those outside wrote
down for themselves. What is seen of the run itself is told by :mod:`tests.simulation.simulate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from referral_bus.contracts.delivery import Delivered
from referral_bus.contracts.ids import parse_token, region_of
from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.ledger import (
    CapacityFreed,
    CapacityLent,
    Entry,
    OfferMade,
    ServicePublished,
    SubmissionParked,
    SubmissionRefused,
    SubmissionRepeated,
    SubmissionResumed,
)
from referral_bus.demo.audit import audit
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Partition, Record
from referral_bus.sealing.memory import KeyTable, MemoryKeyStore
from referral_bus.sealing.sections import Sealer
from referral_bus.store.memory import MemoryViews
from referral_bus.store.rows import Row
from referral_bus.wire.inbox import received
from services.matching.facts import FactsOpener
from services.matching.verify import Verifier
from services.notifier.fold import Located
from services.projections.fold import Fold
from services.projections.known import KEYS
from services.projections.replay import Replay
from services.projections.tables import SERVING
from tests.simulation.feeds import notices, of_an_outbox
from tests.simulation.raised import told_of
from tests.simulation.saying import Seen
from tests.simulation.world import codec
from tests.support import checking
from tests.support.counting import SURELY_TOLD, surely_told, views_differ
from tests.support.deciding import BUS
from tests.support.lending import (
    given_and_not_lent,
    lent_twice,
    never_given_back,
    not_passed_on,
    passed_on_out_of_order,
)
from tests.support.memory_notifier import NotifierTables
from tests.support.offering import ends, misjudged

LATE_MS = 5_000
"""What fell due longer ago than this was forgotten."""


class Finding(NamedTuple):
    """What is wrong, and where."""

    kind: str
    what: str


@contextmanager
def noting(found: list[Finding]) -> Iterator[None]:
    """What is raised meanwhile is one more finding: a ledger that is damaged enough is more than a check can read."""
    try:
        yield
    except Exception as error:
        found.append(Finding("failed", told_of(error)))


class Evidence(NamedTuple):
    """All that the checker is given."""

    log: MemoryLog
    views: MemoryViews
    notifier: NotifierTables
    keys: KeyTable
    intake_key: str
    operations_key: str
    """What opens outboxes, and dead letters."""
    seen: Seen
    """What agencies, providers and recipients wrote down: nowhere else does it stand what was acknowledged, and what came."""
    now: int
    """When it was gathered, by the slowest clock."""


class Written(NamedTuple):
    """An event, and the record it stands in."""

    record: Record
    entry: Entry

    @property
    def where(self) -> str:
        return f"{self.record.topic}/{self.record.partition}/{self.record.offset}"


async def check(evidence: Evidence) -> list[Finding]:
    """Everything that is wrong."""
    log, seen = evidence.log, evidence.seen
    ledger = [Written(one, codec().decode_entry(one.value)) for one in log.records(topics.ledger(BUS))]
    inbox = log.records(topics.inbox(BUS))
    outside = checking.Seen(inbox, [one.record for one in ledger], [one.entry for one in ledger], codec())
    found = [Finding("contradicted", what) for what in seen.contradicted]
    for part in (
        _answers(inbox, ledger, seen),
        _places(ledger),
        _offers(outside),
        _lending(outside),
        _parked(ledger, evidence.now),
        _relayed(outside),
    ):
        with noting(found):
            found += part
    with noting(found):
        found += await _chain(evidence, ledger)
    if not any(one.kind == "broken" for one in found):
        with noting(found):
            found += await _views(log, evidence.views)
        for part in (_counted(inbox, ledger, evidence.views), _deliveries(ledger, evidence)):
            with noting(found):
                found += part
    letters = [one for one in log.records(topics.deadletter(BUS)) if not of_an_outbox(one)]
    found += [Finding("dead letter", f"{one.partition}/{one.offset}") for one in letters]
    return found


def _answers(inbox: list[Record], ledger: list[Written], seen: Seen) -> Iterator[Finding]:
    """Each submission on the inbox is answered once, in order; each that was acknowledged is there; none is decided twice."""
    asked = {}
    for record in inbox:
        _, submission = received(record, codec())
        if not isinstance(submission.body, Tick):
            asked[record.partition, record.offset] = submission.admitted
    for (source, id), token in seen.admitted.items():
        _, partition, offset = parse_token(token)
        there = asked.get((partition, offset))
        if there is None or (there.source, there.id) != (source, id):
            yield Finding("lost", f"{source}/{id} was acknowledged and is not on the inbox at {token}")
    answered: dict[tuple[int, int], str] = {}
    decided: dict[tuple[str, str], str] = {}
    last: dict[str, int] = {}
    for one in ledger:
        admitted, event, region = one.entry.meta.submission, one.entry.event, one.entry.meta.region
        if admitted is None:
            continue
        place = admitted.partition, admitted.offset
        if place in asked and place in answered:
            yield Finding("duplicated", f"{one.where} answers {place}, as {answered[place]} did")
        answered[place] = one.where
        if admitted.offset < last.get(region, 0):
            yield Finding("reordered", f"{one.where} answers {place}, after {last[region]} was")
        last[region] = admitted.offset
        repeated = isinstance(event, SubmissionRepeated) or (
            isinstance(event, SubmissionRefused) and event.reason == "id_reused"
        )
        key = f"{region}/{admitted.source}", admitted.id
        if not repeated and place in asked:
            if key in decided:
                yield Finding("duplicated", f"{one.where} decides {key}, as {decided[key]} did")
            decided[key] = one.where
    for place, admitted in asked.items():
        if place not in answered:
            yield Finding("unanswered", f"{admitted.source}/{admitted.id} at {place}")


def _places(ledger: list[Written]) -> Iterator[Finding]:
    """No more people have a place of a unit, or hold one, than there are places: counted here from what was offered and ended."""
    totals: dict[str, int] = {}
    holding: dict[str, str] = {}
    for one in ledger:
        event, region = one.entry.event, one.entry.meta.region
        match event:
            case ServicePublished():
                totals |= {unit.unit: unit.total for unit in event.definition.units}
            case OfferMade() if region_of(event.unit) == region:
                holding[event.task] = event.unit
            case CapacityLent():
                holding[event.task] = event.unit
            case CapacityFreed():
                holding.pop(event.task, None)
            case _:
                task = ends(event)
                # What another region lent is free when that region says so.
                if task is not None and region_of(holding.get(task, "un-nowhere-x")) == region:
                    holding.pop(task)
        if isinstance(event, OfferMade | CapacityLent) and event.unit in totals:
            held = sum(unit == event.unit for unit in holding.values())
            if held > totals[event.unit]:
                yield Finding("oversold", f"{one.where}: {held} hold a place of {event.unit}")


def _offers(outside: checking.Seen) -> Iterator[Finding]:
    """An answer in time is taken, one acceptance of a referral at a time, and no offer ends before its time."""
    return (Finding(one.kind, one.what) for one in misjudged(outside))


def _lending(outside: checking.Seen) -> Iterator[Finding]:
    """Two regions agree on each place that one lends the other."""
    for kind, sentences in (
        ("oversold", given_and_not_lent(outside.entries)),
        ("duplicated", lent_twice(outside.entries)),
        ("unanswered", never_given_back(outside.entries)),
    ):
        for sentence in sentences:
            yield Finding(kind, sentence)


def _parked(ledger: list[Written], now: int) -> Iterator[Finding]:
    """What came before what it refers to waits for a time: then it was decided, or refused. Counted from the events alone."""
    waits: dict[tuple[str, int], tuple[str, int]] = {}
    for one in ledger:
        event, meta = one.entry.event, one.entry.meta
        if isinstance(event, SubmissionParked):
            waits[meta.region, meta.sequence] = one.where, event.until
        elif isinstance(event, SubmissionResumed | SubmissionRefused) and event.parked is not None:
            waits.pop((meta.region, event.parked), None)
    for where, until in waits.values():
        if until < now - LATE_MS:
            yield Finding("forgotten", f"{where} is parked, and was to be until {until}")


def _relayed(outside: checking.Seen) -> Iterator[Finding]:
    """What a region has to say to another is on the other's inbox, in the order in which it was said."""
    for sentence in not_passed_on(outside):
        yield Finding("not relayed", sentence)
    for sentence in passed_on_out_of_order(outside):
        yield Finding("reordered", sentence)


async def _chain(evidence: Evidence, ledger: list[Written]) -> list[Finding]:
    """The chain holds, every decision comes out the same again, and nothing that fell due was forgotten."""
    verifier = Verifier(codec(), FactsOpener(MemoryKeyStore(evidence.keys), Sealer(codec())))
    for one in ledger:
        await verifier.take(one.record)
    report = await verifier.end()
    found = [Finding("broken", what) for what in report.broken]
    found += [Finding("decided differently", what) for what in report.differences]
    for region, chain in verifier._chains.items():
        due = chain.state.next_due()
        if due is not None and due.at < evidence.now - LATE_MS:
            found.append(Finding("forgotten", f"{region}: {due.kind} of {due.about} since {due.at}"))
    return found


async def _views(log: MemoryLog, views: MemoryViews) -> list[Finding]:
    """The views are the fold of the ledger, and up to its end."""
    found: list[Finding] = []
    expected: dict[str, list[Row]] = {table.name: [] for table in SERVING.views}
    for number in range(await log.partitions(topics.ledger(BUS))):
        # Each by itself: what is of one partition never comes from another.
        partition = Partition(topics.ledger(BUS), number)
        fresh = MemoryViews(SERVING.views)
        replay = await Replay.open(log, [partition], fresh, Fold(fresh, codec()))
        await replay.through(await replay.ends())
        position = replay.positions()[partition]
        if views.position(partition) != position:
            found.append(Finding("views behind", f"{number}: {views.position(partition)} of {position}"))
        for name, rows in expected.items():
            rows += fresh.table(name)
    for name, rows in expected.items():
        if views.table(name) != sorted(rows, key=lambda row: [row[column] for column in KEYS[name]]):
            found.append(Finding("views differ", name))
    return found


def _counted(inbox: list[Record], ledger: list[Written], views: MemoryViews) -> Iterator[Finding]:
    """Places, ends of referrals and of chains, counted anew: in what the bus's own fold does wrong the views agree with it."""
    counted = audit(inbox, [one.record for one in ledger], codec())
    if counted.broken_chain:
        yield Finding("broken", f"{counted.broken_chain} events do not follow the one before them")
    rows = {name: views.table(name) for name in ("referrals", "tasks", "regions", "units")}
    rows["tasks"] = [{**row, "accepted": row["accepted_at"] is not None} for row in rows["tasks"]]
    rows["regions"] = [{**row, "hash": row["hash"].hex()} for row in rows["regions"]]
    for what in views_differ((one.entry for one in ledger), counted, **rows):
        yield Finding("views differ", what)


def _deliveries(ledger: list[Written], evidence: Evidence) -> Iterator[Finding]:
    """Each subscription was told of each event it covers, once, and of nothing else."""
    # Which of two regions' events is heard first is open, and so is whether one knows a role by the other.
    orders = ledger, sorted(ledger, key=_last_region_first)
    one_way, other_way = (_expected(evidence.notifier, order) for order in orders)
    types = {(one.entry.meta.region, one.entry.meta.sequence): one.entry.event.event_type() for one in ledger}
    told: dict[tuple[str | int, ...], str] = {}
    came = evidence.seen.received | notices(evidence.log)  # to a door, or on a feed
    for identity, notice in came.items():
        event = notice["region"], notice["sequence"]
        key: tuple[str | int, ...] = (identity.split(".")[0], *event)
        if key in told:
            yield Finding("told twice", f"{told[key]} and {identity}")
        told[key] = identity
        if types.get(event) != notice["type"]:
            yield Finding("told of nothing", f"{identity}: {notice['type']} is not on the ledger")
        elif key not in one_way | other_way:
            yield Finding("told wrongly", identity)
    said = (codec().decode(one.value) for one in evidence.log.records(topics.delivery(BUS)))
    done = {one.delivery for one in said if isinstance(one, Delivered)}
    for key in sorted(one_way & other_way):
        if key not in told:
            yield Finding("not told", ".".join(map(str, key)))
        elif told[key] not in done:
            yield Finding("delivery not recorded", told[key])
    yield from _heard(ledger, evidence.notifier, came)


def _heard(
    ledger: list[Written], notifier: NotifierTables, received: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    """Whom the events themselves name was told of them: in what the notifier's own code does wrong the expectation agrees with it."""
    surely = {kind.event_type() for kind in SURELY_TOLD}
    types = {(one.entry.meta.region, one.entry.meta.sequence): one.entry.event.event_type() for one in ledger}
    must = surely_told(one.entry for one in ledger)
    for one in notifier.subscriptions:
        came = {
            (notice["region"], notice["sequence"])
            for identity, notice in received.items()
            if identity.startswith(f"{one.subscription}.") and notice["type"] in surely
        }
        due = {
            (region, sequence)
            for organisation, region, sequence in must
            if organisation == one.organisation and types[region, sequence] in (one.types or surely)
        }
        for region, sequence in sorted(due ^ came):
            kind = "told wrongly" if (region, sequence) in came else "not told"
            yield Finding(kind, f"{one.subscription}.{region}.{sequence}, by the events alone")


def _expected(notifier: NotifierTables, ledger: Iterable[Written]) -> set[tuple[str | int, ...]]:
    tables = NotifierTables(notifier.subscriptions)
    tables.take([Located(one.entry, one.record.partition, one.record.offset) for one in ledger], 0)
    return set(tables.deliveries)


def _last_region_first(one: Written) -> int:
    return -one.record.partition


def kinds(found: Iterable[Finding]) -> str:
    """The kinds of findings, each once."""
    return ", ".join(sorted({one.kind for one in found}))
