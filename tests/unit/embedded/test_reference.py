"""What a local bus is given to begin with, and that a bus that has it already keeps what it has."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import httpx
import pytest

from referral_bus.access.tokens import TokenVerifier
from referral_bus.client import bus as client
from referral_bus.client.errors import Conflict, Forbidden
from referral_bus.contracts.calendar import Calendar
from referral_bus.contracts.places import Travel
from referral_bus.contracts.reference import Organisation, Policy, Protocol, RankBy, RegionTable
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.contracts.vocabulary import URGENCIES
from referral_bus.directory.taxonomy import crosswalks, open_eligibility
from referral_bus.embedded import reference
from referral_bus.embedded.bus import Addresses, LocalBus, Plan
from referral_bus.embedded.secrets import Secrets
from referral_bus.protocols import OFFICE_HOURS, shipped
from referral_bus.wire.codec import Codec
from services.intake.settings import IntakeSettings

Answer = Callable[[str], httpx.Response]


class Intake:
    """Takes what is published, or answers as told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.published: list[dict[str, object]] = []
        self.tokens: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/reference")
        self.tokens.append(request.headers["authorization"].removeprefix("Bearer "))
        body = json.loads(request.content)
        response = self.answer(body["kind"])
        if response.is_success:
            self.published.append(body)
        return response


@pytest.fixture
def bus(tmp_path: Path) -> LocalBus:
    plan = Plan(tmp_path, bus="exercise", partitions=4)
    secrets = Secrets.load_or_make(tmp_path / "secrets", plan.bus)
    addresses = Addresses(kafka="", database="", intake="http://intake", queries="", notifier="")
    return LocalBus(plan, secrets, addresses, None)


@pytest.fixture
def intake(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], Intake]:
    def answering(answer: Answer) -> Intake:
        there = Intake(answer)
        opened = httpx.AsyncClient
        monkeypatch.setattr(
            client.httpx, "AsyncClient", lambda **_: opened(transport=httpx.MockTransport(there))
        )
        return there

    return answering


def taken(_: str) -> httpx.Response:
    return httpx.Response(202, json={})


def refused(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"status": status, "code": code, "detail": "Do this."})


async def test_a_new_bus_gets_regions_operations_calendar_protocols_vocabularies_and_policy_in_this_order(
    bus: LocalBus, intake: Callable[[Answer], Intake]
) -> None:
    there = intake(taken)
    await reference.publish_defaults(bus, ["north", "central", "south"])
    kinds = [
        "regions", "organisation", "calendar", *["protocol"] * 3, "taxonomy", *["crosswalk"] * 2, "policy"
    ]  # fmt: skip
    assert [body["kind"] for body in there.published] == kinds
    table, operations, calendar, *protocols, taxonomy, gravity, hud, policy = (
        body["content"] for body in there.published
    )
    assert RegionTable.model_validate(table).partitions == {"north": 0, "central": 1, "south": 2}
    assert Organisation.model_validate(operations).organisation == "operations"
    assert Organisation.model_validate(operations).roles == ["operations"]
    assert Organisation.model_validate(operations).home_region == "north"
    assert Calendar.model_validate(calendar) == OFFICE_HOURS
    assert [Protocol.model_validate(protocol) for protocol in protocols] == shipped()
    assert Taxonomy.model_validate(taxonomy) == open_eligibility()
    assert tuple(map(Crosswalk.model_validate, (gravity, hud))) == crosswalks()
    assert Policy.model_validate(policy) == reference.STANDARD_POLICY


def test_the_standard_policy_ranks_by_all_there_is_and_limits_the_way_and_the_wait_of_every_urgency() -> None:
    policy = reference.STANDARD_POLICY
    assert set(policy.rank_by) == set(get_args(RankBy)) and policy.rank_by[-1] == "lottery"
    ways = {(limit.urgency, limit.travel): limit.metres for limit in policy.reach}
    assert ways.keys() == set(product(URGENCIES, get_args(Travel)))
    for travel in get_args(Travel):
        assert ways["crisis", travel] < ways["urgent", travel] < ways["routine", travel]
    soon = policy.opens_within
    assert soon is not None and soon.crisis < soon.urgent < soon.routine
    [crisis] = [protocol for protocol in shipped() if "crisis" in protocol.usual_for and protocol.steps]
    starts = crisis.step("start")
    assert starts is not None and soon.crisis == starts.limits.crisis
    assert policy.trust[-1].thousandths == 0


def test_the_shipped_vocabularies_fit_into_a_request_to_intake_and_a_record() -> None:
    codec = Codec.load()
    for message in (open_eligibility(), *crosswalks()):
        assert len(message.model_dump_json()) < IntakeSettings.model_fields["maximum_body"].default / 8
        assert len(codec.encode(message)) < 1024 * 1024 / 16


async def test_it_speaks_as_operations_of_this_bus(bus: LocalBus, intake: Callable[[Answer], Intake]) -> None:
    there = intake(taken)
    await reference.publish_defaults(bus, ["north"])
    verifier = TokenVerifier(str(bus.secrets.folder / "jwks"), "exercise")
    await verifier.start()
    caller = await verifier.verify(there.tokens[0])
    assert (caller.organisation, caller.roles) == ("operations", frozenset({"operations"}))


async def test_a_bus_that_has_them_keeps_what_it_has_and_gets_what_it_lacks(
    bus: LocalBus, intake: Callable[[Answer], Intake]
) -> None:
    there = intake(lambda kind: taken(kind) if kind == "policy" else refused(409, "version_not_risen"))
    await reference.publish_defaults(bus, ["north"])
    assert [body["kind"] for body in there.published] == ["policy"]


@pytest.mark.parametrize(
    ("status", "code", "error"), [(409, "id_reused", Conflict), (403, "wrong_role", Forbidden)]
)
async def test_any_other_refusal_is_not_passed_over(
    bus: LocalBus, intake: Callable[[Answer], Intake], status: int, code: str, error: type[Exception]
) -> None:
    intake(lambda _: refused(status, code))
    with pytest.raises(error):
        await reference.publish_defaults(bus, ["north"])


def test_regions_go_round_the_partitions_in_the_order_given() -> None:
    table = reference.region_table(["a", "b", "c", "d", "e"], 2)
    assert table.partitions == {"a": 0, "b": 1, "c": 0, "d": 1, "e": 0}
