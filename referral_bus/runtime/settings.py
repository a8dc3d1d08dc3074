"""Settings from the environment and a file, with an error a person can act on.

Where a value comes from, first found wins: the environment (``REFBUS_PORT=8080``), a file named by the environment
(``REFBUS_DATABASE_URL_FILE=/run/secrets/database``), the service's own table in the TOML file named by ``REFBUS_CONFIG``
(``[intake]``), the top level of that file, the default. The top level of the file takes only what all services share, so that
a misspelt name is an error and not a loss.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as _UnreadableSetting

PREFIX = "REFBUS_"
Port = Annotated[int, Field(ge=0, le=65535)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_LONGEST_FILE = 65_536


class SettingsError(Exception):
    """A setting is missing or wrong. The message names each one, where it came from, and what to do; never a secret's value."""


class Settings(BaseSettings):
    """What all services share. A service adds its own fields in a subclass and names itself in ``service``."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    service: ClassVar[str] = ""
    """The service's table in the TOML file, and its name in logs and groups."""

    bus: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")] = "main"
    """The tenant; part of the names of topics, groups and transactional ids."""
    kafka: Annotated[str, Field(pattern=r"^[A-Za-z0-9._\[\]:-]+:\d+(,[A-Za-z0-9._\[\]:-]+:\d+)*$")] = (
        "127.0.0.1:19092"
    )
    """Bootstrap addresses, HOST:PORT, comma-separated."""
    database_url: SecretStr | None = None
    """``postgresql+psycopg://user:password@host/database``; services that need one make it required."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8080
    operations_port: Port = 9090
    """Where ``/metrics``, ``/livez`` and ``/readyz`` are served."""
    log_level: LogLevel = "INFO"
    data_dir: Path = Path(".refbus")
    """Where snapshots and the embedded broker and database keep their files."""
    traces: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Where traces go: an OTLP collector over HTTP, such as ``http://collector:4318/v1/traces``. Without it there are none."""
    traces_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Which share of the referrals is traced; give all services the same."""
    write_schemas_up_to: Annotated[int, Field(ge=1)] | None = None
    """While an older version reads beside: the highest schema id that one knows (its schemas/avro/ids.json). Nothing newer is written."""
    certificates: dict[str, Path] = {}
    """Certificates (PEM) whose end is told by the metrics, by name: of the proxy before the service, of Kafka, of the database."""
    stop_seconds: Annotated[float, Field(gt=0, le=300)] = 20.0
    """How long a graceful stop may take before the process exits anyway."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, EnvSettingsSource(settings_cls), _NamedFiles(settings_cls), _Toml(settings_cls)

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the settings; ``given`` wins over every source. Raises :class:`SettingsError`."""
        try:
            return cls(**given)
        except ValidationError as error:
            raise SettingsError(_explain(cls, error)) from None
        except _UnreadableSetting as error:
            field = next((name for name in cls.model_fields if f'"{name}"' in str(error)), "a setting")
            raise SettingsError(f"{variable(field)} can't be read: give lists and tables as JSON") from None

    @classmethod
    def load_or_exit(cls, **given: Any) -> Self:
        """Read the settings, or say what is wrong with them on standard error and exit with code 2."""
        try:
            return cls.load(**given)
        except SettingsError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None


def variable(field: str) -> str:
    """The environment variable of a field."""
    return f"{PREFIX}{field.upper()}"


class _NamedFiles(PydanticBaseSettingsSource):
    """``REFBUS_<FIELD>_FILE``: the value is the content of that file, without the newline at its end."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = f"{variable(field_name)}_FILE"
        path = os.environ.get(name)
        if path is None:
            return None, field_name, False
        if variable(field_name) in os.environ:
            raise SettingsError(f"{variable(field_name)} and {name} are both set: keep one of them")
        return _content(name, Path(path)).rstrip("\r\n"), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


class _Toml(PydanticBaseSettingsSource):
    """The file named by ``REFBUS_CONFIG``."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        path = os.environ.get(f"{PREFIX}CONFIG")
        if not path:
            return {}
        try:
            document = tomllib.loads(_content(f"{PREFIX}CONFIG", Path(path)))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{PREFIX}CONFIG names {path}, which is not valid TOML: {error}") from None
        service = getattr(self.settings_cls, "service", "")
        shared = {name: value for name, value in document.items() if not isinstance(value, dict)}
        own = document.get(service, {})
        _known(shared, Settings.model_fields, path, "at the top level, which takes what all services share")
        _known(own, self.settings_cls.model_fields, path, f"in [{service}]")
        return {**shared, **own}


def _known(values: dict[str, Any], fields: dict[str, FieldInfo], path: str, where: str) -> None:
    for name in values:
        if name not in fields:
            raise SettingsError(
                f"{path}: there is no setting {name!r} {where}; it takes: {', '.join(sorted(fields))}"
            )


def _content(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE + 1)
        if len(content) > _LONGEST_FILE:
            raise SettingsError(
                f"{name} names {path}, which is larger than {_LONGEST_FILE} bytes: name another file"
            )
        return content.decode()
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise SettingsError(
            f"{name} names {path}, which can't be read ({reason}): check path and permissions"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{name} names {path}, which is not UTF-8 text: name another file") from None


def _explain(cls: type[Settings], error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        field = str(fault["loc"][0]) if fault["loc"] else ""
        name = variable(field) if field else "the settings together"
        if fault["type"] == "missing":
            lines.append(f"{name} is missing: set it, or {field!r} in the file named by {PREFIX}CONFIG")
        elif not field or _is_secret(cls.model_fields.get(field)):
            lines.append(f"{name} is not valid: {fault['msg']}")
        else:
            lines.append(f"{name} is {str(fault['input'])[:100]!r}, which is not valid: {fault['msg']}")
    return "\n".join(lines)


def _is_secret(field: FieldInfo | None) -> bool:
    return field is None or SecretStr in (field.annotation, *get_args(field.annotation))
