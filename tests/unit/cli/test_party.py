from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from referral_bus.access.tokens import TokenVerifier, jwks_of, new_signing_key
from referral_bus.cli import party
from referral_bus.cli.errors import Rejected
from referral_bus.cli.main import app
from referral_bus.client.answers import Heard
from referral_bus.contracts.feed import Notice
from referral_bus.contracts.ledger import EVENTS, Event
from referral_bus.sealing.jwe import new_encryption_keys, seal_to
from tests.support.commands import write_addresses


@pytest.fixture
def home(tmp_path: Path) -> Path:
    signing = new_signing_key()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token_key").write_text(signing)
    (tmp_path / "secrets" / "jwks").write_text(jwks_of(signing))
    write_addresses(tmp_path, bus="county", kafka="127.0.0.1:9", database="postgresql+psycopg://nowhere/none")
    return tmp_path


async def test_a_development_token_is_good_on_the_homes_own_bus(home: Path) -> None:
    token = party.development_token(home, "food-bank", ("provider",))

    verifier = TokenVerifier(str(home / "secrets" / "jwks"), "county")
    await verifier.start()
    caller = await verifier.verify(token)
    assert (caller.organisation, caller.roles) == ("food-bank", frozenset({"provider"}))


def rejection(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, Rejected), result.output
    return str(result.exception)


def test_without_a_bus_the_home_is_named(tmp_path: Path) -> None:
    said = rejection("token", "food-bank", "--home", str(tmp_path))
    assert str(tmp_path) in said and "refbus up" in said


def test_a_bus_that_does_not_answer_is_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "_PATIENCE_SECONDS", 0.0)
    said = rejection(
        "respond", "accept", "tk-north-aaaaaaaaaaaaaaaaaaaa-1", "--as", "food-bank", "--home", str(home)
    )
    assert "intake can't be reached at http://127.0.0.1:9" in said


def test_a_referral_that_is_none_is_told_by_field_and_not_by_value(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "referral.json"
    file.write_text(json.dumps({"subject": "s", "urgency": "Jane Doe", "facts": {"needs": []}}))

    said = rejection("submit", str(file), "--as", "line-211", "--home", str(home))

    assert "urgency" in said and "facts.needs" in said
    assert "Jane" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "--need", "1130"),
        ("submit", "missing.json"),
        ("submit", "--need", "1130", "--subject", "s", "--mode", "direct"),
        ("token", "food-bank", "--roles", "king"),
    ],
)
def test_what_is_missing_or_wrong_is_a_sentence(home: Path, arguments: tuple[str, ...]) -> None:
    assert rejection(*arguments, "--home", str(home)).endswith(".")


def test_a_notice_is_a_line_for_people() -> None:
    keys = new_encryption_keys()
    notice = Notice(
        organisation="food-bank",
        type="org.referralbus.ledger.OfferMade.v1",
        region="north",
        sequence=1,
        at=1_700_000_000_000,
        referral="rf-north-aaaaaaaaaaaaaaaaaaaa",
        task="tk-north-aaaaaaaaaaaaaaaaaaaa-1",
        expires_at=1_700_000_060_000,
        disclosed=seal_to(keys.public, b'{"facts": {"age": 7}}'),
    )

    line = party.line_of(Heard("12", notice))
    assert "[12] offer made tk-north-aaaaaaaaaaaaaaaaaaaa-1 answer until" in line
    assert line.count(":") == 4, "what is due on the same day needs no date"
    assert '{"facts": {"age": 7}}' in party.line_of(Heard("12", notice), keys.private)
    assert "[sealed: " in party.line_of(Heard("12", notice), new_encryption_keys().private)


def test_what_is_due_another_day_is_said_with_its_date() -> None:
    notice = Notice(
        organisation="food-bank",
        type="org.referralbus.ledger.Reminded.v1",
        region="north",
        sequence=1,
        at=1_700_000_000_000,
        task="tk-north-aaaaaaaaaaaaaaaaaaaa-1",
        reason="start",
        expires_at=1_700_000_000_000 + 3 * 86_400_000,
    )
    assert " reminder: act tk-north-aaaaaaaaaaaaaaaaaaaa-1 (start) before 2023-11-1" in party.line_of(
        Heard("1", notice)
    )


def test_a_doubt_names_the_unit_and_until_when() -> None:
    notice = Notice(
        organisation="food-bank",
        type="org.referralbus.ledger.CapacityDoubted.v1",
        region="north",
        sequence=1,
        at=1_700_000_000_000,
        unit="un-north-beds",
        task="tk-north-aaaaaaaaaaaaaaaaaaaa-1",
        expires_at=1_700_000_000_000 + 3 * 86_400_000,
    )
    said = party.line_of(Heard("1", notice))
    assert "for want of a place un-north-beds unless counted before, until 2023-11-1" in said


def test_what_can_be_taken_back_is_told_with_the_event_by_which_it_is() -> None:
    said = {"organisation": "food-bank", "region": "north", "sequence": 17, "at": 1_700_000_000_000}
    missed = Notice(**said, type="org.referralbus.ledger.NoShowReported.v1")
    assert party.line_of(Heard("7", missed)).endswith("did not come event 17")
    began = Notice(**said, type="org.referralbus.ledger.ServiceStarted.v1")
    assert "17" not in party.line_of(Heard("7", began)).split("[7]")[1]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_every_event_has_words(event: type[Event]) -> None:
    notice = Notice(
        organisation="food-bank", type=event.event_type(), region="north", sequence=1, at=1_700_000_000_000
    )
    words = party.line_of(Heard("7", notice)).split("[7] ")[1]
    assert words == words.lower() and "." not in words and len(words) > 6
