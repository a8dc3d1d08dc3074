"""What a bus on one machine is given to begin with: its regions, operations, the protocols and vocabularies that are shipped, and the
standard policy."""

from __future__ import annotations

from typing import Final

from referral_bus.access.tokens import issue_token
from referral_bus.client.bus import Bus
from referral_bus.client.errors import Conflict
from referral_bus.contracts.places import ReachLimit, Travel
from referral_bus.contracts.reference import Bands, OfferLimits, Organisation, Policy, RegionTable, TrustStep
from referral_bus.contracts.vocabulary import URGENCIES
from referral_bus.directory.taxonomy import crosswalks, open_eligibility
from referral_bus.embedded.bus import LocalBus
from referral_bus.protocols import OFFICE_HOURS, shipped

OPERATIONS: Final = "operations"
"""The organisation that publishes reference data."""

_THERE: Final = "version_not_risen"
"""How intake says that this version or a later one was published before."""

_DAY_MS: Final = 86_400_000
_REACH_KM: Final[dict[Travel, tuple[int, int, int]]] = {
    "walk": (2, 3, 4),
    "transit": (8, 12, 15),
    "car": (25, 40, 50),
}
"""How far one goes in crisis, urgently and as a routine: half an hour, three quarters and an hour of the way, at 4, 15 and 50 km/h."""

STANDARD_POLICY: Final = Policy(
    policy="standard",
    rank_by=[
        "certainty",
        "needs_covered",
        "mapping",
        "wait",
        "reach",
        "language",
        "reliability",
        "load",
        "freshness",
        "lottery",
    ],
    seed="standard policy, first seed",
    reach=[
        ReachLimit(urgency=urgency, travel=travel, metres=kilometres * 1000)
        for travel, by_urgency in _REACH_KM.items()
        for urgency, kilometres in zip(URGENCIES, by_urgency, strict=True)
    ],
    # Open now, within the hour, the half day, the day, three days; one, two, five, ten and twenty kilometres; two refusals without a place
    # ever given, or as bad, then five; half full, nearly full, all but full.
    bands=[
        Bands(by="wait", starts=[1, 60, 240, 1440, 4320]),
        Bands(by="reach", starts=[10, 20, 50, 100, 200]),
        Bands(by="reliability", starts=[700, 850]),
        Bands(by="load", starts=[500, 800, 950]),
    ],
    # As soon as the protocol for crises wants the service begun; a week; and the longest there may be, so that what is open once a month
    # stays.
    opens_within=OfferLimits(crisis=_DAY_MS, urgent=7 * _DAY_MS, routine=30 * _DAY_MS),
    # Places are counted daily, before the weekend, weekly, monthly: each count that was missed costs belief, and after a quarter of a year
    # nothing is left of it.
    trust=[
        TrustStep(hours=hours, thousandths=thousandths)
        for hours, thousandths in ((24, 900), (72, 700), (168, 400), (720, 100), (2160, 0))
    ],
)
"""Whom a service certainly fits before whom it may; then what is met by it and how surely; what the person has to bear (waiting, the way,
the language); what the provider is like (keeps its word, has room, counted lately); and a lot in the end. Why each value is as it is:
docs/how-to/choose-a-policy.md."""


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
            open_eligibility(),
            *crosswalks(),
            STANDARD_POLICY,
        ):
            try:
                await operations.publish(message)
            except Conflict as error:
                if error.code != _THERE:
                    raise
