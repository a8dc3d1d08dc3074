"""What a restore needs of the machine it is run on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from referral_bus.backup.database import Database
from referral_bus.backup.errors import BackupError
from referral_bus.backup.folder import Folder
from referral_bus.backup.restoring import load


async def test_where_no_file_can_be_written_a_restore_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/none"])
    with pytest.raises(BackupError, match="mount one at /tmp, or name one in TMPDIR"):
        await load(Database("postgresql://refbus@localhost/refbus", tmp_path), Folder(tmp_path), (), ())
