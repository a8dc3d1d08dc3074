"""The read part of Confluent's schema registry REST API over the bus's own schemas, for readers from outside.

Subjects are named as by TopicRecordNameStrategy: ``<topic>-<record name>``. Nothing here says which organisations there are: the subjects
of a feed are answered for any organisation's id, and listed for none.
"""

import json
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from referral_bus.log import topics
from referral_bus.wire.schemas import RegisteredSchema, registered

CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"

_SUBJECT_NOT_FOUND: Final = 40401
_VERSION_NOT_FOUND: Final = 40402
_SCHEMA_NOT_FOUND: Final = 40403
_INVALID_VERSION: Final = 42202
_ORGANISATION: Final = r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?"
_BUS_WIDE: Final = {
    "inbox": topics.inbox,
    "ledger": topics.ledger,
    "reference": topics.reference,
    "disclosure": topics.disclosure,
    "delivery": topics.delivery,
    "deadletter": topics.deadletter,
}
"""Folders of schemas and the topic each is for. What is sealed is inside other messages, and on no topic by itself."""


class RegistryError(BaseModel):
    """What Confluent's clients expect of an error: the first three digits of ``error_code`` are the HTTP status."""

    error_code: int
    message: str


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": RegistryError, "description": "There is no such schema, subject or version."},
    422: {"model": RegistryError, "description": "That is no version."},
}
_Number = Annotated[str, Path(description="A whole number.")]
_Subject = Annotated[str, Path(description="`<topic>-<record name>`")]


class Registry:
    """The routes, on the schema files as they were at the start."""

    def __init__(self, bus: str) -> None:
        schemas = [(schema, json.dumps(schema.parsed(), separators=(",", ":"))) for schema in registered()]
        self._texts = {schema.id: text for schema, text in schemas}
        self._subjects: dict[str, list[RegisteredSchema]] = {}
        self._feeds: dict[str, list[RegisteredSchema]] = {}
        for schema, _ in schemas:
            folder = schema.file.partition("/")[0]
            if folder in _BUS_WIDE:
                self._subjects.setdefault(f"{_BUS_WIDE[folder](bus)}-{schema.name}", []).append(schema)
            elif folder == "feed":
                self._feeds.setdefault(schema.name, []).append(schema)
        self._feed = re.compile(
            re.escape(topics.feed(bus, "")) + _ORGANISATION + r"-(org\.referralbus\.feed\.\w+)"
        )

    def install(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        router = APIRouter(tags=["schemas"], default_response_class=_RegistryResponse)
        for path, route in (
            ("/schemas/ids/{id}", self.schema),
            ("/schemas/types", self.types),
            ("/subjects", self.subjects),
            ("/subjects/{subject}/versions", self.versions),
            ("/subjects/{subject}/versions/{version}", self.version),
        ):
            router.add_api_route(path, route, methods=["GET"], response_model=None, responses=_ERRORS)
        app.include_router(router)

    async def schema(self, id: _Number) -> JSONResponse:
        """The schema with this id, which stands in a message behind the zero byte."""
        number = _number(id)
        if number not in self._texts:
            return _error(404, _SCHEMA_NOT_FOUND, "There is no schema with this id.")
        return _RegistryResponse({"schema": self._texts[number]})

    async def types(self) -> JSONResponse:
        """The types of schema there are."""
        return _RegistryResponse(["AVRO"])

    async def subjects(
        self, subject_prefix: Annotated[str, Query(alias="subjectPrefix", max_length=256)] = ""
    ) -> JSONResponse:
        """The subjects of the topics that belong to the bus as a whole."""
        return _RegistryResponse(sorted(name for name in self._subjects if name.startswith(subject_prefix)))

    async def versions(self, subject: _Subject) -> JSONResponse:
        """The versions of a subject."""
        found = self._found(subject)
        if not found:
            return _error(404, _SUBJECT_NOT_FOUND, "There is no such subject.")
        return _RegistryResponse([schema.version for schema in found])

    async def version(self, subject: _Subject, version: str) -> JSONResponse:
        """One version of a subject: its number, or ``latest``."""
        found = self._found(subject)
        if not found:
            return _error(404, _SUBJECT_NOT_FOUND, "There is no such subject.")
        number = found[-1].version if version in ("latest", "-1") else _number(version)
        if number < 1:
            return _error(422, _INVALID_VERSION, "A version is a whole number from 1 on, or 'latest'.")
        for schema in found:
            if schema.version == number:
                body = {
                    "subject": subject,
                    "id": schema.id,
                    "version": schema.version,
                    "schema": self._texts[schema.id],
                }
                return _RegistryResponse(body)
        return _error(404, _VERSION_NOT_FOUND, "The subject has no such version.")

    def _found(self, subject: str) -> list[RegisteredSchema]:
        feed = self._feed.fullmatch(subject)
        return self._feeds.get(feed.group(1), []) if feed is not None else self._subjects.get(subject, [])


class _RegistryResponse(JSONResponse):
    media_type = CONTENT_TYPE


def _number(text: str) -> int:
    """The whole number in a path; 0 where there is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else 0


def _error(status: int, code: int, message: str) -> JSONResponse:
    return _RegistryResponse({"error_code": code, "message": message}, status)
