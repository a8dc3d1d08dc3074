"""A demo on an outside Kafka or database finds a clean place and leaves a clean place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from referral_bus.embedded.bus import Plan
from referral_bus.log.access import KafkaAccess
from referral_bus.log.refusal import refusal
from referral_bus.log.topics import outbox
from referral_bus.runtime.settings import outside
from referral_bus.store.engine import new_engine

_SCHEMAS: Final = ("sealing", "intake", "notifier", "projections")


class Leftovers(Exception):
    """The place holds something already, or can't be reached; the message says what to do."""


@asynccontextmanager
async def cleared(plan: Plan, organisations: Iterable[str]) -> AsyncIterator[None]:
    """Make sure that nothing of a bus is there, and remove in the end what the demo put there. What is
    embedded goes with its folder.

    Raises Leftovers before anything is changed.
    """
    async with AsyncExitStack() as stack:
        if plan.kafka is not None:
            await stack.enter_async_context(
                _topics(outside(plan.kafka), plan.bus, [outbox(one) for one in organisations])
            )
        if plan.database is not None:
            await stack.enter_async_context(_schemas(plan.database))
        yield


@asynccontextmanager
async def _topics(access: KafkaAccess, bus: str, outboxes: list[str]) -> AsyncIterator[None]:
    there = await _ours(access, bus, outboxes, remove=False)
    if there:
        raise Leftovers(
            f"Kafka at {access.bootstrap} has topics of a bus already, such as "
            f"{sorted(there)[0]}. Give another Kafka, or delete them."
        )
    try:
        yield
    finally:
        await _ours(access, bus, outboxes, remove=True)


async def _ours(access: KafkaAccess, bus: str, outboxes: list[str], *, remove: bool) -> set[str]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=access.bootstrap, request_timeout_ms=15_000, **access.options
    )
    try:
        await admin.start()
        names = set(await admin.list_topics())
        ours = {name for name in names if name.startswith(f"refbus.{bus}.")} | names.intersection(outboxes)
        if remove and ours:
            await admin.delete_topics(sorted(ours))
        return ours
    except (KafkaError, OSError) as error:
        if (why := await refusal(access)) is not None:
            raise Leftovers(f"{why}.") from None
        raise Leftovers(
            f"Kafka at {access.bootstrap} can't be used ({type(error).__name__}). Check --kafka."
        ) from None
    finally:
        await admin.close()


@asynccontextmanager
async def _schemas(database: str) -> AsyncIterator[None]:
    there = await _existing(database, remove=False)
    if there:
        raise Leftovers(
            f"The database has the schema {there[0]} of a bus already. Give an empty one with --database."
        )
    try:
        yield
    finally:
        await _existing(database, remove=True)


async def _existing(database: str, *, remove: bool) -> list[str]:
    engine = new_engine(database, pool_size=1)
    try:
        async with engine.begin() as connection:
            found = await connection.scalars(
                text("select nspname from pg_namespace where nspname = any(:names) order by 1"),
                {"names": list(_SCHEMAS)},
            )
            there = [str(name) for name in found]
            if remove:
                for name in there:
                    await connection.execute(text(f'drop schema "{name}" cascade'))
            return there
    except (SQLAlchemyError, OSError) as error:
        raise Leftovers(f"The database can't be used ({type(error).__name__}). Check --database.") from None
    finally:
        await engine.dispose()
