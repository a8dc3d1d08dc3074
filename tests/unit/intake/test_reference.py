from __future__ import annotations

import asyncio
import logging

import pytest

from referral_bus.contracts.inbox import Tick
from referral_bus.contracts.message import Message
from referral_bus.contracts.reference import RegionTable, Rules
from referral_bus.log import topics
from referral_bus.log.memory import MemoryLog
from referral_bus.log.port import Outgoing
from referral_bus.protocols import OFFICE_HOURS, shipped
from referral_bus.runtime.health import Health
from referral_bus.wire.codec import Codec
from referral_bus.wire.envelope import Envelope, source_of
from services.intake.reference import Publication, Published, Reference, ReferenceView, adoption, needed
from services.intake.settings import IntakeSettings
from tests.support.admitting import REGIONS, organisation, until

CODEC = Codec.load()
TOPIC = topics.reference("main")


def record(message: Message) -> Outgoing:
    envelope = Envelope(
        id="p",
        source=source_of("operations"),
        type=message.event_type(),
        time=1,
        subject="p",
        schema_id=CODEC.schema_id(type(message)),
        partitionkey="p",
        dataclassification="internal",
    )
    return Outgoing(TOPIC, 0, b"p", CODEC.encode(message), envelope.to_headers())


def test_only_a_higher_version_counts_whoever_published_it() -> None:
    reference = Reference()
    given: list[tuple[str, Published]] = [
        ("a", organisation("hospital", version=2)),
        ("b", organisation("hospital", version=2, region="south")),
        ("b", organisation("hospital", version=1)),
        ("b", organisation("hospital", version=3)),
    ]
    counted = [reference.apply(Publication(by, one, at)) for at, (by, one) in enumerate(given)]
    assert counted == [True, False, False, True]
    assert reference.organisations["hospital"].version == 3
    assert reference.current["organisation", "hospital"].publisher == "b"


def test_the_region_table_is_intakes_own_and_is_put_to_no_region() -> None:
    assert adoption(RegionTable(version=1, partitions=REGIONS)) is None
    adopted = adoption(organisation("hospital"))
    assert adopted is not None and adopted.organisation == organisation("hospital")
    hours = adoption(OFFICE_HOURS)
    assert hours is not None and (hours.kind, hours.calendar) == ("calendar", OFFICE_HOURS)
    rules = adoption(Rules(rules="matching", version=1))
    assert rules is not None and (rules.kind, rules.version) == ("rules", 1)


def test_a_protocol_needs_the_calendar_and_whom_it_names_and_an_organisation_its_calendar() -> None:
    plain, named = shipped()[0], shipped()[1].model_copy(update={"escalate_to": "county"})
    assert needed(plain.model_copy(update={"calendar": None, "escalate_to": None})) == {}
    assert needed(named) == {
        "calendar": ("calendar", "office-hours"),
        "escalate_to": ("organisation", "county"),
    }
    steps = [named.steps[0].model_copy(update={"escalate_to": "supervisor"}), *named.steps[1:]]
    of_a_step = needed(named.model_copy(update={"steps": steps}))
    assert of_a_step["steps.0.escalate_to"] == ("organisation", "supervisor")
    by_hours = organisation("hospital").model_copy(update={"calendar": "office-hours"})
    assert needed(by_hours) == {"calendar": ("calendar", "office-hours")}
    assert needed(OFFICE_HOURS) == needed(organisation("hospital")) == {}


async def test_the_view_is_ready_at_the_end_passes_over_what_it_cannot_read_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, health = MemoryLog(), Health()
    await log.ensure(topics.topics("main", 2, 1))
    appender = await log.appender()
    garbage = Outgoing(TOPIC, 0, b"p", b"Quentin", ())
    table = record(RegionTable(version=1, partitions=REGIONS))
    await appender.append([garbage, table, record(Tick(region="north", due=1))])
    view = ReferenceView(log, TOPIC, CODEC, health)
    with caplog.at_level(logging.ERROR):
        following = asyncio.create_task(view.run())
        await view.caught_up()
    assert view.reference.regions == REGIONS
    assert health.problems() == {}
    assert caplog.text.count("is skipped") == 2 and "Quentin" not in caplog.text
    [at] = await appender.append([record(organisation("hospital"))])
    await view.reached(at.offset)
    assert "hospital" in view.reference.organisations
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_the_view_is_not_ready_while_the_log_is_away_and_catches_up_by_itself() -> None:
    log, health = MemoryLog(), Health()
    await log.ensure(topics.topics("main", 2, 1))
    log.away = True
    view = ReferenceView(log, TOPIC, CODEC, health)
    following = asyncio.create_task(view.run())
    await until(lambda: "reference" in health.problems())
    assert not view.ready
    log.away = False
    await until(lambda: view.ready)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_batch_that_could_never_pass_the_quota_is_a_setting_that_is_refused() -> None:
    with pytest.raises(ValueError, match="quota_burst is below maximum_batch"):
        IntakeSettings.model_validate(
            {
                "database_url": "x",
                "master_key": "x",
                "intake_key": "x",
                "operations_public_key": "x",
                "jwks": "x",
                "maximum_batch": 100,
                "quota_burst": 10,
            }
        )
