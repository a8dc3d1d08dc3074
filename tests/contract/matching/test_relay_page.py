"""The page of the relay says what regions say to each other, and names the test that holds each compensation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from referral_bus.contracts import ledger
from referral_bus.contracts.ledger import Entry, Event, Meta
from services.matching.messages import CONCERNING, messages
from tests.support.deciding import offers, service_of, unit_of

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/relay.md").read_text(encoding="utf-8")
HOME, OTHER = "south", "north"
TASK = f"tk-{OTHER}-aaaaaaaaaaaaaaaaaaaa-1"
REFERRAL = f"rf-{OTHER}-aaaaaaaaaaaaaaaaaaaa"
UNIT, SERVICE = unit_of("beds", HOME), service_of("beds", HOME)
PLACES = {"total": 1, "room": 1}
LENT = {"task": TASK, "unit": UNIT}
SAID: list[tuple[str, Event]] = [
    (HOME, ledger.ServicePublished(definition=offers("beds"), told=[OTHER])),
    (
        HOME,
        ledger.CapacityOffered(unit=UNIT, total=1, rooms=[ledger.RoomOf(region=OTHER, room=1)], true_at=1),
    ),
    (
        OTHER,
        ledger.CapacityRequested(**LENT, referral=REFERRAL, service=SERVICE, provider="shelter", until=1),
    ),
    (HOME, ledger.CapacityLent(**LENT, **PLACES, until=1)),
    (HOME, ledger.CapacityDenied(**LENT, **PLACES, reason="no_place")),
    (HOME, ledger.CapacityDenied(**LENT, **PLACES, reason="lost")),
    (OTHER, ledger.AcceptanceClaimed(**LENT, referral=REFERRAL, provider="shelter")),
    (HOME, ledger.CapacityTaken(**LENT, **PLACES)),
    (OTHER, ledger.CapacityReturned(**LENT, referral=REFERRAL)),
    (HOME, ledger.CapacityFreed(**LENT, **PLACES, because="expired")),
]
"""One event of each kind that concerns another region, and whose ledger it stands on."""


def table(heading: str) -> list[list[str]]:
    """The cells of the first table behind a heading, row by row."""
    lines = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def name(cell: str) -> str:
    """The first name in a cell."""
    return re.findall(r"`([A-Za-z]+)`", cell)[0]


def put(region: str, event: Event) -> list[tuple[str, str, str]]:
    """The event, what it has put on the other's inbox, and as which answer."""
    meta = Meta(region=region, sequence=1, prev_hash=bytes(32), decided_through=0, now=1, rules=1)
    return [
        (type(event).__name__, type(message.body).__name__, getattr(message.body, "answer", ""))
        for message in messages(Entry(meta, event))
    ]


def test_the_page_names_every_message_and_the_event_it_comes_of() -> None:
    said = {one for region, event in SAID for one in put(region, event)}
    listed = set()
    for event, message, *_ in table("Messages"):
        answers = re.findall(r"\*([a-z]+)\*", message) or [""]
        listed |= {(name(event), name(message), answer) for answer in answers}
    assert listed == said
    assert {type(event) for _, event in SAID} == CONCERNING


@pytest.mark.parametrize("row", table("What makes up for each late message"), ids=lambda row: row[0])
def test_each_compensation_is_held_by_the_test_it_names(row: list[str]) -> None:
    [named] = re.findall(r"^`(.+)`$", row[-1])
    held = "".join(
        (ROOT / "tests/unit/matching" / file).read_text(encoding="utf-8")
        for file in ("test_elsewhere.py", "test_relay.py")
    )
    assert re.search(rf"^(async )?def test_{named}\(", held, re.MULTILINE)
