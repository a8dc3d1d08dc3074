"""Bearer tokens: JWTs (RFC 7519) signed with EdDSA or ES256, for one bus, with the organisation as a claim and a short life.

A production bus takes the address of its identity provider's JWKS (RFC 7517); ``refbus token`` signs with the local bus's own key.
Claims: ``iss`` (not checked: the key set says who may sign), ``aud`` = ``refbus:<bus>``, ``exp`` (required), ``nbf``, ``org``, ``roles``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, get_args

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey
from pydantic import TypeAdapter, ValidationError

from referral_bus.access.caller import Caller
from referral_bus.contracts.ids import OrganisationId
from referral_bus.contracts.vocabulary import Role

ALGORITHMS: Final = ["Ed25519", "ES256"]
LONGEST_LIFE_SECONDS: Final = 24 * 3600
LEEWAY_SECONDS: Final = 30
"""How far apart the clocks of issuer and verifier may be."""

_LONGEST_TOKEN: Final = 8_192
_REFRESH_SECONDS: Final = 600.0
_EARLIEST_REFRESH_SECONDS: Final = 10.0
_FETCH_SECONDS: Final = 5.0
_MOST_REMEMBERED: Final = 4_096
_ORGANISATION: TypeAdapter[str] = TypeAdapter(OrganisationId)
_ROLES: Final = frozenset(get_args(Role))


class TokenRefused(Exception):
    """A token is not taken. The message says why, for whoever sent it; it holds nothing of the token."""


class KeySetUnavailable(Exception):
    """The key set could not be read at the start."""


def new_signing_key() -> str:
    """A fresh private JWK as JSON text."""
    key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": "Ed25519"}, private=True, auto_kid=True)
    return json.dumps(key.as_dict(private=True))


def jwks_of(private_jwk: str) -> str:
    """The public key set of a private signing key, as JSON text."""
    return json.dumps({"keys": [OKPKey.import_key(json.loads(private_jwk)).as_dict(private=False)]})


def issue_token(
    private_jwk: str,
    bus: str,
    organisation: str,
    roles: Iterable[Role],
    seconds: int = 3600,
    now: float | None = None,
) -> str:
    """A token for an organisation, valid for ``seconds`` from now (``now``: epoch seconds). For development and tests."""
    key = OKPKey.import_key(json.loads(private_jwk))
    at = int(time.time() if now is None else now)
    claims = {
        "iss": "refbus",
        "aud": f"refbus:{bus}",
        "org": organisation,
        "roles": sorted(roles),
        "nbf": at,
        "iat": at,
        "exp": at + seconds,
    }
    return jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims, key, algorithms=ALGORITHMS)


class TokenVerifier:
    """Verifies tokens against a key set. ``source`` is the path or the http(s) address of a JWKS; it is read again now and then, and
    when a token names a key that is not in it."""

    def __init__(self, source: str, bus: str, wall: Callable[[], float] = time.time) -> None:
        self._source = source
        self._audience = f"refbus:{bus}"
        self._wall = wall
        self._keys: KeySet | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._remembered: dict[str, tuple[float, Caller]] = {}

    async def start(self) -> None:
        """Read the key set. Raises KeySetUnavailable."""
        try:
            await self._read()
        except (OSError, ValueError, httpx.HTTPError, JoseError) as error:
            raise KeySetUnavailable(
                f"the key set {self._source} (REFBUS_JWKS) can't be read: {type(error).__name__}; check path or address"
            ) from None

    async def verify(self, token: str) -> Caller:
        """The caller a token names. Raises TokenRefused."""
        known = self._remembered.get(token)
        if known is not None:
            if known[0] > self._wall() and time.monotonic() - self._read_at < _REFRESH_SECONDS:
                return known[1]
            del self._remembered[token]
        if len(token) > _LONGEST_TOKEN:
            raise TokenRefused("The token is too long. Ask for a new one.")
        await self._refresh(_REFRESH_SECONDS)
        try:
            decoded = self._decode(token)
        except TokenRefused:
            await self._refresh(_EARLIEST_REFRESH_SECONDS)
            decoded = self._decode(token)
        caller = self._caller(decoded)
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[token] = (float(decoded["exp"]), caller)
        return caller

    def _decode(self, token: str) -> dict[str, Any]:
        if self._keys is None:
            raise TokenRefused("No key set is loaded yet. Try again shortly.")
        try:
            return dict(jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims)
        except (JoseError, ValueError, TypeError, KeyError):
            raise TokenRefused("The token is not signed by a key of this bus. Ask for a new one.") from None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        now = self._wall()
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRefused("The token is for another bus. Ask for one of this bus.")
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, int | float) or not isinstance(begins, int | float):
            raise TokenRefused("The token does not say when it expires. Ask for a new one.")
        if expires + LEEWAY_SECONDS <= now:
            raise TokenRefused("The token has expired. Ask for a new one.")
        if begins - LEEWAY_SECONDS > now:
            raise TokenRefused("The token is not valid yet. Check the clocks.")
        if expires - now > LONGEST_LIFE_SECONDS + LEEWAY_SECONDS:
            raise TokenRefused("The token lives longer than a day. Ask for a shorter one.")
        try:
            organisation = _ORGANISATION.validate_python(claims.get("org"), strict=True)
        except ValidationError:
            raise TokenRefused("The token names no organisation (claim 'org').") from None
        roles = claims.get("roles")
        if (
            not isinstance(roles, list)
            or not roles
            or not _ROLES.issuperset(r for r in roles if isinstance(r, str))
        ):
            raise TokenRefused("The token carries no roles of the bus (claim 'roles').")
        return Caller(organisation, frozenset(roles))

    async def _refresh(self, age: float) -> None:
        if time.monotonic() - self._read_at < age:
            return
        async with self._reading:
            if time.monotonic() - self._read_at < age:
                return
            try:
                await self._read()
            except (OSError, ValueError, httpx.HTTPError, JoseError):
                self._read_at = time.monotonic() - _REFRESH_SECONDS + _EARLIEST_REFRESH_SECONDS
                if self._keys is None:
                    raise TokenRefused("The key set can't be read. Try again shortly.") from None

    async def _read(self) -> None:
        if self._source.startswith(("http://", "https://")):
            async with httpx.AsyncClient(timeout=_FETCH_SECONDS) as http:
                response = await http.get(self._source)
                response.raise_for_status()
                text = response.text
        else:
            text = await asyncio.to_thread(Path(self._source).read_text, encoding="utf-8")
        self._keys = KeySet(
            [_public_key(key) for key in json.loads(text)["keys"] if key.get("kty") in ("OKP", "EC")]
        )
        self._read_at = time.monotonic()
        self._remembered.clear()


def _public_key(key: dict[str, Any]) -> OKPKey | ECKey:
    return OKPKey.import_key(key) if key["kty"] == "OKP" else ECKey.import_key(key)
