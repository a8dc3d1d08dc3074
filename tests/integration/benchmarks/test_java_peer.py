"""The Kafka Streams peer does what the other peers do: its Java writes the same bytes for the same submissions."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.java import STREAMS_SOURCES, compiled
from benchmarks.outside import Reading
from benchmarks.peers.job import Job
from benchmarks.world import cases, unsealed, worlds
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.wire.codec import Codec
from referral_bus.wire.schemas import SCHEMAS

REGIONS = 2
REFERRALS = 1_000


@pytest.mark.timeout(300)
def test_it_writes_the_same_events_with_places_and_without(tmp_path: Path) -> None:
    made, codec = worlds(REGIONS, 1), Codec.load()
    services = tmp_path / "services.json"
    services.write_text(
        json.dumps({w.region: [s.model_dump(mode="json") for s in w.services] for w in made}),
        encoding="utf-8",
    )
    submissions = [said.record("any", codec).value for said in unsealed(cases(made, REFERRALS), codec)]

    job, held = Job(services), dict[str, int]()
    expected = [
        event
        for number, value in enumerate(submissions)
        for event in job.decide(value, number, number, lambda unit: held.get(unit, 0), held.__setitem__)
    ]
    # Both kinds of answer are among them: otherwise the comparison would leave one out.
    decoding = Reading()
    names = {decoding.datum(value).name for value in expected[2::3]}
    assert names == {"OfferMade", "ReferralClosed"}

    java = compiled(STREAMS_SOURCES, tmp_path / "classes")
    done = subprocess.run(
        [*java, "Decided", str(services), str(SCHEMAS)],
        input="\n".join(base64.b64encode(value).decode() for value in submissions),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [base64.b64decode(line) for line in done.stdout.splitlines()] == expected


def test_java_that_does_not_compile_is_an_error_with_the_compilers_words(tmp_path: Path) -> None:
    (tmp_path / "Broken.java").write_text("class Broken { int a = ; }", encoding="utf-8")
    with pytest.raises(EmbeddedError, match=r"Broken\.java"):
        compiled(tmp_path, tmp_path / "classes")
