"""The synthetic county on a bus that stays up, so that a newcomer finds agencies to submit as and services to be matched to."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from referral_bus.access.tokens import issue_token
from referral_bus.contracts.vocabulary import Role
from referral_bus.demo.county import County
from referral_bus.directory.publish import Published, publish
from referral_bus.embedded.bus import LocalBus
from referral_bus.embedded.secrets import key_of
from referral_bus.sealing.jwe import new_encryption_keys


async def settle(bus: LocalBus, county: County) -> Published:
    """Publish the county's organisations, each with a key of its own, and their services. Raises PublishError."""
    signing_key = bus.secrets.read("token_key")

    def token(organisation: str, roles: list[Role]) -> str:
        return issue_token(signing_key, bus.plan.bus, organisation, roles)

    organisations = []
    for organisation in county.organisations:
        keys = new_encryption_keys()
        _keep(key_of(bus.plan.home, organisation.organisation), keys.private)
        organisations.append(organisation.model_copy(update={"encryption_key": keys.public}))
    async with httpx.AsyncClient(timeout=30.0, trust_env=False) as http:
        return await publish(http, bus.addresses.intake, organisations, county.services, token)


def _keep(path: Path, private_jwk: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(private_jwk)
