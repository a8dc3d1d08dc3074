"""The importer's door: a file or a folder in, services and organisations with a full account out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from referral_bus.directory.build import build
from referral_bus.directory.json_documents import read_documents, read_json
from referral_bus.directory.model import Assumptions, DirectoryError, Import
from referral_bus.directory.rows import Rows
from referral_bus.directory.tables import read_table

MAXIMUM_BYTES: Final = 128 * 1024 * 1024
"""The largest file that is read."""

MAXIMUM_FILES: Final = 10_000
DATA_PACKAGE: Final = "datapackage.json"


def read(path: Path, assumptions: Assumptions) -> Import:
    """Read a directory: an HSDS file (.json, .csv), or a folder of them, but not of the folders within it.

    Raises DirectoryError where there is nothing that could be read; all else is in the import's problems.
    """
    rows = Rows()
    files = _files(path)
    names = _resource_names(rows, path / DATA_PACKAGE) if path.is_dir() else {}
    for file in files:
        _read_file(rows, file, names.get(file.name, file.stem))
    return build(rows, assumptions)


def from_documents(documents: Iterable[dict[str, Any]], assumptions: Assumptions) -> Import:
    """The same for HSDS 3.x documents that are at hand."""
    rows = Rows()
    read_documents(rows, "documents", list(documents))
    return build(rows, assumptions)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DirectoryError(
            f"{path} does not exist; give a folder of HSDS tables (.csv) or documents (.json), or one such "
            "file"
        )
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in (".csv", ".json") and file.is_file() and file.name != DATA_PACKAGE
    )
    if not found:
        raise DirectoryError(
            f"{path} holds no .csv and no .json file; give the folder that holds the HSDS tables or "
            "documents themselves"
        )
    if len(found) > MAXIMUM_FILES:
        raise DirectoryError(
            f"{path} holds more than {MAXIMUM_FILES} files; gather the documents into JSON arrays"
        )
    return found


def _resource_names(rows: Rows, package: Path) -> dict[str, str]:
    """The tables that the resources of a Frictionless data package hold, by file name."""
    if not package.is_file():
        return {}
    text = _text(rows, package)
    if text is None:
        return {}
    try:
        resources = json.loads(text)["resources"]
        return {Path(str(one["path"])).name: str(one["name"]) for one in resources}
    except (ValueError, TypeError, KeyError, RecursionError):
        rows.about(
            package.name,
            "the data package can't be understood; the tables are known by the names of their files",
        )
        return {}


def _read_file(rows: Rows, file: Path, table: str) -> None:
    rows.open(file.name)
    text = _text(rows, file)
    if text is None:
        return
    if file.suffix.lower() == ".json" or (file.suffix.lower() != ".csv" and text.lstrip()[:1] in ("{", "[")):
        read_json(rows, file.name, text)
    else:
        read_table(rows, file.name, table, text)


def _text(rows: Rows, file: Path) -> str | None:
    try:
        if file.stat().st_size > MAXIMUM_BYTES:
            rows.unread(
                file.name, "", 0, f"the file is larger than {MAXIMUM_BYTES // 1024 // 1024} MiB: split it"
            )
            return None
        data = file.read_bytes()
    except OSError as error:
        rows.unread(file.name, "", 0, f"the file can't be read: {error.strerror}")
        return None
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rows.about(
            file.name,
            f"the file is not {error.encoding.upper()} (byte {error.start}); it is read as Latin-1 "
            "(Windows-1252)",
        )
        return data.decode("cp1252", errors="replace")
