"""The query API over real views: who sees what, how pages and ``?after`` behave, and what is recorded of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from referral_bus.client.bus import Bus
from referral_bus.contracts.certificates import CRITERIA
from referral_bus.contracts.inbox import SubmitReferral
from referral_bus.contracts.ledger import (
    Eliminated,
    Event,
    Judged,
    KeyDestroyed,
    OfferMade,
    ReferenceAdopted,
    ReferralOpened,
    SubmissionRefused,
)
from referral_bus.contracts.reference import Policy
from referral_bus.runtime.clock import SystemClock
from tests.support.served_views import NAME, NOTE, World
from tests.support.viewing import CERTIFICATE, accepted, admitted, completed, declined, started, subject


async def ask(world: World, organisation: str, path: str, roles: Any = None, **params: Any) -> Any:
    async with world.http(organisation, roles) as http:
        return await http.get(path, params={"after": world.after(world.north), "wait": 10, **params})


async def items(world: World, organisation: str, view: str, roles: Any = None, **params: Any) -> list[Any]:
    answer = await ask(world, organisation, f"/v1/{view}", roles, **params)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["items"]
    return found


async def offered(
    world: World, agency: str = "hospital", number: int = 1
) -> tuple[ReferralOpened, OfferMade]:
    opened = await world.opened(agency, number)
    offer = world.north.offered(opened)
    await world.put(world.north, opened, world.north.matched(opened), offer)
    return opened, offer


async def test_each_party_sees_of_a_referral_what_it_may(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        path = f"/v1/referrals/{opened.referral}"

        agency = (await ask(world, "hospital", path, show=["facts", "identity"])).json()
        assert agency["facts"]["needs"][0]["code"] == "emergency-shelter"
        assert (agency["identity"]["name"], agency["subject"]) == (NAME, opened.subject)
        assert [event["type"] for event in agency["events"]] == [
            "ReferralOpened",
            "MatchDecided",
            "OfferMade",
        ]

        provider = (await ask(world, "shelter", path, show=["facts", "identity"])).json()
        assert provider["facts"]["needs"][0]["code"] == "emergency-shelter"
        assert (provider["identity"], provider["subject"]) == (None, None)
        assert provider["withheld"] == {"identity": "not_granted"}
        assert [event["type"] for event in provider["events"]] == ["ReferralOpened", "OfferMade"]

        for stranger in ("clinic", "police"):
            answer = await ask(world, stranger, path, show="facts")
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_referral")

        await world.put(world.north, accepted(offer))
        provider = (await ask(world, "shelter", path, show="identity")).json()
        assert provider["identity"]["name"] == NAME


async def test_an_agency_reads_in_sentences_how_its_referral_was_matched_and_nobody_else_does(
    world: World,
) -> None:
    beds, flats = "sv-north-beds", "sv-north-flats"
    yes = ["yes"] * len(CRITERIA)
    certificate = CERTIFICATE.model_copy(
        update={
            "policy": "plain",
            "considered": 3,
            "eliminated": [Eliminated(criterion="age", services=1)],
            "best": [Judged(service=beds, verdicts=yes, score=[250, 7])],
            "misses": [Judged(service=flats, verdicts=[*yes[:2], "no", *yes[3:]], score=[])],
        }
    )
    async with world.running():
        await world.begin()
        ranked = Policy(policy="plain", rank_by=["load", "lottery"], seed="published")
        later = ranked.model_copy(update={"version": 2, "rank_by": ["lottery"]})
        for policy in (ranked, later):
            await world.put(
                world.north,
                ReferenceAdopted(kind="policy", reference="plain", version=policy.version, policy=policy),
            )
        opened = await world.opened()
        matched = world.north.matched(opened).model_copy(update={"certificate": certificate})
        await world.put(world.north, opened, matched, world.north.offered(opened))
        path = f"/v1/referrals/{opened.referral}"

        seen = (await ask(world, "hospital", path, show="matches")).json()
        [match] = seen["matches"]
        assert match["attempt"] == 1
        assert match["lines"] == [
            "of 3 services, 1 don't serve the age; 2 could take it (policy plain 1).",
            "1. beds: nothing is unknown, 25 % of its places in use, held or in doubt, lot 7.",
            f"Near miss: {flats}: it would take the person if it served the person's age.",
        ]
        assert [shown.data_classes for shown in await world.releases() if "facts" in shown.data_classes]
        # Without being asked for it is not there, and to the provider, who may see the facts, it tells who else was looked at.
        assert (await ask(world, "hospital", path)).json()["matches"] is None
        seen = (await ask(world, "shelter", path, show="matches")).json()
        assert (seen["matches"], seen["withheld"]) == (None, {"matches": "not_granted"})


async def test_a_provider_that_declined_sees_the_referral_no_more(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        assert len(await items(world, "shelter", "inbox")) == 1
        await world.put(world.north, declined(offer))
        assert (await ask(world, "shelter", f"/v1/referrals/{opened.referral}")).status_code == 404
        assert await items(world, "shelter", "inbox") == []


async def test_a_provider_does_not_see_who_else_was_asked(world: World) -> None:
    async with world.running():
        await world.begin()
        await world.put(world.north, world.north.published("cots", "clinic"))
        opened, offer = await offered(world)
        second = world.north.offered(opened, "clinic", 2, "cots")
        await world.put(world.north, declined(offer), world.north.matched(opened, 2, "cots"), second)
        seen = (await ask(world, "clinic", f"/v1/referrals/{opened.referral}")).json()
        assert "shelter" not in str(seen) and seen["attempts"] is None
        assert [event["type"] for event in seen["events"]] == ["ReferralOpened", "OfferMade"]


@pytest.mark.parametrize("granted", [False, True])
async def test_police_see_that_it_was_taken_up_and_the_outcome_only_where_granted(
    world: World, granted: bool
) -> None:
    async with world.running():
        await world.begin()
        if granted:
            valid_until = SystemClock().now() + 3_600_000
            await world.put(world.north, world.north.agreed("police", ["outcome"], valid_until=valid_until))
        opened, offer = await offered(world, "police")
        await world.put(world.north, accepted(offer), started(offer), *completed(offer, await world.note()))
        seen = (await ask(world, "police", f"/v1/referrals/{opened.referral}", show="outcome")).json()
        types = [event["type"] for event in seen["events"]]
        assert seen["accepted_by"] == "shelter" and "ServiceStarted" in types
        closed = seen["events"][-1]["detail"]["reason"]
        [row] = await items(world, "police", "caseload")
        if granted:
            assert (seen["outcome"], seen["reason"], closed) == (
                "need_met",
                "outcome_reported",
                "outcome_reported",
            )
            assert seen["note"] == {"text": NOTE} and row["outcome"] == "need_met"
        else:
            assert (seen["outcome"], seen["reason"], closed, seen["note"]) == (None, None, None, None)
            assert "OutcomeReported" not in types and (row["outcome"], row["reason"]) == (None, None)
            assert "outcome" not in {name for one in await world.releases() for name in one.data_classes}


async def test_the_hospital_that_referred_sees_the_outcome(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        await world.put(world.north, accepted(offer), *completed(offer, await world.note()))
        for party in ("hospital", "shelter"):
            seen = (await ask(world, party, f"/v1/referrals/{opened.referral}", show="outcome")).json()
            assert (seen["outcome"], seen["note"]) == ("need_met", {"text": NOTE})


async def test_operations_see_where_things_stand_and_nothing_of_the_person(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        await world.put(world.north, accepted(offer), *completed(offer))
        roles = ["operations"]
        seen = (
            await ask(
                world, "operations", f"/v1/referrals/{opened.referral}", roles, show=["facts", "identity"]
            )
        ).json()
        assert (seen["status"], seen["subject"], seen["outcome"], seen["reason"]) == (
            "completed",
            None,
            None,
            None,
        )
        assert seen["withheld"] == {"facts": "not_granted", "identity": "not_granted"}
        assert all(event["detail"] == {} for event in seen["events"])
        assert len(await items(world, "operations", "caseload", roles)) == 1
        assert len(await items(world, "operations", "inbox", roles)) == 1
        assert opened.subject not in str(seen) and await world.releases() == []


async def test_a_role_the_token_does_not_carry_gives_nothing(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, _ = await offered(world)
        assert (
            await ask(world, "hospital", f"/v1/referrals/{opened.referral}", ["provider"])
        ).status_code == 404
        assert (await ask(world, "hospital", "/v1/caseload", ["provider"])).status_code == 403
        assert (await ask(world, "shelter", "/v1/inbox", ["agency"])).status_code == 403
        async with world.http("hospital") as http:
            http.headers["authorization"] = "Bearer nonsense"
            assert (await http.get("/v1/caseload")).status_code == 401


async def test_each_showing_is_recorded_with_its_grant_before_the_answer(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, _ = await offered(world)
        await ask(world, "shelter", f"/v1/referrals/{opened.referral}", show=["facts", "identity"])
        [release] = await world.releases()
        assert (release.recipient, release.referral, release.subject) == (
            "shelter",
            opened.referral,
            opened.subject,
        )
        assert (release.grant, release.channel, sorted(release.data_classes)) == (
            "offered",
            "api",
            ["facts", "status"],
        )
        await items(world, "hospital", "caseload")
        assert [
            (one.recipient, one.grant) for one in await world.releases() if one.recipient == "hospital"
        ] == [("hospital", "own_referral")]


async def test_an_erased_person_is_shown_no_more(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        await world.put(world.north, accepted(offer))
        path = f"/v1/referrals/{opened.referral}"
        assert (await ask(world, "shelter", path, show="identity")).json()["identity"]["name"] == NAME
        await world.keys.destroy([opened.subject])
        await world.put(world.north, KeyDestroyed(subject=opened.subject))
        for party, matches in (("hospital", "erased"), ("shelter", "not_granted")):
            seen = (await ask(world, party, path, show=["facts", "identity", "matches"])).json()
            assert (seen["erased"], seen["facts"], seen["identity"], seen["subject"]) == (
                True,
                None,
                None,
                None,
            )
            assert seen["withheld"] == {"facts": "erased", "identity": "erased", "matches": matches}
        left = await world.rows("select count(*) from projections.sections where sealed is not null")
        assert left == [(0,)]


async def test_a_query_waits_for_the_token_and_says_when_it_is_not_visible_yet(world: World) -> None:
    async with world.running(), world.http("hospital") as http:
        await world.begin()
        opened = await world.opened()
        token = f"north.0.{world.north.inbox_offset + 1}"
        asking = asyncio.create_task(
            http.get(f"/v1/referrals/{opened.referral}", params={"after": token, "wait": 10})
        )
        early = await http.get("/v1/caseload", params={"after": token, "wait": 0.1})
        assert (early.status_code, early.json()["code"]) == (504, "not_yet_visible")
        assert not asking.done()
        await world.put(world.north, opened)
        assert (await asking).json()["referral"] == opened.referral
        for wrong in ("north", "north.0.x", "nowhere.0"):
            assert (await http.get("/v1/caseload", params={"after": wrong})).status_code == 422
        began = time.monotonic()
        other = await http.get("/v1/caseload", params={"after": "elsewhere.0.1", "wait": 0.05})
        assert other.status_code == 504 and time.monotonic() - began < 5


async def test_pages_hold_each_row_once_though_rows_are_added_meanwhile(world: World) -> None:
    async with world.running(), Bus(lambda: world.token("hospital"), queries=_url(world)) as bus:
        await world.begin()
        first = [await world.opened() for _ in range(5)]
        await world.put(world.north, *first)
        page = await bus.caseload(limit=2, after=world.after(world.north), wait=10)
        seen = [row["referral"] for row in page.items]
        await world.put(world.north, await world.opened())
        await world.reflected()
        while page.cursor is not None:
            page = await bus.caseload(limit=2, cursor=page.cursor)
            seen += [row["referral"] for row in page.items]
        assert seen == [one.referral for one in reversed(first)]


async def test_a_cursor_from_elsewhere_is_refused(world: World) -> None:
    async with world.running(), world.http("hospital") as http:
        for cursor in ("x", "WyJhIiwxLDJd", "bnVsbA", "W10", "ww", "WzEsMiwiYSJd", "W1tdXQ"):
            answer = await http.get("/v1/caseload", params={"cursor": cursor})
            assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


async def test_the_queue_leads_with_what_is_overdue_and_each_party_sees_its_own(world: World) -> None:
    async with world.running():
        await world.begin()
        await world.put(world.north, world.north.published("cots", "clinic"))
        waiting: list[tuple[str, OfferMade]] = []
        offsets = {"later": 7_200_000, "overdue": -60_000, "soon": 3_600_000}
        now = SystemClock().now()
        for number, (name, offset) in enumerate(offsets.items(), 1):
            opened = await world.opened("police" if name == "soon" else "hospital", number)
            offer = world.north.offered(opened).model_copy(update={"expires_at": now + offset})
            await world.put(world.north, opened, offer)
            waiting.append((name, offer))
        agreed = await world.opened("hospital", 8)
        taken = world.north.offered(agreed, "clinic", unit="cots")
        begun = await world.opened("hospital", 9)
        serving = world.north.offered(begun)
        await world.put(
            world.north, agreed, taken, accepted(taken), begun, serving, accepted(serving), started(serving)
        )
        names = {offer.task: name for name, offer in waiting} | {
            taken.task: "to start",
            serving.task: "to end",
        }

        async def queue(organisation: str, roles: Any = None) -> list[str]:
            return [names[row["task"]] for row in await items(world, organisation, "queue", roles)]

        assert await queue("operations", ["operations"]) == ["overdue", "soon", "later", "to start", "to end"]
        assert await queue("hospital") == ["overdue", "later", "to start", "to end"]
        assert await queue("police") == ["soon"]
        assert await queue("shelter") == ["overdue", "soon", "later", "to end"]
        assert await queue("clinic") == ["to start"]
        first, *others = await items(world, "hospital", "queue")
        assert first["overdue"] and not any(row["overdue"] for row in others)
        paged = await ask(world, "hospital", "/v1/queue", limit=2)
        rest = await ask(world, "hospital", "/v1/queue", limit=9, cursor=paged.json()["cursor"])
        assert [names[row["task"]] for row in rest.json()["items"]] == ["to start", "to end"]


async def test_the_capacity_board_is_for_every_party(world: World) -> None:
    async with world.running():
        await world.begin()
        _, offer = await offered(world)
        await world.put(world.north, accepted(offer))
        for party in ("hospital", "clinic"):
            [unit] = await items(world, party, "capacity")
            assert (unit["total"], unit["taken"], unit["held"], unit["free"]) == (5, 1, 0, 4)


async def test_the_capacity_board_can_be_asked_for_the_callers_own_units(world: World) -> None:
    async with world.running():
        await world.begin()
        await offered(world)
        [unit] = await items(world, "shelter", "capacity", mine=True)
        assert unit["organisation"] == "shelter"
        assert await items(world, "clinic", "capacity", mine=True) == []
        assert await items(world, "clinic", "capacity", mine=False) == [unit]


@pytest.mark.parametrize(
    ("name", "status"), [("sv-north-none", 404), ("sv-north-beds%00", 422), ("%C3%A9", 422)]
)
async def test_reference_data_is_asked_for_by_what_can_be_its_name(
    world: World, name: str, status: int
) -> None:
    async with world.running(), world.http("hospital") as http:
        answer = await http.get(f"/v1/reference/service/{name}", params={"region": "north"})
    assert answer.status_code == status
    assert status != 422 or answer.json()["field"] == "name"


async def test_a_sender_sees_what_was_refused_and_why(world: World) -> None:
    async with world.running():
        await world.begin()
        opened = await world.opened()
        refused: Event = SubmissionRefused(reason="not_adopted", about=opened.referral)
        sent = admitted("hospital", "s-9", SubmitReferral.event_type())
        await world.append([world.north.put(refused, sent)])
        [row] = await items(world, "hospital", "submissions")
        assert (row["submission"], row["state"], row["reason"]) == ("s-9", "refused", "not_adopted")
        assert "can't decide" in row["detail"]
        assert await items(world, "police", "submissions") == []
        answer = await ask(world, "hospital", f"/v1/referrals/{opened.referral}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_adopted")
        answer = await ask(world, "police", f"/v1/referrals/{opened.referral}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_referral")


async def test_nothing_of_a_person_is_in_the_clear_in_any_view(world: World) -> None:
    async with world.running():
        await world.begin()
        opened, offer = await offered(world)
        await world.put(world.north, accepted(offer), *completed(offer, await world.note()))
        await world.reflected()
    for (table,) in await world.rows("select tablename from pg_tables where schemaname = 'projections'"):
        content = str(await world.rows(f"select t::text from projections.{table} t"))
        for clear in (NAME, NOTE, "emergency-shelter"):
            assert clear not in content and clear.encode().hex() not in content
    assert subject(1) == opened.subject


def _url(world: World) -> str:
    return f"http://127.0.0.1:{world.settings.port}"
