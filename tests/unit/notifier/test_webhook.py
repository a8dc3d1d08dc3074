"""Webhooks: the signature, where they may go, and that nothing is followed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from cryptography.exceptions import InvalidTag
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.notifier.addresses import AddressRefused, AddressRules
from services.notifier.secrets import WebhookSecrets
from services.notifier.webhook import WebhookSender, signed

SECRETS = WebhookSecrets(bytes(32), "main")
OPEN_RULES = AddressRules(http_loopback=True)


def test_the_signature_is_verified_by_the_standards_own_library() -> None:
    secret, body = SECRETS.new(), b'{"id":"1"}'
    headers = signed(secret, "sb-1.north.7", body, int(time.time() * 1000))
    assert Webhook(secret).verify(body, headers) == {"id": "1"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b'{"id":"2"}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRETS.new()).verify(body, headers)


def test_a_secret_is_kept_sealed_for_its_subscription_only() -> None:
    secret = SECRETS.new()
    sealed = SECRETS.seal("sb-1", secret)
    assert secret.encode() not in sealed
    assert SECRETS.open("sb-1", sealed) == secret
    with pytest.raises(InvalidTag):
        SECRETS.open("sb-2", sealed)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org/", "bad_address"),
        ("https://", "bad_address"),
        ("not a url", "bad_address"),
        ("https://user:password@example.org/", "bad_address"),
        ("http://example.org/", "https_required"),
        ("http://localhost/", "https_required"),
        ("https://127.0.0.1/", "private_address"),
        ("https://[::1]/", "private_address"),
        ("https://10.1.2.3/", "private_address"),
        ("https://169.254.169.254/latest/meta-data", "private_address"),
        ("https://[::ffff:10.0.0.1]/", "private_address"),
        ("https://0.0.0.0/", "private_address"),
        ("https://224.0.0.1/", "private_address"),
        ("https://[64:ff9b::7f00:1]/", "private_address"),
        ("https://[64:ff9b::a00:1]/", "private_address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "private_address"),
        ("https://[64:ff9b:1::5db8:d822]/", "private_address"),
        ("https://[2002:7f00:1::1]/", "private_address"),
        ("https://[2002:5db8:d822::1]/", "private_address"),
        ("https://[2001:0:5db8:d822::1]/", "private_address"),
        ("https://[::127.0.0.1]/", "private_address"),
        ("https://[::10.0.0.1]/", "private_address"),
        ("https://[::93.184.216.34]/", "private_address"),
        ("https://[::ffff:0:10.0.0.1]/", "private_address"),
        ("https://[fec0::1]/", "private_address"),
        ("https://[4000::1]/", "private_address"),
        ("https://[ff0e::1]/", "private_address"),
        ("https://example.org:99999/", "bad_address"),
        ("https://example.org:0/", "bad_address"),
        ("https://exa mple.org/", "bad_address"),
        ("https://[fe80::1%25eth0]/", "bad_address"),
        ("https://example.org/#fragment", "bad_address"),
    ],
)
def test_an_address_that_is_not_public_https_is_refused(url: str, reason: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        AddressRules().check(url)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/hook",
        "https://93.184.216.34:8443/x?y=1",
        "https://[2606:4700::1111]/hook",
        "https://[::ffff:93.184.216.34]/hook",
        "https://[64:ff9b::93.184.216.34]/hook",
    ],
)
def test_a_public_https_address_is_taken(url: str) -> None:
    assert str(AddressRules().check(url)) == url


def test_http_is_taken_on_this_machine_only_and_only_if_allowed() -> None:
    assert OPEN_RULES.check("http://127.0.0.1:8000/hook").port == 8000
    with pytest.raises(AddressRefused):
        OPEN_RULES.check("http://10.0.0.1/hook")


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1"])
async def test_a_name_that_leads_to_a_private_address_is_refused(host: str) -> None:
    rules = AddressRules()
    with pytest.raises(AddressRefused) as refused:
        await rules.resolve(rules.check(f"https://{host}/hook"))
    assert refused.value.reason == "private_address"


@pytest.mark.parametrize("found", ["64:ff9b::a9fe:a9fe", "2002:a00:1::1", "::a00:1"])
async def test_a_name_that_leads_to_a_private_address_inside_another_is_refused(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(10, 1, 6, "", (found, 443, 0, 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up)
    rules = AddressRules(http_loopback=True)
    with pytest.raises(AddressRefused, match="not public"):
        await rules.resolve(rules.check("https://example.org/hook"))
    assert await AddressRules(private=True).resolve(rules.check("https://example.org/hook")) == found


Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(answer: Answering) -> AsyncIterator[str]:
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        await answer(head, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()
        await asyncio.gather(*(task for task in serving if task is not None))


def saying(status: bytes) -> Answering:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    return answer


@pytest.mark.parametrize(
    ("status", "taken", "reason", "final"),
    [
        (b"204 No Content", True, "", False),
        (b"500 Oops", False, "http_500", False),
        (b"410 Gone", False, "http_410", True),
        (b"302 Found\r\nlocation: http://127.0.0.1:1/", False, "http_302", False),
    ],
)
async def test_only_a_success_counts_and_redirects_are_not_followed(
    status: bytes, taken: bool, reason: str, final: bool
) -> None:
    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        async with receiver(saying(status)) as url:
            answer = await sender.send(url, SECRETS.new(), "sb-1.north.7", b"{}", 0)
    finally:
        await sender.close()
    assert (answer.taken, answer.reason, answer.final) == (taken, reason, final)


async def test_the_host_header_names_the_host_although_the_checked_address_is_connected_to() -> None:
    heads: list[bytes] = []

    async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(head)
        await saying(b"200 OK")(head, writer)

    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        async with receiver(answer) as url:
            assert (await sender.send(url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
    finally:
        await sender.close()
    assert b"\r\nhost: localhost:" in heads[0].lower()
    assert b"\r\nwebhook-id: sb-1.north.7\r\n" in heads[0].lower()


async def test_an_answer_that_never_comes_ends_at_the_time_limit() -> None:
    hanging = asyncio.Event()

    async def answer(_: bytes, __: asyncio.StreamWriter) -> None:
        await hanging.wait()

    sender = WebhookSender(OPEN_RULES, 0.2)
    try:
        async with receiver(answer) as url:
            assert (await sender.send(url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).reason == "timeout"
            hanging.set()
    finally:
        await sender.close()


async def test_the_body_of_the_answer_is_not_read() -> None:
    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n" + b"x" * 1000)
        await writer.drain()

    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        async with receiver(answer) as url:
            assert (await sender.send(url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
    finally:
        await sender.close()


async def test_nobody_listening_is_a_failure_to_be_tried_again() -> None:
    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        async with receiver(saying(b"200 OK")) as url:
            gone = url
        answer = await sender.send(gone, SECRETS.new(), "sb-1.north.7", b"{}", 0)
    finally:
        await sender.close()
    assert (answer.taken, answer.reason, answer.final) == (False, "connection_failed", False)


async def test_no_connection_is_kept_for_another_name_at_the_same_address() -> None:
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        for host in ("localhost", "127.0.0.1", "localhost"):
            assert (
                await sender.send(f"http://{host}:{port}/", SECRETS.new(), "sb-1.north.7", b"{}", 0)
            ).taken
    finally:
        await sender.close()
        server.close()
        await asyncio.gather(*serving)
    assert len(serving) == 3


async def test_no_folder_is_searched_for_modules_while_webhooks_are_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library that asks each time for one that is not installed has all folders searched, each time."""
    searched: list[str] = []

    class Searched:
        """Asked before any folder is."""

        def find_spec(self, name: str, *_: object) -> None:
            searched.append(name)

    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        async with receiver(saying(b"204 No Content")) as url:
            assert (await sender.send(url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
            monkeypatch.setattr(sys, "meta_path", [Searched(), *sys.meta_path])
            assert (await sender.send(url, SECRETS.new(), "sb-1.north.8", b"{}", 0)).taken
    finally:
        await sender.close()
    assert searched == []
