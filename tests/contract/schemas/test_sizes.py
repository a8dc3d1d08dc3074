"""Whatever the contracts allow can be written: what can't be is content that stands in the submission and again in the event, and that
has a limit of its own."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from referral_bus.contracts.inbox import (
    SUBMISSIONS,
    AdoptReference,
    ListService,
    PublishService,
    Submission,
)
from referral_bus.contracts.ledger import (
    EVENTS,
    Event,
    Meta,
    ReferenceAdopted,
    ServiceListed,
    ServicePublished,
)
from referral_bus.contracts.message import Message
from referral_bus.log.port import LARGEST_VALUE
from referral_bus.wire.inbox import LARGEST_ANSWERED, LARGEST_CONTENT

CONTENT = {
    PublishService: "definition",
    ListService: "definition",
    ServicePublished: "definition",
    ServiceListed: "definition",
    AdoptReference: "taxonomy",
    ReferenceAdopted: "taxonomy",
}
"""What says, or says again, something that has no small limit by its contract; and the field it does it by."""
_FRAME = 5
_NUMBER = 10
"""Bytes of a long, of a count and of a choice, at most."""


def most(message: type[Any], without: tuple[str, ...] = ()) -> float:
    """The most bytes a message can have in Avro by the limits of its contract; ``without`` are fields that are not counted."""
    schema = TypeAdapter(message).json_schema()
    kept = {name: field for name, field in schema["properties"].items() if name not in without}
    return _FRAME + _most({**schema, "properties": kept}, schema.get("$defs", {}))


def _most(schema: dict[str, Any], known: dict[str, Any]) -> float:
    if "$ref" in schema:
        return _most(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return _NUMBER + max(_most(one, known) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return _NUMBER
    match schema["type"]:
        case "object":
            return sum(_most(one, known) for one in schema["properties"].values())
        case "array":
            return _NUMBER + schema.get("maxItems", inf) * (_most(schema["items"], known) + 1)
        case "string":
            return _NUMBER + _characters(schema) * (1 if "pattern" in schema or "format" in schema else 4)
        case "integer" | "number" | "boolean" | "null":
            return _NUMBER
    raise AssertionError(f"nothing is known of {schema}")


def _characters(schema: dict[str, Any]) -> float:
    widest = re._parser.parse(schema["pattern"]).getwidth()[1] if "pattern" in schema else inf  # type: ignore[attr-defined]
    return min(schema.get("maxLength", inf), widest)


def most_of_the_place() -> float:
    """The most bytes of an event's meta besides the bytes of the submission."""
    schema = TypeAdapter(Meta).json_schema()
    del schema["$defs"]["Admitted"]["properties"]["value"]
    return _most(schema, schema["$defs"])


PLAIN_SUBMISSIONS = [one for one in SUBMISSIONS if one not in CONTENT]
PLAIN_EVENTS = [one for one in EVENTS if one not in CONTENT]
PLACE = most_of_the_place()
LONGEST = max(most(event) for event in PLAIN_EVENTS)


@pytest.mark.parametrize("submission", PLAIN_SUBMISSIONS)
def test_what_says_nothing_long_can_be_taken_by_whatever_event(submission: type[Submission]) -> None:
    assert most(submission) + LONGEST + PLACE <= LARGEST_VALUE


@pytest.mark.parametrize("event", PLAIN_EVENTS)
def test_an_event_that_says_nothing_long_can_be_written_alone(event: type[Event]) -> None:
    assert most(event) + PLACE <= LARGEST_VALUE


@pytest.mark.parametrize("message", [ServicePublished, ServiceListed, ReferenceAdopted])
def test_content_of_the_largest_size_that_is_taken_can_be_written_twice(message: type[Message]) -> None:
    others = ("taxonomy", "crosswalk", "calendar", "protocol", "policy", "agreement", "organisation")
    besides = most(message, without=(CONTENT[message], *others))
    assert 2 * LARGEST_CONTENT + besides + PLACE <= LARGEST_VALUE


def test_whatever_is_received_can_be_refused_repeated_and_parked() -> None:
    named = {event.__name__: event for event in EVENTS}
    for name in ("SubmissionRefused", "SubmissionRepeated", "SubmissionParked"):
        assert LARGEST_ANSWERED + most(named[name]) + PLACE <= LARGEST_VALUE


@pytest.mark.parametrize("page", ["reference/refusals.md", "how-to/import-a-directory.md"])
def test_the_pages_say_how_large_content_may_be(page: str) -> None:
    assert f"{LARGEST_CONTENT:,} bytes" in (Path(__file__).parents[3] / "docs" / page).read_text()
