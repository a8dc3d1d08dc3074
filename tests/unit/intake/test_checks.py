"""What may be said, by whom, about what, of which region, and when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from referral_bus.contracts.facts import Identity
from referral_bus.contracts.ids import referral_id
from referral_bus.contracts.message import Part
from referral_bus.contracts.published import PUBLISHED
from referral_bus.contracts.reference import RegionTable
from referral_bus.contracts.requests import (
    REQUESTS,
    AcceptRequest,
    AskRequest,
    CapacityRequest,
    OutcomeRequest,
    ReferralRequest,
    ServiceRequest,
    SplitRequest,
    WithdrawRequest,
)
from referral_bus.contracts.services import Cost, Unit
from services.intake.checks import CLOCK_SKEW_MS, HORIZON_MS, Presented, Routed, check
from services.intake.reference import Publication, Reference
from services.intake.refusals import Refused
from tests.support.admitting import (
    NAME,
    NOTE,
    PARTIES,
    REFERRAL,
    REGIONS,
    SAID,
    SERVICE,
    TASK,
    UNIT,
    definition,
    organisation,
    referral,
)

NOW = 10 * HORIZON_MS
EITHERS = {"HoldRequest", "ResumeRequest", "HandoffRequest", "FollowUpRequest", "RetractRequest"}
"""What both may say: the agency of a referral, and the provider that has accepted it."""


def published(
    *, parties: tuple[str, ...] = tuple(PARTIES), regions: dict[str, int] | None = None
) -> Reference:
    reference = Reference()
    messages = [RegionTable(version=1, partitions=regions or REGIONS), *map(organisation, parties)]
    for offset, message in enumerate(messages):
        assert reference.apply(Publication("operations", message, offset))
    return reference


def said(
    request: Part, by: str = "hospital", *, reference: Reference | None = None, **changed: Any
) -> Routed:
    given: dict[str, Any] = {
        "id": "s-1",
        "organisation": by,
        "sent_at": NOW,
        "request": request,
        "door": "api",
    }
    presented = Presented(**{**given, **{k: v for k, v in changed.items() if k in given}})
    speaker, roles = changed.get("speaker", by), changed.get("roles", PARTIES[by][1])
    return check(presented, speaker, roles, reference or published(), "main", NOW)


def refusal(*args: Any, **changed: Any) -> tuple[str, str | None]:
    with pytest.raises(Refused) as refused:
        said(*args, **changed)
    return refused.value.reason, refused.value.field


def test_every_request_of_the_contract_is_among_those_tested() -> None:
    assert {type(request) for _, _, request in SAID} | {type(referral())} == set(REQUESTS)


@pytest.mark.parametrize(("by", "about", "request_"), SAID, ids=lambda one: type(one).__name__)
def test_a_response_finds_its_region_by_the_id_it_speaks_of(by: str, about: str, request_: Part) -> None:
    routed = said(request_, by)
    of = REFERRAL if about in (REFERRAL, TASK) else None
    assert (routed.region, routed.partition, routed.about, routed.referral) == ("north", 0, about, of)


def test_a_referral_to_a_named_service_goes_to_that_services_region() -> None:
    direct = referral(mode="direct", service="sv-south-beds")
    assert said(direct).region == "south"
    assert said(referral(mode="direct", service="sv-south-beds", region="north")).region == "north"


def test_the_parts_of_a_split_have_ids_of_its_region_that_a_repeat_gives_again() -> None:
    split = next(request for _, _, request in SAID if isinstance(request, SplitRequest))
    parts = said(split).parts
    assert said(split).parts == parts != said(split, id="s-2").parts
    assert len({*parts, REFERRAL}) == 3 and all(part.startswith("rf-north-") for part in parts)
    assert said(split.model_copy(update={"parts": split.parts * 2})).parts[:2] == parts
    assert said(referral()).parts == ()


def test_a_referral_goes_to_the_agencys_home_region_unless_it_names_another() -> None:
    home, other = said(referral()), said(referral(region="south"))
    assert (home.region, home.partition) == ("north", 0)
    assert (other.region, other.partition) == ("south", 1)
    assert home.referral == home.about == referral_id("north", "main", "hospital", "s-1")


def test_the_same_submission_opens_the_same_referral_and_another_another() -> None:
    assert said(referral()) == said(referral())
    assert said(referral()).referral != said(referral(), id="s-2").referral


@pytest.mark.parametrize(("by", "about", "request_"), SAID, ids=lambda one: type(one).__name__)
def test_each_request_takes_its_role_of_token_and_record_alike(by: str, about: str, request_: Part) -> None:
    other = "shelter" if by == "hospital" else "hospital"
    assert refusal(request_, by, roles=["operations"]) == ("role_missing", "Authorization")
    if isinstance(request_, ServiceRequest):
        return
    if type(request_).__name__ in EITHERS:
        assert said(request_, other).about == about
        return
    assert refusal(request_, other, roles=["agency", "provider"]) == ("role_missing", "Authorization")


def test_what_either_may_say_takes_one_role_that_token_and_record_agree_on() -> None:
    resume = next(request for _, _, request in SAID if type(request).__name__ == "ResumeRequest")
    assert refusal(resume, "hospital", roles=["provider"]) == ("role_missing", "Authorization")


def test_an_organisation_speaks_only_for_itself() -> None:
    assert refusal(referral(), speaker="shelter") == ("not_yourself", "Authorization")
    of_another = definition(organisation="hospital")
    assert refusal(ServiceRequest(definition=of_another), "shelter") == (
        "not_yourself",
        "organisation",
    )


def test_who_is_not_published_may_say_nothing() -> None:
    assert refusal(referral(), reference=published(parties=("shelter",))) == (
        "unknown_organisation",
        "Authorization",
    )


def test_a_region_that_is_not_in_the_table_is_not_guessed() -> None:
    assert refusal(referral(region="west")) == ("unknown_region", "region")
    elsewhere = published(regions={"south": 1})
    for request, speaker, field in (
        (referral(), "hospital", "region"),
        (referral(mode="direct", service=SERVICE), "hospital", "service"),
        (WithdrawRequest(referral=REFERRAL, reason="moved_away"), "hospital", "referral"),
        (AcceptRequest(task=TASK), "shelter", "task"),
        (CapacityRequest(unit=UNIT, total=1, available=1, true_at=NOW), "shelter", "unit"),
        (ServiceRequest(definition=definition()), "shelter", "service"),
    ):
        assert refusal(request, speaker, reference=elsewhere) == ("unknown_region", field)


def test_a_service_and_its_units_are_of_one_region() -> None:
    units = [Unit(unit="un-south-beds", name="beds", total=1, available=1)]
    assert refusal(ServiceRequest(definition=definition(units=units)), "shelter") == (
        "region_mismatch",
        "units",
    )


@pytest.mark.parametrize("door", ["events", "outbox"])
def test_what_is_wrong_about_an_event_is_named_by_its_attribute_or_its_place_in_the_data(door: str) -> None:
    nobody = published(parties=("shelter",))
    assert refusal(referral(), speaker="shelter", door=door) == ("not_yourself", "source")
    assert refusal(referral(), reference=nobody, door=door) == ("unknown_organisation", "source")
    assert refusal(referral(), roles=["provider"], door=door) == ("role_missing", "source")
    assert refusal(referral(region="west"), door=door) == ("unknown_region", "data.region")
    elsewhere = ServiceRequest(definition=definition(regions=["west"]))
    assert refusal(elsewhere, "shelter", door=door) == ("unknown_region", "data.definition.regions")


def test_a_service_is_offered_to_regions_there_are() -> None:
    assert refusal(ServiceRequest(definition=definition(regions=["west"])), "shelter") == (
        "unknown_region",
        "regions",
    )


def texts_in(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where texts are in what is said."""
    if isinstance(value, str):
        return [at]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, one in inner for found in texts_in(one, (*at, name))]


def with_text(value: Any, at: tuple[str | int, ...], text: str) -> Any:
    if not at:
        return text
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[at[0]] = with_text(copied[at[0]], at[1:], text)  # type: ignore[index]
    return copied


IDENTITY = Identity(name=NAME, phone="555-0100", email="q@example.org", address="Elm Street 1", note=NOTE)
ALL_SAID: list[tuple[str, Part]] = [
    *((by, request) for by, _, request in SAID),
    ("hospital", referral(identity=IDENTITY, mode="direct", service=SERVICE, protocol="crisis")),
    (
        "shelter",
        ServiceRequest(
            definition=definition(
                areas=["00019"],
                languages=["en"],
                costs=[Cost(amount=5, currency="USD", condition="for adults", per="night")],
                program="shelters",
            )
        ),
    ),
]


@pytest.mark.parametrize("door", ["api", "events", "outbox"])
@pytest.mark.parametrize(("by", "request_"), ALL_SAID, ids=lambda one: type(one).__name__)
def test_no_text_with_nul_comes_in_by_any_field_of_any_request(by: str, request_: Part, door: str) -> None:
    clear = request_.model_dump(mode="json", exclude_none=True)
    said(request_, by, door=door)
    for at in texts_in(clear):
        for text in ("\0", f"x\0{NAME}", f"{NAME}\0"):
            try:
                odd = type(request_).model_validate(with_text(clear, at, text))
            except ValidationError:
                continue
            with pytest.raises(Refused) as caught:
                said(odd, by, door=door)
            field = ".".join(map(str, at))
            named = field.removeprefix("definition.") if door == "api" else f"data.{field}"
            refused = caught.value
            assert (refused.reason, refused.status, refused.field) == ("invalid", 422, named)
            assert NAME not in refused.detail and "\0" not in refused.detail


@pytest.mark.parametrize("text", ["\\u0000", "\x01\x7f", "\ufffd", "\U0001f642", "e\u0301\n\t"])
def test_any_other_text_comes_in(text: str) -> None:
    assert said(ServiceRequest(definition=definition(name=text)), "shelter").about == SERVICE
    assert said(OutcomeRequest(referral=REFERRAL, result="not_met", note=text), "shelter").about == REFERRAL


@pytest.mark.parametrize("half", ["\ud800", "a\udc00", "\udfff\ud800"])
def test_half_a_character_comes_in_by_no_text(half: str) -> None:
    for form, clear, at in (
        (ServiceRequest, {"definition": definition().model_dump()}, ("definition", "name")),
        (AskRequest, {"task": TASK, "question": ""}, ("question",)),
        (ReferralRequest, referral().model_dump(), ("identity", "name")),
    ):
        with pytest.raises(ValidationError):
            form.model_validate(with_text(clear, at, half))


@pytest.mark.parametrize("form", [*REQUESTS, *PUBLISHED.values()], ids=lambda form: form.__name__)
def test_openapi_says_of_each_text_what_it_may_be(form: type[Part]) -> None:
    def strings(schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict):
            if schema.get("type") == "string":
                yield schema
            schema = list(schema.values())
        if isinstance(schema, list):
            for inner in schema:
                yield from strings(inner)

    for schema in strings(form.model_json_schema()):
        assert schema.keys() & {"pattern", "enum", "const"}, schema
        if "pattern" in schema:
            assert re.match(schema["pattern"], "\0") is None
            assert re.match(schema["pattern"], "2026-01-01\0") is None


@pytest.mark.parametrize(
    ("sent_at", "reason"),
    [
        (NOW - HORIZON_MS, None),
        (NOW - HORIZON_MS - 1, "too_old"),
        (NOW + CLOCK_SKEW_MS, None),
        (NOW + CLOCK_SKEW_MS + 1, "in_future"),
    ],
)
def test_what_is_older_than_repeats_are_recognised_or_in_the_future_is_refused(
    sent_at: int, reason: str | None
) -> None:
    if reason is None:
        assert said(referral(), sent_at=sent_at).presented.sent_at == sent_at
    else:
        assert refusal(referral(), sent_at=sent_at) == (reason, "time")
