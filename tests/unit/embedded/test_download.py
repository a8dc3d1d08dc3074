"""The broker's pinned jars, without a network: what is in the cache and right is used, all else is asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from jgo.maven import Artifact, MavenContext

from referral_bus.embedded import download
from referral_bus.embedded.download import Jar, cache_folder, fetch, pinned
from referral_bus.embedded.errors import EmbeddedError

CONTENT = b"what the registry gives"
JAR = Jar("org.example:thing:1.0", hashlib.sha256(CONTENT).hexdigest())


class Registry:
    """Answers jgo's downloads from memory, and counts them."""

    def __init__(self, content: bytes = CONTENT, failure: Exception | None = None) -> None:
        self.content = content
        self.failure = failure
        self.asked = 0

    def download(self, artifact: Artifact) -> Path:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        path = artifact.cached_path
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        return path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    monkeypatch.setattr(
        download,
        "MavenContext",
        lambda repo_cache, timeout: MavenContext(registry, repo_cache=repo_cache, timeout=timeout),
    )
    return registry


def test_every_jar_of_the_broker_is_pinned_by_its_hash_and_none_by_an_address() -> None:
    jars = pinned()
    assert {"kafka_2.13", "kafka-clients", "log4j-slf4j-impl"} <= {jar.artifact for jar in jars}
    assert len({jar.coordinate for jar in jars}) == len(jars)
    for jar in jars:
        assert len(bytes.fromhex(jar.sha256)) == 32
        assert "/" not in jar.coordinate


def test_a_jar_is_fetched_once(registry: Registry, tmp_path: Path) -> None:
    (path,) = fetch([JAR], tmp_path)
    assert path.read_bytes() == CONTENT
    assert fetch([JAR], tmp_path) == [path]
    assert registry.asked == 1


@pytest.mark.parametrize("broken", [b"", CONTENT[:5], b"another thing altogether"])
def test_a_broken_or_interrupted_jar_is_fetched_again(
    registry: Registry, tmp_path: Path, broken: bytes
) -> None:
    (path,) = fetch([JAR], tmp_path)
    path.write_bytes(broken)
    assert fetch([JAR], tmp_path)[0].read_bytes() == CONTENT
    assert registry.asked == 2


def test_other_content_than_pinned_is_thrown_away_and_said(registry: Registry, tmp_path: Path) -> None:
    registry.content = b"something else"
    with pytest.raises(EmbeddedError, match=r"org\.example:thing:1\.0 came with other content than pinned"):
        fetch([JAR], tmp_path)
    assert not list(tmp_path.rglob("*.jar"))


def test_an_unreachable_network_gives_a_sentence_without_the_registrys_address(
    registry: Registry, tmp_path: Path
) -> None:
    registry.failure = OSError("HTTPSConnectionPool(host='registry.invalid'): Max retries exceeded")
    with pytest.raises(EmbeddedError) as refused:
        fetch([JAR], tmp_path)
    assert "can't be reached" in str(refused.value)
    assert "run this again" in str(refused.value)
    assert "registry.invalid" not in str(refused.value)


def test_a_full_disk_gives_a_sentence(registry: Registry, tmp_path: Path) -> None:
    registry.failure = OSError(28, "No space left on device", str(tmp_path))
    with pytest.raises(EmbeddedError, match=r"^The disk is full, .* Free some space"):
        fetch([JAR], tmp_path)


def test_the_cache_is_the_users_unless_another_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REFBUS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "refbus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "refbus"
    monkeypatch.setenv("REFBUS_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
