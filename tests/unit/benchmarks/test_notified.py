"""What is counted of deliveries: what the receiver took, against what the ledger says who is to hear."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from benchmarks.heard import HEARD, TYPES, heard_of
from benchmarks.ledgers import Author
from benchmarks.outside import Datum, Reading
from benchmarks.receiver import SLOW_SECONDS, Arrivals, Connection
from benchmarks.world import worlds
from referral_bus.contracts.facts import Facts, Identity
from referral_bus.wire.codec import Codec

META = {"region": "north", "sequence": 7}


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Arrivals, asyncio.StreamReader, asyncio.StreamWriter]]:
    """What a receiver remembers, and a connection to it."""
    arrivals = Arrivals()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(arrivals), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    yield arrivals, reader, writer
    writer.close()
    server.close()


def request(path: str, id: str, body: bytes = b"{}") -> bytes:
    return b"POST %b HTTP/1.1\r\nWebhook-Id: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        id.encode(),
        len(body),
        body,
    )


async def answered(reader: asyncio.StreamReader) -> bytes:
    return (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0]


async def test_a_webhook_that_comes_twice_is_counted_twice(
    receiver: tuple[Arrivals, asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    arrivals, reader, writer = receiver
    whole = request("/at-once/a", "sb-1.north.7") + request("/at-once/a", "sb-1.north.7")
    writer.write(whole[:30])
    await asyncio.sleep(0.01)
    writer.write(whole[30:] + request("/at-once/a", "sb-1.north.8", b"x" * 10))
    assert {await answered(reader) for _ in range(3)} == {b"HTTP/1.1 204 No Content"}
    writer.write(b"GET /arrivals HTTP/1.1\r\n\r\n")
    await answered(reader)
    found = json.loads(await reader.readuntil(b"}"))
    assert {id: len(times) for id, times in found.items()} == {"sb-1.north.7": 2, "sb-1.north.8": 1}
    assert arrivals.count == 3


async def test_one_is_slow_and_one_never_answers_and_is_not_counted(
    receiver: tuple[Arrivals, asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    arrivals, reader, writer = receiver
    writer.write(request("/never/a", "sb-1.north.7"))
    began = asyncio.get_running_loop().time()
    writer.write(request("/slowly/a", "sb-1.north.8"))
    await answered(reader)
    assert asyncio.get_running_loop().time() - began >= SLOW_SECONDS * 0.9
    assert list(arrivals.times) == ["sb-1.north.8"]


def test_an_offer_concerns_who_gets_it_and_the_agency_that_opened_the_referral() -> None:
    agencies: dict[str, str] = {}
    opened = Datum("ReferralOpened", {"meta": META, "referral": "rf-1", "agency": "hospital"})
    offered = Datum("OfferMade", {"meta": META, "referral": "rf-1", "provider": "harbor", "task": "tk-1"})
    other = Datum("MatchDecided", {"meta": META, "referral": "rf-1"})
    assert [one.id for one in heard_of(opened, agencies)] == ["hospital agency.north.7"]
    assert [one.id for one in heard_of(offered, agencies)] == [
        "hospital agency.north.7",
        "harbor provider.north.7",
    ]
    assert list(heard_of(other, agencies)) == []


def test_what_is_subscribed_to_is_what_is_counted() -> None:
    assert [name.split(".")[-2] for name in TYPES] == list(HEARD)


def test_an_author_seals_as_it_is_told_and_ends_lives_early_where_few_live_at_once(codec: Codec) -> None:
    [world] = worlds(1, places=20)
    sealed: list[tuple[str, type]] = []

    def seal(subject: str, section: Facts | Identity) -> bytes:
        sealed.append((subject, type(section)))
        return b"%d" % len(sealed)

    author = Author(world, "bench", codec, 1_700_000_000_000, 3_000, 10, seal)
    author.beginning()
    reading = Reading()
    data = [
        reading.datum(record.value or b"")
        for batch in author.lives(author.written + 300)
        for record in batch.ledger
    ]
    opened = [datum.fields for datum in data if datum.name == "ReferralOpened"]
    assert opened[0]["sealed_facts"] == b"1"
    assert sealed[0] == (opened[0]["subject"], Facts)
    assert "OfferAccepted" in {datum.name for datum in data}
