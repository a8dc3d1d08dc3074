"""Who sees what of a person, and the record of every release: it is on the disclosure topic before anything leaves."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from referral_bus.client.errors import NotFound
from referral_bus.client.notices import open_notice
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import OfferAccepted, OfferMade, ReferralClosed
from referral_bus.contracts.reference import Agreement
from tests.support.whole_bus import REGIONS, Asked, WholeBus, new_need, now_ms, of

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAME = "Wilhelmina Ashgrove-Tester"


async def _offered(whole: WholeBus, agency: str = "hospital", *providers: str) -> Asked:
    need = new_need()
    for provider in providers or ("harbor",):
        await whole.service(provider, need, region="north")
    return await whole.refer(agency, need)


async def test_a_provider_sees_the_facts_with_the_offer_and_the_identity_once_it_accepted(
    whole: WholeBus,
) -> None:
    asked = await _offered(whole)
    with_offer = await _ask(whole, "harbor", asked.referral, asked.answer.token, "facts", "identity")
    assert with_offer["facts"]["age"]["value"] == 34
    assert with_offer["identity"] is None
    assert with_offer["withheld"] == {"identity": "not_granted"}
    assert with_offer["subject"] is None

    token = (await whole.party("harbor").accept(asked.task)).token
    accepted = await _ask(whole, "harbor", asked.referral, token, "facts", "identity")
    assert accepted["identity"]["name"] == NAME
    assert accepted["withheld"] == {}

    released = await whole.disclosed(asked.referral, "harbor")
    assert {"facts"} <= _classes(released, "offered")
    assert "identity" not in _classes(released, "offered")
    assert {"facts", "identity"} <= _classes(released, "accepted")


async def test_a_provider_that_declined_sees_nothing_any_more(whole: WholeBus) -> None:
    need = new_need()
    services = {name: await whole.service(name, need, region="north") for name in ("harbor", "maple")}
    asked = await whole.refer("hospital", need)
    [first] = [name for name, one in services.items() if one.service == asked.timeline["service"]]
    [other] = services.keys() - {first}
    assert (await _ask(whole, first, asked.referral, asked.answer.token, "facts"))["facts"] is not None

    token = (await whole.party(first).decline(asked.task, "no_capacity")).token
    with pytest.raises(NotFound):
        await _ask(whole, first, asked.referral, token, "facts")
    inbox = await whole.party(first).inbox(after=token, limit=200)
    assert asked.referral not in [row["referral"] for row in inbox.items]
    # The one it went to sees no attempt but its own.
    now = await _ask(whole, other, asked.referral, token, "facts")
    assert now["facts"]["age"]["value"] == 34
    assert {event["detail"].get("provider") for event in now["events"]} <= {None, other}


async def test_a_provider_whose_offer_ran_out_or_was_withdrawn_sees_nothing_any_more(whole: WholeBus) -> None:
    asked = await _offered(whole)
    token = (await whole.party("hospital").withdraw(asked.referral, "moved_away")).token
    with pytest.raises(NotFound):
        await _ask(whole, "harbor", asked.referral, token, "facts")


async def test_the_agency_sees_all_of_its_own_referral(whole: WholeBus) -> None:
    asked = await _offered(whole)
    token = await _through(whole, asked)
    seen = await _ask(whole, "hospital", asked.referral, token, "facts", "identity", "outcome")
    assert (seen["outcome"], seen["note"]["text"]) == ("need_met", "Said in confidence.")
    assert seen["identity"]["name"] == NAME
    assert seen["subject"].startswith("sj-")
    assert {"status", "facts", "identity", "outcome"} <= _classes(
        await whole.disclosed(asked.referral, "hospital"), "own_referral"
    )


async def test_police_see_that_it_was_taken_up_and_not_what_came_of_it_unless_agreed(whole: WholeBus) -> None:
    asked = await _offered(whole, "police-team")
    accepted = (await whole.party("harbor").accept(asked.task)).token
    taken_up = await _ask(whole, "police-team", asked.referral, accepted)
    assert (taken_up["standing"], taken_up["accepted_by"]) == ("accepted", "harbor")

    await whole.party("harbor").start(asked.referral, now_ms())
    token = (await whole.party("harbor").outcome(asked.referral, "not_met", "Said in confidence.")).token
    seen = await _ask(whole, "police-team", asked.referral, token, "outcome")
    assert (seen["standing"], seen["outcome"], seen["reason"], seen["note"]) == ("closed", None, None, None)
    assert seen["withheld"] == {"note": "not_granted"}
    assert "OutcomeReported" not in [event["type"] for event in seen["events"]]
    assert "not_met" not in str(seen)
    row = of((await whole.party("police-team").caseload(limit=200)).items, "referral", asked.referral)
    assert (row["outcome"], row["reason"]) == (None, None)
    assert "outcome" not in _classes(await whole.disclosed(asked.referral, "police-team"))
    heard = await _heard(whole, "police-team", asked)
    assert "OutcomeReported" not in {notice.type.split(".")[-2] for notice in heard}
    assert heard[-1].type == ReferralClosed.event_type() and heard[-1].reason is None

    agreement = Agreement(
        agreement="police-outcomes",
        recipient="police-team",
        data_classes=["outcome"],
        purposes=["care_coordination"],
        legal_basis="a memorandum for this test",
        valid_from=0,
        valid_until=now_ms() + 3_600_000,
    )
    await whole.operations().publish(agreement)
    await whole.adopted({(region, "agreement", "police-outcomes", 1) for region in REGIONS})
    later = await whole.party("harbor").report_capacity(await _unit(whole, asked), 1, 1, now_ms())
    granted = await _ask(whole, "police-team", asked.referral, later.token, "outcome")
    assert (granted["outcome"], granted["note"]["text"]) == ("not_met", "Said in confidence.")
    released = await whole.disclosed(asked.referral, "police-team")
    assert "outcome" in _classes(released, "agreement:police-outcomes")

    # It ends like it began: by a version that every region adopts.
    over = agreement.model_copy(update={"version": 2, "valid_until": now_ms()})
    await whole.operations().publish(over)
    await whole.adopted({(region, "agreement", "police-outcomes", 2) for region in REGIONS})
    after = (await whole.party("harbor").report_capacity(await _unit(whole, asked), 1, 1, now_ms())).token
    assert (await _ask(whole, "police-team", asked.referral, after))["outcome"] is None


async def test_what_a_notice_discloses_can_be_opened_by_its_recipient_alone_and_was_recorded(
    whole: WholeBus,
) -> None:
    asked = await _offered(whole)
    heard = await _heard_until(whole, "harbor", asked, OfferMade.event_type())
    offered = open_notice(heard, whole.keys["harbor"].private)
    assert offered is not None and offered.keys() == {"referral", "facts"}
    assert NAME.encode() not in (heard.disclosed or b"")
    await whole.party("harbor").accept(asked.task)
    heard = await _heard_until(whole, "harbor", asked, OfferAccepted.event_type())
    accepted = open_notice(heard, whole.keys["harbor"].private)
    assert accepted is not None and accepted["identity"]["name"] == NAME
    by_stream = [one for one in await whole.disclosed(asked.referral, "harbor") if one.channel == "sse"]
    assert _classes(by_stream, "offered") == {"status", "facts"}
    assert {"status", "facts", "identity"} <= _classes(by_stream, "accepted")


async def test_operations_see_that_a_referral_is_there_and_nothing_of_the_person(whole: WholeBus) -> None:
    asked = await _offered(whole)
    response = await whole.http.get(
        f"{whole.bus.addresses.queries}/v1/referrals/{asked.referral}",
        params=[("after", asked.answer.token), ("show", "facts"), ("show", "identity")],
        headers={"authorization": f"Bearer {whole.token('operations', ['operations'])}"},
    )
    seen = response.raise_for_status().json()
    assert (seen["subject"], seen["facts"], seen["identity"]) == (None, None, None)
    assert seen["withheld"] == {"facts": "not_granted", "identity": "not_granted"}


async def _through(whole: WholeBus, asked: Asked) -> str:
    harbor = whole.party("harbor")
    await harbor.accept(asked.task)
    await harbor.start(asked.referral, now_ms())
    return (await harbor.outcome(asked.referral, "need_met", "Said in confidence.")).token


async def _unit(whole: WholeBus, asked: Asked) -> str:
    rows = await whole.rows("select unit from projections.tasks where task = :task", task=asked.task)
    unit: str = rows[0][0]
    return unit


async def _ask(whole: WholeBus, organisation: str, referral: str, token: str, *show: str) -> dict[str, Any]:
    """A timeline with several classes of data at once, which the SDK asks for one by one."""
    response = await whole.http.get(
        f"{whole.bus.addresses.queries}/v1/referrals/{referral}",
        params=[("after", token), ("wait", "20"), *(("show", one) for one in show)],
        headers=whole.authorization(organisation),
    )
    if response.status_code == 404:
        raise NotFound("not there", status=404)
    found: dict[str, Any] = response.raise_for_status().json()
    return found


def _classes(released: list[Any], grant: str | None = None) -> set[str]:
    return {data for one in released if grant in (None, one.grant) for data in one.data_classes}


async def _heard(whole: WholeBus, organisation: str, asked: Asked) -> list[Notice]:
    """What an organisation heard of a referral, up to its closing."""
    heard: list[Notice] = []
    async with aclosing(whole.party(organisation).follow(last_event_id="0")) as stream:
        async for one in stream:
            if one.notice.referral == asked.referral:
                heard.append(one.notice)
                if one.notice.type == ReferralClosed.event_type():
                    return heard
    raise AssertionError("the stream has no end")


async def _heard_until(whole: WholeBus, organisation: str, asked: Asked, type: str) -> Notice:
    async with aclosing(whole.party(organisation).follow(last_event_id="0")) as stream:
        async for one in stream:
            if (one.notice.referral, one.notice.type) == (asked.referral, type):
                return one.notice
    raise AssertionError("the stream has no end")
