"""The peers' job: decode a submission, find a service with a free place among those that meet the need, write the same three events.

Less than the bus does, and the same for every peer: the sections are not sealed, so none is opened; services come from a file, not from
the inbox; area, age and language are not looked at, and nothing is ranked, the first free place is taken; the certificate says only how
many services there were; events have no sequence and no hash of the one before; no repeat is recognised, no offer ever expires, nothing
is validated; and nothing could be decided again from what is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro

from referral_bus.wire.schemas import registered

SESSION_MS: Final = 6_000
HEARTBEAT_MS: Final = 1_000
"""How soon a killed peer's partitions are given on: as the bus has it, instead of up to a minute by a library's default."""

_FRAME: Final = 5
_NO_HASH: Final = bytes(32)
_HOUR_MS: Final = 3_600_000

Used = Callable[[str], int]
"""The places of a unit that are held; kept by whatever the peer keeps state in."""
Hold = Callable[[str, int], None]
"""Sets how many are."""


class Place(NamedTuple):
    """A unit where a need is met."""

    service: str
    unit: str
    provider: str
    total: int


class Job:
    """The job, without its state."""

    def __init__(self, services: Path) -> None:
        self._places: dict[tuple[str, str], list[Place]] = {}
        self._considered: dict[str, int] = {}
        for region, offered in json.loads(services.read_text(encoding="utf-8")).items():
            self._considered[region] = len(offered)
            for service in offered:
                for need in service["terms"]:
                    places = self._places.setdefault((region, need["code"]), [])
                    for unit in service["units"]:
                        places.append(
                            Place(
                                service["service"], unit["unit"], service["organisation"], unit["available"]
                            )
                        )
        self._schemas: dict[int, Any] = {}
        self._ids: dict[str, int] = {}
        for one in registered():
            self._schemas[one.id] = fastavro.parse_schema(one.parsed(), named_schemas={})
            self._ids[one.name.rpartition(".")[2]] = one.id

    @property
    def regions(self) -> int:
        """How many there are: each has its partition."""
        return len(self._considered)

    def decide(self, value: bytes, offset: int, now: int, used: Used, hold: Hold) -> list[bytes]:
        """The events of one submission, framed. ``now`` is its append time in epoch milliseconds."""
        submission = self._decoded(value)
        facts = self._decoded(submission["sealed_facts"])
        region, referral = submission["region"], submission["referral"]
        place = self._free(region, facts, used, hold)
        admitted = {
            "type": "org.referralbus.inbox.SubmitReferral.v1",
            "id": referral,
            "source": "peer",
            "digest": b"",
            "sent_at": now,
            "partition": 0,
            "offset": offset,
            "append_time": now,
            "value": value,
        }

        def meta(submission: dict[str, Any] | None = None) -> dict[str, Any]:
            return {
                "region": region,
                "sequence": 1,
                "prev_hash": _NO_HASH,
                "decided_through": offset,
                "now": now,
                "rules": 1,
                "submission": None if submission is None else ("org.referralbus.ledger.Admitted", submission),
            }

        opened = {
            **submission,
            "meta": meta(admitted),
            "agency": "peer",
            "protocol": "peer",
            "protocol_version": 1,
        }
        matched = {
            "meta": meta(),
            "referral": referral,
            "attempt": 1,
            "service": None if place is None else place.service,
            "certificate": {
                "policy": "peer",
                "policy_version": 1,
                "considered": self._considered[region],
                "eliminated": [],
                "best": [],
                "misses": [],
                "digest": _NO_HASH,
            },
        }
        answer: tuple[str, dict[str, Any]]
        if place is None:
            answer = (
                "ReferralClosed",
                {"meta": meta(), "referral": referral, "status": "revoked", "reason": "no_match"},
            )
        else:
            answer = (
                "OfferMade",
                {
                    "meta": meta(),
                    "referral": referral,
                    "task": f"tk-{referral[3:]}-1",
                    "service": place.service,
                    "unit": place.unit,
                    "provider": place.provider,
                    "expires_at": now + _HOUR_MS,
                },
            )
        return [
            self._encoded("ReferralOpened", opened),
            self._encoded("MatchDecided", matched),
            self._encoded(*answer),
        ]

    def _free(self, region: str, facts: dict[str, Any], used: Used, hold: Hold) -> Place | None:
        for need in facts["needs"]:
            for place in self._places.get((region, need["code"]), ()):
                held = used(place.unit)
                if held < place.total:
                    hold(place.unit, held + 1)
                    return place
        return None

    def _decoded(self, value: bytes) -> dict[str, Any]:
        stream = BytesIO(value)
        stream.seek(_FRAME)
        schema = self._schemas[int.from_bytes(value[1:_FRAME], "big")]
        found: Any = fastavro.schemaless_reader(stream, schema, None)
        return dict(found)

    def _encoded(self, name: str, datum: dict[str, Any]) -> bytes:
        number = self._ids[name]
        out = BytesIO()
        out.write(b"\x00" + number.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, self._schemas[number], datum)
        return out.getvalue()
