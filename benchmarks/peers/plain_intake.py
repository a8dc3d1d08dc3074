"""``python -m benchmarks.peers.plain_intake BOOTSTRAP TOPIC PORT``: an intake as one would first write it, with FastAPI and aiokafka.

It validates the same models and answers 202 once Kafka has acknowledged (acks=all, idempotent). Less than the bus does: no token is
verified and nobody's right to speak is looked up, nothing is sealed, no key is made, no repeat is recognised (there is no database), and
nothing is counted.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from benchmarks.processes import collect_as_services_do
from benchmarks.stage import PARTITIONS
from referral_bus.contracts.requests import ReferralRequest
from referral_bus.log.kafka import PRODUCER


class Event(BaseModel):
    """A CloudEvent that submits a referral."""

    id: str
    source: str
    type: str
    data: ReferralRequest


def application(bootstrap: str, topic: str) -> FastAPI:
    producer: AIOKafkaProducer

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal producer
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **PRODUCER)
        await producer.start()
        yield
        await producer.stop()

    app = FastAPI(lifespan=lifespan)

    async def append(ids: list[str], requests: list[ReferralRequest]) -> list[dict[str, Any]]:
        waiting = []
        for id, request in zip(ids, requests, strict=True):
            region = (request.region or "").encode()
            partition = int.from_bytes(hashlib.sha256(region).digest()[:2], "big") % PARTITIONS
            waiting.append(
                await producer.send(
                    topic,
                    request.model_dump_json().encode(),
                    region,
                    partition,
                    headers=[("ce_id", id.encode())],
                )
            )
        done = await asyncio.gather(*waiting)
        return [
            {"status": 202, "id": id, "partition": at.partition, "offset": at.offset}
            for id, at in zip(ids, done, strict=True)
        ]

    @app.post("/v1/referrals", status_code=202)
    async def referrals(body: ReferralRequest, idempotency_key: Annotated[str, Header()]) -> dict[str, Any]:
        [answer] = await append([idempotency_key], [body])
        return answer

    @app.post("/v1/events")
    async def events(body: list[Event]) -> JSONResponse:
        answers = await append([event.id for event in body], [event.data for event in body])
        return JSONResponse({"results": answers}, 207)

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    return app


if __name__ == "__main__":
    collect_as_services_do()
    uvicorn.run(
        application(sys.argv[1], sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[3]),
        access_log=False,
        log_level="warning",
    )
