"""The secrets of a bus on one machine: made once, kept in files only their owner can read, given to each service as it needs them.

They are real keys, for data that is not: a production bus takes its secrets from where its operators keep them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from referral_bus.access.tokens import jwks_of, new_signing_key
from referral_bus.sealing.jwe import new_encryption_keys, public_part
from referral_bus.sealing.secrets import Secrets as Derived
from referral_bus.sealing.secrets import new_key, read_key, write_key

_FOR_EACH = ("operations_public_key",)
_FOR: dict[str, tuple[str, ...]] = {
    "intake": ("master_key", "intake_key", "jwks", *_FOR_EACH),
    "matching": ("facts_key", *_FOR_EACH),
    "notifier": ("master_key", "jwks", *_FOR_EACH),
    "projections": ("master_key", "jwks", *_FOR_EACH),
}
"""Which secrets a service is given, by the names of its settings. Matching can open facts and nothing else."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """A folder of secrets, one file each."""

    folder: Path

    @classmethod
    def load_or_make(cls, folder: Path, bus: str) -> Self:
        """The folder's secrets, made where they are missing."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        secrets = cls(folder)
        if not (folder / "master_key").exists():
            master = new_key()
            intake, operations, signing = new_encryption_keys(), new_encryption_keys(), new_signing_key()
            secrets._write("intake_key", intake.private)
            secrets._write("operations_key", operations.private)
            secrets._write("operations_public_key", public_part(operations.private))
            secrets._write("token_key", signing)
            secrets._write("jwks", jwks_of(signing))
            secrets._write("facts_key", write_key(Derived.derive(master, bus).facts_key))
            secrets._write("master_key", write_key(master))
        return secrets

    def environment(self, service: str) -> dict[str, str]:
        """The settings that name the service's secrets; only file names, so nothing secret shows in a list of processes."""
        settings = {
            f"REFBUS_{name.upper()}_FILE": str(self.folder / name) for name in _FOR[service] if name != "jwks"
        }
        if "jwks" in _FOR[service]:
            settings["REFBUS_JWKS"] = str(self.folder / "jwks")
        return settings

    def read(self, name: str) -> str:
        """One secret's text."""
        return (self.folder / name).read_text(encoding="utf-8")

    def derived(self, bus: str) -> Derived:
        """The symmetric keys of the bus."""
        return Derived.derive(read_key(self.read("master_key"), str(self.folder / "master_key")), bus)

    def _write(self, name: str, text: str) -> None:
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def key_of(home: Path, organisation: str) -> Path:
    """Where a local bus keeps the private key of an organisation of the made-up county."""
    return home / "secrets" / "organisations" / f"{organisation}.jwk"
