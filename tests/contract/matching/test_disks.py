"""What a disk promises to snapshots, the machine's own and the one in memory: whole files, a new one in the place of the old at once."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.matching.disk import Disk, LocalDisk
from tests.simulation.disk import MemoryDisk


@pytest.fixture(params=["memory", "local"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return LocalDisk() if request.param == "local" else in_memory()


def in_memory() -> MemoryDisk:
    return MemoryDisk(random.Random(1), lambda _: None)


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A file in a folder that nobody has made."""
    return tmp_path / "there" / "one"


async def written(disk: Disk, path: Path, *content: bytes) -> None:
    await disk.aside(lambda: disk.write(path, content))


async def read(disk: Disk, path: Path) -> bytes:
    return await disk.aside(lambda: disk.read(path))


async def test_what_is_written_is_read(disk: Disk, one: Path) -> None:
    await written(disk, one, b"a", b"", b"\x00\n\xff")
    assert await read(disk, one) == b"a\x00\n\xff"


async def test_a_file_is_made_anew_and_nothing_of_it_stays(disk: Disk, one: Path) -> None:
    await written(disk, one, b"much longer")
    await written(disk, one, b"short")
    assert await read(disk, one) == b"short"
    await written(disk, one)
    assert await read(disk, one) == b""


async def test_a_file_takes_the_place_of_another_or_of_none_and_its_own_name_is_free(
    disk: Disk, one: Path
) -> None:
    other = one.with_name("other")
    for content in (b"first", b"second"):
        await written(disk, one, content)
        await disk.aside(lambda: disk.replace(one, other))
        assert await read(disk, other) == content
        with pytest.raises(FileNotFoundError):
            await read(disk, one)


async def test_what_is_not_there_is_not_read_and_takes_no_place_and_may_be_removed(
    disk: Disk, one: Path
) -> None:
    other = one.with_name("other")
    await written(disk, other, b"stays")
    with pytest.raises(FileNotFoundError):
        await read(disk, one)
    with pytest.raises(FileNotFoundError):
        await disk.aside(lambda: disk.replace(one, other))
    await disk.aside(lambda: disk.remove(one))
    assert await read(disk, other) == b"stays"


async def test_what_is_removed_is_gone(disk: Disk, one: Path) -> None:
    await written(disk, one, b"a")
    await disk.aside(lambda: disk.remove(one))
    with pytest.raises(FileNotFoundError):
        await read(disk, one)


async def test_where_the_content_ends_in_an_error_the_other_files_are_what_they_were(
    disk: Disk, one: Path
) -> None:
    def content() -> Iterator[bytes]:
        yield b"so far"
        raise ValueError("no further")

    await written(disk, one.with_name("other"), b"stays")
    with pytest.raises(ValueError, match="no further"):
        await disk.aside(lambda: disk.write(one, content()))
    assert await read(disk, one.with_name("other")) == b"stays"
    assert b"so far".startswith(await read(disk, one))


@pytest.mark.parametrize("kind", ["memory", "local"])
async def test_a_full_disk_says_so(kind: str, one: Path) -> None:
    if kind == "local" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    disk, path = (LocalDisk(), Path("/dev/full")) if kind == "local" else (in_memory(), one)
    if isinstance(disk, MemoryDisk):
        disk.is_full = True
    with pytest.raises(OSError, match="No space left") as full:
        await written(disk, path, b"a" * 100_000, b"b" * 100_000)
    assert full.value.errno == errno.ENOSPC


# What only the one in memory can be told to do


async def test_who_is_killed_leaves_what_it_wrote_so_far(one: Path) -> None:
    """Of the former file and the new one there is always one whole."""
    found: set[bytes | None] = set()
    for seed in range(200):
        disk = MemoryDisk(random.Random(seed), lambda _: None)
        new = one.with_suffix(".new")
        await written(disk, one, b"former")
        await _killed_amid(disk, lambda disk=disk, new=new: _put(disk, new, one))
        assert await read(disk, one) in (b"former", b"a new one")
        found.add(disk._names[new].content if new in disk._names else None)
    assert found == {None, b"", b"a ", b"a new ", b"a new one"}


def _put(disk: Disk, new: Path, path: Path) -> None:
    """As snapshots are written."""
    disk.write(new, [b"a ", b"new ", b"one"])
    disk.replace(new, path)


async def _killed_amid(disk: MemoryDisk, work: Callable[[], None]) -> None:
    doing = asyncio.create_task(disk.aside(work))
    await asyncio.sleep(0)
    disk.killed()
    left = disk._names
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    disk._names = left  # a task that is killed does not even end


async def test_a_loss_of_power_takes_what_was_not_held(one: Path) -> None:
    outcomes: dict[bool, set[bytes]] = {True: set(), False: set()}
    for honest, kept in outcomes.items():
        for seed in range(100):
            disk = MemoryDisk(random.Random(seed), lambda _: None)
            await written(disk, one, b"former")
            disk.is_honest = honest
            await disk.aside(lambda disk=disk: _put(disk, one.with_suffix(".new"), one))
            disk.loses_power()
            kept.add(await read(disk, one))
    assert outcomes[True] == {b"former", b"a new one"}
    assert {b"former", b"a new one"[:3]} < outcomes[False]
    assert b"a new one" not in outcomes[False]


async def test_a_bit_that_turns_is_one(one: Path) -> None:
    disk = in_memory()
    disk.rots()
    await written(disk, one, b"abc")
    disk.rots()
    changed = int.from_bytes(await read(disk, one), "big") ^ int.from_bytes(b"abc", "big")
    assert changed.bit_count() == 1


async def test_a_disk_that_is_worn_out_does_nothing_any_more(one: Path) -> None:
    disk = in_memory()
    await written(disk, one, b"a")
    disk.is_worn = True
    for work in (lambda: disk.read(one), lambda: disk.write(one, [b"b"]), lambda: disk.remove(one)):
        with pytest.raises(OSError, match="Input/output error"):
            await disk.aside(work)
    disk.heals()
    assert await read(disk, one) == b"a"
