"""Health: it tells the truth, and of a service that has said nothing yet it says nothing good."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from referral_bus.runtime.health import Health
from referral_bus.runtime.metrics import SERVICES
from referral_bus.web.operations import operations_app


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_service_without_parts_is_not_ready() -> None:
    assert Health().problems() == {"service": "is starting"}


def test_a_service_is_ready_when_every_part_is_and_says_which_is_not() -> None:
    health = Health()
    health.starting("views", "rebuilds")
    health.starting("api", "starts")
    health.ready("api")
    assert health.problems() == {"views": "rebuilds"}
    health.ready("views")
    assert health.problems() == {}
    health.starting("views", "lost its partitions")
    assert health.problems() == {"views": "lost its partitions"}


def test_a_service_is_ready_without_a_part_that_is_hindered_and_says_so() -> None:
    health = Health()
    health.hindered("outboxes", "waits")
    assert (health.problems(), health.hindrances()) == ({"service": "is starting"}, {"outboxes": "waits"})
    health.ready("api")
    assert (health.problems(), health.hindrances()) == ({}, {"outboxes": "waits"})
    health.ready("outboxes")
    assert (health.problems(), health.hindrances()) == ({}, {})


def test_a_part_that_breaks_its_promise_is_stuck_until_it_beats_again_or_ends() -> None:
    seconds = Seconds()
    health = Health(seconds)
    health.beat("worker", within=10)
    health.beat("ticks", within=60)
    seconds.now = 10.0
    assert health.stuck() == []
    seconds.now = 10.1
    assert health.stuck() == ["worker"]
    health.beat("worker", within=10)
    assert health.stuck() == []
    seconds.now = 100.0
    assert health.stuck() == ["ticks", "worker"]
    health.silent("worker")
    health.silent("never beat")
    assert health.stuck() == ["ticks"]


def test_the_operations_listener_answers_by_what_health_says() -> None:
    seconds = Seconds()
    health = Health(seconds)
    with TestClient(operations_app(health, "intake")) as http:
        assert (http.get("/readyz").status_code, http.get("/livez").status_code) == (503, 200)
        health.starting("views", "rebuilds")
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()) == (
            503,
            {"ready": False, "waiting": {"views": "rebuilds"}},
        )
        health.ready("views")
        assert (http.get("/readyz").status_code, http.get("/readyz").json()["ready"]) == (200, True)
        health.beat("worker", within=1)
        seconds.now = 2.0
        answer = http.get("/livez")
        assert (answer.status_code, answer.json()) == (503, {"alive": False, "stuck": ["worker"]})
        health.starting("views", "rebuilds")
        assert "refbus_ready 0.0" in http.get("/metrics").text
        health.ready("views")
        assert "refbus_ready 1.0" in http.get("/metrics").text
        assert "refbus_hindered 0.0" in http.get("/metrics").text
        health.hindered("outboxes", "waits")
        answer = http.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"ready": True, "waiting": {"outboxes": "waits"}})
        health.starting("views", "rebuilds")
        answer = http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "waiting": {"outboxes": "waits", "views": "rebuilds"}}
        assert "refbus_hindered 1.0" in http.get("/metrics").text
        metrics = http.get("/metrics")
        assert metrics.status_code == 200
        assert "refbus_dead_letters_total" in metrics.text


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_shows_its_own_metrics_and_the_shared_ones_and_no_other_services(service: str) -> None:
    with TestClient(operations_app(Health(), service)) as http:
        text = http.get("/metrics").text
    shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert {"refbus_lag_records", "refbus_dead_letters_total", "refbus_rebuild_progress_ratio"} <= shown
    named = {name.split("_")[1] for name in shown if name.startswith("refbus_")}
    shared = {
        "ready",
        "hindered",
        "expires",
        "key",
        "tokens",
        "lag",
        "position",
        "dead",
        "refused",
        "rebuild",
    }
    assert named == shared | {service}
    every = {metric.name for metric in REGISTRY.collect()}
    own = {name for name in every if name.startswith(f"refbus_{service}_")}
    assert own
    assert own <= {name.removesuffix("_total") for name in shown} | shown
