"""What operations publish, on a log in memory: what no region could adopt is told to them and is not published, and an organisation
finds its topics made."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from referral_bus.access.caller import Caller
from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabularies import Taxonomy, TaxonomyTerm
from referral_bus.embedded.reference import STANDARD_POLICY
from referral_bus.log import topics
from referral_bus.protocols import OFFICE_HOURS, shipped
from referral_bus.wire.inbox import LARGEST_CONTENT, can_be_taken
from services.intake.publishing import Publishing
from services.intake.reference import adoption
from services.intake.refusals import Refused
from tests.support.admitting import OPERATIONS, organisation
from tests.unit.intake.test_admission import CODEC, Border

CALLER = Caller(OPERATIONS, frozenset({"operations"}))


async def publishing_of(border: Border) -> Publishing:
    return Publishing(
        log=border.log,
        appender=await border.log.appender(),
        view=border.view,
        codec=CODEC,
        clock=border.clock,
        bus="main",
        replication=1,
    )


def vocabulary(terms: int, kind: str = "taxonomy") -> dict[str, Any]:
    codes = [f"B{number:05d}.{'0' * 30}" for number in range(terms)]
    if kind == "taxonomy":
        name = "Help of a kind that a county has a name for"
        return {"taxonomy": "county", "terms": [{"code": code, "name": name} for code in codes]}
    mappings = [{"source": code, "target": code, "relation": "equal", "confidence": 900} for code in codes]
    return {"crosswalk": "county", "source": "county", "target": "state", "mappings": mappings}


@pytest.mark.parametrize("kind", ["taxonomy", "crosswalk"])
async def test_a_vocabulary_that_no_region_could_adopt_is_refused_and_not_published(kind: Any) -> None:
    async with Border() as border:
        await border.open()
        publishing = await publishing_of(border)
        before = border.view.next
        with pytest.raises(Refused) as caught:
            await publishing.publish(kind, vocabulary(16_000, kind), CALLER)
        refused = caught.value
        assert (refused.status, refused.reason, refused.field) == (413, "too_large", "content")
        assert f"at most {LARGEST_CONTENT} bytes" in refused.detail
        assert border.view.next == before
        assert await publishing.publish(kind, vocabulary(9_000, kind), CALLER)


def test_as_many_terms_as_the_contract_allows_fit_where_they_are_short() -> None:
    terms = [
        TaxonomyTerm(code=f"{number:05d}", parent=None if number == 0 else "00000")
        for number in range(20_000)
    ]
    body = adoption(Taxonomy(taxonomy="short", terms=terms))
    assert body is not None and can_be_taken(body, CODEC)


AGREEMENT = Agreement(
    agreement="mou",
    recipient="shelter",
    data_classes=["facts"],
    purposes=["care_coordination"],
    legal_basis="Section 12\0",
    valid_from=0,
    valid_until=1,
)


@pytest.mark.parametrize(
    ("kind", "content", "field"),
    [
        ("organisation", organisation("clinic").model_copy(update={"name": "Clinic\0"}), "content.name"),
        ("agreement", AGREEMENT, "content.legal_basis"),
        ("calendar", OFFICE_HOURS.model_copy(update={"name": "\0"}), "content.name"),
        ("protocol", shipped()[0].model_copy(update={"name": "\0"}), "content.name"),
        ("policy", STANDARD_POLICY.model_copy(update={"seed": "12345678\0"}), "content.seed"),
        (
            "taxonomy",
            Taxonomy(taxonomy="ours", terms=[TaxonomyTerm(code="1"), TaxonomyTerm(code="2", name="Food\0")]),
            "content.terms.1.name",
        ),
    ],
)
async def test_reference_data_with_nul_in_a_text_is_refused_and_not_published(
    kind: Any, content: BaseModel, field: str
) -> None:
    async with Border() as border:
        await border.open()
        before, topics_before = border.view.next, await border.log.topics()
        with pytest.raises(Refused) as caught:
            await (await publishing_of(border)).publish(kind, content.model_dump(mode="json"), CALLER)
        refused = caught.value
        assert (refused.status, refused.reason, refused.field) == (422, "invalid", field)
        assert (border.view.next, await border.log.topics()) == (before, topics_before)


async def test_an_organisation_that_is_known_and_has_no_topics_is_given_them_when_it_is_published_again() -> (
    None
):
    async with Border() as border:
        await border.open()
        await border.publish(organisation("clinic"))
        assert topics.outbox("clinic") not in await border.log.topics()
        publishing = await publishing_of(border)
        await publishing.publish("organisation", organisation("clinic", 2).model_dump(mode="json"), CALLER)
        assert {topics.outbox("clinic"), topics.feed("main", "clinic")} <= (await border.log.topics()).keys()
