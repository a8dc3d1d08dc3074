"""Why nobody is let in, as far as TLS tells it. What a broker says of a login is held by tests/integration/log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from referral_bus.embedded.ports import free_ports
from referral_bus.log.access import KafkaAccess, secured
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import LogRefused
from referral_bus.log.refusal import refusal
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def serving(authority: Authority, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A server with a certificate for this host, which says nothing."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.sign("server", host))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_certificate_that_nobody_known_signed_is_said_by_every_client_at_once(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").certificate
    async with serving(authority) as address, asyncio.timeout(10):
        log = KafkaLog(secured(address, "SSL", ca=other))
        for asked in (log.appender, log.topics):
            with pytest.raises(LogRefused) as refused:
                await asked()
            said = str(refused.value)
            assert f": the certificate of Kafka at {address} is not trusted (" in said
            assert "check that REFBUS_KAFKA_CA names who signed it" in said


async def test_a_certificate_for_another_host_is_said(authority: Authority) -> None:
    async with serving(authority, "192.0.2.7") as address:
        said = await refusal(secured(address, "SSL", ca=authority.certificate))
    assert said is not None and "IP address mismatch" in said


async def test_one_address_that_is_away_does_not_hide_the_other_that_refuses(
    authority: Authority, tmp_path: Path
) -> None:
    other, away = Authority(tmp_path, "other").certificate, f"127.0.0.1:{free_ports(1)[0]}"
    async with serving(authority) as address:
        said = await refusal(secured(f"{away},{address}", "SSL", ca=other))
    assert said is not None and address in said


async def test_a_broker_that_is_away_or_silent_refuses_nobody(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("referral_bus.log.refusal.ASK_SECONDS", 0.5)
    away = f"127.0.0.1:{free_ports(1)[0]}"
    assert await refusal(secured(away, "SSL", ca=authority.certificate)) is None
    async with serving(authority) as address:
        assert await refusal(secured(address, "SSL", ca=authority.certificate)) is None
    assert await refusal(KafkaAccess(away)) is None
