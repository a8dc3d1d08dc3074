"""The party behind a verified token."""

from __future__ import annotations

from dataclasses import dataclass

from referral_bus.contracts.vocabulary import Role


@dataclass(frozen=True, slots=True)
class Caller:
    """An organisation and the roles its token carries. It speaks for itself and for nobody else."""

    organisation: str
    roles: frozenset[Role]

    def has(self, role: Role) -> bool:
        return role in self.roles
