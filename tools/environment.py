"""Make or bring up to date the virtual environment that the Makefile's targets run in.

    python3 tools/environment.py runtime|dev|bench

Everything comes from a lock file with hashes. It is done again only when the lock or pyproject.toml changed. It uses nothing but the
standard library, and no syntax that a Python of some years ago would stumble over before it can say that it is too old.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11)
KINDS = {
    "runtime": (".venv", "requirements.lock"),
    "dev": (".venv", "requirements-dev.lock"),
    "bench": (".venv-bench", "requirements-bench.lock"),
}
SUFFICES = {"runtime": ("runtime", "dev"), "dev": ("dev",), "bench": ("bench",)}

# What pip says on stderr when something outside of it is wrong, and what to tell instead.
TROUBLES = (
    (
        ("No space left on device", "Disk quota exceeded"),
        "The disk is full, so the packages can't be installed. Free some space (`df -h` shows where) and run this again.",
    ),
    (
        ("DO NOT MATCH THE HASHES", "IncompleteRead", "Connection broken", "ProtocolError"),
        "A package came broken or with other content than pinned. Run this again; if it happens again, first run `pip cache purge`.",
    ),
    (
        (
            "NewConnectionError",
            "NameResolutionError",
            "Max retries exceeded",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ProxyError",
            # What pip says of a pinned package when the registry gave it nothing.
            "(from versions: none)",
        ),
        "The package registry can't be reached. Check the network connection (and HTTPS_PROXY, if there is one) and run this again.",
    ),
)


def stop(sentence):
    sys.exit("refbus: " + sentence)


def pin(kind):
    """What the environment is made from, as one hash."""
    digest = hashlib.sha256()
    for name in (KINDS[kind][1], "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return kind + " " + digest.hexdigest() + "\n"


def up_to_date(kind, stamp, python):
    if not os.path.exists(stamp) or not works(python):
        return False
    with open(stamp, encoding="ascii") as file:
        installed = file.read()
    return any(installed == pin(sufficient) for sufficient in SUFFICES[kind])


def works(python):
    """Whether this interpreter starts, has pip, and is new enough: the one it was made from may be gone since."""
    if not os.path.exists(python):
        return False
    test = f"import pip, sys; sys.exit(sys.version_info[:2] < {OLDEST!r})"
    return subprocess.call([python, "-c", test], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def make(folder, python):
    shutil.rmtree(folder, ignore_errors=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if made.returncode == 0 and works(python):
        return
    shutil.rmtree(folder, ignore_errors=True)
    if "No space left on device" in made.stdout:
        stop(TROUBLES[0][1])
    if "ensurepip" in made.stdout or "No module named venv" in made.stdout:
        stop(
            f"{sys.executable} has no venv module. "
            "Install it (on Debian and Ubuntu: `apt install python3-venv`) and run this again."
        )
    stop(f"a virtual environment can't be made in {folder}: {made.stdout.strip()}")


def pip(python, *words):
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    said = []
    with subprocess.Popen(
        command + list(words), cwd=ROOT, stderr=subprocess.PIPE, universal_newlines=True
    ) as process:
        for line in process.stderr:
            sys.stderr.write(line)
            said.append(line)
    if process.returncode != 0:
        text = "".join(said)
        for signs, sentence in TROUBLES:
            if any(sign in text for sign in signs):
                stop(sentence)
        stop("pip could not install the packages; what it says is above. Put that right and run this again.")


def main(kind):
    if sys.version_info[:2] < OLDEST:
        needed, found = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
        stop(
            f"Python {needed} or later is needed, and {sys.executable} is {found}. "
            "Install one and name it: `make PYTHON=python3.12 ...`."
        )
    name, lock = KINDS[kind]
    folder = os.path.join(ROOT, name)
    python = os.path.join(folder, "bin", "python")
    stamp = os.path.join(folder, "refbus-installed")
    if up_to_date(kind, stamp, python):
        return
    print(f"refbus: installing {lock} into {name} (once, until it changes)", flush=True)
    if os.path.exists(stamp):
        os.remove(stamp)
    if not works(python):
        make(folder, python)
    pip(python, "--require-hashes", "-r", lock)
    pip(python, "--no-deps", "--no-build-isolation", "--quiet", "-e", ".")
    with open(stamp, "w", encoding="ascii") as file:
        file.write(pin(kind))


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        stop("say which environment: " + ", ".join(sorted(KINDS)))
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        stop("interrupted; run it again to go on.")
    except OSError as error:
        stop(TROUBLES[0][1] if error.errno in (28, 122) else f"{error}. Put that right and run this again.")
