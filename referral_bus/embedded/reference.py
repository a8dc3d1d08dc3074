"""What a bus on one machine is given to begin with: its regions, operations, the protocols that are shipped, and the standard policy."""

from __future__ import annotations

from typing import Final

from referral_bus.access.tokens import issue_token
from referral_bus.client.bus import Bus
from referral_bus.client.errors import Conflict
from referral_bus.contracts.reference import Organisation, Policy, RegionTable
from referral_bus.embedded.bus import LocalBus
from referral_bus.protocols import OFFICE_HOURS, shipped

OPERATIONS: Final = "operations"
"""The organisation that publishes reference data."""

_THERE: Final = "version_not_risen"
"""How intake says that this version or a later one was published before."""

STANDARD_POLICY: Final = Policy(
    policy="standard",
    rank_by=["certainty", "needs_covered", "load", "freshness", "lottery"],
    seed="standard policy, first seed",
)
"""Who certainly fits before who may, who covers more needs, who has more room, whose count is newer, and a lot in the end."""


def region_table(regions: list[str], partitions: int) -> RegionTable:
    """The regions spread over the partitions, in their order."""
    return RegionTable(
        version=1, partitions={region: number % partitions for number, region in enumerate(regions)}
    )


async def publish_defaults(bus: LocalBus, regions: list[str]) -> None:
    """Publish what is not published yet; a bus that was up before keeps what it has. Raises BusError."""

    def token() -> str:
        return issue_token(bus.secrets.read("token_key"), bus.plan.bus, OPERATIONS, ["operations"])

    async with Bus(token, intake=bus.addresses.intake) as operations:
        for message in (
            region_table(regions, bus.plan.partitions),
            Organisation(
                organisation=OPERATIONS,
                name="Operations of this bus",
                kind="operations",
                roles=["operations"],
                home_region=regions[0],
            ),
            OFFICE_HOURS,
            *shipped(),
            STANDARD_POLICY,
        ):
            try:
                await operations.publish(message)
            except Conflict as error:
                if error.code != _THERE:
                    raise
