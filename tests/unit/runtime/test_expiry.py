"""What ends to be valid is told beforehand: certificate files, and the key set of the tokens."""

from __future__ import annotations

import base64
import json
import math
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from prometheus_client import REGISTRY

from referral_bus.access.tokens import (
    TOLD_IN_A_ROW,
    TokenRefused,
    TokenVerifier,
    jwks_of,
    new_signing_key,
)
from referral_bus.runtime.expiry import tell_certificates, tell_keys

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def certificate(days: int) -> x509.Certificate:
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "refbus")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, None)
    )


def told(what: str) -> float | None:
    return REGISTRY.get_sample_value("refbus_expires_timestamp_seconds", {"what": what})


def after(days: int) -> float:
    return (NOW + timedelta(days=days)).timestamp()


def test_a_file_tells_when_its_first_certificate_ends_and_is_looked_at_each_time(tmp_path: Path) -> None:
    file = tmp_path / "tls.crt"
    file.write_bytes(b"".join(certificate(days).public_bytes(Encoding.PEM) for days in (90, 30)))
    tell_certificates({"proxy": file})
    assert told("proxy") == after(30)
    file.write_bytes(certificate(365).public_bytes(Encoding.PEM))
    assert told("proxy") == after(365)


def test_a_file_that_holds_no_certificate_is_told_as_over(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    tell_certificates({"gone": tmp_path / "gone", "empty": tmp_path / "empty"})
    assert (told("gone"), told("empty")) == (0, 0)


async def test_a_key_set_ends_with_its_last_key_and_never_where_one_has_no_end(tmp_path: Path) -> None:
    file = tmp_path / "jwks"
    endless, soon, later = (json.loads(jwks_of(new_signing_key()))["keys"][0] for _ in range(3))
    soon["exp"] = after(5)
    later["x5c"] = [base64.b64encode(certificate(40).public_bytes(Encoding.DER)).decode()]
    odd = {**endless, "x5c": ["no certificate"], "exp": "soon"}
    for keys, ends in (
        ([soon, later], after(40)),
        ([soon], after(5)),
        ([soon, endless], math.inf),
        ([odd], math.inf),
    ):
        file.write_text(json.dumps({"keys": keys}))
        verifier = TokenVerifier(str(file), "main")
        await verifier.start()
        tell_keys(verifier)
        assert told("token_keys") == ends


async def test_when_the_key_set_was_read_is_told_by_services_that_have_one(tmp_path: Path) -> None:
    def told() -> float | None:
        return REGISTRY.get_sample_value("refbus_key_set_read_timestamp_seconds", {"what": "token_keys"})

    file, began = tmp_path / "jwks", time.time()
    file.write_text(jwks_of(new_signing_key()))
    passed = [0.0]
    verifier = TokenVerifier(str(file), "main", monotonic=lambda: passed[0])
    await verifier.start()
    tell_keys(verifier)
    read = told()
    assert read is not None and began <= read <= time.time()
    passed[0] = 5_000
    later = told()
    assert later is not None and began - 5_000 <= later <= time.time() - 5_000


async def test_for_how_long_no_token_was_taken_is_told_and_is_0_at_the_start(tmp_path: Path) -> None:
    def told() -> float | None:
        return REGISTRY.get_sample_value("refbus_tokens_refused_seconds", {"what": "token_keys"})

    file, passed = tmp_path / "jwks", [0.0]
    file.write_text(jwks_of(new_signing_key()))
    verifier = TokenVerifier(str(file), "main", monotonic=lambda: passed[0])
    await verifier.start()
    tell_keys(verifier)
    assert told() == 0
    for minute in range(TOLD_IN_A_ROW):
        passed[0] = minute * 60
        with pytest.raises(TokenRefused):
            await verifier.verify("no token")
    assert told() == (TOLD_IN_A_ROW - 1) * 60
