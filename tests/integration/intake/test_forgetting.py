"""A person is forgotten: the keys are gone, every region hears it, and nobody refers them under the same reference again."""

from __future__ import annotations

import pytest

from referral_bus.client import Conflict
from referral_bus.contracts.inbox import ForgetSubject
from referral_bus.sealing.pseudonym import subject_id
from tests.support.admitting import NAME, NOTE, OPERATIONS, REFERENCE, REGIONS, World, referral


def subject(world: World) -> str:
    return subject_id(world.secrets.pseudonym_key, "hospital", REFERENCE)


async def forgotten(world: World) -> list[tuple[str, str]]:
    """Region and subject of what the regions heard."""
    return [
        (region, received.body.subject)
        for region, received in await world.inbox()
        if isinstance(received.body, ForgetSubject)
    ]


async def test_an_agency_forgets_by_its_own_reference_and_every_region_hears_it(world: World) -> None:
    async with world.running():
        await world.publish()
        async with world.client("hospital") as hospital, world.client("shelter") as shelter:
            first = await hospital.submit(referral(), id="r-1")
            assert first.referral is not None
            told = await hospital.forget(REFERENCE)
            assert await hospital.submit(referral(), id="r-1") == first, (
                "what was answered is answered so again"
            )
            with pytest.raises(Conflict) as conflict:
                await hospital.submit(referral(), id="r-2")
            assert conflict.value.code == "subject_erased"
            with pytest.raises(Conflict) as noted:
                await shelter.outcome(first.referral, "need_met", NOTE)
            assert noted.value.code == "subject_erased"
            await shelter.outcome(first.referral, "need_met")
            await hospital.submit(referral(subject="case-4712"), id="r-2")
        assert sorted(await forgotten(world)) == [(region, subject(world)) for region in sorted(REGIONS)]
    assert told["subject"] == subject(world)
    assert {region: token.partition(".")[0] for region, token in told["tokens"].items()} == {
        r: r for r in REGIONS
    }
    rows = await world.rows(
        "select wrapped_key, destroyed_at from sealing.subject_keys where destroyed_at is not null"
    )
    assert len(rows) == 2 and all(row.wrapped_key is None for row in rows)


async def test_operations_forget_anybody_by_pseudonym_or_by_whose_reference_it_is(world: World) -> None:
    async with world.running():
        await world.publish()
        async with world.client(OPERATIONS) as operations, world.client("hospital") as hospital:
            by_reference = await operations.forget(REFERENCE, organisation="hospital")
            by_pseudonym = await operations.forget(subject(world))
            with pytest.raises(Conflict):
                await hospital.submit(referral())
        ids = {
            received.admitted.id
            for _, received in await world.inbox()
            if isinstance(received.body, ForgetSubject)
        }
    assert by_reference["subject"] == by_pseudonym["subject"] == subject(world)
    assert len(ids) == 1, "said again, regions recognise the repeat"


async def test_nothing_intake_keeps_or_says_has_the_clear_text(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.running():
        await world.publish()
        async with world.client("hospital") as hospital, world.client("shelter") as shelter:
            answer = await hospital.submit(referral())
            assert answer.referral is not None
            await shelter.outcome(answer.referral, "need_met", NOTE)
            await hospital.forget(REFERENCE)
        kept = [
            row
            for table in ("intake.admissions", "intake.referrals", "sealing.subject_keys")
            for row in await world.rows(f"select t::text from {table} t")
        ]
    everything = repr(kept) + caplog.text
    assert len(kept) >= 4
    assert not any(clear in everything for clear in (NAME, REFERENCE, NOTE))
