"""Make the secrets of a bus in containers: keys, passwords, and a database role for each service.

    python deploy/prepare.py [FOLDER [BUS]]

``FOLDER`` (``deploy/secrets``) is what ``REFBUS_SECRETS`` names to ``deploy/compose.yaml``. What is there stays. They are real keys, for
data that is not: a production bus takes its secrets from where its operators keep them.
"""

from __future__ import annotations

import secrets as randomness
import sys
from pathlib import Path
from typing import Final

from referral_bus.embedded.bus import SERVICES
from referral_bus.embedded.secrets import Secrets

DATABASE: Final = "refbus"

_ROLES: Final = """\
revoke connect, temporary on database {database} from public;
{roles}
create schema sealing authorization intake;
create schema intake authorization intake;
create schema notifier authorization notifier;
create schema projections authorization projections;
grant usage on schema sealing to matching, notifier, projections;
alter default privileges for role intake in schema sealing
  grant select, insert, update on tables to matching, notifier, projections;
-- `refbus rebuild` makes the views anew in a schema beside the one that serves.
grant create on database {database} to projections;
"""
_ROLE: Final = (
    "create role {role} login password '{password}';\ngrant connect on database {database} to {role};"
)


def prepare(folder: Path, bus: str) -> Secrets:
    """The secrets in ``folder``, made where they are missing, as the containers are to read them."""
    made = Secrets.load_or_make(folder, bus)
    if not (folder / "roles.sql").exists():
        passwords = {role: randomness.token_hex(24) for role in SERVICES}
        (folder / "postgres_password").write_text(randomness.token_hex(24), encoding="ascii")
        for role, password in passwords.items():
            url = f"postgresql+psycopg://{role}:{password}@postgres/{DATABASE}"
            (folder / f"database_url_{role}").write_text(url, encoding="ascii")
        roles = "\n".join(
            _ROLE.format(role=role, password=password, database=DATABASE)
            for role, password in passwords.items()
        )
        (folder / "roles.sql").write_text(_ROLES.format(roles=roles, database=DATABASE), encoding="ascii")
    # Compose mounts a secret with the owner it has here, whom no container runs as. The folder, which others may not enter, protects it.
    folder.chmod(0o700)
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o444)
    return made


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent / "secrets"
    prepare(where, sys.argv[2] if len(sys.argv) > 2 else "main")
    print(f"refbus: the secrets are in {where}", file=sys.stderr)
