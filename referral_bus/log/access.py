"""How Kafka is reached: at which addresses, over TLS or not, and as which user. One value, which every client takes (decision 0045)."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_SSL"]
Mechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]


class AccessError(Exception):
    """A file that Kafka is to be reached with can't be used. The message says which and why; ``setting`` is its name."""

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """``bootstrap`` is HOST:PORT, comma-separated. Without more it is reached in the clear, as nobody: so the embedded broker is.

    ``options`` are what every constructor of aiokafka's takes besides. A password is in them, so they are not shown.
    """

    bootstrap: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, access: KafkaAccess | str) -> KafkaAccess:
        """Addresses alone are of a broker that is reached in the clear."""
        return cls(access) if isinstance(access, str) else access

    @property
    def user(self) -> str | None:
        return self.options.get("sasl_plain_username")


def secured(
    bootstrap: str,
    protocol: SecurityProtocol,
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    mechanism: Mechanism = "SCRAM-SHA-512",
    user: str | None = None,
    password: str | None = None,
) -> KafkaAccess:
    """The access with these settings. Raises AccessError where a file can't be used."""
    if protocol == "PLAINTEXT":
        return KafkaAccess(bootstrap)
    options: dict[str, Any] = {
        "security_protocol": protocol,
        "ssl_context": tls_context(ca, certificate, key),
    }
    if protocol == "SASL_SSL":
        options |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": user,
            "sasl_plain_password": password,
        }
    return KafkaAccess(bootstrap, options)


def tls_context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Certificates are verified and hosts are checked; nothing turns that off. Without ``ca`` those the system trusts are. Raises
    AccessError."""
    if ca is None:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    else:
        # Whom the system trusts for the web is not whom it trusts with the log.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(ca)
        except OSError as error:
            raise AccessError("ca", _unusable(ca, error, "certificates in PEM")) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        for setting, path in (("certificate", certificate), ("key", key or certificate)):
            try:
                path.open("rb").close()
            except OSError as error:
                raise AccessError(setting, _unusable(path, error, "")) from None
        try:
            # An empty password: OpenSSL would ask for that of a key at the terminal.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:
            wanted = "a certificate and its unencrypted key in PEM"
            raise AccessError("certificate", _unusable(certificate, error, wanted)) from None
    return context


def _unusable(path: Path, error: OSError, wanted: str) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{path}, which is not {wanted} ({error.reason or 'no certificate in it'}): name another file"
    return f"{path}, which can't be read ({error.strerror or 'unreadable'}): check path and permissions"
