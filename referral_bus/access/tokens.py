"""Bearer tokens: JWTs (RFC 7519) signed with Ed25519 or ES256, for one bus, with the organisation as a claim and a short life.

A production bus takes the address of its identity provider's JWKS (RFC 7517); ``refbus token`` signs with the local bus's own key.
Claims: ``iss`` (not checked: the key set says who may sign), ``aud`` = ``refbus:<bus>``, ``exp`` (required), ``nbf``, ``org``, ``roles``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_args
from urllib.parse import urlsplit

import httpx
from cryptography.x509 import load_der_x509_certificate
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, KeySet, OKPKey
from pydantic import AfterValidator, TypeAdapter, ValidationError

from referral_bus.access.caller import Caller
from referral_bus.access.loopback import is_loopback
from referral_bus.contracts.ids import OrganisationId
from referral_bus.contracts.vocabulary import Role

logger = logging.getLogger(__name__)

ALGORITHMS: Final = ["Ed25519", "ES256", "EdDSA"]
"""EdDSA is the old name of Ed25519 (RFC 9864), which most issuers still write; a key on another curve is never loaded."""
LONGEST_LIFE_SECONDS: Final = 24 * 3600
LEEWAY_SECONDS: Final = 30
"""How far apart the clocks of issuer and verifier may be."""

_LONGEST_TOKEN: Final = 8_192
_REFRESH_SECONDS: Final = 600.0
_EARLIEST_REFRESH_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 60.0
_FETCH_SECONDS: Final = 5.0
_LARGEST_KEY_SET: Final = 262_144
"""Bytes. That of a large provider, with a chain of certificates for each key, has a tenth of it."""
_MOST_REMEMBERED: Final = 4_096
TOLD_IN_A_ROW: Final = 10
"""So many tokens refused one after the other are told of: fewer are a stranger's, or of a program whose token is over."""
ROW_SECONDS: Final = 3_600.0
"""A row to which nothing was added for so long is forgotten: where few ask, strays of weeks would make one."""
_ORGANISATION: TypeAdapter[str] = TypeAdapter(OrganisationId)
_ROLES: Final = frozenset(get_args(Role))
_CURVES: Final = {("OKP", "Ed25519"), ("EC", "P-256")}
_END_OF_TIME: Final = 253_402_300_799
"""Epoch seconds at the end of year 9999."""
_UNREADABLE: Final = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
    httpx.HTTPError,
    JoseError,
)
"""What reading a key set raises: it can't be had, or it is no JWKS."""


class TokenRefused(Exception):
    """A token is not taken. The message says why, for whoever sent it; it holds nothing of the token."""


class KeySetUnavailable(Exception):
    """The key set could not be read at the start."""


class KeySetTooLarge(ValueError):
    """An address answered with more than any key set has."""


class _Row(NamedTuple):
    """Tokens that were refused one after the other."""

    refused: int
    first: float
    last: float


def _trusted(source: str) -> str:
    """Who can change the key set on its way can speak for everybody: from another machine it comes by https."""
    if "://" not in source or source.startswith("https://"):
        return source
    if source.startswith("http://") and is_loopback(urlsplit(source).hostname or ""):
        return source
    raise ValueError(
        "a key set from another machine is taken by https:// alone: whoever sits in between could put in keys of their own. Give an "
        "https:// address, or the path of a file"
    )


KeySetSource = Annotated[str, AfterValidator(_trusted)]
"""The setting that says where the JWKS is: a path, an https:// address, or an http:// address on this machine."""


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
    return jwt.encode({"alg": "Ed25519", "kid": key.kid}, claims, key, algorithms=["Ed25519"])


class TokenVerifier:
    """Verifies tokens against a key set. ``source`` is the path or the http(s) address of a JWKS; it is read again now and then, and
    when a token names a key that is not in it."""

    def __init__(
        self,
        source: str,
        bus: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._audience = f"refbus:{bus}"
        self._wall = wall
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._expires_at: float | None = None
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()
        self._remembered: dict[str, tuple[float, Caller]] = {}
        self._row: _Row | None = None

    @property
    def expires_at(self) -> float | None:
        """When the last of the keys ends to be valid (epoch seconds): by its ``exp`` or its certificate (``x5c``). None where some key
        has no end."""
        return self._expires_at

    @property
    def read_at(self) -> float:
        """When the key set was last read (epoch seconds)."""
        return self._wall() - (self._monotonic() - self._read_at)

    @property
    def refused_for(self) -> float:
        """For how long tokens have been refused and none taken: the seconds from the first to the last of ten or more. 0 where there are
        fewer, where one was taken since, and an hour after the last."""
        row = self._row
        if row is None or row.refused < TOLD_IN_A_ROW or self._monotonic() - row.last >= ROW_SECONDS:
            return 0.0
        return row.last - row.first

    async def keep(self) -> None:
        """Read the key set again when it is old, though nobody comes: that it can't be read has to be known before a token names a new
        key."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self._refresh(_REFRESH_SECONDS)

    async def start(self) -> None:
        """Read the key set. Raises KeySetUnavailable."""
        try:
            await self._read()
        except _UNREADABLE as error:
            raise KeySetUnavailable(
                f"the key set {self._source} (REFBUS_JWKS) can't be read: {type(error).__name__}; check path or address"
            ) from None

    async def verify(self, token: str) -> Caller:
        """The caller a token names. Raises TokenRefused."""
        try:
            caller = await self._verified(token)
        except TokenRefused as error:
            self._refused(error)
            raise
        self._row = None
        return caller

    def _refused(self, error: TokenRefused) -> None:
        now, row = self._monotonic(), self._row
        if row is None or now - row.last >= ROW_SECONDS:
            row = _Row(0, now, now)
        self._row = row = _Row(row.refused + 1, row.first, now)
        if row.refused == TOLD_IN_A_ROW:
            logger.warning(
                "%d tokens were refused one after the other, and none was taken: %s", row.refused, error
            )

    async def _verified(self, token: str) -> Caller:
        known = self._remembered.get(token)
        if known is not None:
            if known[0] > self._wall() and self._monotonic() - self._read_at < _REFRESH_SECONDS:
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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)
                return dict(jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims)
        except (JoseError, ValueError, TypeError, KeyError):
            raise TokenRefused("The token is not signed by a key of this bus. Ask for a new one.") from None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        now = self._wall()
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenRefused("The token is for another bus. Ask for one of this bus.")
        expires, begins = _moment(claims.get("exp")), _moment(claims.get("nbf", 0))
        if expires is None or begins is None:
            raise TokenRefused("The token does not say from when to when it is valid (claims 'exp', 'nbf').")
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
            or not all(isinstance(role, str) and role in _ROLES for role in roles)
        ):
            raise TokenRefused("The token carries no roles of the bus (claim 'roles').")
        return Caller(organisation, frozenset(roles))

    async def _refresh(self, age: float) -> None:
        if not self._due(age):
            return
        async with self._reading:
            if not self._due(age):
                return
            try:
                await self._read()
            except _UNREADABLE as error:
                logger.warning(
                    "the key set (REFBUS_JWKS) can't be read, the former one stays: %s", type(error).__name__
                )

    def _due(self, age: float) -> bool:
        """Whether the key set is older than ``age`` seconds. One that can't be read is not asked for by every token that comes."""
        now = self._monotonic()
        return now - self._read_at >= age and now - self._tried_at >= _EARLIEST_REFRESH_SECONDS

    async def _read(self) -> None:
        self._tried_at = self._monotonic()
        if self._source.startswith(("http://", "https://")):
            text = await _fetched(self._source)
        else:
            text = await asyncio.to_thread(Path(self._source).read_bytes)
        usable = [key for key in json.loads(text)["keys"] if (key.get("kty"), key.get("crv")) in _CURVES]
        self._keys = KeySet([_public_key(key) for key in usable])
        ends = [_end(key) for key in usable]
        known = [end for end in ends if end is not None]
        self._expires_at = max(known) if known and len(known) == len(ends) else None
        self._read_at = self._monotonic()
        self._remembered.clear()


async def _fetched(address: str) -> bytes:
    """What is at an address. The limits are of the whole: an answer that drips or does not end would keep every token waiting."""
    content = b""
    # As it is: a small answer could unfold to any size.
    plain = {"Accept-Encoding": "identity"}
    async with (
        asyncio.timeout(_FETCH_SECONDS),
        httpx.AsyncClient(timeout=_FETCH_SECONDS) as http,
        http.stream("GET", address, headers=plain) as response,
    ):
        response.raise_for_status()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > _LARGEST_KEY_SET:
                raise KeySetTooLarge
    return content


def _moment(value: Any) -> float | None:
    """Epoch seconds as claims give them; None for what is none, such as NaN, which is neither before nor after anything."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _END_OF_TIME:
        return float(value)
    return None


def _end(key: dict[str, Any]) -> float | None:
    """When a JWK ends to be valid, where it says so in a way that can be read."""
    ends = [_moment(key.get("exp"))]
    with contextlib.suppress(ValueError, TypeError, LookupError):
        certificate = load_der_x509_certificate(base64.b64decode(key["x5c"][0]))
        ends.append(certificate.not_valid_after_utc.timestamp())
    return min((end for end in ends if end is not None), default=None)


def _public_key(key: dict[str, Any]) -> OKPKey | ECKey:
    return OKPKey.import_key(key) if key["kty"] == "OKP" else ECKey.import_key(key)
