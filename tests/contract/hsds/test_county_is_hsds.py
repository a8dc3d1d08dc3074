"""The synthetic county against the schemas of HSDS 3.1 themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from referral_bus.demo.county import County
from referral_bus.directory.taxonomy import terms


@pytest.fixture(scope="module")
def county() -> County:
    return County.make(seed=11)


@pytest.fixture
def service_schema(reference: Path) -> Draft202012Validator:
    schema = json.loads((reference / "hsds-3.1/schema/compiled/service_with_definitions.json").read_text())
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_every_service_of_the_county_is_valid_hsds(
    county: County, service_schema: Draft202012Validator
) -> None:
    documents = json.loads(json.dumps(county.as_hsds()))
    errors = [error.message for document in documents for error in service_schema.iter_errors(document)]
    assert len(documents) == 200
    assert errors == []


def test_the_county_writes_no_field_that_hsds_does_not_have(
    county: County, service_schema: Draft202012Validator
) -> None:
    schema: dict[str, Any] = service_schema.schema

    def unknown(value: Any, of: dict[str, Any], at: str) -> list[str]:
        of = schema["definitions"][of["$ref"].rpartition("/")[2]] if "$ref" in of else of
        if isinstance(value, list):
            return [found for one in value for found in unknown(one, of["items"], at)]
        if not isinstance(value, dict):
            return []
        known = of["properties"]
        strange = [f"{at}.{name}" for name in value.keys() - known.keys()]
        return strange + [
            found
            for name in value.keys() & known.keys()
            for found in unknown(value[name], known[name], f"{at}.{name}")
        ]

    assert [found for one in county.as_hsds() for found in unknown(one, schema, "service")] == []
    assert unknown({**county.as_hsds()[0], "fee": 1}, schema, "service") == ["service.fee"]


def test_the_schema_refuses_a_county_that_is_broken(
    county: County, service_schema: Draft202012Validator
) -> None:
    document = json.loads(json.dumps(county.as_hsds()))[0]
    document["status"] = "open"
    document["capacities"][0]["id"] = "not a uuid"
    assert len(list(service_schema.iter_errors(document))) == 2


def test_the_shipped_terms_are_those_of_open_eligibility(reference: Path) -> None:
    lines = (
        (reference / "openeligibility/open_eligibility.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    )
    assert terms().keys() == {line.split(",")[0] for line in lines}
