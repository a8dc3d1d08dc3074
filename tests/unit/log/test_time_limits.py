"""The limits within which a client notices that a broker hangs must fit into the limits of what it is asked to do meanwhile.

A broker that was killed refuses connections and is noticed at once. One that is paused or cut off takes what it is sent and says
nothing: only ``request_timeout_ms`` ends that, once for the request itself, and once more where the question who leads now goes to the
same broker first.
"""

from __future__ import annotations

from referral_bus.log.kafka import (
    APPEND_SECONDS,
    ASK_SECONDS,
    CONNECT_SECONDS,
    CONSUMER,
    GROUP,
    PRODUCER,
    TRANSACTION_SECONDS,
    TRANSACTIONS,
)


def test_a_transaction_outlives_a_broker_that_hangs() -> None:
    assert 2 * PRODUCER["request_timeout_ms"] < TRANSACTION_SECONDS * 1000


def test_an_append_outlives_a_broker_that_hangs() -> None:
    assert PRODUCER["request_timeout_ms"] < APPEND_SECONDS * 1000


def test_a_question_outlives_a_broker_that_hangs() -> None:
    assert CONSUMER["request_timeout_ms"] < ASK_SECONDS * 1000


def test_a_start_outlives_two_brokers_that_hang() -> None:
    assert 3 * CONSUMER["request_timeout_ms"] < CONNECT_SECONDS * 1000


def test_a_member_that_joins_waits_for_one_that_was_killed() -> None:
    """The group answers a join once the killed member's session is over."""
    assert CONSUMER["request_timeout_ms"] > GROUP["session_timeout_ms"] + GROUP["heartbeat_interval_ms"]


def test_a_dead_owners_transaction_is_aborted_once_its_successor_would_give_up() -> None:
    assert TRANSACTIONS["transaction_timeout_ms"] <= TRANSACTION_SECONDS * 1000


def test_brokers_that_are_back_are_known_before_the_others_go() -> None:
    """A client knows the brokers that were up when it last asked. One that comes back stays unknown until it asks again, and where all
    it knows are gone, it can ask nobody."""
    for settings in (PRODUCER, CONSUMER):
        assert settings["metadata_max_age_ms"] <= 10_000


def test_no_member_is_taken_out_of_its_group_for_what_it_does_between_two_polls() -> None:
    """A day is more than any load takes. What a rebalance waits for is a limit of its own."""
    assert GROUP["max_poll_interval_ms"] > 86_400_000
    assert GROUP["rebalance_timeout_ms"] == 30_000
