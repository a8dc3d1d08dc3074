"""How one referral comes to be one trace, and what traces cost while they are off: nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from referral_bus.contracts.ids import part_id, referral_id, task_id
from referral_bus.log.port import Outgoing, Record
from referral_bus.runtime import tracing
from referral_bus.runtime.settings import Settings, SettingsError
from referral_bus.runtime.tracing import HEADER, Place, Tracer, carried, parsed, referral_in

REFERRAL = referral_id("north", "main", "police", "s-1")
PUT = Outgoing("inbox", 3, b"north", b"value", (("ce_id", b"s-1"), ("ce_subject", REFERRAL.encode())))
READ = Record("ledger", 3, 7, 1, b"north", b"value", PUT.headers)


def test_a_place_is_written_and_read_as_trace_context_has_it() -> None:
    place = Place(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True)
    assert place.traceparent() == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert parsed(place.traceparent()) == place
    assert parsed(place._replace(sampled=False).traceparent()) == place._replace(sampled=False)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ],
)
def test_what_names_no_span_is_passed_over(given: str) -> None:
    assert parsed(given) is None


def test_a_referral_and_its_tasks_are_one_trace_and_its_parts_are_others() -> None:
    assert referral_in(REFERRAL) == referral_in(task_id(REFERRAL, 3)) == REFERRAL
    assert referral_in("north") is None and referral_in("un-north-beds") is None
    part = part_id("north", "main", "police", "s-2", 1)
    ids = [f(one) for f in (tracing.trace_of, tracing.first_span_of) for one in (REFERRAL, part)]
    assert len(set(ids)) == 4 and 0 not in ids
    assert tracing.trace_of(REFERRAL) < 2**128 and tracing.first_span_of(REFERRAL) < 2**64


def test_the_ids_stay_what_they_are_from_version_to_version() -> None:
    """Services of two versions run side by side, and a referral lasts for months."""
    assert f"{tracing.trace_of('rf-north-aaaaaaaaaaaaaaaaaaaa'):032x}" == "40f34f8c14b2d1efda52993c18faa26a"
    assert f"{tracing.first_span_of('rf-north-aaaaaaaaaaaaaaaaaaaa'):016x}" == "27f547979972f527"
    assert f"{tracing.heard_span_of('north', 7):016x}" == "e8f26e52b30a2f8c"


def test_a_cause_stands_beside_what_is_said_and_never_in_it() -> None:
    place = Place(1, 2, True)
    sent = carried(PUT, place)
    assert sent.headers == (*PUT.headers, (HEADER, place.traceparent().encode()))
    assert Outgoing(sent.topic, sent.partition, sent.key, sent.value, PUT.headers) == PUT


async def test_off_nothing_is_changed_of_what_is_put() -> None:
    off = Tracer()
    assert off.asked(REFERRAL) is None
    outcome = [PUT]
    with off.appending(outcome, [None]) as records:
        assert records is outcome
    with off.deciding(READ) as carry:
        assert carry(outcome) is outcome
    assert off.passing(READ, PUT) is PUT
    with off.requesting("POST") as request:
        assert request.headers == {}


def test_off_nothing_of_opentelemetry_is_imported() -> None:
    """But for the API, which FastAPI needs."""
    script = """
import sys

def loaded():
    return {name for name in sys.modules if name.split(".")[0] == "opentelemetry"}

import services.matching.service
from referral_bus.runtime import tracing
by_matching = loaded()
import fastapi, fastapi.telemetry
by_fastapi = loaded()
import services.intake.service, services.notifier.service, services.projections.service
from referral_bus.runtime.settings import Settings
tracing.configure(Settings.load())
assert type(tracing.tracer()) is tracing.Tracer
print(sorted(by_matching), sorted(loaded() - by_fastapi), [name for name in loaded() if "sdk" in name or "exporter" in name])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[] [] []\n"


def test_traces_that_are_wanted_without_opentelemetry_are_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "referral_bus.runtime.opentelemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"REFBUS_TRACES is set, but opentelemetry.* install"):
        tracing.configure(Settings.load(traces="http://127.0.0.1:4318/v1/traces"))
