"""The memory of keys: bounded, short, and final where a person was destroyed."""

from __future__ import annotations

from referral_bus.sealing.cache import KeyCache
from referral_bus.sealing.port import DESTROYED


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_believed_until_its_time_is_over() -> None:
    seconds = Seconds()
    cache = KeyCache(10, 30.0, seconds)
    cache.put("a", "facts", b"key")
    seconds.now = 29.9
    assert cache.get("a", "facts") == b"key"
    seconds.now = 30.0
    assert cache.get("a", "facts") is None


def test_using_a_key_does_not_make_it_last_longer() -> None:
    seconds = Seconds()
    cache = KeyCache(10, 30.0, seconds)
    cache.put("a", "facts", b"key")
    for now in (10.0, 20.0, 29.0):
        seconds.now = now
        assert cache.get("a", "facts") == b"key"
    seconds.now = 31.0
    assert cache.get("a", "facts") is None


def test_a_tombstone_does_not_age() -> None:
    seconds = Seconds()
    cache = KeyCache(10, 30.0, seconds)
    cache.put("a", "facts", DESTROYED)
    seconds.now = 1e9
    assert cache.get("a", "facts") is DESTROYED


def test_the_least_recently_used_goes_first() -> None:
    cache = KeyCache(2, 30.0, Seconds())
    cache.put("a", "facts", b"1")
    cache.put("b", "facts", b"2")
    assert cache.get("a", "facts") == b"1"
    cache.put("c", "facts", b"3")
    assert [cache.get(subject, "facts") for subject in "abc"] == [b"1", None, b"3"]


def test_sections_are_apart_and_forgotten_together() -> None:
    cache = KeyCache(10, 30.0, Seconds())
    cache.put("a", "facts", b"1")
    cache.put("a", "identity", b"2")
    cache.put("b", "facts", b"3")
    assert cache.get("a", "identity") == b"2"
    cache.forget("a")
    assert (cache.get("a", "facts"), cache.get("a", "identity")) == (None, None)
    assert cache.get("b", "facts") == b"3"


def test_every_forgetting_counts_so_that_a_late_answer_is_noticed() -> None:
    cache = KeyCache(10, 30.0, Seconds())
    before = cache.forgotten
    cache.forget("never heard of")
    assert cache.forgotten == before + 1
