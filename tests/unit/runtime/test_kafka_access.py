"""How Kafka is reached, as the settings say it: what is made of them, and what is said where they don't go together."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path
from typing import Final

import pytest

from referral_bus.log.access import KafkaAccess
from referral_bus.runtime.settings import Settings, SettingsError, outside
from tests.support.certificates import Authority

pytestmark = pytest.mark.usefixtures("environment")

_ROOT: Final = Path(__file__).resolve().parents[3]
PASSWORD: Final = "hunter2-hunter2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def give(environment: pytest.MonkeyPatch, **settings: object) -> None:
    for name, value in settings.items():
        environment.setenv(f"REFBUS_KAFKA_{name.upper()}", str(value))


def refused() -> str:
    with pytest.raises(SettingsError) as refusal:
        Settings.load()
    assert PASSWORD not in str(refusal.value)
    return str(refusal.value)


def test_without_more_it_is_reached_in_the_clear_as_nobody() -> None:
    assert Settings.load(kafka="kafka:9092").kafka_access() == KafkaAccess("kafka:9092")
    assert KafkaAccess.of("kafka:9092") == KafkaAccess("kafka:9092")


def test_over_tls_certificates_are_verified_and_hosts_checked(
    environment: pytest.MonkeyPatch, authority: Authority
) -> None:
    give(environment, protocol="SSL", ca=authority.certificate)
    options = dict(Settings.load().kafka_access().options)
    context = options.pop("ssl_context")
    assert options == {"security_protocol": "SSL"}
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    # Only who was named is trusted.
    assert [one["subject"] for one in context.get_ca_certs()] == [((("commonName", "authority"),),)]


def test_without_an_authority_those_of_the_system_are_trusted(environment: pytest.MonkeyPatch) -> None:
    give(environment, protocol="SSL")
    context = Settings.load().kafka_access().options["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_user_and_password_go_with_it_and_are_shown_nowhere(
    environment: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n", encoding="utf-8")
    give(
        environment,
        protocol="SASL_SSL",
        ca=authority.certificate,
        user="refbus-intake",
        password_file=tmp_path / "password",
    )
    access = outside("kafka-1:9093,kafka-2:9093")
    assert access.bootstrap == "kafka-1:9093,kafka-2:9093" and access.user == "refbus-intake"
    told = {name: value for name, value in access.options.items() if name.startswith("sasl")}
    assert told == {
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "refbus-intake",
        "sasl_plain_password": PASSWORD,
    }
    assert PASSWORD not in f"{access!r} {Settings.load()!r}"


def test_a_certificate_of_our_own_may_hold_its_key_or_name_it(
    environment: pytest.MonkeyPatch, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.sign("client")
    give(environment, protocol="SSL", certificate=certificate, key=key)
    Settings.load()
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    environment.delenv("REFBUS_KAFKA_KEY")
    give(environment, certificate=both)
    Settings.load()
    _, other = authority.sign("other")
    give(environment, certificate=certificate, key=other)
    assert refused().startswith(f"REFBUS_KAFKA_CERTIFICATE names {certificate}, which is not a certificate")


@pytest.mark.parametrize(
    "setting, other", [("ca", {}), ("certificate", {}), ("key", {"certificate": "signed"})]
)
def test_a_file_that_can_not_be_used_is_named_with_the_reason(
    environment: pytest.MonkeyPatch, authority: Authority, tmp_path: Path, setting: str, other: dict[str, str]
) -> None:
    give(environment, protocol="SSL", **{name: authority.sign("signed")[0] for name in other})
    path = tmp_path / "file.pem"
    give(environment, **{setting: path})
    assert (
        refused() == f"REFBUS_KAFKA_{setting.upper()} names {path}, which can't be read "
        "(No such file or directory): check path and permissions"
    )
    if setting != "key":
        path.write_text("no certificate", encoding="utf-8")
        assert refused().startswith(f"REFBUS_KAFKA_{setting.upper()} names {path}, which is not ")


@pytest.mark.parametrize("missing", ["user", "password"])
def test_a_login_is_with_user_and_password(environment: pytest.MonkeyPatch, missing: str) -> None:
    given = {"user": "refbus-intake", "password": PASSWORD}
    del given[missing]
    give(environment, protocol="SASL_SSL", **given)
    assert refused().startswith(f"REFBUS_KAFKA_{missing.upper()} is missing: ")


@pytest.mark.parametrize("protocol", [None, "SSL"])
def test_a_password_is_not_left_lying_where_nobody_is_told_it(
    environment: pytest.MonkeyPatch, protocol: str | None
) -> None:
    give(environment, password=PASSWORD, **({} if protocol is None else {"protocol": protocol}))
    assert refused().startswith("REFBUS_KAFKA_PASSWORD is set, and REFBUS_KAFKA_PROTOCOL is ")


def test_an_authority_without_tls_is_refused(environment: pytest.MonkeyPatch, authority: Authority) -> None:
    give(environment, ca=authority.certificate)
    assert refused().startswith("REFBUS_KAFKA_CA is set, and REFBUS_KAFKA_PROTOCOL is not: ")


def test_who_says_that_it_is_in_the_clear_is_believed(environment: pytest.MonkeyPatch) -> None:
    """The embedded broker is reached so, whatever the environment says of one outside."""
    give(environment, protocol="PLAINTEXT", user="somebody", password=PASSWORD, ca="/nowhere")
    assert not Settings.load().kafka_access().options


def test_a_key_without_its_certificate_is_refused(environment: pytest.MonkeyPatch) -> None:
    give(environment, protocol="SSL", key="/nowhere/key.pem")
    assert refused().startswith("REFBUS_KAFKA_KEY is set, and REFBUS_KAFKA_CERTIFICATE is not")


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "ssl", "TLS"])
def test_no_other_protocol_is_known(environment: pytest.MonkeyPatch, protocol: str) -> None:
    give(environment, protocol=protocol)
    assert refused().startswith(f"REFBUS_KAFKA_PROTOCOL is '{protocol}', which is not valid: ")


def test_no_client_of_kafka_is_made_without_how_it_is_reached() -> None:
    """A constructor that took an address alone would speak in the clear."""
    made = 0
    for path in [*(_ROOT / "referral_bus").rglob("*.py"), *(_ROOT / "services").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = ast.unparse(call.func).rpartition(".")[2]
            if name in ("AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "create_conn"):
                given = {ast.unparse(word.value) for word in call.keywords if word.arg is None}
                assert any("reached" in one or "access.options" in one for one in given), f"{path}: {given}"
                made += 1
            elif name in ("KafkaLog", "cluster", "LedgerStream"):
                assert "settings.kafka" not in [ast.unparse(one) for one in call.args], path
    assert made >= 10
