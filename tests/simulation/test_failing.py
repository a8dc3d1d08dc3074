"""Whatever is raised where a seed is run or checked is what that seed found: it has its history, and the others go on."""

from __future__ import annotations

import re
import time
from asyncio import CancelledError, Task, current_task, get_running_loop
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any
from unittest.mock import patch

import pytest

from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.sealing.jwe import new_encryption_keys, seal_to
from referral_bus.sealing.memory import KeyTable
from referral_bus.store.memory import MemoryViews
from services.projections.tables import SERVING
from tests.simulation import border, campaign, checker, simulate
from tests.simulation.checker import Evidence, Finding, check
from tests.simulation.loop import SeededLoop, Stuck
from tests.simulation.network import Broker
from tests.simulation.raised import told_of
from tests.simulation.saying import Put, Saying, Seen
from tests.simulation.simulate import Run
from tests.simulation.world import PARTIES, REGIONS, World
from tests.support.deciding import BUS
from tests.support.memory_notifier import NotifierTables

pytestmark = pytest.mark.timeout(300)
INTAKE = new_encryption_keys()


def damaged(*_: object) -> Any:
    raise KeyError("nobody put it")


async def damaged_later(*_: object) -> Any:
    damaged()


async def evidence_of(*put: bytes, seen: Seen) -> Evidence:
    """Of a bus on which nothing happened but that this was put on the police's outbox."""
    log = MemoryLog(lambda: 0)
    await log.ensure(topics.topics(BUS, len(REGIONS), 1, PARTIES))
    records = [Outgoing(topics.outbox("police"), 0, None, seal_to(INTAKE.public, one)) for one in put]
    await (await log.appender()).append(records)
    views, notifier = MemoryViews(SERVING.views), NotifierTables([])
    return Evidence(log, views, notifier, KeyTable(), INTAKE.private, new_encryption_keys().private, seen, 0)


def test_a_seed_on_which_the_checker_raises_has_its_history_and_says_how_to_run_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    well = campaign.one(7, None)
    assert not well.found
    monkeypatch.setattr(simulate, "check", damaged_later)
    monkeypatch.setattr(border, "told", damaged)
    run, again = campaign.one(7, None), campaign.one(7, None)
    assert run == again
    assert run.history == well.history
    assert [one.kind for one in run.found] == ["failed", "failed"]
    for one in run.found:
        assert "KeyError: 'nobody put it' at tests/simulation/test_failing.py" in one.what
    assert campaign.tell(run, None) == 1
    said = capsys.readouterr().out
    assert said.startswith(run.history[0])
    assert "failed: KeyError" in said
    assert said.endswith("something is wrong; again: python -m tests.simulation --seed 7\n")


def test_a_run_that_raises_has_the_history_up_to_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate.Storm, "heal", damaged)
    run = campaign.one(7, None)
    assert [one.kind for one in run.found] == ["failed"]
    assert len(run.history) > 10
    assert run.faults > 0


def test_where_a_run_can_not_even_begin_or_end_that_is_what_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end, clock = SeededLoop.end, time.monotonic

    def ends_badly(loop: SeededLoop) -> None:
        end(loop)
        damaged()

    for owner, part, damage in (
        (simulate, "World", damaged),
        (simulate, "_write_down", damaged),
        (SeededLoop, "end", ends_badly),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(owner, part, damage)
            assert [one.kind for one in campaign.one(7, None).found] == ["failed"]
        assert time.monotonic is clock


@pytest.mark.parametrize(
    ("owner", "part", "who"),
    [
        (simulate, "_refer", "who refers"),
        (World, "_supervise", "who starts "),
        (Broker, "watch", "who watches "),
        (Saying, "say", "a party"),
    ],
)
def test_what_breaks_off_and_nobody_waits_for_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: object, part: str, who: str
) -> None:
    whole: Any = getattr(owner, part)
    done = 0

    async def all_but_the_first(*about: Any) -> Any:
        nonlocal done
        done += 1
        return damaged() if done == 1 else await whole(*about)

    monkeypatch.setattr(owner, part, all_but_the_first)
    [first, *_] = campaign.one(7, None).found
    assert first.kind == "failed"
    assert re.match(rf"{who}\S* breaks off: KeyError: 'nobody put it' at tests/", first.what)


def test_a_rebalance_or_a_callback_that_breaks_off_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    heal = simulate.Storm.heal

    def goes_wrong_once_more(storm: simulate.Storm) -> None:
        with patch.object(storm.world.log, "rebalance", damaged_later):
            storm._rebalance()
        storm._after(0.0, damaged)
        heal(storm)

    monkeypatch.setattr(simulate.Storm, "heal", goes_wrong_once_more)
    found = campaign.one(7, None).found
    assert {one.what.split(":")[0] for one in found} == {"a rebalance breaks off", "a callback breaks off"}


def test_who_is_cancelled_amid_a_run_is_found_and_who_is_as_it_ends_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[Task[Any]] = []

    async def waits_for_ever(*_: object) -> None:
        task = current_task()
        assert task is not None
        waits.append(task)
        await get_running_loop().create_future()

    monkeypatch.setattr(simulate, "_refer", waits_for_ever)
    assert not campaign.one(7, None).found
    assert waits.pop().cancelled()
    monkeypatch.setattr(simulate.Storm, "_crash", lambda _: waits[0].cancel())
    found = campaign.one(7, None).found
    assert [one.what.split(" at ")[0] for one in found] == ["who refers breaks off: CancelledError"]


def test_a_run_that_never_rests_for_what_broke_off_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    async def everything_stands_still(*_: object) -> None:
        raise Stuck("nothing goes on")

    monkeypatch.setattr(simulate, "_refer", damaged_later)
    monkeypatch.setattr(simulate, "_quiet", everything_stands_still)
    found = campaign.one(7, None).found
    assert [(one.kind, one.what.split(":")[0]) for one in found] == [
        ("failed", "who refers breaks off"),
        ("stuck", "nothing goes on"),
    ]


def test_nobody_is_kept_from_stopping_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for stop in (KeyboardInterrupt, CancelledError):

        async def stopped(*_: object, stop: type[BaseException] = stop) -> None:
            raise stop

        monkeypatch.setattr(simulate, "check", stopped)
        with pytest.raises(stop):
            campaign.one(7, None)


async def test_a_part_of_the_checker_that_raises_hides_nothing_that_another_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def half(*_: object) -> Iterator[Finding]:
        yield Finding("oversold", "a place")
        damaged()

    evidence = await evidence_of(seen=Seen())
    monkeypatch.setattr(checker, "_places", half)
    monkeypatch.setattr(checker, "_offers", lambda _: [Finding("expired early", "an offer")])
    assert [one.kind for one in await check(evidence)] == ["oversold", "failed", "expired early"]
    monkeypatch.setattr(border, "_settled", half)
    monkeypatch.setattr(border, "_feeds", lambda _: [Finding("told twice", "a notice")])
    assert [one.kind for one in border.border(evidence)] == ["oversold", "failed", "told twice"]


async def test_what_stands_on_an_outbox_and_nobody_put_there_is_found_and_what_is_beside_it_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Seen()
    seen.put["police", b"put"] = Put(None, None, None)
    evidence = await evidence_of(b"put", b"never put", seen=seen)
    outbox = topics.outbox("police")
    refusal = AdmissionRefused(
        organisation="police", outbox_partition=0, outbox_offset=1, at=0, status=400, reason="malformed", detail="no event"
    )  # fmt: skip
    monkeypatch.setattr(border, "told", lambda _: [("police", f"{outbox}/0/1", refusal)])
    assert list(border.border(evidence)) == [
        Finding("put by nobody", f"{outbox}/1 was not put there by its organisation"),
        Finding("unanswered", f"{outbox}/0 is neither on the inbox nor refused: None"),
    ]


def test_a_seed_that_raises_ends_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(seed: int, fault: str | None) -> Run:
        return damaged() if seed == 4 else Run(seed, [], [], steps=1, seconds=1.0, faults=0)

    monkeypatch.setattr(campaign, "_pool", ThreadPoolExecutor)
    monkeypatch.setattr(campaign, "one", one)
    assert campaign.many(range(3, 8), None, jobs=2) == 1
    said = capsys.readouterr().out
    assert "5 seeds, 0 faults, 4 steps: 1 failed\n" in said
    assert "seed 4: failed; again: python -m tests.simulation --seed 4\n" in said


def test_a_process_that_dies_names_the_seeds_it_may_have_been_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(seed: int, fault: str | None) -> Run:
        raise BrokenProcessPool("a process ended")

    monkeypatch.setattr(campaign, "_pool", ThreadPoolExecutor)
    monkeypatch.setattr(campaign, "one", one)
    with pytest.raises(BrokenProcessPool) as raised:
        campaign.many(range(3, 8), None, jobs=2)
    assert raised.value.__notes__ == ["It ran one of the seeds 3, 4."]


def test_an_exception_is_told_in_the_same_words_each_time() -> None:
    def told() -> str:
        try:
            raise ValueError(f"{object()!r} can't be read\nand more")
        except ValueError as error:
            return told_of(error)

    assert told() == told()
    assert re.fullmatch(
        r"ValueError: <object object at 0x\.\.\.> can't be read at tests/simulation/test_failing.py:\d+ told",
        told(),
    )
