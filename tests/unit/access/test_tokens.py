"""Bearer tokens: who is let in, as whom, and why somebody is not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey
from pydantic import TypeAdapter, ValidationError

from referral_bus.access import tokens
from referral_bus.access.caller import Caller
from referral_bus.access.tokens import (
    LEEWAY_SECONDS,
    LONGEST_LIFE_SECONDS,
    ROW_SECONDS,
    TOLD_IN_A_ROW,
    KeySetSource,
    KeySetUnavailable,
    TokenRefused,
    TokenVerifier,
    issue_token,
    jwks_of,
    new_signing_key,
)

NOW = 1_800_000_000.0
SIGNING = new_signing_key()
SOURCE: TypeAdapter[str] = TypeAdapter(KeySetSource)


class Seconds:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks"
    path.write_text(jwks_of(SIGNING), encoding="utf-8")
    return path


@pytest.fixture
async def verifier(jwks: Path) -> TokenVerifier:
    return await started(str(jwks))


async def started(source: str, **more: Any) -> TokenVerifier:
    verifier = TokenVerifier(source, "main", **{"wall": lambda: NOW, **more})
    await verifier.start()
    return verifier


def claims(**more: Any) -> dict[str, Any]:
    said = {"aud": "refbus:main", "org": "hospital", "roles": ["agency"], "exp": NOW + 600, **more}
    return {name: value for name, value in said.items() if value is not None}


def signed(claims: dict[str, Any]) -> str:
    key = OKPKey.import_key(json.loads(SIGNING))
    return jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims, key, algorithms=["Ed25519"])


async def test_a_token_says_which_organisation_speaks_and_in_which_roles(verifier: TokenVerifier) -> None:
    token = issue_token(SIGNING, "main", "hospital", ["agency", "provider"], now=NOW)
    caller = await verifier.verify(token)
    assert caller == Caller("hospital", frozenset({"agency", "provider"}))
    assert caller.has("agency")
    assert not caller.has("operations")
    assert await verifier.verify(token) == caller, "and again, from memory"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": NOW - LEEWAY_SECONDS}, "expired"),
        ({"exp": None}, "when it is valid"),
        ({"exp": "tomorrow"}, "when it is valid"),
        ({"exp": True}, "when it is valid"),
        ({"exp": float("nan")}, "when it is valid"),
        ({"exp": float("inf")}, "when it is valid"),
        ({"exp": 10**400}, "when it is valid"),
        ({"exp": NOW + LONGEST_LIFE_SECONDS + LEEWAY_SECONDS + 1}, "longer than a day"),
        ({"nbf": NOW + LEEWAY_SECONDS + 1}, "not valid yet"),
        ({"nbf": "now"}, "when it is valid"),
        ({"aud": None}, "another bus"),
        ({"aud": "refbus:exercise"}, "another bus"),
        ({"aud": "main"}, "another bus"),
        ({"aud": ["refbus:exercise"]}, "another bus"),
        ({"org": None}, "no organisation"),
        ({"org": 7}, "no organisation"),
        ({"org": "Hospital of the Holy/Ghost"}, "no organisation"),
        ({"roles": None}, "no roles"),
        ({"roles": []}, "no roles"),
        ({"roles": "agency"}, "no roles"),
        ({"roles": ["agency", "root"]}, "no roles"),
        ({"roles": ["agency", {"role": "operations"}]}, "no roles"),
    ],
)
async def test_a_token_that_says_something_else_is_refused_with_the_reason(
    verifier: TokenVerifier, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(TokenRefused, match=reason):
        await verifier.verify(signed(claims(**changed)))


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": NOW - LEEWAY_SECONDS + 1},
        {"exp": NOW + LONGEST_LIFE_SECONDS},
        {"nbf": NOW + LEEWAY_SECONDS},
        {"aud": ["refbus:exercise", "refbus:main"]},
        {"iss": "https://somebody.example"},
    ],
)
async def test_clocks_may_differ_a_little_and_other_claims_do_not_matter(
    verifier: TokenVerifier, changed: dict[str, Any]
) -> None:
    assert (await verifier.verify(signed(claims(**changed)))).organisation == "hospital"


async def test_a_token_that_was_good_is_refused_once_it_has_expired(jwks: Path) -> None:
    wall = Seconds(NOW)
    verifier = await started(str(jwks), wall=wall)
    token = signed(claims(exp=NOW + 60))
    assert await verifier.verify(token)
    wall.now = NOW + 60 + LEEWAY_SECONDS
    with pytest.raises(TokenRefused, match="expired"):
        await verifier.verify(token)


async def test_a_token_of_another_key_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(TokenRefused, match="not signed"):
        await verifier.verify(issue_token(new_signing_key(), "main", "hospital", ["agency"], now=NOW))


def unsigned(content: dict[str, Any], algorithm: str) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=")
    return f"{header.decode()}.{body.decode()}."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", ""])
async def test_a_token_without_a_signature_is_refused(verifier: TokenVerifier, algorithm: str) -> None:
    with pytest.raises(TokenRefused, match="not signed"):
        await verifier.verify(unsigned(claims(), algorithm))


@pytest.mark.parametrize("form", ["x", "jwk", "jwks"])
async def test_the_public_key_is_not_taken_for_a_shared_secret(verifier: TokenVerifier, form: str) -> None:
    public = json.loads(jwks_of(SIGNING))["keys"][0]
    secret = {
        "x": base64.urlsafe_b64decode(public["x"] + "=="),
        "jwk": json.dumps(public).encode(),
        "jwks": jwks_of(SIGNING).encode(),
    }[form]
    key = OctKey.import_key(secret)
    forged = jwt.encode({"alg": "HS256", "kid": public["kid"]}, claims(), key, algorithms=["HS256"])
    with pytest.raises(TokenRefused, match="not signed"):
        await verifier.verify(forged)


@pytest.mark.parametrize("part", [0, 1, 2])
async def test_a_token_with_one_changed_character_is_refused(verifier: TokenVerifier, part: int) -> None:
    parts = signed(claims()).split(".")
    first = parts[part][5]
    parts[part] = parts[part][:5] + ("A" if first != "A" else "B") + parts[part][6:]
    with pytest.raises(TokenRefused):
        await verifier.verify(".".join(parts))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "....", "é.é.é", "A" * 9000])
async def test_what_is_no_token_is_refused_and_not_repeated(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(TokenRefused) as refusal:
        await verifier.verify(token)
    assert len(token) < 3 or token not in str(refusal.value)


async def test_an_issuer_may_sign_with_es256_and_other_keys_of_its_set_do_no_harm(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256", {"kid": "e"})
    others = [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        OKPKey.generate_key("X25519").as_dict(private=False),
    ]
    path = tmp_path / "jwks"
    path.write_text(json.dumps({"keys": [*others, key.as_dict(private=False)]}), encoding="utf-8")
    verifier = await started(str(path))
    token = jwt.encode({"alg": "ES256", "kid": "e"}, claims(), key, algorithms=["ES256"])
    assert (await verifier.verify(token)).organisation == "hospital"


async def test_the_old_name_of_the_algorithm_is_taken_as_most_issuers_write_it(tmp_path: Path) -> None:
    key = OKPKey.generate_key("Ed25519", {"kid": "o"})
    path = tmp_path / "jwks"
    path.write_text(json.dumps({"keys": [key.as_dict(private=False)]}), encoding="utf-8")
    with pytest.warns(SecurityWarning):
        token = jwt.encode({"alg": "EdDSA", "kid": "o"}, claims(), key, algorithms=["EdDSA"])
    assert (await (await started(str(path))).verify(token)).organisation == "hospital"


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        '"keys"',
        '{"keys": 7}',
        '{"keys": ["x"]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}',
        "[" * 100_000,
    ],
    ids=lambda content: str(content)[:40],
)
async def test_a_key_set_that_can_not_be_read_stops_the_start_and_names_the_setting(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "jwks"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(KeySetUnavailable, match="REFBUS_JWKS"):
        await started(str(path))


async def test_a_new_key_is_found_when_a_token_names_it_and_an_old_one_ends(jwks: Path) -> None:
    monotonic = Seconds(0.0)
    verifier = await started(str(jwks), monotonic=monotonic)
    old = issue_token(SIGNING, "main", "hospital", ["agency"], now=NOW)
    assert await verifier.verify(old)
    newer = new_signing_key()
    token = issue_token(newer, "main", "hospital", ["agency"], now=NOW)
    jwks.write_text(jwks_of(newer), encoding="utf-8")
    monotonic.now = 10.0
    assert await verifier.verify(token)
    with pytest.raises(TokenRefused, match="not signed"):
        await verifier.verify(old)


async def test_bad_tokens_do_not_have_the_key_set_read_again_and_again(jwks: Path) -> None:
    monotonic = Seconds(0.0)
    verifier = await started(str(jwks), monotonic=monotonic)
    newer = new_signing_key()
    jwks.write_text(jwks_of(newer), encoding="utf-8")
    with pytest.raises(TokenRefused):
        await verifier.verify(issue_token(newer, "main", "hospital", ["agency"], now=NOW))
    monotonic.now = 10.0
    assert await verifier.verify(issue_token(newer, "main", "hospital", ["agency"], now=NOW))


async def refused(verifier: TokenVerifier, times: int, **changed: Any) -> None:
    for _ in range(times):
        with pytest.raises(TokenRefused):
            await verifier.verify(signed(claims(**changed)))


async def test_that_everybodys_token_is_refused_is_told_from_the_tenth_on_until_one_is_taken(
    jwks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monotonic = Seconds(0.0)
    verifier = await started(str(jwks), monotonic=monotonic)
    taken = signed(claims())
    await verifier.verify(taken)
    assert verifier.refused_for == 0
    await refused(verifier, 1, aud="refbus:other")
    monotonic.now = 400.0
    await refused(verifier, TOLD_IN_A_ROW - 2, aud="refbus:other")
    assert verifier.refused_for == 0 and "one after the other" not in caplog.text
    await refused(verifier, 1, aud="refbus:other")
    assert verifier.refused_for == 400
    monotonic.now = 580.0
    assert verifier.refused_for == 400, "nobody has tried again"
    await refused(verifier, 5, aud="refbus:other")
    assert verifier.refused_for == 580
    [told] = [one.getMessage() for one in caplog.records if "one after the other" in one.getMessage()]
    assert told.startswith("10 tokens were refused") and "The token is for another bus" in told
    await verifier.verify(taken)
    assert verifier.refused_for == 0, "also where the token was known"
    monotonic.now = 590.0
    await refused(verifier, TOLD_IN_A_ROW, aud="refbus:other")
    assert verifier.refused_for == 0, "they came at once"


async def test_tokens_refused_hours_apart_are_no_row_and_one_that_is_over_is_forgotten(jwks: Path) -> None:
    monotonic = Seconds(0.0)
    verifier = await started(str(jwks), monotonic=monotonic)
    for hour in range(2 * TOLD_IN_A_ROW):
        monotonic.now = hour * ROW_SECONDS
        await refused(verifier, 1, aud=None)
    assert verifier.refused_for == 0
    monotonic.now += 700.0
    await refused(verifier, TOLD_IN_A_ROW, aud=None)
    assert verifier.refused_for == 700
    monotonic.now += ROW_SECONDS
    assert verifier.refused_for == 0


async def test_while_the_key_set_can_not_be_read_the_former_one_counts(jwks: Path) -> None:
    monotonic = Seconds(0.0)
    verifier = await started(str(jwks), monotonic=monotonic)
    jwks.unlink()
    monotonic.now = 100_000.0
    assert await verifier.verify(issue_token(SIGNING, "main", "hospital", ["agency"], now=NOW))


async def test_the_key_set_is_read_again_though_nobody_comes(
    jwks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_LOOK_SECONDS", 0.001)
    monotonic = Seconds(0.0)
    verifier = await started(str(jwks), monotonic=monotonic)
    monotonic.now = 599.0
    assert verifier.read_at == NOW - 599
    kept = asyncio.create_task(verifier.keep())
    try:
        await asyncio.sleep(0.05)
        assert verifier.read_at == NOW - 599, "it is not old yet"
        monotonic.now = 600.0
        async with asyncio.timeout(10):
            while verifier.read_at != NOW:
                await asyncio.sleep(0.001)
        jwks.unlink()
        monotonic.now = 4_300.0
        await asyncio.sleep(0.05)
        assert verifier.read_at == NOW - 3_700 and not kept.done(), "what can't be read was not read"
        jwks.write_text(jwks_of(SIGNING), encoding="utf-8")
        monotonic.now = 4_310.0
        async with asyncio.timeout(10):
            while verifier.read_at != NOW:
                await asyncio.sleep(0.001)
    finally:
        kept.cancel()


Answer = Callable[[], tuple[int, str]]


@asynccontextmanager
async def issuer(answer: Answer, asked: list[str]) -> AsyncIterator[str]:
    """An identity provider on this machine."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode())
        status, body = answer()
        head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body.encode())
        with contextlib.suppress(ConnectionError):  # who asked may have heard enough
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"


async def test_the_key_set_may_be_at_an_address() -> None:
    asked: list[str] = []
    async with issuer(lambda: (200, jwks_of(SIGNING)), asked) as address:
        verifier = await started(address)
        assert await verifier.verify(issue_token(SIGNING, "main", "hospital", ["agency"], now=NOW))
    assert asked == ["/keys"]


async def test_an_address_that_fails_stops_the_start() -> None:
    async with issuer(lambda: (500, ""), []) as address:
        with pytest.raises(KeySetUnavailable, match="REFBUS_JWKS"):
            await started(address)


async def test_more_than_a_key_set_is_not_read_to_its_end() -> None:
    more = jwks_of(SIGNING) + " " * 300_000
    async with issuer(lambda: (200, more), []) as address:
        with pytest.raises(KeySetUnavailable, match="KeySetTooLarge"):
            await started(address)


async def test_an_answer_that_drips_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_FETCH_SECONDS", 0.2)

    ended = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 -\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        ended.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        with pytest.raises(KeySetUnavailable, match="TimeoutError"):
            await started(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys")
        await ended.wait()


@pytest.mark.parametrize(
    "source",
    [
        "/run/secrets/jwks",
        "https://identity.example/keys",
        "http://127.0.0.1:8080/keys",
        "http://[::1]:8080/keys",
        "http://localhost/keys",
    ],
)
def test_a_key_set_is_taken_from_a_file_by_https_or_from_this_machine(source: str) -> None:
    assert SOURCE.validate_python(source) == source


@pytest.mark.parametrize(
    "source",
    [
        "http://identity.example/keys",
        "http://10.0.0.7/keys",
        "HTTP://identity.example/keys",
        "http://localhost.example/keys",
        "http://127.0.0.1@identity.example/keys",
        "ftp://127.0.0.1/keys",
    ],
)
def test_a_key_set_that_could_be_changed_on_its_way_is_refused(source: str) -> None:
    with pytest.raises(ValidationError, match="https://"):
        SOURCE.validate_python(source)


async def test_an_issuer_that_is_down_is_not_asked_for_every_bad_token() -> None:
    asked: list[str] = []
    answers = [(200, jwks_of(SIGNING))]
    monotonic = Seconds(0.0)
    async with issuer(lambda: answers.pop() if answers else (500, ""), asked) as address:
        verifier = await started(address, monotonic=monotonic)
        monotonic.now = 700.0
        for _ in range(5):
            with pytest.raises(TokenRefused):
                await verifier.verify(issue_token(new_signing_key(), "main", "hospital", ["agency"], now=NOW))
        assert await verifier.verify(issue_token(SIGNING, "main", "hospital", ["agency"], now=NOW))
    assert len(asked) == 2, "at the start, and once since"
