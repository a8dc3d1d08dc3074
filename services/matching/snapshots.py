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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
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

STATE_VERSION: Final = 16
"""Raised with every change to what the state holds or to what the fold makes of an event."""

_BLOCK: Final = 1_000
"""Rows encoded at once: the thread that writes lets the event loop run between two blocks."""

_OF_UNIT: Final = (
    "unit", "service", "total", "taken", "held", "counted_at", "overbook", "moved", "doubted", "doubted_at", "doubted_until",
)  # fmt: skip
_OF_REFERRAL: Final = (
    "agency", "subject", "urgency", "purpose", "protocol", "sealed_facts", "mode", "target", "opened_at", "in_line_since",
    "unaccepted_since", "unaccepted_for", "tasks", "asked_before", "round_from", "never", "on_hold", "held_until", "waits_for", "review_at",
    "part_of", "parts", "results", "withdrawn", "confirmed", "start", "reports", "served", "former",
)  # fmt: skip
"""What a row has of what is changed where it stands, in this order."""
_UNIT: Final = attrgetter(*_OF_UNIT)
_REFERRAL: Final = attrgetter(*_OF_REFERRAL)
_PROTOCOL_OF_REFERRAL: Final = _OF_REFERRAL.index("protocol")
_PROTOCOL_OF_CLOSED: Final = Closed._fields.index("protocol")


@dataclass(slots=True)
class Snapshot:
    """A partition's state as of ledger offset ``next_offset``: every event before it is in, and some behind it may be."""

    partition: int
    next_offset: int
    chains: dict[str, Chain] = field(default_factory=dict)


Row = Sequence[Any]
Table = Sequence[Row] | Mapping[Any, Row]
"""Rows, or what follows the key in each."""


class CapturedRegion(NamedTuple):
    """A region's state in copies of its own of whatever changes, down to what never does: messages, named tuples, frozen sets, and mappings
    that the fold replaces."""

    region: str
    prev_hash: bytes
    regional: dict[str, Any]
    protocols: dict[str, Protocol]
    tables: dict[str, Table]


class Captured(NamedTuple):
    """A partition's state, ready to be written."""

    partition: int
    next_offset: int
    regions: list[CapturedRegion]


def capture(snapshot: Snapshot) -> Captured:
    """Copy the state at once, no deeper than it changes, since nothing is decided meanwhile: making rows of it is left to whoever writes
    them. Forgets what is older than the horizon."""
    regions = []
    for region, chain in snapshot.chains.items():
        state = chain.state
        state.forget_old()
        regions.append(
            CapturedRegion(region, chain.prev_hash, _regional(state), dict(state.protocols), _tables(state))
        )
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
    yield _line(header, _plain)
    for region, prev_hash, regional, protocols, tables in regions:
        # Versions of protocols that referrals still follow are written once, and named by number.
        followed = _followed(protocols, tables)
        plain = _plain_but_for({key: number for number, key in enumerate(followed)})
        of_protocols: dict[str, Table] = {
            "followed": [[_dumped(protocol)] for protocol in followed.values()],
            "protocols": [[protocol] for protocol in protocols.values()],
        }
        tables = of_protocols | tables
        counts = {name: -(-len(table) // _BLOCK) for name, table in tables.items()}
        yield _line({"region": region, "prev_hash": prev_hash, **regional, "blocks": counts}, plain)
        for table in tables.values():
            rows = _rows(table)
            while block := list(islice(rows, _BLOCK)):
                yield _line(block, plain)


def _rows(table: Table) -> Iterator[Row]:
    return ([key, *row] for key, row in table.items()) if isinstance(table, Mapping) else iter(table)


def _line(content: Any, plain: Callable[[Any], Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), default=plain).encode() + b"\n"


def _plain(value: object) -> Any:
    """What JSON has for a value."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Part):
        return _dumped(value)
    if isinstance(value, Set):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a snapshot holds a {type(value).__name__}")


def _plain_but_for(numbers: Mapping[tuple[str, int], int]) -> Callable[[Any], Any]:
    """The same, where a protocol is its number."""

    def plain(value: object) -> Any:
        if isinstance(value, Protocol):
            return numbers[value.protocol, value.version]
        return _plain(value)

    return plain


def _dumped(message: Part) -> dict[str, Any]:
    return message.model_dump(mode="json")


def _followed(
    protocols: Mapping[str, Protocol], tables: Mapping[str, Table]
) -> dict[tuple[str, int], Protocol]:
    """Each version of a protocol that is in force, or that a referral follows."""
    found = list(protocols.values())
    for name, place in (("referrals", _PROTOCOL_OF_REFERRAL), ("closed", _PROTOCOL_OF_CLOSED)):
        found += [row[1 + place] for row in _rows(tables[name])]
    return {(one.protocol, one.version): one for one in found}


def _regional(state: Region) -> dict[str, Any]:
    """What there is once a region."""
    return {
        "now": state.now,
        "sequence": state.sequence,
        "decided_through": state.decided_through,
        "rules": state.rules,
        "policy": state.policy,
        "erased": set(state.erased),
        "ready": list(state.ready),
        "window": list(state.window),
        "window_ends": state.window_ends,
        "assigned": dict(state.assigned),
        "split_off": list(state.split_off),
        "freed": list(state.freed),
    }


def _tables(state: Region) -> dict[str, Table]:
    """Everything else but for protocols."""
    return {
        "calendars": [[one] for one in state.calendars.values()],
        "organisations": [[one] for one in state.organisations.values()],
        "versions": [[kind, reference, version] for (kind, reference), version in state.versions.items()],
        "taxonomies": [[one] for one in state.vocabularies.taxonomies.values()],
        "crosswalks": [[one] for one in state.vocabularies.crosswalks.values()],
        "services": [[one] for one in state.catalogue.definitions.values()],
        "units": [_UNIT(unit) for unit in state.units.values()],
        "lent": dict(state.lent),
        "passed_over": [[service, names] for service, names in state.passed_over.items()],
        "short": [[unit, regions] for unit, regions in state.short.items()],
        "reliability": dict(state.reliability),
        "referrals": {name: _REFERRAL(referral) for name, referral in state.referrals.items()},
        "closed": dict(state.closed),
        "parked": [[at, p.admitted, p.waiting_for, p.until] for at, p in state.parked.items()],
        "answered": dict(state.answered),
        "due": list(state.due),
    }


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


def _put_referral(state: Region, name: str, row: Row, protocols: list[Protocol]) -> None:
    kept = dict(zip(_OF_REFERRAL, row, strict=True))
    waits_for = kept.pop("waits_for")
    made = {
        "protocol": protocols[kept["protocol"]],
        "sealed_facts": bytes.fromhex(kept["sealed_facts"]),
        "tasks": tuple(Task(*task) for task in kept["tasks"]),
        "asked_before": tuple(kept["asked_before"]),
        "parts": None if kept["parts"] is None else frozenset(kept["parts"]),
        "confirmed": frozenset(kept["confirmed"]),
        "start": _start(kept["start"]),
        "reports": _reports(kept["reports"]),
        "served": _served(kept["served"]),
        "former": _formers(kept["former"]),
    }
    referral = state.referrals[name] = Referral(**kept | made)
    if waits_for is not None:
        state.lines_up(name, referral, tuple(waits_for))
