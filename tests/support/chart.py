"""The chart as Helm renders it: its objects, their containers, and what a container is given."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Hashable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from tests.support.operations import ROOT, program

CHART: Final = ROOT / "deploy" / "helm" / "referral-bus"
ADAPTER: Final = ROOT / "deploy" / "helm" / "prometheus-adapter.yaml"
VALUES: Final = {"default": CHART / "values.yaml", "full": CHART / "ci" / "full-values.yaml"}
SERVICES: Final = ("intake", "matching", "notifier", "projections")
HTTP: Final = ("intake", "notifier", "projections")

Object = dict[str, Any]


class _Strict(yaml.SafeLoader):
    """YAML as the API server takes it: no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


class Container(NamedTuple):
    """A container, the pod it is in, and the object that makes the pod."""

    owner: Object
    pod: Object
    container: Object

    @property
    def name(self) -> str:
        name: str = self.container["name"]
        return name

    @property
    def environment(self) -> dict[str, str]:
        """What the container is given. Fails where a value is not a plain one: a secret comes as a file."""
        entries = self.container["env"]
        assert all(set(entry) == {"name", "value"} for entry in entries) and "envFrom" not in self.container
        assert len({entry["name"] for entry in entries}) == len(entries)
        return {entry["name"]: entry["value"] for entry in entries}

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """The secrets it finds in its file system: the path, and of which Secret which key."""
        volumes = {volume["name"]: volume for volume in self.pod.get("volumes", [])}
        found = {}
        for mount in self.container.get("volumeMounts", []):
            for source in volumes.get(mount["name"], {}).get("projected", {}).get("sources", []):
                assert set(source) == {"secret"} and mount["readOnly"] is True and "subPath" not in mount
                for item in source["secret"]["items"]:
                    found[f"{mount['mountPath']}/{item['path']}"] = (source["secret"]["name"], item["key"])
        return found

    @property
    def writable(self) -> list[str]:
        return [m["mountPath"] for m in self.container.get("volumeMounts", []) if not m.get("readOnly")]


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("helm", "put the folder on PATH that .ci/chart-tools prints"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def template(values: Path, *more: str, release: str = "bus") -> subprocess.CompletedProcess[str]:
    return helm("template", release, CHART, "--namespace", "referrals", "-f", values, *more)


@cache
def _rendered(name: str, more: tuple[str, ...], release: str) -> list[Object]:
    done = template(VALUES[name], *more, release=release)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, Loader=_Strict) if one]


def rendered(name: str, *more: str, release: str = "bus") -> list[Object]:
    """Every object of the chart with the default values or with everything turned on; ``more`` are options of Helm."""
    return deepcopy(_rendered(name, more, release))


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def containers(objects: list[Object]) -> Iterator[Container]:
    """Every container there would be."""
    for one in objects:
        if one["kind"] == "CronJob":
            pod = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif one["kind"] in ("Deployment", "StatefulSet", "Job"):
            pod = one["spec"]["template"]["spec"]
        else:
            continue
        assert "initContainers" not in pod
        for container in pod["containers"]:
            yield Container(one, pod, container)


def service(objects: list[Object], name: str) -> Container:
    """The container of a service."""
    (found,) = [one for one in containers(objects) if one.name == name]
    return found


@cache
def values(name: str) -> Object:
    """The values that count: the defaults, and over them those of the file, merged as Helm does."""
    merged: Object = yaml.safe_load(VALUES["default"].read_text(encoding="utf-8"))
    _merge(merged, yaml.safe_load(VALUES[name].read_text(encoding="utf-8")))
    return merged


def _merge(into: Object, other: Object) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def schema_of_values() -> Object:
    found: Object = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return found
