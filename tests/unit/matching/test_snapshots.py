"""A snapshot is a shortcut and never a source: a good one is the state itself, any other is thrown away."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from referral_bus.contracts.inbox import AdoptReference, Tick
from referral_bus.contracts.ledger import Event
from referral_bus.contracts.vocabularies import Crosswalk, Taxonomy
from referral_bus.log import topics
from referral_bus.log.port import Outgoing, Partition
from referral_bus.wire.codec import Codec
from services.matching import snapshots as module
from services.matching.chain import LedgerDamaged
from services.matching.core.decide import decide
from services.matching.core.fold import fold
from services.matching.core.rules import UnsupportedRules
from services.matching.snapshots import Snapshots
from tests.support.deciding import (
    BUS,
    DAY,
    HOUSING,
    NAME,
    OPERATIONS,
    POLICY,
    REGION,
    Site,
    accept,
    contact,
    forget,
    give_back,
    of,
    offers,
    organisation,
    outcome,
    picture,
    policy,
    publish,
    report,
    rules,
    spoken,
    stated_area,
    subject_of,
    withdraw,
)

LEDGER = Partition(topics.ledger(BUS), 0)
TAXONOMY = Taxonomy.model_validate(
    {"taxonomy": "local", "terms": [{"code": "home"}, {"code": "bed", "parent": "home"}]}
)
CROSSWALK = Crosswalk.model_validate(
    {
        "crosswalk": "local-oe",
        "source": "local",
        "target": "openeligibility",
        "mappings": [{"source": "bed", "target": "housing", "relation": "equal", "confidence": 900}],
    }
)
SECRET_AREA = "Sevenoaks-Secretarea"


@pytest.fixture
async def site(codec: Codec, tmp_path: Path) -> Site:
    return await Site.opened(codec, Snapshots(tmp_path, BUS))


async def lively(site: Site) -> None:
    """Something of everything a region remembers."""
    await site.put(publish(offers("beds", total=4)), "shelter")
    await site.put(publish(offers("rooms", "clinic", ages=None, active=False)), "clinic")
    facts = HOUSING.model_copy(update={"area": stated_area(SECRET_AREA), "languages": spoken("x-klingon")})
    for number in range(1, 5):
        await site.put(await site.submission(facts, number=number), "police")
    await site.put(accept(of(number=1)), "shelter")
    await site.put(accept(of(number=2)), "shelter")
    await site.put(outcome(of(number=2)), "shelter")
    await site.put(withdraw(of(number=3)), "police")
    for number, reason in ((5, "person_not_ready"), (6, "other")):
        await site.put(await site.submission(facts, number=number), "police")
        await site.put(accept(of(number=number)), "shelter")
        await site.put(contact(of(number=number), site.clock.now()), "shelter")
        until = site.clock.now() + DAY if number == 5 else None
        await site.put(give_back(of(number=number), 1, reason, until), "shelter")
    await site.put(withdraw(of(number=88)), "police")
    await site.put(accept(of(number=88)), "clinic")
    await site.put(report("cots", 1, 1, site.clock.now()), "shelter")
    await site.put(forget(subject_of(2)), OPERATIONS)
    await site.put(policy(POLICY.model_copy(update={"version": 2})), OPERATIONS)
    for kind, content in (("taxonomy", TAXONOMY), ("crosswalk", CROSSWALK)):
        name = getattr(content, kind)
        body = AdoptReference.model_validate({"kind": kind, "reference": name, "version": 1, kind: content})
        await site.put(body, OPERATIONS)
    await site.decide()


async def kept(site: Site) -> Path:
    """Write the partition's snapshot; returns its file."""
    assert site.snapshots is not None
    await site.work.capture()
    captured = site.work.captured()
    assert captured is not None
    await site.snapshots.save(captured)
    return path_of(site)


def path_of(site: Site) -> Path:
    assert site.snapshots is not None
    return site.snapshots._path(0)


async def reloaded(site: Site) -> int:
    """Load anew; returns how many offsets of the ledger had to be read."""
    await site.restarted()
    return site.work.events_since_snapshot


async def test_a_state_that_was_kept_and_read_is_the_state(site: Site) -> None:
    await lively(site)
    lived, last = picture(site.chain.state), site.chain.prev_hash
    assert site.chain.state.referrals[of(number=5)].former and site.chain.state.closed[of(number=6)].former
    await kept(site)
    assert await reloaded(site) == 0
    assert picture(site.chain.state) == lived
    assert site.chain.prev_hash == last


async def test_what_was_put_off_is_put_off_in_a_snapshot_too(site: Site) -> None:
    def fails(*_: Any) -> list[Event]:
        raise ZeroDivisionError("a fault of ours")

    await lively(site)
    [(_, due)] = site.work.next_due()
    site.clock.set(due)
    await site.put(Tick(region=REGION, due=due), "matching")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("services.matching.partition.decide", fails)
        await site.decide()
    put_off = [one for one in site.chain.state.due if one.put_off]
    lived = picture(site.chain.state)
    await kept(site)
    assert await reloaded(site) == 0
    assert put_off and picture(site.chain.state) == lived
    assert [one for one in site.chain.state.due if one.put_off] == put_off


async def test_only_what_the_ledger_got_since_is_read(site: Site) -> None:
    await lively(site)
    await kept(site)
    await site.put(await site.submission(number=9), "police")
    written = len(await site.decide())
    lived = picture(site.chain.state)
    # One offset more than events: the marker that ended the transaction.
    assert await reloaded(site) == written + 1
    assert picture(site.chain.state) == lived


async def test_decisions_go_on_from_a_snapshot_as_if_there_had_been_no_restart(
    site: Site, codec: Codec
) -> None:
    await lively(site)
    await kept(site)
    await reloaded(site)
    await site.put(await site.submission(number=88), "police")
    await site.put(publish(offers("cots", total=2)), "shelter")
    await site.put(withdraw(of(number=88)), "police", id="n-16")
    site.clock.advance(DAY)
    with_snapshot = await site.work.work(await site.waiting())
    path_of(site).unlink()
    await site.restarted()
    assert await site.work.work(await site.waiting()) == with_snapshot
    assert len(with_snapshot) > 6


async def test_nothing_of_a_person_is_clear_in_a_snapshot(site: Site) -> None:
    await lively(site)
    content = (await kept(site)).read_text()
    for clear in (SECRET_AREA, "klingon", NAME, json.dumps(HOUSING.model_dump(mode="json")["age"])):
        assert clear not in content


async def test_a_snapshot_is_its_owners_alone_to_read(site: Site) -> None:
    await lively(site)
    assert stat.S_IMODE((await kept(site)).stat().st_mode) == 0o600


def rewritten(path: Path, change: Callable[[list[Any]], None]) -> None:
    """Change the lines of a snapshot and give it the checksum it would have had."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]
    change(lines)
    body = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode() + b"\n")


def _set(name: str, value: object) -> Callable[[list[Any]], None]:
    def change(lines: list[Any]) -> None:
        lines[0][name] = value

    return change


def _drop_regions(lines: list[Any]) -> None:
    del lines[0]["regions"]


@pytest.mark.parametrize(
    "change",
    [
        _set("version", module.STATE_VERSION + 1),
        _set("version", module.STATE_VERSION - 1),
        _set("schemas", "0" * 64),
        _set("bus", "exercise"),
        _set("partition", 1),
        _drop_regions,
    ],
    ids=["later version", "earlier version", "other schemas", "other bus", "other partition", "no regions"],
)
async def test_a_snapshot_of_another_shape_is_thrown_away(
    site: Site, change: Callable[[list[Any]], None]
) -> None:
    await lively(site)
    lived = picture(site.chain.state)
    rewritten(await kept(site), change)
    assert await reloaded(site) > 0
    assert picture(site.chain.state) == lived


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99, 1.0])
async def test_a_snapshot_with_a_changed_byte_is_thrown_away(site: Site, share: float) -> None:
    await lively(site)
    lived = picture(site.chain.state)
    path = await kept(site)
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 2))] ^= 0x04
    path.write_bytes(content)
    assert await reloaded(site) > 0
    assert picture(site.chain.state) == lived


@pytest.mark.parametrize("left", [0, 1, 64, 65, 1000, -1, -64, -65])
async def test_a_snapshot_that_was_cut_off_is_thrown_away(site: Site, left: int) -> None:
    await lively(site)
    lived = picture(site.chain.state)
    path = await kept(site)
    path.write_bytes(path.read_bytes()[:left])
    assert await reloaded(site) > 0
    assert picture(site.chain.state) == lived


async def test_a_snapshot_ahead_of_the_ledger_is_thrown_away_and_removed(site: Site) -> None:
    await lively(site)
    lived = picture(site.chain.state)
    path = await kept(site)
    rewritten(path, _set("next_offset", 10_000))
    assert await reloaded(site) > 0
    assert picture(site.chain.state) == lived
    assert not path.exists()


async def test_a_snapshot_that_can_not_be_removed_keeps_nobody_from_the_ledger(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lively(site)
    lived = picture(site.chain.state)
    rewritten(await kept(site), _set("next_offset", 10_000))

    def worn(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    monkeypatch.setattr(Path, "unlink", worn)
    assert await reloaded(site) > 0
    assert picture(site.chain.state) == lived


async def test_a_snapshot_of_a_ledger_that_went_another_way_is_thrown_away(
    codec: Codec, tmp_path: Path
) -> None:
    site = await Site.opened(codec, Snapshots(tmp_path, BUS))
    await lively(site)
    await kept(site)
    restored = await Site.opened(codec, Snapshots(tmp_path, BUS))
    for local in ("a", "b", "c", "d"):
        await restored.put(publish(offers(local)), "shelter")
        for number in range(1, 12):
            await restored.put(publish(offers(local, total=number)), "shelter")
    await restored.decide()
    lived = picture(restored.chain.state)
    assert await reloaded(restored) > 0
    assert picture(restored.chain.state) == lived
    assert not path_of(restored).exists()


async def test_a_snapshot_of_another_ledger_of_the_same_length_is_thrown_away(
    codec: Codec, tmp_path: Path
) -> None:
    site = await Site.opened(codec, Snapshots(tmp_path, BUS))
    await site.put(publish(offers("beds", total=4)), "shelter")
    await site.decide()
    path = await kept(site)
    content = path.read_bytes()
    restored = await Site.opened(codec, Snapshots(tmp_path, BUS))
    await restored.put(publish(offers("rooms", total=2)), "shelter")
    await restored.decide()
    lived = picture(restored.chain.state)
    path.write_bytes(content)
    assert len(site.log.records(LEDGER.topic)) == len(restored.log.records(LEDGER.topic))
    await reloaded(restored)
    assert picture(restored.chain.state) == lived
    assert not path.exists()


async def test_a_snapshot_under_rules_this_version_does_not_know_does_not_hide_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = frozenset({1, 2})
    with monkeypatch.context() as newer:
        newer.setattr("services.matching.partition.decide", lambda *given: decide(*given, both))
        newer.setattr("services.matching.chain.fold", lambda state, entry: fold(state, entry, both))
        await lively(site)
        await site.put(rules(2), OPERATIONS)
        await site.decide()
        await kept(site)
    with pytest.raises(UnsupportedRules, match="upgrade matching"):
        await site.restarted()


async def test_no_snapshot_is_taken_of_what_is_not_committed(site: Site) -> None:
    await lively(site)
    committed = picture(site.chain.state)
    await site.put(await site.submission(number=9), "police")
    records = await site.waiting()
    outcome_ = await site.work.work(records)
    await site.work.capture()
    assert site.work.captured() is None
    await site.log.abort(outcome_)
    await reloaded(site)
    assert picture(site.chain.state) == committed


async def test_a_snapshot_asked_for_while_deciding_is_taken_when_that_is_committed(site: Site) -> None:
    await lively(site)
    assert site.snapshots is not None
    await site.put(await site.submission(number=9), "police")
    records = await site.waiting()
    outcome_ = await site.work.work(records)
    await site.work.capture()
    writer = await site.log.transactor("matching-0")
    await writer.commit(outcome_, "matching", {})
    site.work.committed(records)
    captured = site.work.captured()
    assert captured is not None
    assert site.work.captured() is None
    await site.snapshots.save(captured)
    lived = picture(site.chain.state)
    # What was committed meanwhile is in the copy and is read once more, to be compared.
    assert await reloaded(site) == len(outcome_) + 1
    assert picture(site.chain.state) == lived


async def test_a_copy_does_not_change_with_the_state_it_was_taken_of(site: Site) -> None:
    await lively(site)
    lived = picture(site.chain.state)
    await site.work.capture()
    captured = site.work.captured()
    assert captured is not None
    await site.put(accept(of(number=4)), "shelter")
    await site.put(organisation("court"), OPERATIONS)
    await site.decide()
    assert site.snapshots is not None
    await site.snapshots.save(captured)
    snapshot = await site.snapshots.load(0)
    assert snapshot is not None
    assert picture(snapshot.chains[REGION].state) == lived


async def test_a_write_that_fails_leaves_the_former_snapshot(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lively(site)
    path = await kept(site)
    before = path.read_bytes()
    await site.put(await site.submission(number=9), "police")
    await site.decide()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            await kept(site)
    assert path.read_bytes() == before
    await kept(site)
    assert await reloaded(site) == 0


async def test_what_is_older_than_the_horizon_is_not_kept(site: Site) -> None:
    await lively(site)
    assert site.chain.state.closed
    site.clock.advance(121 * DAY)
    await site.put(organisation("court"), OPERATIONS)
    await site.decide()
    await kept(site)
    await reloaded(site)
    assert site.chain.state.closed == {}
    assert len(site.chain.state.answered) == 1


async def test_a_partition_without_a_snapshot_is_folded_from_its_beginning(site: Site) -> None:
    await lively(site)
    assert site.snapshots is not None
    assert await site.snapshots.load(0) is None
    assert await reloaded(site) == (await site.ledger())[-1].offset + 2


async def test_a_snapshot_of_a_partition_of_many_rows_is_read_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    await lively(site)
    lived = picture(site.chain.state)
    await kept(site)
    assert await reloaded(site) == 0
    assert picture(site.chain.state) == lived


async def test_a_changed_event_behind_a_snapshot_is_noticed(site: Site) -> None:
    await lively(site)
    await kept(site)
    last = (await site.ledger())[-1]
    forged = bytearray(last.value or b"")
    forged[-1] ^= 1
    await site.put_record(Outgoing(*LEDGER, last.key, bytes(forged), last.headers))
    with pytest.raises(LedgerDamaged, match="refbus verify"):
        await site.restarted()
