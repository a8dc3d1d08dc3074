"""What Java learnt of a broker is taken by the next, and does no harm where it is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from referral_bus.embedded import kafka
from referral_bus.embedded.kafka import EmbeddedKafka, class_path, java, learnt_at
from referral_bus.embedded.ports import free_ports
from referral_bus.embedded.prepared import prepare


def test_a_broker_starts_with_what_java_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare() == learnt_at(java(), class_path())
    # Java refuses to start where it can't take it.
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:AOTMode=on")
    broker = EmbeddedKafka(tmp_path / "kafka", free_ports(1)[0])
    broker.start()
    broker.stop()


def test_a_broken_file_of_it_does_no_harm_though_java_can_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.aot"
    broken.write_bytes(b"of another runtime" * 1000)
    monkeypatch.setattr(kafka, "learnt_at", lambda *_: broken)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:AOTMode=on")
    with pytest.raises(kafka.EmbeddedError, match="AOT"):
        EmbeddedKafka(tmp_path / "strict", free_ports(1)[0]).start()
    monkeypatch.delenv("JAVA_TOOL_OPTIONS")
    broker = EmbeddedKafka(tmp_path / "kafka", free_ports(1)[0])
    broker.start()
    broker.stop()
