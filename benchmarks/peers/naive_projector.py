"""``python -m benchmarks.peers.naive_projector BOOTSTRAP TOPIC DATABASE MOST``: views as one would first write them.

Each event is one transaction with one upsert of one row: where its referral stands. Less than the bus does: one view instead of seven, no
position is kept with the rows (so a restart would begin anew), no owner is locked out, no hash is compared, nothing is validated. It takes
the first MOST events of the ledger only.
"""

from __future__ import annotations

import sys
import time
from contextlib import aclosing

import psycopg
import uvloop

from benchmarks.outside import Reading, every_record
from benchmarks.processes import collect_as_services_do, own_cpu, tell

_TABLE = """
create table standing (
    referral text primary key, region text not null, standing text not null, sequence bigint not null, at bigint not null
)
"""
_UPSERT = """
insert into standing (referral, region, standing, sequence, at) values (%s, %s, %s, %s, %s)
on conflict (referral) do update set standing = excluded.standing, sequence = excluded.sequence, at = excluded.at
"""


async def run(bootstrap: str, topic: str, database: str, most: int) -> None:
    reading, count = Reading(), 0
    async with await psycopg.AsyncConnection.connect(
        database.replace("+psycopg", ""), autocommit=True
    ) as sql:
        await sql.execute("drop table if exists standing")
        await sql.execute(_TABLE)
        cpu, began = own_cpu(), time.perf_counter()
        async with aclosing(every_record(bootstrap, topic)) as records:
            async for message in records:
                datum = reading.datum(message.value)
                meta = datum.fields["meta"]
                about = datum.fields.get("referral") or meta["region"]
                await sql.execute(_UPSERT, (about, meta["region"], datum.name, meta["sequence"], meta["now"]))
                count += 1
                if count == most:
                    break
    tell(seconds=time.perf_counter() - began, cpu=own_cpu() - cpu, events=count)


if __name__ == "__main__":
    collect_as_services_do()
    uvloop.run(run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
