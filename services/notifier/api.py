"""The notifier's HTTP API: subscriptions, the event stream, and what became of deliveries. Each caller sees its own only."""

import logging
import math
from typing import Annotated, Literal, Self

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sse_starlette import EventSourceResponse

from referral_bus.access.caller import Caller
from referral_bus.contracts.ledger import EVENTS
from referral_bus.runtime.clock import Clock
from referral_bus.web.bodies import Given
from referral_bus.web.caller import CallerOf
from referral_bus.web.problems import Problem
from services.notifier.addresses import AddressRefused, AddressRules
from services.notifier.deliveries import Deliveries, DeliveryRow, ResentJustNow
from services.notifier.hearing import HearingRole
from services.notifier.secrets import WebhookSecrets
from services.notifier.streaming import Streams
from services.notifier.subscriptions import (
    MOST_EACH,
    Channel,
    Subscription,
    Subscriptions,
    TooManySubscriptions,
    new_subscription_id,
)

logger = logging.getLogger(__name__)

_TYPES = frozenset(event.event_type() for event in EVENTS)
_ROLES: tuple[HearingRole, ...] = ("agency", "provider", "operations")
_NUMBER = "[0-9]{1,18}"
"""The number of a notice: 18 digits always fit PostgreSQL's bigint."""
_RETRY_SECONDS = 5


class SubscriptionRequest(BaseModel):
    """What to hear of, and how. ``types`` are CloudEvents types of ledger events; without them, all."""

    model_config = ConfigDict(extra="forbid")

    channel: Channel
    role: HearingRole
    url: Annotated[str, Field(max_length=2_000)] | None = None
    types: (
        Annotated[list[Annotated[str, Field(max_length=128)]], Field(min_length=1, max_length=50)] | None
    ) = None

    @model_validator(mode="after")
    def _url_belongs_to_webhook(self) -> Self:
        if (self.url is not None) != (self.channel == "webhook"):
            raise ValueError("a webhook takes a 'url', the other channels take none")
        return self


class SubscriptionView(BaseModel):
    """A subscription. ``created_at`` in epoch milliseconds, UTC."""

    subscription: str
    channel: Channel
    role: HearingRole
    types: list[str] | None
    url: str | None
    created_at: int


class NewSubscription(SubscriptionView):
    """A subscription just made. ``secret`` verifies a webhook's signatures; it is shown this once."""

    secret: str | None


class SubscriptionList(BaseModel):
    """All subscriptions of the caller, oldest first."""

    subscriptions: list[SubscriptionView]


class DeliveryView(BaseModel):
    """One delivery by webhook or feed, and what became of it. Times in epoch milliseconds, UTC."""

    delivery: str
    subscription: str
    number: int
    type: str
    referral: str | None
    state: Literal["waiting", "delivered", "given_up", "withheld"]
    attempts: int
    reason: str | None
    due_at: int | None
    done_at: int | None


class DeliveryList(BaseModel):
    """A page, latest first. ``cursor`` gets the next one; None on the last."""

    deliveries: list[DeliveryView]
    cursor: str | None


class Resent(BaseModel):
    """How many deliveries are attempted anew."""

    resent: int


class Doors:
    """The routes, on the parts they need."""

    def __init__(
        self,
        *,
        subscriptions: Subscriptions,
        deliveries: Deliveries,
        streams: Streams,
        secrets: WebhookSecrets,
        rules: AddressRules,
        clock: Clock,
        resend_pause_ms: int,
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._streams = streams
        self._secrets = secrets
        self._rules = rules
        self._clock = clock
        self._resend_pause_ms = resend_pause_ms

    def install(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        router = APIRouter(prefix="/v1")
        router.add_api_route("/subscriptions", self.subscribe, methods=["POST"], status_code=201)
        router.add_api_route("/subscriptions", self.list_subscriptions, methods=["GET"])
        router.add_api_route(
            "/subscriptions/{subscription}",
            self.unsubscribe,
            methods=["DELETE"],
            status_code=204,
            response_class=Response,
        )
        router.add_api_route("/deliveries", self.list_deliveries, methods=["GET"])
        router.add_api_route("/deliveries/resend", self.resend, methods=["POST"])
        router.add_api_route("/stream", self.stream, methods=["GET"], response_class=EventSourceResponse)
        app.include_router(router)
        app.add_exception_handler(OperationalError, _unavailable)
        app.add_exception_handler(PoolTimeout, _unavailable)

    async def subscribe(self, request: Given[SubscriptionRequest], caller: CallerOf) -> NewSubscription:
        """Subscribe to what the organisation hears from now on, as an agency, as a provider, or as operations."""
        _in_role(caller, request.role)
        unknown = [name for name in request.types or [] if name not in _TYPES]
        if unknown:
            raise Problem(
                422,
                "unknown_type",
                "There is no such type of event. Take types of ledger events.",
                field="types",
            )
        if request.url is not None:
            try:
                self._rules.check(request.url)
            except AddressRefused as refused:
                raise Problem(422, refused.reason, str(refused), field="url") from None
        subscription = Subscription(
            subscription=new_subscription_id(),
            organisation=caller.organisation,
            channel=request.channel,
            role=request.role,
            types=request.types,
            url=request.url,
            created_at=self._clock.now(),
        )
        secret = self._secrets.new() if request.channel == "webhook" else None
        sealed = self._secrets.seal(subscription.subscription, secret) if secret is not None else None
        try:
            await self._subscriptions.add(subscription, sealed)
        except TooManySubscriptions:
            raise Problem(
                409,
                "too_many_subscriptions",
                f"An organisation has at most {MOST_EACH} subscriptions. Delete one first.",
            ) from None
        return NewSubscription(**_shown(subscription).model_dump(), secret=secret)

    async def list_subscriptions(self, caller: CallerOf) -> SubscriptionList:
        """The organisation's subscriptions."""
        return SubscriptionList(
            subscriptions=[_shown(one) for one in await self._subscriptions.of(caller.organisation)]
        )

    async def unsubscribe(
        self, subscription: Annotated[str, Path(pattern=r"^sb-[a-z2-7]{20}$")], caller: CallerOf
    ) -> Response:
        """End a subscription. What it has not delivered yet is not delivered any more."""
        if not await self._subscriptions.remove(caller.organisation, subscription):
            raise Problem(
                404,
                "unknown_subscription",
                "The organisation has no such subscription.",
                field="subscription",
            )
        return Response(status_code=204)

    async def list_deliveries(
        self,
        caller: CallerOf,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(pattern=rf"^{_NUMBER}\.sb-[a-z2-7]{{20}}$")] = None,
    ) -> DeliveryList:
        """What became of the organisation's deliveries, latest first."""
        number, _, subscription = (cursor or "").partition(".")
        before = (int(number), subscription) if cursor is not None else None
        rows = await self._deliveries.of(caller.organisation, before, limit)
        following = f"{rows[-1].number}.{rows[-1].subscription}" if len(rows) == limit else None
        return DeliveryList(deliveries=[_delivery(row) for row in rows], cursor=following)

    async def resend(self, caller: CallerOf) -> Resent:
        """Attempt the organisation's deliveries at once that wait for their next attempt, and those by webhook that were given up anew:
        its receiver is mended. What the receiver has already it recognises by the delivery's id. Now and then only: see Retry-After."""
        try:
            resent = await self._deliveries.resend(
                caller.organisation, self._clock.now(), self._resend_pause_ms
            )
        except ResentJustNow as before:
            seconds = math.ceil(before.wait_ms / 1000)
            raise Problem(
                429,
                "resent_just_now",
                f"The deliveries were sent again just now. See what became of them, and ask again in {seconds} s.",
                retry_after=seconds,
            ) from None
        return Resent(resent=resent)

    async def stream(
        self,
        caller: CallerOf,
        role: HearingRole | None = None,
        last_event_id: Annotated[str | None, Header(pattern=rf"^{_NUMBER}$")] = None,
    ) -> EventSourceResponse:
        """The organisation's notices as server-sent events (WHATWG HTML, section 9.2); the data of each is a Notice.

        ``id`` numbers them; send the last one as ``Last-Event-ID`` to go on behind it. Without, the stream begins with what
        happens next. ``sse`` subscriptions narrow it to what they cover; ``role`` narrows it to what is heard in that role.
        """
        if role is not None:
            _in_role(caller, role)
        roles = tuple(one for one in _ROLES if caller.has(one) and role in (None, one))
        wanted = await self._subscriptions.stream_filter(caller.organisation, roles)
        return await self._streams.open(wanted, None if last_event_id is None else int(last_event_id))


async def _unavailable(_: Request, __: Exception) -> Response:
    logger.warning("a request could not be answered: the database does not answer")
    return Problem(
        503, "unavailable", "The database does not answer. Try again shortly.", retry_after=_RETRY_SECONDS
    ).response()


def _in_role(caller: Caller, role: HearingRole) -> None:
    if not caller.has(role):
        raise Problem(403, "wrong_role", f"The token does not carry the role '{role}'.", field="role")


def _shown(subscription: Subscription) -> SubscriptionView:
    return SubscriptionView(
        subscription=subscription.subscription,
        channel=subscription.channel,
        role=subscription.role,
        types=subscription.types,
        url=subscription.url,
        created_at=subscription.created_at,
    )


def _delivery(row: DeliveryRow) -> DeliveryView:
    return DeliveryView(
        delivery=row.identity,
        subscription=row.subscription,
        number=row.number,
        type=row.type,
        referral=row.referral,
        state=row.result or "waiting",
        attempts=row.attempts,
        reason=row.last_reason,
        due_at=row.due_at if row.result is None else None,
        done_at=row.done_at,
    )
