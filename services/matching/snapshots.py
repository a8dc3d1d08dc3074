"""Snapshots: a partition's state in a file, so that a restart reads only what the ledger got since.

A snapshot is a shortcut and never a source: one that is damaged, of another shape of state, or of other schemas is thrown away, and one
that is ahead of the ledger (which was restored to an earlier point) too. Nothing in it is clear: facts rest in it sealed, as on the ledger.

The file is JSON lines: a header, blocks of rows, and the SHA-256 of all before it. It is written beside its former one and takes
its place.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.ids import region_of
from referral_bus.contracts.ledger import Admitted
from referral_bus.contracts.message import Part
from referral_bus.contracts.reference import Organisation, Policy, Protocol
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.wire.schemas import SCHEMAS
from services.matching.chain import Chain
from services.matching.core.judging.places import Reliability
from services.matching.core.referral import Closed, Followed, Referral, Report, Served, Started, Task
from services.matching.core.rules import SUPPORTED
from services.matching.core.state import Answered, Due, Lent, Parked, Region, Unit
from services.matching.disk import Disk, LocalDisk

logger = logging.getLogger(__name__)

STATE_VERSION: Final = 15
"""Raised with every change to what the state holds or to what the fold makes of an event."""

_BLOCK: Final = 1_000
"""Rows encoded at once: the thread that writes lets the event loop run between two blocks."""

Row = list[Any]


@dataclass(slots=True)
class Snapshot:
    """A partition's state as of ledger offset ``next_offset``: every event before it is in, and some behind it may be."""

    partition: int
    next_offset: int
    chains: dict[str, Chain] = field(default_factory=dict)


class CapturedRegion(NamedTuple):
    """A region's state as plain values that nobody changes any more."""

    region: str
    prev_hash: bytes
    regional: dict[str, Any]
    tables: dict[str, list[Row]]


class Captured(NamedTuple):
    """A partition's state, ready to be written."""

    partition: int
    next_offset: int
    regions: list[CapturedRegion]


def capture(snapshot: Snapshot) -> Captured:
    """Copy the state at once: a few tenths of a second for a hundred thousand referrals. Forgets what is older than the horizon."""
    regions = []
    for region, chain in snapshot.chains.items():
        chain.state.forget_old()
        regions.append(CapturedRegion(region, chain.prev_hash, _regional(chain.state), _rows(chain.state)))
    return Captured(snapshot.partition, snapshot.next_offset, regions)


class SnapshotUnusable(Exception):
    """Why a snapshot is thrown away."""


class Snapshots:
    """The snapshots of one process, a file a partition, in ``folder``."""

    def __init__(self, folder: Path, bus: str, disk: Disk | None = None) -> None:
        self._folder = folder
        self._bus = bus
        self._disk = disk or LocalDisk()
        self._schemas = hashlib.sha256((SCHEMAS / "ids.json").read_bytes()).hexdigest()

    async def load(self, partition: int) -> Snapshot | None:
        """The partition's snapshot; None where there is none that can be used."""
        path = self._path(partition)
        try:
            return await self._disk.aside(lambda: self._read(path, partition))
        except FileNotFoundError:
            return None
        except (SnapshotUnusable, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            logger.warning(
                "the snapshot %s is not used: %s",
                path.name,
                error if isinstance(error, SnapshotUnusable) else type(error).__name__,
            )
            return None

    async def discard(self, partition: int) -> None:
        """Remove a snapshot that turned out not to be of this ledger; where the disk won't, it is found out again."""
        path = self._path(partition)
        try:
            await self._disk.aside(lambda: self._disk.remove(path))
        except OSError as error:
            logger.warning("the snapshot %s can't be removed: %s", path.name, error.strerror)

    async def save(self, captured: Captured) -> None:
        """Put the snapshot in the place of the former one. Raises OSError."""
        header = {"version": STATE_VERSION, "schemas": self._schemas, "bus": self._bus, "partition": captured.partition,
                  "next_offset": captured.next_offset, "regions": len(captured.regions)}  # fmt: skip
        path = self._path(captured.partition)
        await self._disk.aside(lambda: self._write(path, _sealed(_lines(header, captured.regions))))

    def _path(self, partition: int) -> Path:
        return self._folder / f"matching-{self._bus}-{partition}.jsonl"

    def _write(self, path: Path, content: Iterable[bytes]) -> None:
        temporary = path.with_suffix(".new")
        self._disk.write(temporary, content)
        self._disk.replace(temporary, path)

    def _read(self, path: Path, partition: int) -> Snapshot:
        lines = iter(_unsealed(self._disk.read(path)).splitlines())
        header = json.loads(next(lines))
        wanted = {
            "version": STATE_VERSION,
            "schemas": self._schemas,
            "bus": self._bus,
            "partition": partition,
        }
        for name, value in wanted.items():
            if header[name] != value:
                raise SnapshotUnusable(f"it is of another {name}")
        snapshot = Snapshot(partition, header["next_offset"])
        for _ in range(header["regions"]):
            chain = _chain(json.loads(next(lines)), lines)
            snapshot.chains[chain.state.region] = chain
        return snapshot


def _sealed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, and the checksum of them all."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
        yield line
    yield digest.hexdigest().encode() + b"\n"


def _unsealed(content: bytes) -> bytes:
    """The lines without their checksum. Raises SnapshotUnusable where it is not theirs: the disk lost or changed something."""
    body, _, checksum = content[:-1].rpartition(b"\n")
    body += b"\n"
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        raise SnapshotUnusable("it is damaged")
    return body


def _lines(header: dict[str, Any], regions: Iterable[CapturedRegion]) -> Iterator[bytes]:
    yield _line(header)
    for region, prev_hash, regional, tables in regions:
        counts = {name: -(-len(rows) // _BLOCK) for name, rows in tables.items()}
        yield _line({"region": region, "prev_hash": prev_hash.hex(), **regional, "blocks": counts})
        for rows in tables.values():
            iterator = iter(rows)
            while block := list(islice(iterator, _BLOCK)):
                yield _line(block)


def _line(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), default=_hex).encode() + b"\n"


def _hex(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"a snapshot holds a {type(value).__name__}")


def _regional(state: Region) -> dict[str, Any]:
    """What there is once a region."""
    return {
        "now": state.now,
        "sequence": state.sequence,
        "decided_through": state.decided_through,
        "rules": state.rules,
        "policy": None if state.policy is None else _dumped(state.policy),
        "erased": sorted(state.erased),
        "ready": list(state.ready),
        "window": list(state.window),
        "window_ends": state.window_ends,
        "assigned": dict(state.assigned),
        "split_off": list(state.split_off),
        "freed": list(state.freed),
    }


def _dumped(message: Part) -> dict[str, Any]:
    return message.model_dump(mode="json")


def _rows(state: Region) -> dict[str, list[Row]]:
    """Everything else, as rows of plain values. Versions of protocols that referrals still follow are written once, and named by number."""
    followed = [r.protocol for r in state.referrals.values()] + [c.protocol for c in state.closed.values()]
    protocols = {(one.protocol, one.version): one for one in [*state.protocols.values(), *followed]}
    numbers = {key: number for number, key in enumerate(protocols)}

    def number(protocol: Protocol) -> int:
        return numbers[protocol.protocol, protocol.version]

    return {
        "followed": [[_dumped(protocol)] for protocol in protocols.values()],
        "protocols": [[number(protocol)] for protocol in state.protocols.values()],
        "calendars": [[_dumped(calendar)] for calendar in state.calendars.values()],
        "organisations": [[_dumped(one)] for one in state.organisations.values()],
        "versions": [[kind, reference, version] for (kind, reference), version in state.versions.items()],
        "taxonomies": [[_dumped(one)] for one in state.vocabularies.taxonomies.values()],
        "crosswalks": [[_dumped(one)] for one in state.vocabularies.crosswalks.values()],
        "services": [[_dumped(definition)] for definition in state.catalogue.definitions.values()],
        "units": [
            [
                u.unit,
                u.service,
                u.total,
                u.taken,
                u.held,
                u.counted_at,
                u.overbook,
                u.moved,
                u.doubted,
                u.doubted_at,
                u.doubted_until,
            ]
            for u in state.units.values()
        ],
        "lent": [[task, *one] for task, one in state.lent.items()],
        "passed_over": [[service, sorted(names)] for service, names in state.passed_over.items()],
        "short": [[unit, sorted(regions)] for unit, regions in state.short.items()],
        "reliability": [[service, *one] for service, one in state.reliability.items()],
        "referrals": [
            [
                name,
                r.agency,
                r.subject,
                r.urgency,
                r.purpose,
                number(r.protocol),
                r.sealed_facts,
                r.mode,
                r.target,
                r.opened_at,
                r.in_line_since,
                r.unaccepted_since,
                r.unaccepted_for,
                r.tasks,
                r.asked_before,
                r.round_from,
                dict(r.never),
                r.on_hold,
                r.held_until,
                r.waits_for,
                r.review_at,
                r.part_of,
                None if r.parts is None else sorted(r.parts),
                r.results,
                r.withdrawn,
                sorted(r.confirmed),
                r.start,
                r.reports,
                _served_row(r.served),
                [_served_row(one) for one in r.former],
            ]
            for name, r in state.referrals.items()
        ],
        "closed": [
            [
                name,
                *c._replace(
                    protocol=number(c.protocol),  # type: ignore[arg-type]
                    never=dict(c.never),
                    served=_served_row(c.served),  # type: ignore[arg-type]
                    joined=dict(c.joined),
                    former=[_served_row(one) for one in c.former],  # type: ignore[arg-type]
                ),
            ]
            for name, c in state.closed.items()
        ],
        "parked": [[at, _dumped(p.admitted), p.waiting_for, p.until] for at, p in state.parked.items()],
        "answered": [[key, *one] for key, one in state.answered.items()],
        "due": [list(due) for due in state.due],
    }


def _served_row(served: Served | None) -> Row | None:
    return None if served is None else list(served._replace(confirmed=sorted(served.confirmed)))  # type: ignore[arg-type]


def _served(row: Any) -> Served | None:
    if row is None:
        return None
    served = Served(*row)
    return served._replace(
        start=_start(served.start), confirmed=frozenset(served.confirmed), reports=_reports(served.reports)
    )


def _formers(rows: Any) -> tuple[Served, ...]:
    return tuple(one for one in map(_served, rows) if one is not None)


def _start(row: Any) -> Started | None:
    return None if row is None else Started(*row)


def _reports(rows: Any) -> tuple[Report, ...]:
    return tuple(Report(*row) for row in rows)


def _chain(regional: dict[str, Any], lines: Iterator[bytes]) -> Chain:
    if regional["rules"] not in SUPPORTED:
        # The ledger has the event that activated them, and folding that says what to do.
        raise SnapshotUnusable(f"region {regional['region']} is under rules {regional['rules']}")
    tables: dict[str, list[Row]] = {}
    for name, blocks in regional["blocks"].items():
        tables[name] = [row for _ in range(blocks) for row in json.loads(next(lines))]
    state = Region(
        regional["region"],
        now=regional["now"],
        sequence=regional["sequence"],
        last_hash=bytes.fromhex(regional["prev_hash"]),
        decided_through=regional["decided_through"],
        rules=regional["rules"],
        policy=None if regional["policy"] is None else Policy.model_validate(regional["policy"]),
        erased=set(regional["erased"]),
    )
    state.ready.extend(regional["ready"])
    state.window.extend(regional["window"])
    state.window_ends = regional["window_ends"]
    state.assigned.update(regional["assigned"])
    state.split_off.extend(regional["split_off"])
    state.freed.extend(regional["freed"])
    state.versions.update({(kind, reference): version for kind, reference, version in tables["versions"]})
    for (organisation,) in tables["organisations"]:
        known = Organisation.model_validate(organisation)
        state.organisations[known.organisation] = known
    for (calendar,) in tables["calendars"]:
        state.keep(Calendar.model_validate(calendar))
    for (taxonomy,) in tables["taxonomies"]:
        state.vocabularies.put_taxonomy(Taxonomy.model_validate(taxonomy))
    for (crosswalk,) in tables["crosswalks"]:
        state.vocabularies.put_crosswalk(Crosswalk.model_validate(crosswalk))
    for (definition,) in tables["services"]:
        state.catalogue.put(ServiceDefinition.model_validate(definition))
    for row in tables["units"]:
        unit = state.units[row[0]] = Unit(*row)
        unit.moved = tuple((at, places) for at, places in unit.moved)
    for task, *row in tables["lent"]:
        lent = state.lent[task] = Lent(*row)
        if not lent.taken:
            key = (lent.unit, region_of(task))
            state.promised[key] = state.promised.get(key, 0) + 1
    for unit_id, regions in tables["short"]:
        state.short[unit_id] = frozenset(regions)
    for service, kept, broken in tables["reliability"]:
        state.reliability[service] = Reliability(kept, broken)
    protocols = [Protocol.model_validate(row[0]) for row in tables["followed"]]
    for (number,) in tables["protocols"]:
        state.protocols[protocols[number].protocol] = protocols[number]
    for name, *row in tables["referrals"]:
        _put_referral(state, name, row, protocols)
    for service, names in tables["passed_over"]:
        state.passed_over[service] = frozenset(names)
    for name, *row in tables["closed"]:
        closed = Closed(*row)
        state.closed[name] = closed._replace(
            protocol=protocols[row[_PROTOCOL_OF_CLOSED]],
            asked=tuple(closed.asked),
            followed=tuple(Followed(*one) for one in closed.followed),
            to_ask=tuple(closed.to_ask),
            served=_served(closed.served),
            former=_formers(closed.former),
        )
    for sequence, admitted, waiting_for, until in tables["parked"]:
        state.park(sequence, Parked(Admitted.model_validate(admitted), waiting_for, until))
    for key, digest, sequence, at in tables["answered"]:
        state.answered[bytes.fromhex(key)] = Answered(bytes.fromhex(digest), sequence, at)
    state.due.extend(Due(*row) for row in tables["due"])
    return Chain(state)


_PROTOCOL_OF_CLOSED: Final = Closed._fields.index("protocol")


def _put_referral(state: Region, name: str, row: Row, protocols: list[Protocol]) -> None:
    (
        agency,
        subject,
        urgency,
        purpose,
        protocol,
        facts,
        mode,
        target,
        opened_at,
        in_line_since,
        unaccepted_since,
        unaccepted_for,
        tasks,
        asked_before,
        round_from,
        *row,
    ) = row
    never, on_hold, held_until, waits_for, review_at, part_of, parts, results, *row = row
    withdrawn, confirmed, start, reports, served, former = row
    referral = Referral(
        agency=agency,
        subject=subject,
        urgency=urgency,
        purpose=purpose,
        protocol=protocols[protocol],
        sealed_facts=bytes.fromhex(facts),
        mode=mode,
        target=target,
        opened_at=opened_at,
        in_line_since=in_line_since,
        unaccepted_since=unaccepted_since,
        unaccepted_for=unaccepted_for,
        tasks=tuple(Task(*task) for task in tasks),
        asked_before=tuple(asked_before),
        round_from=round_from,
        never=never,
        on_hold=on_hold,
        held_until=held_until,
        review_at=review_at,
        part_of=part_of,
        parts=None if parts is None else frozenset(parts),
        results=results,
        withdrawn=withdrawn,
        confirmed=frozenset(confirmed),
        start=_start(start),
        reports=_reports(reports),
        served=_served(served),
        former=_formers(former),
    )
    state.referrals[name] = referral
    if waits_for is not None:
        state.lines_up(name, referral, tuple(waits_for))
