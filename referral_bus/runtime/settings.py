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

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as _UnreadableSetting

from referral_bus.log.access import AccessError, KafkaAccess, Mechanism, SecurityProtocol, secured

PREFIX = "REFBUS_"
Port = Annotated[int, Field(ge=0, le=65535)]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_LONGEST_FILE = 65_536
_LOGIN = ("kafka_user", "kafka_password")
_TLS = ("kafka_ca", "kafka_certificate", "kafka_key")


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
    kafka_protocol: SecurityProtocol = "PLAINTEXT"
    """PLAINTEXT: in the clear, as nobody. SSL: over TLS. SASL_SSL: over TLS, with user and password."""
    kafka_ca: Path | None = None
    """The certificates (PEM) by which the brokers' are trusted; without it, those that the system trusts."""
    kafka_certificate: Path | None = None
    """Our own certificate (PEM), where the brokers ask for one."""
    kafka_key: Path | None = None
    """Its private key (PEM, unencrypted), where that is not in the same file."""
    kafka_mechanism: Mechanism = "SCRAM-SHA-512"
    """How user and password are told, with SASL_SSL."""
    kafka_user: Annotated[str, Field(min_length=1)] | None = None
    kafka_password: SecretStr | None = None
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

    def kafka_access(self) -> KafkaAccess:
        """How Kafka is reached. Raises SettingsError where a file can't be used."""
        password = self.kafka_password
        try:
            return secured(
                self.kafka,
                self.kafka_protocol,
                ca=self.kafka_ca,
                certificate=self.kafka_certificate,
                key=self.kafka_key,
                mechanism=self.kafka_mechanism,
                user=self.kafka_user,
                password=password.get_secret_value() if password is not None else None,
            )
        except AccessError as error:
            raise SettingsError(f"{variable(f'kafka_{error.setting}')} names {error}") from None

    @model_validator(mode="after")
    def _kafka_can_be_reached_so(self) -> Self:
        """Said before anything is started. Who gave a password must not be served in the clear for want of one word."""
        given = [name for name in _LOGIN if getattr(self, name) is not None]
        secure = [name for name in _TLS if getattr(self, name) is not None]
        if self.kafka_protocol == "SASL_SSL":
            for name in _LOGIN:
                if name not in given:
                    raise SettingsError(
                        f"{variable(name)} is missing: {variable('kafka_protocol')} is SASL_SSL, which is with user and password"
                    )
        elif given and (self.kafka_protocol == "SSL" or "kafka_protocol" not in self.model_fields_set):
            raise SettingsError(
                f"{variable(given[0])} is set, and {variable('kafka_protocol')} is {self.kafka_protocol}: set that to SASL_SSL, or leave "
                "the other out"
            )
        elif secure and "kafka_protocol" not in self.model_fields_set:
            raise SettingsError(
                f"{variable(secure[0])} is set, and {variable('kafka_protocol')} is not: set it to SSL or SASL_SSL"
            )
        if self.kafka_key is not None and self.kafka_certificate is None:
            raise SettingsError(
                f"{variable('kafka_key')} is set, and {variable('kafka_certificate')} is not: set both"
            )
        self.kafka_access()
        return self

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


def outside(kafka: str) -> KafkaAccess:
    """How the Kafka at these addresses is reached, as the environment and the file say. Raises SettingsError."""
    return Settings.load(kafka=kafka).kafka_access()


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
