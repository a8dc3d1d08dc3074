"""Webhooks: the signature, where they may go, and that nothing is followed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from referral_bus.embedded.ports import free_ports
from services.notifier import names
from services.notifier.addresses import AddressRefused, AddressRules
from services.notifier.names import Names
from services.notifier.secrets import WebhookSecrets
from services.notifier.subscriptions import MOST_EACH
from services.notifier.webhook import Answer, WebhookSender, signed
from tests.support.slow_names import SlowZone, slow_names

ROOT = Path(__file__).resolve().parents[3]
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
        await rules.resolve(rules.check(f"https://{host}/hook"), Names(), "north")
    assert refused.value.reason == "private_address"


@pytest.mark.parametrize("found", ["64:ff9b::a9fe:a9fe", "2002:a00:1::1", "::a00:1"])
async def test_a_name_that_leads_to_a_private_address_inside_another_is_refused(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(10, 1, 6, "", (found, 443, 0, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    rules = AddressRules(http_loopback=True)
    with pytest.raises(AddressRefused, match="not public"):
        await rules.resolve(rules.check("https://example.org/hook"), Names(), "north")
    assert (
        await AddressRules(private=True).resolve(rules.check("https://example.org/hook"), Names(), "north")
        == found
    )


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
            answer = await sender.send("north", url, SECRETS.new(), "sb-1.north.7", b"{}", 0)
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
            assert (await sender.send("north", url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
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
            assert (
                await sender.send("north", url, SECRETS.new(), "sb-1.north.7", b"{}", 0)
            ).reason == "timeout"
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
            assert (await sender.send("north", url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
    finally:
        await sender.close()


async def test_nobody_listening_is_a_failure_to_be_tried_again() -> None:
    sender = WebhookSender(OPEN_RULES, 2.0)
    try:
        async with receiver(saying(b"200 OK")) as url:
            gone = url
        answer = await sender.send("north", gone, SECRETS.new(), "sb-1.north.7", b"{}", 0)
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
                await sender.send("north", f"http://{host}:{port}/", SECRETS.new(), "sb-1.north.7", b"{}", 0)
            ).taken
    finally:
        await sender.close()
        server.close()
        await asyncio.gather(*serving)
    assert len(serving) == 3


@pytest.fixture
def slow_zone() -> Iterator[SlowZone]:
    with slow_names() as zone:
        yield zone


async def until(held: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not held():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sending(sender: WebhookSender, hosts: Iterable[str]) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """Attempts at these hosts that are under way, until they are ended."""
    attempts = [
        asyncio.create_task(sender.send("slow", f"https://{host}/", SECRETS.new(), "sb-1.north.7", b"{}", 0))
        for host in hosts
    ]
    try:
        yield attempts
    finally:
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def test_names_that_are_looked_up_slowly_hold_up_nobody_elses_webhook(slow_zone: SlowZone) -> None:
    """An organisation's twenty webhooks, with several attempts at each, and as many again after those have ended."""
    hosts = [f"{number}.slow.example" for number in range(MOST_EACH)]
    sender = WebhookSender(OPEN_RULES, 20.0)
    try:
        async with sending(sender, hosts * 4):
            await until(lambda: len(slow_zone.asked) >= len(hosts))
        async with receiver(saying(b"204 No Content")) as url, sending(sender, hosts * 4):
            assert (await sender.send("north", url, SECRETS.new(), "sb-2.north.7", b"{}", 0)).taken
    finally:
        await sender.close()
    assert sorted(slow_zone.asked) == sorted(hosts)


async def test_webhooks_made_anew_at_other_slow_names_take_no_more_of_the_lookups(
    slow_zone: SlowZone,
) -> None:
    sender = WebhookSender(OPEN_RULES, 20.0)
    try:
        async with sending(sender, [f"{number}.slow.example" for number in range(names.MOST)]) as attempts:
            await until(lambda: len(slow_zone.asked) >= names.SHARE)
            async with receiver(saying(b"204 No Content")) as url:
                assert (await sender.send("north", url, SECRETS.new(), "sb-2.north.7", b"{}", 0)).taken
            assert len(slow_zone.asked) == names.SHARE
            slow_zone.let.set()
            assert {one.reason for one in await asyncio.gather(*attempts)} == {"unknown_host"}
    finally:
        await sender.close()


async def test_a_lookup_that_nobody_waits_for_any_more_counts_until_it_ends(
    slow_zone: SlowZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MOST", 2)
    patient, hurried = WebhookSender(OPEN_RULES, 20.0), WebhookSender(OPEN_RULES, 0.1)
    hurried._names = patient._names
    try:
        async with sending(patient, ["1.slow.example", "2.slow.example"]):
            await until(lambda: len(slow_zone.asked) == 2)
        async with receiver(saying(b"204 No Content")) as url:
            assert (
                await hurried.send("north", url, SECRETS.new(), "sb-2.north.7", b"{}", 0)
            ).reason == "timeout"
            slow_zone.let.set()
            assert (await patient.send("north", url, SECRETS.new(), "sb-2.north.7", b"{}", 0)).taken
    finally:
        await hurried.close()
        await patient.close()


async def test_attempts_at_one_name_share_its_lookup_and_learn_what_it_finds(slow_zone: SlowZone) -> None:
    sender = WebhookSender(OPEN_RULES, 20.0)
    try:
        async with sending(sender, ["1.slow.example"] * 3) as attempts:
            await until(lambda: len(slow_zone.asked) == 1)
            attempts[0].cancel()
            slow_zone.let.set()
            answers = await asyncio.gather(*attempts[1:])
            assert [one.reason for one in answers] == ["unknown_host"] * 2
        async with sending(sender, ["1.slow.example"]) as [attempt]:
            assert (await attempt).reason == "unknown_host"
    finally:
        await sender.close()
    assert slow_zone.asked == ["1.slow.example"] * 2


async def test_no_webhook_is_looked_up_by_the_loop_whose_threads_the_database_and_kafka_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def looked_up(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", looked_up)
    sender = WebhookSender(OPEN_RULES, 20.0)
    try:
        async with receiver(saying(b"204 No Content")) as url:
            assert (await sender.send("north", url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
    finally:
        await sender.close()


SERVICE = """
import asyncio, socket, sys, threading
from contextlib import asynccontextmanager
from typing import ClassVar
from referral_bus.runtime.service import Task, run
from referral_bus.runtime.settings import Settings
from services.notifier.addresses import AddressRules
from services.notifier.webhook import WebhookSender

really = socket.getaddrinfo

def look_up(host, *rest, **named):
    if host == "slow.example":
        threading.Event().wait()
    return really(host, *rest, **named)

socket.getaddrinfo = look_up

class SenderSettings(Settings):
    service: ClassVar[str] = "sender"

async def work(sender):
    answer = await sender.send("slow", "https://slow.example/", "whsec_c2VjcmV0", "sb-1.north.7", b"{}", 0)
    print(answer.reason, flush=True)
    await asyncio.Event().wait()

@asynccontextmanager
async def build(settings, health):
    sender = WebhookSender(AddressRules(), 0.1)
    try:
        yield [Task("work", work(sender))]
    finally:
        await sender.close()

run(SenderSettings.load_or_exit(), build)
"""


def test_a_service_ends_in_order_while_a_name_is_still_looked_up() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REFBUS_")}
    environment |= {"REFBUS_OPERATIONS_PORT": str(free_ports(1)[0]), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == "timeout\n"
            service.terminate()
            _, said = service.communicate(timeout=30)
        finally:
            service.kill()
    assert service.returncode == 0
    assert [json.loads(line)["message"] for line in said.splitlines()] == ["sender runs", "sender stops"]


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
            assert (await sender.send("north", url, SECRETS.new(), "sb-1.north.7", b"{}", 0)).taken
            monkeypatch.setattr(sys, "meta_path", [Searched(), *sys.meta_path])
            assert (await sender.send("north", url, SECRETS.new(), "sb-1.north.8", b"{}", 0)).taken
    finally:
        await sender.close()
    assert searched == []
