"""Put an import on the bus: organisations and taxonomies as operations, each service as the one that offers it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import httpx

from referral_bus.client.retry import AGAIN, pause, retry_after
from referral_bus.contracts.published import KIND_OF
from referral_bus.contracts.reference import Organisation
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabularies import Taxonomy
from referral_bus.contracts.vocabulary import Role

OPERATIONS: Final = "operations"
"""The organisation that publishes reference data, as the token says."""

Tokens = Callable[[str, list[Role]], str]
"""A bearer token for an organisation and its roles."""

Answers = list[tuple[str, httpx.Response]]
"""What intake answered, by what it was about."""

_KNOWN: Final = 409
"""Intake's answer to reference data it has in this version or a later one."""

_TOGETHER: Final = 16
_PATIENCE_SECONDS: Final = 60.0
"""How long one thing is tried again while intake is away, or does not know a new organisation yet."""


class PublishError(Exception):
    """Intake can't be reached. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What intake did not take: the organisation's, taxonomy's or service's id, and its reason."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it. ``unchanged`` and ``known_taxonomies``: what the bus had already, in this version or a later one.
    ``tokens``: the inbox token of each service by its id, to wait for in the views."""

    organisations: int
    unchanged: int
    tokens: dict[str, str]
    refused: list[Refusal]
    taxonomies: int = 0
    known_taxonomies: int = 0


async def publish(
    http: httpx.AsyncClient,
    intake_url: str,
    organisations: Iterable[Organisation],
    services: Iterable[ServiceDefinition],
    tokens: Tokens,
    taxonomies: Iterable[Taxonomy] = (),
) -> Published:
    """Publish organisations and taxonomies, then services. Raises PublishError where intake can't be reached for a minute.

    A refusal by intake stops nothing else; it is in the result. Publishing the same again is harmless.
    """
    door = _Door(http, intake_url.rstrip("/"))
    operations = tokens(OPERATIONS, ["operations"])
    adopted = await door.all(_reference(one, operations) for one in organisations)
    coded = await door.all(_reference(one, operations) for one in taxonomies)
    offered = list(services)
    bearers = {id_: tokens(id_, ["provider"]) for id_ in {service.organisation for service in offered}}
    taken = await door.all(_service(one, bearers[one.organisation]) for one in offered)
    refused = [
        (id_, answer)
        for id_, answer in (*adopted, *coded)
        if not answer.is_success and answer.status_code != _KNOWN
    ]
    refused += [(id_, answer) for id_, answer in taken if not answer.is_success]
    return Published(
        organisations=_new(adopted),
        unchanged=_known(adopted),
        taxonomies=_new(coded),
        known_taxonomies=_known(coded),
        tokens={id_: str(_body(answer).get("token", "")) for id_, answer in taken if answer.is_success},
        refused=[Refusal(id_, _reason(answer)) for id_, answer in refused],
    )


@dataclass(frozen=True, slots=True)
class _Put:
    id: str
    method: str
    path: str
    bearer: str
    body: dict[str, Any]


def _reference(one: Organisation | Taxonomy, bearer: str) -> _Put:
    kind = KIND_OF[type(one)]
    body = {"kind": kind, "content": one.model_dump(mode="json")}
    return _Put(getattr(one, kind), "POST", "/v1/reference", bearer, body)


def _service(one: ServiceDefinition, bearer: str) -> _Put:
    return _Put(one.service, "PUT", f"/v1/services/{one.service}", bearer, one.model_dump(mode="json"))


def _new(answers: Answers) -> int:
    return sum(answer.is_success for _, answer in answers)


def _known(answers: Answers) -> int:
    return sum(answer.status_code == _KNOWN for _, answer in answers)


class _Door:
    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._together = asyncio.Semaphore(_TOGETHER)

    async def all(self, puts: Iterable[_Put]) -> Answers:
        """The answers by id, in the order of what was put. The first error ends those still under way."""
        try:
            async with asyncio.TaskGroup() as group:
                under_way = [(put.id, group.create_task(self._patiently(put))) for put in puts]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [(id_, task.result()) for id_, task in under_way]

    async def _patiently(self, put: _Put) -> httpx.Response:
        """Intake's answer, asked for again under the same id while it says "not now" or says nothing."""
        headers = {"Authorization": f"Bearer {put.bearer}", "Idempotency-Key": f"import-{uuid.uuid4()}"}
        loop = asyncio.get_running_loop()
        async with self._together:
            until = loop.time() + _PATIENCE_SECONDS
            for tries in count(1):
                answer = await self._once(put, headers)
                if isinstance(answer, httpx.Response) and not _not_yet(answer):
                    return answer
                asked = (
                    retry_after(answer.headers.get("Retry-After"))
                    if isinstance(answer, httpx.Response)
                    else None
                )
                wait = pause(tries, asked)
                if loop.time() + wait > until:
                    break
                await asyncio.sleep(wait)
        if isinstance(answer, httpx.Response):
            return answer
        raise PublishError(
            f"intake at {self._url} can't be reached ({answer}); check its address and that the bus is up"
        )

    async def _once(self, put: _Put, headers: dict[str, str]) -> httpx.Response | str:
        """Intake's answer, or the kind of error that was met instead."""
        try:
            return await self._http.request(put.method, self._url + put.path, json=put.body, headers=headers)
        except httpx.TransportError as error:
            return type(error).__name__


def _not_yet(answer: httpx.Response) -> bool:
    """Worth another try: not every process of intake may know of an organisation published a moment ago."""
    unknown = answer.status_code == 403 and _body(answer).get("code") == "unknown_organisation"
    return unknown or answer.status_code in AGAIN


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _reason(answer: httpx.Response) -> str:
    body = _body(answer)
    where = f" ({body['field']})" if body.get("field") else ""
    return f"{answer.status_code} {body.get('code', 'refused')}: {body.get('detail', '')}{where}"[:500]
