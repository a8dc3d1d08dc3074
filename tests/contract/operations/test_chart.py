"""The chart, as Helm renders it: what Kubernetes takes, what the code knows, and nobody given more than he needs.

What only a cluster can show is not held here: docs/how-to/run-on-kubernetes.md names it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from starlette.routing import Route

from referral_bus.cli.backup import BackupSettings
from referral_bus.cli.home import OperationsSettings
from referral_bus.cli.telling import FOUND
from referral_bus.runtime.health import Health
from referral_bus.runtime.settings import Settings, variable
from referral_bus.web.operations import operations_app
from services.intake.settings import IntakeSettings
from services.matching.settings import MatchingSettings
from services.notifier.settings import NotifierSettings
from services.projections.settings import ProjectionsSettings, ViewsSettings
from tests.support.certificates import Authority
from tests.support.chart import (
    ADAPTER,
    CHART,
    HTTP,
    SERVICES,
    VALUES,
    Container,
    Object,
    containers,
    helm,
    of_kind,
    rendered,
    schema_of_values,
    service,
    template,
    values,
)
from tests.support.operations import (
    PROMETHEUS,
    ROOT,
    alerts,
    parsed,
    program,
    samples,
    settings_of,
    unknown_in,
)

OLDEST, NEWEST = "1.31", kubernetes_validate.latest_version()
OF_THE_OPERATOR = {"PodMonitor", "PrometheusRule"}
CLASSES: dict[str, type[Settings]] = {
    "intake": IntakeSettings,
    "matching": MatchingSettings,
    "notifier": NotifierSettings,
    "projections": ProjectionsSettings,
}
SET_BY_THE_CHART = set(Settings.model_fields) | {
    "master_key",
    "facts_key",
    "intake_key",
    "operations_public_key",
    "jwks",
    "replication",
}
SECRETS = {"database_url", "master_key", "facts_key", "intake_key", "operations_public_key"}

both = pytest.mark.parametrize("name", VALUES)
each = pytest.mark.parametrize("of", SERVICES)


@both
def test_helm_finds_nothing_wrong(name: str) -> None:
    done = helm("lint", "--strict", CHART, "-f", VALUES[name])
    assert done.returncode == 0, done.stdout + done.stderr


@both
@pytest.mark.parametrize("version", (OLDEST, NEWEST))
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    objects = rendered(name, "--kube-version", version)
    for one in objects:
        if one["kind"] not in OF_THE_OPERATOR:
            kubernetes_validate.validate(one, version, strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in objects]
    assert len(names) == len(set(names))


def test_a_field_that_is_none_is_found() -> None:
    wrong = {**of_kind(rendered("default"), "Service")[0], "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_the_oldest_version_that_is_held_is_the_oldest_that_is_allowed() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    assert "requires kubeVersion" in template(VALUES["default"], "--kube-version", "1.30").stderr


def test_the_prometheus_operator_knows_every_field() -> None:
    folder = Path(program("helm", "put the folder on PATH that .ci/chart-tools prints")).parent / "crds"
    if not folder.is_dir():
        reason = (
            "this helm has no crds/ beside it: put the folder before it on PATH that .ci/chart-tools prints"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    definitions = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.iterdir())]
    schemas = {
        (one["spec"]["names"]["kind"], f"{one['spec']['group']}/{version['name']}"): version["schema"]
        for one in definitions
        for version in one["spec"]["versions"]
    }
    found = of_kind(rendered("full"), *OF_THE_OPERATOR)
    assert {one["kind"] for one in found} == OF_THE_OPERATOR
    for one in found:
        schema = _closed(schemas[one["kind"], one["apiVersion"]]["openAPIV3Schema"])
        jsonschema.validate(one["spec"], schema["properties"]["spec"])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**one["spec"], "sepc": {}}, schema["properties"]["spec"])


def _closed(schema: Any) -> Any:
    """The schema, with what the API server would silently drop made an error."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("pattern"), str):
        closed["pattern"] = closed["pattern"].replace("^(?i)", "(?i)^")  # as Go has it, and as Python has
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


@both
def test_no_container_is_root_writes_to_its_image_or_may_take_without_end(name: str) -> None:
    found = list(containers(rendered(name)))
    assert {one.name for one in found} == {*SERVICES, "topics"} | (
        {"check-views", "letters", "backup"} if name == "full" else set()
    )
    for one in found:
        assert one.pod["securityContext"]["runAsNonRoot"] is True
        assert one.pod["securityContext"]["runAsUser"] == values(name)["pod"]["user"] > 0
        assert one.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one.pod["automountServiceAccountToken"] is False
        # Kubernetes would put the addresses of Services into the environment, under names that are settings.
        assert one.pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & one.pod.keys()
        assert not [volume for volume in one.pod.get("volumes", []) if "hostPath" in volume]
        for resources in (one.container["resources"]["requests"], one.container["resources"]["limits"]):
            assert set(resources) == {"cpu", "memory"}


@both
def test_only_what_is_written_to_can_be_written_to(name: str) -> None:
    writable = {one.name: one.writable for one in containers(rendered(name)) if one.writable}
    kept = service(rendered(name), "matching")
    assert writable.pop("matching") == [kept.environment["REFBUS_DATA_DIR"]]
    assert writable == ({"backup": ["/backups"]} if name == "full" else {})
    claims = kept.owner["spec"].get("volumeClaimTemplates", [])
    volumes = [volume for volume in kept.pod["volumes"] if volume["name"] == "snapshots"]
    size = values(name)["matching"]["snapshots"]["size"]
    if name == "full":
        assert [claim["spec"]["resources"]["requests"]["storage"] for claim in claims] == [
            size
        ] and not volumes
    else:
        assert volumes == [{"name": "snapshots", "emptyDir": {"sizeLimit": size}}] and not claims


def test_disks_of_snapshots_outlive_a_stop_of_all_pods_and_go_with_the_release() -> None:
    kept = service(rendered("full"), "matching").owner["spec"]
    assert kept["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}


@both
@each
def test_a_service_is_asked_whether_it_lives_and_is_ready_where_the_code_answers(name: str, of: str) -> None:
    one = service(rendered(name), of)
    routes = {route.path for route in operations_app(Health(), of).routes if isinstance(route, Route)}
    asked = {}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked[probe] = one.container[probe]["httpGet"]["path"]
        assert one.container[probe]["httpGet"]["port"] == "operations"
    assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    assert {*asked.values(), "/metrics"} == routes


@both
@each
def test_the_settings_are_those_the_code_knows_and_it_starts_with_them(
    name: str, of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = service(rendered(name), of)
    settings = _loaded(CLASSES[of], one, tmp_path, monkeypatch)
    given = values(name)
    assert settings.bus == given["bus"] and settings.kafka == given["kafka"]["bootstrap"]
    user = given["kafka"]["users"].get(of, {}).get("name")
    assert (settings.kafka_protocol, settings.kafka_mechanism, settings.kafka_user) == (
        given["kafka"]["protocol"],
        given["kafka"]["mechanism"],
        user,
    )
    assert settings.write_schemas_up_to == given["write_schemas_up_to"]
    assert (settings.traces or "") == given["traces"]["url"]
    assert settings.traces_share == given["traces"]["share"]
    assert settings.log_level == given["log_level"] and settings.stop_seconds == given["stop_seconds"]
    ports = {port["name"]: port["containerPort"] for port in one.container["ports"]}
    served = {"http": settings.port} if of in HTTP else {}
    assert ports == {"operations": settings.operations_port, **served}
    assert settings.host == "0.0.0.0"  # noqa: S104 - a pod is asked from outside of it
    assert {key: getattr(settings, key) for key in given[of]["settings"]} == given[of]["settings"]
    assert {key: str(path) for key, path in settings.certificates.items()} == {
        key: f"/run/refbus/certificates/{key}.pem" for key in given["certificates"]
    }
    if of == "intake":
        assert getattr(settings, "replication") == given["topics"]["replication"]  # noqa: B009 - intake's own
    assert one.container["command"] == ["python", "-m", f"services.{of}"]
    assert (ROOT / "services" / of / "__main__.py").is_file()


def _loaded(kind: type[Settings], one: Container, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as the process in this container would load them, from nothing but what the container is given."""
    known = {variable(field) for field in kind.model_fields}
    for name in [name for name in os.environ if name.startswith("REFBUS_")]:
        monkeypatch.delenv(name)
    for name, value in one.environment.items():
        assert name.removesuffix("_FILE") in known
        if name.endswith("_FILE"):
            assert value in one.files
            file = folder / Path(value).name
            file.write_text(f"the content of {value}\n")
            value = str(file)
        elif name == "REFBUS_KAFKA_CA":
            assert value in one.files
            value = str(Authority(folder).certificate)
        monkeypatch.setenv(name, value)
    settings = kind.load()
    for field in SECRETS & kind.model_fields.keys():
        secret = getattr(settings, field)
        told = secret.get_secret_value() if hasattr(secret, "get_secret_value") else secret
        assert told in (None, f"the content of /run/refbus/secrets/{field}")
    return settings


@both
@each
def test_a_service_is_given_the_keys_that_are_its_own_and_no_other(name: str, of: str) -> None:
    one, given = service(rendered(name), of), values(name)
    its_own = _keys_of(of)
    named = {key.removesuffix("_FILE").removeprefix("REFBUS_").lower() for key in one.environment}
    assert named & (SECRETS | {"jwks"}) == its_own
    expected = {"database_url": given[of]["database_url"]}
    expected |= {key: given["secrets"][key] for key in its_own - {"database_url", "jwks"}}
    if "jwks" in its_own and not given["jwks"]["url"]:
        expected["jwks"] = given["secrets"]["jwks"]
        assert one.environment["REFBUS_JWKS"] == "/run/refbus/secrets/jwks"
    files = {f"/run/refbus/secrets/{key}": ref for key, ref in expected.items()}
    files |= {f"/run/refbus/certificates/{key}.pem": ref for key, ref in given["certificates"].items()}
    files |= _for_kafka(given, of)
    assert one.files == {path: (ref["secret"], ref["key"]) for path, ref in files.items()}
    # Whatever the pod could mount is mounted, and counted above.
    assert {volume["name"] for volume in one.pod["volumes"]} <= {
        mount["name"] for mount in one.container["volumeMounts"]
    }


def _for_kafka(given: dict[str, Any], part: str) -> dict[str, dict[str, str]]:
    kafka = given["kafka"]
    if kafka["protocol"] == "PLAINTEXT":
        return {}
    password = kafka["users"][part]["password"]
    return {"/run/refbus/kafka/ca.pem": kafka["ca"], "/run/refbus/kafka/password": password}


def test_the_jobs_go_to_kafka_as_users_of_their_own_and_topics_are_given_nothing_else() -> None:
    given = values("full")
    for one in containers(rendered("full")):
        if one.name in SERVICES:
            continue
        files = {path: (ref["secret"], ref["key"]) for path, ref in _for_kafka(given, one.name).items()}
        assert files.items() <= one.files.items()
        assert one.environment["REFBUS_KAFKA_USER"] == given["kafka"]["users"][one.name]["name"]
        if one.name == "topics":
            assert one.files == files


def test_tls_alone_brings_the_authority_and_no_password() -> None:
    ca = "kafka.protocol=SSL,kafka.ca.secret=kafka-tls,kafka.ca.key=ca.crt"
    for one in containers(rendered("default", "--set", ca)):
        assert one.environment["REFBUS_KAFKA_PROTOCOL"] == "SSL"
        assert one.files[one.environment["REFBUS_KAFKA_CA"]] == ("kafka-tls", "ca.crt")
        assert not {"REFBUS_KAFKA_USER", "REFBUS_KAFKA_PASSWORD_FILE"} & one.environment.keys()
    for one in containers(rendered("default", "--set", "kafka.protocol=SSL")):
        assert not [path for path in one.files if path.startswith("/run/refbus/kafka")]


def test_a_part_without_a_user_is_named() -> None:
    done = template(VALUES["default"], "--set", "kafka.protocol=SASL_SSL")
    assert done.returncode != 0 and "kafka.users has nobody for " in done.stderr


def _keys_of(of: str) -> set[str]:
    """What the table of README.md gives this service."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| \| intake \|.*?(?=\n\n)", readme, re.MULTILINE | re.DOTALL)
    assert table is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group().splitlines()]
    column = rows[0].index(of)
    named = {
        name.removeprefix("REFBUS_").lower()
        for row in rows
        if row[column] == "yes"
        for name in re.findall(r"`(REFBUS_[A-Z_]+)`", row[0])
    }
    assert {"kafka", "database_url"} <= named
    return named - {"kafka"}


@pytest.mark.parametrize("of", SERVICES)
def test_the_settings_the_values_take_are_those_of_the_code(of: str) -> None:
    taken = schema_of_values()["properties"][of]["properties"]["settings"]
    assert set(taken["properties"]) == set(CLASSES[of].model_fields) - SET_BY_THE_CHART
    assert taken["additionalProperties"] is False
    assert set(values("full")[of]["settings"]) == set(taken["properties"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("notifier.settings.webhook_timeout=5", "webhook_timeout"),
        ("matching.settings.facts_key=c2VjcmV0", "facts_key"),
        ("secrets.master_key.value=c2VjcmV0", "value"),
        ("kafka.peers=null", "peers"),
        ("kafka.protocol=SASL_PLAINTEXT", "protocol"),
        ("kafka.users.intake.password=hunter2", "password"),
        ("postgresql.peers[0]=null", "peers"),
        ("networkPolicy.http.from[0].ipblock.cidr=0.0.0.0/0", "ipblock"),
        ("jwks.url=https://identity.example/keys", "peers"),
        ("traces.url=https://collector.example/v1/traces", "peers"),
        ("checkViews.volume.emptyDir.medium=Memory", "volume"),
        ("backup.enabled=true", "volume"),
        ("backup.database_url.value=postgresql://secret", "value"),
        ("bus=Main", "bus"),
        ("pod.user=0", "user"),
        ("matching.resources.limits=null", "limits"),
    ],
)
def test_values_that_are_wrong_are_refused(given: str, said: str) -> None:
    done = template(VALUES["default"], "--set", given)
    assert done.returncode != 0 and said in done.stderr and "schema" in done.stderr


@pytest.mark.parametrize("of", ("matching", "notifier", "projections"))
@pytest.mark.parametrize(
    "more",
    (
        "{}.replicas=13",
        "autoscaling.enabled=true,{}.autoscaling.maxReplicas=13",
        "topics.partitions=1",
    ),
)
def test_more_processes_than_partitions_are_refused(of: str, more: str) -> None:
    done = template(VALUES["default"], "--set", more.format(of))
    assert done.returncode != 0 and "nothing to do" in done.stderr


def test_services_scale_by_lag_up_to_the_partitions_and_intake_by_its_processor() -> None:
    objects, given = rendered("full"), values("full")
    found = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "HorizontalPodAutoscaler")}
    for of in SERVICES:
        spec, scaled = found.pop(f"bus-refbus-{of}"), service(objects, of).owner
        target = {"apiVersion": "apps/v1", "kind": scaled["kind"], "name": scaled["metadata"]["name"]}
        assert spec["scaleTargetRef"] == target and "replicas" not in scaled["spec"]
        (metric,) = spec["metrics"]
        if of == "intake":
            assert metric["resource"]["name"] == "cpu"
            continue
        assert spec["maxReplicas"] <= given["topics"]["partitions"]
        assert metric["pods"]["metric"]["name"] in samples()
        assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": "250"}
    assert not found
    assert not of_kind(rendered("default"), "HorizontalPodAutoscaler")


def test_the_adapter_gives_the_metric_the_autoscalers_ask_for() -> None:
    (rule,) = yaml.safe_load(ADAPTER.read_text(encoding="utf-8"))["rules"]["custom"]
    (asked,) = {
        metric["pods"]["metric"]["name"]
        for one in of_kind(rendered("full"), "HorizontalPodAutoscaler")
        for metric in one["spec"]["metrics"]
        if metric["type"] == "Pods"
    }
    assert rule["name"]["as"] == asked and unknown_in(rule["seriesQuery"]) == set()
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}


@both
@each
def test_a_service_is_disturbed_one_pod_at_a_time_and_spread(name: str, of: str) -> None:
    objects = rendered(name)
    one = service(objects, of)
    labels = one.owner["spec"]["template"]["metadata"]["labels"]
    (budget,) = [
        b for b in of_kind(objects, "PodDisruptionBudget") if _selects(b["spec"]["selector"], labels)
    ]
    assert budget["spec"]["maxUnavailable"] == 1
    assert one.owner["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for other in set(SERVICES) - {of}:
        pods = service(objects, other).owner["spec"]["template"]["metadata"]["labels"]
        assert not _selects(budget["spec"]["selector"], pods)
        assert not _selects(one.owner["spec"]["selector"], pods)
    keys = {spread["topologyKey"] for spread in one.pod["topologySpreadConstraints"]}
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert all(_selects(spread["labelSelector"], labels) for spread in one.pod["topologySpreadConstraints"])


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    return bool(selector["matchLabels"].items() <= labels.items())


@both
@each
def test_a_pod_is_given_the_time_its_stop_takes(name: str, of: str) -> None:
    one, given = service(rendered(name), of), values(name)
    waits = given["drain_seconds"] if of in HTTP else 0
    lifecycle = {"lifecycle": {"preStop": {"sleep": {"seconds": waits}}}} if waits else {}
    assert {key: one.container[key] for key in one.container.keys() & {"lifecycle"}} == lifecycle
    assert one.pod["terminationGracePeriodSeconds"] > waits + given["stop_seconds"]


@both
def test_every_pod_is_denied_everything_first(name: str) -> None:
    objects = rendered(name)
    (deny,) = [
        one
        for one in of_kind(objects, "NetworkPolicy")
        if "app.kubernetes.io/component" not in one["spec"]["podSelector"]["matchLabels"]
    ]
    assert deny["spec"] == {
        "podSelector": deny["spec"]["podSelector"],
        "policyTypes": ["Ingress", "Egress"],
    }
    for one in containers(objects):
        template = one.owner["spec"].get("jobTemplate", one.owner)["spec"]["template"]
        assert _selects(deny["spec"]["podSelector"], template["metadata"]["labels"])


@both
def test_each_part_reaches_and_hears_whom_it_needs_and_nobody_else(name: str) -> None:
    objects, given = rendered(name), values(name)
    rules = given["networkPolicy"]
    brokers = [9092] if name == "default" else [9092, 9093, 9094]
    dns = (rules["dns"]["peers"], [("UDP", 53), ("TCP", 53)])
    kafka = (given["kafka"]["peers"], [("TCP", port) for port in brokers])
    database = (given["postgresql"]["peers"], [("TCP", given["postgresql"]["port"])])
    keys = [(given["jwks"]["peers"], [("TCP", 8443)])] if given["jwks"]["url"] else []
    told = [(given["traces"]["peers"], [("TCP", 4318)])] if given["traces"]["url"] else []
    abroad = (
        [{"ipBlock": block} for block in rules["webhooks"]["cidrs"]],
        [("TCP", port) for port in rules["webhooks"]["ports"]],
    )
    reached = {
        "intake": [dns, kafka, database, *keys, *told],
        "matching": [dns, kafka, database, *told],
        "notifier": [dns, kafka, database, *keys, *told, abroad],
        "projections": [dns, kafka, database, *keys, *told],
        "topics": [dns, kafka],
        "check-views": [dns, kafka, database],
        "letters": [dns, kafka],
        "backup": [dns, kafka, database],
    }
    asked = [(rules["http"]["from"], [("TCP", "http")])] if rules["http"]["from"] else []
    watched = [(rules["metrics"]["from"], [("TCP", "operations")])] if rules["metrics"]["from"] else []
    heard = {**{of: [*asked, *watched] for of in HTTP}, "matching": watched}
    found = set()
    for policy in of_kind(objects, "NetworkPolicy"):
        part = policy["spec"]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        if part is None:
            continue
        found.add(part)
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert _rules(policy["spec"].get("egress", []), "to") == reached[part]
        assert _rules(policy["spec"].get("ingress", []), "from") == heard.get(part, [])
    assert found == {one.name for one in containers(objects)}


def _rules(rules: list[Object], whom: str) -> list[tuple[list[Object], list[tuple[str, Any]]]]:
    # Without peers a rule would open to everybody, and without ports to every port.
    assert all(rule[whom] and rule["ports"] and set(rule) == {whom, "ports"} for rule in rules)
    return [(rule[whom], [(port["protocol"], port["port"]) for port in rule["ports"]]) for rule in rules]


@both
def test_services_lead_to_ports_there_are(name: str) -> None:
    objects = rendered(name)
    led = {one["metadata"]["name"]: one["spec"] for one in of_kind(objects, "Service")}
    for of in SERVICES:
        spec, one = led.pop(f"bus-refbus-{of}"), service(objects, of)
        assert spec["selector"].items() <= one.owner["spec"]["template"]["metadata"]["labels"].items()
        (port,) = spec["ports"]
        assert port["targetPort"] == ("http" if of in HTTP else "operations")
    assert not led
    kept = service(objects, "matching").owner
    assert kept["spec"]["serviceName"] == "bus-refbus-matching"


def test_prometheus_reads_every_service_with_the_labels_the_rules_want() -> None:
    objects = rendered("full")
    (monitor,) = of_kind(objects, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("operations", "/metrics")
    assert {"targetLabel": "job", "replacement": "refbus"} in endpoint["relabelings"]
    (component,) = [rule for rule in endpoint["relabelings"] if rule["targetLabel"] == "service"]
    assert component["sourceLabels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_component"]
    (among,) = monitor["spec"]["selector"]["matchExpressions"]
    assert (among["key"], among["operator"]) == ("app.kubernetes.io/component", "In")
    for of in SERVICES:
        labels = service(objects, of).owner["spec"]["template"]["metadata"]["labels"]
        assert _selects(monitor["spec"]["selector"], labels) and labels[among["key"]] == of
    assert set(among["values"]) == set(SERVICES)


def test_the_rules_are_those_of_deploy_prometheus_also_in_a_package(tmp_path: Path) -> None:
    written = (PROMETHEUS / "refbus.rules.yml").read_text(encoding="utf-8")
    (rule,) = of_kind(rendered("full"), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(written)
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as package:
        assert not [name for name in package.getnames() if "/ci/" in name]
        file = package.extractfile("referral-bus/files/refbus.rules.yml")
        assert file is not None and file.read().decode() == written


def test_commands_of_the_jobs_can_be_given_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {one.name: one for one in containers(rendered("full")) if one.name not in SERVICES}
    backup = found.pop("backup")
    for one in found.values():
        assert one.container["command"][0] == "refbus"
        parsed(one.container["command"][1:])
    topics, check = found["topics"], found["check-views"]
    assert topics.container["command"][2:] == ["--partitions", "8", "--replication", "5"]
    _loaded(Settings, topics, tmp_path, monkeypatch)
    assert [volume["name"] for volume in topics.pod["volumes"]] == ["kafka"]
    letters = found["letters"]
    _loaded(OperationsSettings, letters, tmp_path, monkeypatch)
    assert [volume["name"] for volume in letters.pod["volumes"]] == ["kafka"]
    for one in containers(rendered("default")):
        assert one.name not in ("topics", "letters") or "volumes" not in one.pod
    _loaded(ViewsSettings, check, tmp_path, monkeypatch)
    assert set(check.files) == {
        "/run/refbus/secrets/database_url",
        *_for_kafka(values("full"), "check-views"),
    }
    _loaded(BackupSettings, backup, tmp_path, monkeypatch)
    kafka = {path: (ref["secret"], ref["key"]) for path, ref in _for_kafka(values("full"), "backup").items()}
    assert backup.files == {"/run/refbus/secrets/database_url": ("backup-role", "dsn"), **kafka}


def test_a_command_of_operations_finds_its_settings_in_the_pod_that_is_named() -> None:
    page = (ROOT / "docs" / "how-to" / "run-on-kubernetes.md").read_text(encoding="utf-8")
    pods = {one.owner["metadata"]["name"]: one for one in containers(rendered("full"))}
    given = re.findall(r"`kubectl exec (?:-i )?(\S+) -- refbus ([^`<]+)", page)
    for pod, command in given:
        environment = pods[pod.removeprefix("deploy/").removesuffix("-0")].environment
        needed = settings_of(shlex.split(command))
        if "--operations" in command:
            needed.remove("REFBUS_OPERATIONS")
        assert {name.removesuffix("_FILE") for name in environment} >= needed, command
    assert {command.split()[0] for _, command in given} == {"verify", "whatif", "rebuild", "topics", "doctor"}
    assert set(re.findall(r"--from=cronjob/(\S+) ", page)) <= pods.keys()


def test_a_command_that_a_services_user_of_kafka_may_not_is_given_in_its_pod_as_operations_own() -> None:
    page = (ROOT / "docs" / "how-to" / "run-on-kubernetes.md").read_text(encoding="utf-8")
    pods = {one.owner["metadata"]["name"]: one for one in containers(rendered("full"))}
    given = r"^kubectl exec -i (\S+)-0 -- env (.+) refbus (.+) < password$"
    [(pod, instead, command)] = re.findall(given, page, re.MULTILINE)
    environment = pods[pod].environment
    # Each takes the place of one there: beside the file of a password there must be no password, nor another file of it.
    assert {one.partition("=")[0] for one in instead.split()} <= environment.keys()
    assert "REFBUS_KAFKA_PASSWORD" not in environment
    needed = settings_of(shlex.split(command))
    assert {name.removesuffix("_FILE") for name in environment} >= needed


def test_each_backup_goes_to_a_folder_of_its_own_one_after_the_other(tmp_path: Path) -> None:
    (backup,) = [one for one in containers(rendered("full")) if one.name == "backup"]
    assert backup.owner["spec"]["concurrencyPolicy"] == "Forbid"
    assert backup.pod["restartPolicy"] == "Never"
    [claim] = [one for one in backup.pod["volumes"] if one["name"] == "backups"]
    assert claim["persistentVolumeClaim"] == {"claimName": "refbus-backups"}
    # What its shell makes of it.
    said = tmp_path / "refbus"
    said.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    said.chmod(0o755)
    done = subprocess.run(
        backup.container["command"],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    words = done.stdout.split()
    parsed(words)
    assert words[0] == "backup" and re.fullmatch(r"/backups/\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", words[1])


@pytest.mark.parametrize("release", ("bus", "refbus", "county-refbus-of-the-north-and-of-the-south"))
@pytest.mark.parametrize(
    ("alert", "part"),
    (
        ("RefbusDeadLettersOpen", "letters"),
        ("RefbusBackupOld", "backup"),
        ("RefbusViewsUnchecked", "check-views"),
        ("RefbusViewsDiffer", "check-views"),
    ),
)
def test_an_alert_knows_the_job_it_is_about_by_its_name(release: str, alert: str, part: str) -> None:
    [expression] = [one["expr"] for one in alerts() if one["alert"] == alert]
    names = [one["metadata"]["name"] for one in of_kind(rendered("full", release=release), "CronJob")]
    asked = dict.fromkeys(re.findall(r'\b(cronjob|job_name)=~"([^"]+)"', expression))
    for label, pattern in asked:
        # Kubernetes names each night's job after the CronJob, with the minutes since 1970.
        known = {name: name if label == "cronjob" else f"{name}-29730390" for name in names}
        assert [name for name in names if re.fullmatch(pattern, known[name])] == [
            name for name in names if name.endswith(f"-{part}")
        ]
    assert asked and len(names) == 3


@pytest.mark.parametrize("release", ("a" * 53, "county-refbus-" + "a" * 39))
def test_names_are_no_longer_than_kubernetes_takes_however_long_the_release_is_called(release: str) -> None:
    for one in rendered("full", release=release):
        assert len(one["metadata"]["name"]) <= (52 if one["kind"] == "CronJob" else 63)


def test_a_job_that_found_something_fails_for_a_reason_that_no_other_has() -> None:
    jobs = {
        one.name: one.owner["spec"]["jobTemplate"]["spec"]
        for one in containers(rendered("full"))
        if one.owner["kind"] == "CronJob"
    }
    for name in ("check-views", "letters"):
        job = jobs.pop(name)
        [rule] = job["podFailurePolicy"]["rules"]
        exits = {"containerName": name, "operator": "In", "values": [FOUND]}
        assert rule == {"action": "FailJob", "onExitCodes": exits}
        assert job["template"]["spec"]["restartPolicy"] == "Never" and job["backoffLimit"] == 0
        # Else it would be told of until another fails. The next night's is to have answered before.
        assert 24 < job["ttlSecondsAfterFinished"] / 3600 < 48
    for job in jobs.values():
        assert not {"podFailurePolicy", "ttlSecondsAfterFinished"} & job.keys()


def test_a_job_by_night_that_does_not_end_is_ended_before_the_next_would_be_passed_over() -> None:
    jobs = of_kind(rendered("full"), "CronJob")
    assert len(jobs) == 3
    for job in jobs:
        assert job["spec"]["concurrencyPolicy"] == "Forbid"
        assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600


def test_a_job_that_does_something_else_is_another() -> None:
    def names(*more: str) -> list[str]:
        return [one["metadata"]["name"] for one in of_kind(rendered("default", *more), "Job")]

    assert names() == names("--set", "intake.replicas=5")
    assert names() != names("--set", "topics.replication=1")
    assert names("--set", "topics.create=false") == []


@both
def test_images_are_those_that_are_named(name: str) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    images = {one.name: one.container["image"] for one in containers(rendered(name))}
    if name == "default":
        expected = {of: f"refbus-{of}:{chart['appVersion']}" for of in SERVICES}
    else:
        expected = {of: f"registry.example/refbus-{of}:1.2.3" for of in SERVICES}
        expected |= {"matching": values(name)["matching"]["image"], "check-views": expected["projections"]}
        expected["letters"] = expected["intake"]
        expected["backup"] = "registry.example/refbus-backup:1.2.3"
    assert images == {**expected, "topics": expected["intake"]}


def test_the_chart_has_the_version_of_the_bus() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{chart["appVersion"]}"\n' in project
