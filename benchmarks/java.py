"""The Kafka Streams peer's Java: its pinned jars, and its sources compiled without a JDK.

A machine has no javac, and the Java runtime that comes with the packages has no compiler in it. Eclipse's compiler is one jar beside the
others, runs on that runtime and compiles against it: no further download of a hundred megabytes, nothing to install, and no class files in
the repository that nobody can read. ``python -m benchmarks.java`` resolves the jars anew and prints the lock file that pins them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from referral_bus.embedded.download import cache_folder, fetch, print_lock, read_lock
from referral_bus.embedded.errors import EmbeddedError
from referral_bus.embedded.kafka import java

STREAMS_SOURCES: Final = Path(__file__).resolve().parent / "peers" / "kafka_streams"
_LOCK: Final = STREAMS_SOURCES / "jars.lock"
_ROOTS: Final = (
    "org.apache.kafka:kafka-streams:4.4.0",
    # Without this one beside it the logging binding's parent pulls the clients down to another version.
    "org.apache.kafka:kafka-clients:4.4.0",
    "org.apache.avro:avro:1.12.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3",
    "org.eclipse.jdt:ecj:3.46.0",
)
_COMPILER: Final = "org.eclipse.jdt.internal.compiler.batch.Main"
_LEVEL: Final = "-21"
_SECONDS: Final = 120.0
_HEAP: Final = "-Xmx512m"


def compiled(sources: Path, into: Path) -> list[str]:
    """Compile the sources in a folder; returns the command that runs a class of theirs, but for the class's name.

    Done once for each ``into``. Raises EmbeddedError when the jars can't be had or the sources don't compile.
    """
    jars = os.pathsep.join(str(path) for path in fetch(read_lock(_LOCK.read_text("ascii")), cache_folder()))
    program = str(java())
    if not into.exists():
        files = [str(path) for path in sorted(sources.glob("*.java"))]
        command = [
            program,
            "-cp",
            jars,
            _COMPILER,
            _LEVEL,
            "-proc:none",
            "-cp",
            jars,
            "-d",
            str(into),
            *files,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode != 0:
            raise EmbeddedError(
                f"The Java sources in {sources} don't compile; the compiler says:\n{(done.stdout + done.stderr)[-2_000:]}"
            )
    return [program, _HEAP, "-cp", os.pathsep.join((str(into), jars))]


if __name__ == "__main__":
    print_lock(_ROOTS, "benchmarks.java")
