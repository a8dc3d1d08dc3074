"""The CloudEvents conformance features for the Kafka and HTTP bindings, run as they stand.

HTTP is read as intake reads it. No door of the bus takes every record of the Kafka binding: its own records are in binary mode, what is
in an outbox is in structured mode. So each mode of that feature is read by what reads it there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from referral_bus.log.port import Headers
from referral_bus.wire.cloudevents import STRUCTURED, CloudEvent, from_http, from_structured, media_type
from referral_bus.wire.envelope import attributes


@dataclass
class Step:
    text: str
    table: dict[str, str] = field(default_factory=dict)
    document: str = ""


def scenarios(path: Path) -> list[tuple[str, list[Step]]]:
    """The scenarios of a feature file, outlines filled in from their examples. Just the Gherkin these files use."""
    found: list[tuple[str, list[Step]]] = []
    for block in re.split(r"^\s*Scenario(?: Outline)?:", path.read_text(), flags=re.M)[1:]:
        title, _, rest = block.partition("\n")
        body, _, examples = rest.partition("Examples:")
        values = [line.strip(" |\n") for line in examples.strip().splitlines()][1:] or [""]
        for value in values:
            found.append((f"{title.strip()} {value}", _steps(body.replace("<contentType>", value))))
    return found


def _steps(body: str) -> list[Step]:
    steps: list[Step] = []
    quoted = False
    for line in body.splitlines():
        if line.strip() == '"""':
            quoted = not quoted
        elif quoted:
            steps[-1].document += line.removeprefix("        ") + "\n"
        elif line.strip().startswith("|"):
            key, value = (cell.strip() for cell in line.strip().strip("|").split("|"))
            steps[-1].table[key] = value
        elif line.strip():
            steps.append(Step(line.strip()))
    return steps


def from_kafka(headers: Headers, value: bytes) -> CloudEvent:
    content_type = dict(headers)["content-type"].decode()
    if media_type(content_type) == STRUCTURED:
        return from_structured(json.loads(value))
    return CloudEvent(attributes(headers) | {"datacontenttype": content_type}, json.loads(value))


def run(steps: list[Step]) -> None:
    payload, headers, request, event = b"", (), "", None
    for step in steps:
        step.table.pop("key", None)
        if step.text == "Given a Kafka message with payload:":
            payload = step.document.encode()
        elif step.text == "And Kafka headers:":
            headers = tuple((key, value.encode()) for key, value in step.table.items())
        elif step.text == "Given an HTTP request":
            request = step.document
        elif step.text == "When parsed as Kafka message":
            event = from_kafka(headers, payload)
        elif step.text == "When parsed as HTTP request":
            head, _, body = request.partition("\n\n")
            lines = (line.partition(":") for line in head.splitlines()[1:])
            event = from_http([(name, value.strip()) for name, _, value in lines], body.encode())
        elif step.text == "Then the attributes are:":
            assert isinstance(event, CloudEvent)
            assert event.attributes == step.table
        elif step.text == "And the data is equal to the following JSON:":
            assert isinstance(event, CloudEvent)
            assert event.data == json.loads(step.document)
        else:
            pytest.fail(f"a step this runner does not know: {step.text}")
    assert event is not None


@pytest.mark.parametrize("binding", ["kafka", "http"])
def test_the_conformance_features_pass(binding: str, reference: Path, subtests) -> None:
    feature = reference / "cloudevents" / "conformance" / "features" / f"{binding}-protocol-binding.feature"
    found = scenarios(feature)
    assert len(found) >= 3
    for title, steps in found:
        with subtests.test(title):
            run(steps)
