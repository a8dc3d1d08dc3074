"""A person who is forgotten: gone from the views, `verify` still vouches for the ledger, and no backup brings them back."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from referral_bus.client.errors import Conflict
from referral_bus.client.notices import open_notice
from referral_bus.contracts.ledger import KeyDestroyed, OfferAccepted
from tests.support.commands import in_process
from tests.support.whole_bus import REGIONS, WholeBus, new_need, now_ms, of, request

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

KEYS = "select * from sealing.subject_keys where subject = :subject order by section"
POSITIONS = "select * from sealing.replayed order by topic, partition"


async def test_a_forgotten_person_is_gone_and_no_copy_of_the_keys_brings_them_back(whole: WholeBus) -> None:
    need, reference = new_need(), "the person to forget"
    await whole.service("harbor", need, places=5)
    said = request(need, subject=reference)
    asked = await whole.refer("hospital", need, id="forget-1", subject=reference, facts=said.facts)
    harbor = whole.party("harbor")
    await harbor.accept(asked.task)
    await harbor.start(asked.referral, now_ms())
    token = (await harbor.outcome(asked.referral, "need_met", "Said in confidence.")).token
    subject = (await whole.party("hospital").timeline(asked.referral, after=token))["subject"]
    assert (await _seen(whole, "harbor", asked.referral, token))["identity"] is not None

    keys = await whole.rows(KEYS, subject=subject)
    positions = await whole.rows(POSITIONS)
    assert [row.wrapped_key is not None for row in keys] == [True, True]

    forgotten = await whole.operations().forget(reference, organisation="hospital")
    assert forgotten["subject"] == subject
    assert forgotten["tokens"].keys() == set(REGIONS)
    await _gone(whole, asked.referral, subject, forgotten["tokens"]["north"])
    destroyed = [
        entry.meta.region
        for entry in await whole.ledger()
        if isinstance(entry.event, KeyDestroyed) and entry.event.subject == subject
    ]
    assert sorted(destroyed) == sorted(REGIONS)

    # A restart after forgetting moves the key store's position beyond it; a backup from before knows nothing of either.
    await _stop(whole)
    await _start(whole)
    await _stop(whole)
    await _restore(whole, keys, positions)
    assert [row.wrapped_key is not None for row in await whole.rows(KEYS, subject=subject)] == [True, True]
    await _start(whole)
    assert [row.wrapped_key for row in await whole.rows(KEYS, subject=subject)] == [None, None]
    await _gone(whole, asked.referral, subject, forgotten["tokens"]["north"])

    # Nor does making the views anew, which reads the sealed sections off the ledger again.
    await asyncio.to_thread(in_process, "rebuild", "--home", whole.home)
    await _gone(whole, asked.referral, subject, forgotten["tokens"]["north"])


async def test_what_a_forgotten_person_was_told_under_is_refused_and_a_repeat_answered_as_before(
    whole: WholeBus,
) -> None:
    need, reference = new_need(), "another person to forget"
    await whole.service("harbor", need, places=5)
    hospital, said = whole.party("hospital"), request(need, subject=reference)
    first = await hospital.submit(said, id="forget-2")
    await whole.operations().forget(reference, organisation="hospital")
    assert await hospital.submit(said, id="forget-2") == first
    with pytest.raises(Conflict) as refused:
        await hospital.submit(said, id="forget-3")
    assert (refused.value.code, refused.value.field) == ("subject_erased", "subject")
    assert reference not in refused.value.detail


async def test_an_agency_forgets_its_own_people_and_nobody_elses(whole: WholeBus) -> None:
    need, reference = new_need(), "a person two agencies know"
    await whole.service("harbor", need, places=5)
    by_hospital = await whole.refer("hospital", need, subject=reference)
    by_police = await whole.refer("police-team", need, subject=reference)
    tokens = (await whole.party("hospital").forget(reference))["tokens"]
    gone = await whole.party("hospital").timeline(by_hospital.referral, after=tokens["north"])
    kept = await whole.party("police-team").timeline(
        by_police.referral, after=tokens["north"], show="identity"
    )
    assert (gone["erased"], kept["erased"]) == (True, False)
    assert kept["identity"]["name"] == "Wilhelmina Ashgrove-Tester"


async def _gone(whole: WholeBus, referral: str, subject: str, token: str) -> None:
    """Nobody sees anything of the person, no view names them, and the ledger is as good as it was."""
    for organisation in ("hospital", "harbor"):
        seen = await _seen(whole, organisation, referral, token)
        assert (seen["erased"], seen["subject"], seen["facts"], seen["identity"], seen["note"]) == (
            (True,) + (None,) * 4
        )
        assert seen["withheld"] == {"facts": "erased", "identity": "erased", "note": "erased"}
    row = of((await whole.party("hospital").caseload(limit=200)).items, "referral", referral)
    assert (row["erased"], row["subject"]) == (True, None)
    for table in ("referrals", "sections"):
        assert (
            await whole.rows(f"select 1 from projections.{table} where subject = :subject", subject=subject)
            == []
        )
    assert (
        await whole.rows(
            "select 1 from projections.sections where referral = :referral and sealed is not null",
            referral=referral,
        )
        == []
    )
    assert (
        await whole.rows(
            "select 1 from notifier.standings where referral = :referral"
            " and coalesce(sealed_facts, sealed_identity) is not null",
            referral=referral,
        )
        == []
    )
    assert await whole.rows("select 1 from notifier.reports where subject = :subject", subject=subject) == []
    notice = await _accepted(whole, referral)
    assert notice is None or open_notice(notice, whole.keys["harbor"].private) is None
    report = json.loads(await asyncio.to_thread(in_process, "verify", "--json", "--home", whole.home))
    assert (report["good"], report["different"], report["broken"], report["no_key"]) == (True, 0, [], 0)
    assert report["erased"] >= 1


async def _accepted(whole: WholeBus, referral: str) -> Any:
    async with aclosing(whole.party("harbor").follow(last_event_id="0")) as stream:
        async for one in stream:
            if (one.notice.referral, one.notice.type) == (referral, OfferAccepted.event_type()):
                return one.notice


async def _seen(whole: WholeBus, organisation: str, referral: str, token: str) -> dict[str, Any]:
    response = await whole.http.get(
        f"{whole.bus.addresses.queries}/v1/referrals/{referral}",
        params=[
            ("after", token),
            ("wait", "20"),
            *(("show", one) for one in ("facts", "identity", "outcome")),
        ],
        headers=whole.authorization(organisation),
    )
    found: dict[str, Any] = response.raise_for_status().json()
    return found


async def _stop(whole: WholeBus) -> None:
    await asyncio.gather(*(process.stop() for process in whole.bus.processes.values()))


async def _start(whole: WholeBus) -> None:
    await asyncio.gather(*(process.start() for process in whole.bus.processes.values()))
    await whole.bus.ready(list(whole.bus.processes))


async def _restore(whole: WholeBus, keys: list[Any], positions: list[Any]) -> None:
    """Put the key store's rows back as the backup has them."""
    for row in keys:
        await whole.rows(
            "update sealing.subject_keys set wrapped_key = :wrapped_key, destroyed_at = :destroyed_at"
            " where subject = :subject and section = :section",
            wrapped_key=row.wrapped_key,
            destroyed_at=row.destroyed_at,
            subject=row.subject,
            section=row.section,
        )
    await whole.rows("delete from sealing.replayed")
    for row in positions:
        await whole.rows(
            "insert into sealing.replayed values (:topic, :partition, :next_offset)",
            topic=row.topic,
            partition=row.partition,
            next_offset=row.next_offset,
        )
