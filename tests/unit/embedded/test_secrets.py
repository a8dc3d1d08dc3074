"""The secrets of a local bus: made once, readable by their owner alone, and each given to whom it is for."""

from __future__ import annotations

import stat
from pathlib import Path

from referral_bus.embedded.secrets import Secrets
from referral_bus.sealing.jwe import open_with, seal_to
from referral_bus.sealing.secrets import read_key


def test_they_are_made_once_and_stay(tmp_path: Path) -> None:
    first = Secrets.load_or_make(tmp_path / "secrets", "main")
    before = {path.name: path.read_text() for path in first.folder.iterdir()}
    second = Secrets.load_or_make(tmp_path / "secrets", "main")
    assert {path.name: path.read_text() for path in second.folder.iterdir()} == before


def test_only_their_owner_can_read_them(tmp_path: Path) -> None:
    secrets = Secrets.load_or_make(tmp_path / "secrets", "main")
    assert stat.S_IMODE(secrets.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.folder.iterdir()} == {0o600}


def test_matching_is_given_the_facts_key_and_no_way_to_an_identity(tmp_path: Path) -> None:
    secrets = Secrets.load_or_make(tmp_path / "secrets", "main")
    given = secrets.environment("matching")
    assert set(given) == {"REFBUS_FACTS_KEY_FILE", "REFBUS_OPERATIONS_PUBLIC_KEY_FILE"}
    assert read_key(secrets.read("facts_key"), "facts_key") == secrets.derived("main").facts_key


def test_settings_name_files_and_hold_no_secret(tmp_path: Path) -> None:
    secrets = Secrets.load_or_make(tmp_path / "secrets", "main")
    contents = [path.read_text() for path in secrets.folder.iterdir()]
    for service in ("intake", "matching", "notifier", "projections"):
        for value in secrets.environment(service).values():
            assert Path(value).parent == secrets.folder
            assert not any(content in value for content in contents)


def test_what_is_sealed_to_the_public_keys_opens_with_the_private_ones(tmp_path: Path) -> None:
    secrets = Secrets.load_or_make(tmp_path / "secrets", "main")
    sealed = seal_to(secrets.read("operations_public_key"), b"a dead letter")
    assert open_with(secrets.read("operations_key"), sealed) == b"a dead letter"
    assert '"d"' not in secrets.read("operations_public_key") + secrets.read("jwks")
