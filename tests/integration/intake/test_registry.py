"""An outsider reads the bus's topics with confluent-kafka's own deserialiser against intake's registry routes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from referral_bus.contracts.feed import AdmissionRefused
from referral_bus.contracts.inbox import AcceptOffer
from referral_bus.log import topics
from referral_bus.log.port import Outgoing
from referral_bus.wire.schemas import registered
from tests.support.admitting import TASK, World, organisation, until


async def test_confluents_own_deserialiser_reads_a_feed_and_the_inbox(world: World) -> None:
    async with world.running():
        name = f"clinic-{world.bus}"
        await world.publish(organisation(name))
        appender = await world.log.appender()
        await appender.append([Outgoing(topics.outbox(name), 0, None, b"not sealed")])
        await appender.close()
        feed = topics.feed(world.bus, name)

        async def heard() -> bool:
            return len(await world.records(feed)) == 1

        await until(heard)
        async with world.client("shelter") as bus:
            await bus.accept(TASK)
        [refused] = await world.records(feed)
        inbox = await world.records(topics.inbox(world.bus))
        [accepted] = [one for one in inbox if type(world.codec.decode(one.value)) is AcceptOffer]
        records = [refused, accepted]
        read = await asyncio.to_thread(_read, world.url, [(one.topic, one.value) for one in records])
        said = [world.codec.decode(one.value) for one in records]
    expected = said[0].model_dump()
    assert isinstance(said[0], AdmissionRefused)
    assert read[0] == expected
    assert read[0]["reason"] == "not_sealed"
    assert read[1] == AcceptOffer(task=TASK).model_dump()


def _read(url: str, values: list[tuple[str, bytes | None]]) -> list[Any]:
    with SchemaRegistryClient({"url": url}) as client:
        deserialise = AvroDeserializer(client, conf={"subject.name.strategy": record_subject_name_strategy})
        return [
            deserialise(value, SerializationContext(topic, MessageField.VALUE)) for topic, value in values
        ]


def _client(url: str, feed: str) -> dict[str, Any]:
    """What Confluent's client is told about subjects, versions and ids."""
    with SchemaRegistryClient({"url": url}) as client:
        subject = f"{feed}-org.referralbus.feed.Notice"
        latest = client.get_latest_version(subject)
        told: dict[str, Any] = {
            "subjects": client.get_subjects(),
            "versions": client.get_versions(subject),
            "latest": (latest.schema_id, latest.version, latest.subject),
            "first": client.get_version(subject, 1).schema_id,
            "schema": latest.schema.schema_str,
            "by_id": client.get_schema(latest.schema_id).schema_str,
        }
        for name, ask in {
            "no_subject": lambda: client.get_versions("nothing"),
            "no_version": lambda: client.get_version(subject, 99),
            "no_schema": lambda: client.get_schema(9999),
        }.items():
            try:
                ask()
            except SchemaRegistryError as error:
                told[name] = (error.http_status_code, error.error_code)
        return told


async def test_the_registry_answers_as_confluents_client_expects(world: World) -> None:
    async with world.running():
        told = await asyncio.to_thread(_client, world.url, topics.feed(world.bus, "whoever"))
        async with world.http() as http:
            by_id = await http.get("/schemas/ids/1")
            wrong = await http.get(
                f"/subjects/{topics.inbox(world.bus)}-org.referralbus.inbox.Tick/versions/0"
            )
            some = (await http.get("/subjects", params={"subjectPrefix": topics.ledger(world.bus)})).json()
    [notice] = [one for one in registered() if one.name == "org.referralbus.feed.Notice" and one.version == 1]
    assert told["versions"] == list(range(1, told["latest"][1] + 1))
    assert told["first"] == notice.id
    assert told["schema"] == told["by_id"]
    assert (told["no_subject"], told["no_version"], told["no_schema"]) == (
        (404, 40401),
        (404, 40402),
        (404, 40403),
    )
    assert f"{topics.inbox(world.bus)}-org.referralbus.inbox.SubmitReferral" in told["subjects"]
    assert not any("feed" in one or "whoever" in one for one in told["subjects"]), (
        "nobody learns who takes part"
    )
    assert some and all(one.startswith(topics.ledger(world.bus)) for one in some)
    assert by_id.headers["content-type"] == "application/vnd.schemaregistry.v1+json"
    assert (wrong.status_code, wrong.json()["error_code"]) == (422, 42202)


async def test_every_schema_that_ever_had_an_id_is_served(world: World) -> None:
    async with world.running(), world.http() as http:
        answers: list[httpx.Response] = [await http.get(f"/schemas/ids/{one.id}") for one in registered()]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
