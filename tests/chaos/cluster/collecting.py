"""Everything a check needs, put into the history: the topics as an outsider reads them, the views as they stand in the database, the
clients' own lists, and what the bus's own commands say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import dict_row

from referral_bus.embedded.bus import LocalBus
from referral_bus.log.topics import deadletter, feed, inbox, ledger
from tests.chaos.cluster.history import Writer
from tests.support.checking import command, outside_records

_ROWS: Final = {
    "referrals": "select referral, status, reason, accepted_task, sequence from projections.referrals",
    "tasks": "select task, referral, unit, accepted_at is not null as accepted from projections.tasks",
    "regions": "select region, sequence, encode(hash, 'hex') as hash from projections.regions",
    "units": "select unit, total, taken, held from projections.units",
}
"""Nothing of a person is in these."""


async def collect(
    bus: LocalBus, database: str, journals: dict[str, Path], feeds: list[str], history: Writer
) -> None:
    """The bus's own commands come last: where they fail, all else is kept."""
    name = bus.plan.bus
    for client, journal in journals.items():
        for line in journal.read_text(encoding="utf-8").splitlines():
            history.note("line", client=client, line=json.loads(line))
    for topic in (inbox(name), ledger(name), deadletter(name), *(feed(name, one) for one in feeds)):
        for record in outside_records(bus.addresses.kafka, topic):
            history.record(record)
    with psycopg.connect(database.replace("+psycopg", ""), row_factory=dict_row) as connection:
        for table, statement in _ROWS.items():
            for row in connection.execute(statement):
                history.note("row", table=table, row=row)
    for what, service, asked in (("views", "projections", "check-views"), ("verified", "matching", "verify")):
        try:
            history.note(what, said=await command(bus, service, asked, "--json"))
        except (AssertionError, TimeoutError) as error:
            history.note("unsaid", command=asked, why=str(error) or "no end in time")
    history.note("end")
