"""The bus over HTTP: submit and answer, ask the views, follow what happens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from referral_bus.client import retry
from referral_bus.client.answers import Answer, Heard, Page, Row
from referral_bus.client.errors import BusError, Refused, Unavailable, from_fields, from_problem
from referral_bus.client.events import new_id
from referral_bus.client.notices import notice_of
from referral_bus.client.sse import server_sent
from referral_bus.client.tokens import TokenSource
from referral_bus.contracts.facts import Facts, Identity
from referral_bus.contracts.message import Message, Part
from referral_bus.contracts.published import KIND_OF
from referral_bus.contracts.requests import (
    AcceptBody,
    AmendBody,
    AnswerBody,
    AskBody,
    CapacityBody,
    ContactBody,
    DeclineBody,
    FollowUpBody,
    HandoffBody,
    HoldBody,
    NoShowBody,
    OutcomeBody,
    PartRequest,
    ProposeBody,
    ReferralRequest,
    ReopenBody,
    RetractBody,
    SplitBody,
    StartBody,
    TransferBody,
    WithdrawBody,
)
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.contracts.vocabulary import (
    Channel,
    DeclineReason,
    FollowUpDay,
    HoldReason,
    Means,
    OutcomeCause,
    OutcomeResult,
    ReopenReason,
    Role,
    Urgency,
    WithdrawReason,
)
from referral_bus.wire.cloudevents import BATCH

logger = logging.getLogger(__name__)

Show = Literal["facts", "identity", "outcome", "exchange", "matches"]
"""What of a person a query shows, where the caller may see it: ``outcome`` the notes that came with it, ``exchange`` questions and answers,
``matches`` how services were judged, in sentences. Each showing is recorded first."""


class Paging(TypedDict, total=False):
    """Which part of a view: ``after`` is an answer's token, ``wait`` how many seconds to wait for it, ``limit`` how many rows at most, and
    ``cursor`` that of the page before."""

    after: str | None
    wait: float | None
    limit: int | None
    cursor: str | None


PATIENCE_SECONDS = 60.0
_REQUEST_SECONDS = 30.0
_QUIET_SECONDS = 60.0
"""A stream that says nothing for this long, not even a comment, is taken for dead."""


class Bus:
    """One organisation's way to the bus. Use it as an async context manager, or call :meth:`close`.

    ``intake``, ``queries`` and ``notifier`` are base addresses; one that is not given can't be used. Where
    the bus can't be reached, or says 429 or 503, the same request with the same Idempotency-Key is sent again
    until ``patience`` seconds are over, waiting at least as long as Retry-After says. Every method raises a
    :class:`~referral_bus.client.errors.BusError`.
    """

    def __init__(
        self,
        token: TokenSource,
        *,
        intake: str | None = None,
        queries: str | None = None,
        notifier: str | None = None,
        patience: float = PATIENCE_SECONDS,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._token = token
        self._addresses = {"intake": intake, "queries": queries, "notifier": notifier}
        self._patience = patience
        self._owned = http is None
        self._http = http or httpx.AsyncClient(timeout=_REQUEST_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; an ``http`` client that was given stays open."""
        if self._owned:
            await self._http.aclose()

    # What an agency says.

    async def submit(self, request: ReferralRequest, *, id: str | None = None) -> Answer:
        """Ask for help for a person. Keep ``id`` and give it again to repeat safely."""
        return await self._say("POST", "/v1/referrals", _body(request), id)

    async def amend(
        self,
        referral: str,
        *,
        urgency: Urgency | None = None,
        facts: Facts | None = None,
        identity: Identity | None = None,
        id: str | None = None,
    ) -> Answer:
        """Correct a referral: what is given replaces what was said before."""
        body = AmendBody(urgency=urgency, facts=facts, identity=identity)
        return await self._of_referral(referral, "amend", body, id)

    async def hold(
        self, referral: str, reason: HoldReason, until: int | None = None, *, id: str | None = None
    ) -> Answer:
        """Let it rest until a moment (epoch milliseconds UTC), or for as long as its protocol lets it, or until it is
        resumed: as its agency before a service has accepted it, as the provider that has accepted it afterwards. Of
        what rests already it replaces the reason and the date."""
        return await self._of_referral(referral, "hold", HoldBody(reason=reason, until=until), id)

    async def resume(self, referral: str, *, id: str | None = None) -> Answer:
        """Go on with what was put on hold."""
        return await self._of_referral(referral, "resume", None, id)

    async def transfer(self, referral: str, agency: str, *, id: str | None = None) -> Answer:
        """Hand a referral to another agency, which follows it from then on."""
        return await self._of_referral(referral, "transfer", TransferBody(agency=agency), id)

    async def split(self, referral: str, parts: Sequence[PartRequest], *, id: str | None = None) -> Answer:
        """Split a referral into referrals of their own. Their ids are in the answer's ``parts``, in the same
        order."""
        return await self._of_referral(referral, "split", SplitBody(parts=list(parts)), id)

    async def reopen(
        self, referral: str, reason: ReopenReason, facts: Facts, *, id: str | None = None
    ) -> Answer:
        """Take a closed referral up again, by facts given anew."""
        return await self._of_referral(referral, "reopen", ReopenBody(reason=reason, facts=facts), id)

    async def withdraw(self, referral: str, reason: WithdrawReason, *, id: str | None = None) -> Answer:
        """Take a referral back. A service that has begun goes on until its provider says what came of it. A referral that is closed can be
        taken back as ``entered_in_error`` alone."""
        return await self._of_referral(referral, "withdraw", WithdrawBody(reason=reason), id)

    async def answer(self, task: str, answer: str, *, id: str | None = None) -> Answer:
        """Answer what a provider asked about an offer. The text is sealed."""
        return await self._of_offer(task, "answer", AnswerBody(answer=answer), id)

    async def forget(self, subject: str, *, organisation: str | None = None) -> Row:
        """Destroy the keys of a person, so that nothing sealed of them can be opened any more; it can't be
        undone.

        ``subject`` is the bus's pseudonym (``sj-...``), or the agency's own reference for the person.
        Operations name the ``organisation`` whose reference it is.
        """
        if subject.startswith("sj-"):
            return await self._object("DELETE", f"/v1/subjects/{_path(subject)}")
        body = (
            {"subject": subject}
            if organisation is None
            else {"subject": subject, "organisation": organisation}
        )
        return await self._object("POST", "/v1/subjects/forget", json=body)

    # What a provider says of an offer or a referral.

    async def acknowledge(self, task: str, *, id: str | None = None) -> Answer:
        """Say that an offer was seen and will be answered."""
        return await self._of_offer(task, "acknowledge", None, id)

    async def accept(self, task: str, starts_at: int | None = None, *, id: str | None = None) -> Answer:
        """Accept an offer; ``starts_at``, in epoch milliseconds UTC, says when the service begins."""
        return await self._of_offer(task, "accept", AcceptBody(starts_at=starts_at), id)

    async def decline(
        self,
        task: str,
        reason: DeclineReason,
        until: int | None = None,
        *,
        gives_back: bool = False,
        id: str | None = None,
    ) -> Answer:
        """Decline an offer and say why; with ``gives_back`` it is about a person who was accepted. ``until``, in
        epoch milliseconds UTC, goes with the reasons ``full_until`` and ``person_not_ready``."""
        body = DeclineBody(reason=reason, until=until, gives_back=gives_back)
        return await self._of_offer(task, "decline", body, id)

    async def ask(self, task: str, question: str, *, id: str | None = None) -> Answer:
        """Ask the agency for more before answering an offer. The text is sealed."""
        return await self._of_offer(task, "ask", AskBody(question=question), id)

    async def propose(self, task: str, service: str, *, id: str | None = None) -> Answer:
        """Propose another service, instead of an offer or to take over a person who was accepted."""
        return await self._of_offer(task, "propose", ProposeBody(service=service), id)

    async def contact(
        self, referral: str, channel: Channel, reached: bool, tried_at: int, *, id: str | None = None
    ) -> Answer:
        """Say that it was tried to reach the person; ``tried_at`` in epoch milliseconds UTC."""
        body = ContactBody(channel=channel, reached=reached, tried_at=tried_at)
        return await self._of_referral(referral, "contacts", body, id)

    async def no_show(self, referral: str, missed_at: int, *, id: str | None = None) -> Answer:
        """Say that the person did not come; ``missed_at`` in epoch milliseconds UTC."""
        return await self._of_referral(referral, "no-show", NoShowBody(missed_at=missed_at), id)

    async def start(self, referral: str, started_at: int, *, id: str | None = None) -> Answer:
        """Say that the service began; ``started_at`` in epoch milliseconds UTC. Said again with another time, it is a correction."""
        return await self._of_referral(referral, "start", StartBody(started_at=started_at), id)

    async def outcome(
        self,
        referral: str,
        result: OutcomeResult,
        note: str | None = None,
        cause: OutcomeCause | None = None,
        *,
        ended_at: int | None = None,
        id: str | None = None,
    ) -> Answer:
        """Say what came of it, and why. The note is sealed. Said again, it is a correction. ``ended_at`` (epoch milliseconds, UTC) is
        when the service ended, where that was earlier: follow-ups count from it."""
        body = OutcomeBody(result=result, note=note, cause=cause, ended_at=ended_at)
        return await self._of_referral(referral, "outcome", body, id)

    # What either of them says.

    async def confirm_handoff(
        self, referral: str, means: Means, confirmed_at: int, *, id: str | None = None
    ) -> Answer:
        """Confirm that the person was handed over from agency to provider; ``confirmed_at`` in epoch milliseconds
        UTC."""
        body = HandoffBody(means=means, confirmed_at=confirmed_at)
        return await self._of_referral(referral, "handoff", body, id)

    async def follow_up(
        self,
        referral: str,
        days: FollowUpDay,
        result: OutcomeResult,
        note: str | None = None,
        *,
        id: str | None = None,
    ) -> Answer:
        """Say how it is so many days after the referral was completed. The note is sealed. Said again, it is a correction."""
        body = FollowUpBody(days=days, result=result, note=note)
        return await self._of_referral(referral, "follow-up", body, id)

    async def retract(self, referral: str, sequence: int, *, id: str | None = None) -> Answer:
        """Take back a no-show, a contact or a confirmed handoff that one reported by mistake: the event that the timeline has under this
        ``sequence``."""
        return await self._of_referral(referral, "retract", RetractBody(sequence=sequence), id)

    # What a provider says of its services.

    async def report_capacity(
        self, unit: str, total: int, available: int, true_at: int, *, id: str | None = None
    ) -> Answer:
        """Say how many places a unit has and how many are free, counted at ``true_at`` (epoch milliseconds
        UTC)."""
        report = CapacityBody(total=total, available=available, true_at=true_at)
        return await self._say("PUT", f"/v1/capacity/{_path(unit)}", _body(report), id)

    async def publish_service(self, definition: ServiceDefinition, *, id: str | None = None) -> Answer:
        """Offer a service as described from now on."""
        return await self._say(
            "PUT", f"/v1/services/{_path(definition.service)}", definition.model_dump(mode="json"), id
        )

    # What anybody or operations say.

    async def send(self, events: Sequence[dict[str, Any]]) -> list[Answer | BusError]:
        """Send structured CloudEvents as one batch; the answers are in the same order, an error for each that
        was refused.

        Make them with :func:`~referral_bus.client.events.cloud_event`: each carries its own id, so the batch
        can be repeated as a whole.
        """
        response = await self._request(
            "intake", "POST", "/v1/events", json=list(events), headers={"content-type": BATCH}
        )
        said = _json(response)
        results = said if isinstance(said, list) else said.get("results") if isinstance(said, dict) else None
        if not isinstance(results, list) or len(results) != len(events):
            raise BusError(
                "Intake answered the batch with another number of results. Is this the address of intake?"
            )
        return [_result(result) for result in results]

    async def publish(self, message: Message) -> Row:
        """Publish a version of reference data. Operations only. Raises TypeError for what is no reference data."""
        kind = KIND_OF.get(type(message))
        if kind is None:
            raise TypeError(f"{type(message).__name__} is no reference data")
        return await self._object(
            "POST", "/v1/reference", json={"kind": kind, "content": message.model_dump(mode="json")}
        )

    async def intake_key(self) -> str:
        """Intake's public key as a JWK (JSON text): outboxes are sealed to it."""
        return (await self._request("intake", "GET", "/v1/keys")).text

    # What the views know.

    async def timeline(
        self, referral: str, *, after: str | None = None, wait: float | None = None, show: Show | None = None
    ) -> Row:
        """Where a referral stands and what happened to it. ``after`` is an answer's token: the view then
        reflects that submission, for which the query waits up to ``wait`` seconds."""
        path = f"/v1/referrals/{_path(referral)}"
        return await self._object(
            "GET", path, of="queries", params=_params(after=after, wait=wait, show=show)
        )

    async def caseload(self, **paging: Unpack[Paging]) -> Page:
        """The agency's referrals."""
        return await self._page("caseload", paging)

    async def inbox(self, **paging: Unpack[Paging]) -> Page:
        """What is offered to the provider, and what it has accepted."""
        return await self._page("inbox", paging)

    async def capacity(self, *, mine: bool | None = None, **paging: Unpack[Paging]) -> Page:
        """Units with their places: in all, taken, held and free. ``mine``: only the organisation's own."""
        return await self._page("capacity", paging, mine=mine)

    async def queue(self, *, mine: bool | None = None, **paging: Unpack[Paging]) -> Page:
        """What waits for somebody, overdue first. ``mine``: only what the organisation itself must do."""
        return await self._page("queue", paging, mine=mine)

    async def waiting_list(self, **paging: Unpack[Paging]) -> Page:
        """The agency's referrals that wait for a place, each with its place in every line it stands in."""
        return await self._page("waiting-list", paging)

    async def submissions(self, **paging: Unpack[Paging]) -> Page:
        """What the organisation sent that was refused, or had to wait for what it refers to."""
        return await self._page("submissions", paging)

    async def references(
        self, *, kind: str | None = None, region: str | None = None, **paging: Unpack[Paging]
    ) -> Page:
        """What the regions decide by (policies, protocols, calendars, organisations, vocabularies), and the services that are published,
        without their content."""
        return await self._page("reference", paging, kind=kind, region=region)

    async def reference(self, kind: str, name: str, region: str, version: int | None = None) -> Row:
        """One of what a region decides by, or a service, with its content; the latest version, unless another is asked for."""
        path = f"/v1/reference/{_path(kind)}/{_path(name)}"
        return await self._object("GET", path, of="queries", params=_params(region=region, version=version))

    # What happens.

    async def deliveries(self, limit: int = 50, cursor: str | None = None) -> Row:
        """What became of the organisation's deliveries by webhook and feed, latest first; ``cursor`` as the last page gave it."""
        params = _params(limit=limit, cursor=cursor)
        return await self._object("GET", "/v1/deliveries", of="notifier", params=params)

    async def resend_deliveries(self) -> int:
        """Have deliveries attempted at once that wait for their next attempt or were given up, now that the receiver is mended; returns
        how many."""
        said = await self._object("POST", "/v1/deliveries/resend", of="notifier")
        return int(said["resent"])

    async def follow(
        self, role: Role | None = None, *, last_event_id: str | None = None
    ) -> AsyncGenerator[Heard, None]:
        """The organisation's notices as they happen, without end. After a broken connection it goes on where
        it was, so each notice comes at least once, in order within a referral. Give ``last_event_id`` to go
        on where another process was.

        Raises :class:`Unavailable` when there was no connection for as long as there is patience.
        """
        tries, deadline = 0, time.monotonic() + self._patience
        while True:
            failure: BusError | None = None
            try:
                async for heard in self._stream(role, last_event_id):
                    tries, deadline = 0, time.monotonic() + self._patience
                    last_event_id = heard.id or last_event_id
                    yield heard
            except httpx.TransportError as error:
                failure = Unavailable(f"The notifier can't be reached: {type(error).__name__}.")
            except Unavailable as error:
                failure = error
            tries += 1
            wait = retry.pause(tries, failure.retry_after if failure is not None else None)
            if failure is not None and time.monotonic() + wait > deadline:
                raise failure
            await asyncio.sleep(wait)

    async def _stream(self, role: Role | None, last_event_id: str | None) -> AsyncIterator[Heard]:
        headers = {**self._authorization(), "accept": "text/event-stream"}
        if last_event_id is not None:
            headers["last-event-id"] = last_event_id
        async with self._http.stream(
            "GET",
            self._url("notifier", "/v1/stream"),
            params={} if role is None else {"role": role},
            headers=headers,
            timeout=httpx.Timeout(_REQUEST_SECONDS, read=_QUIET_SECONDS),
        ) as response:
            if response.status_code != 200:
                asked = retry.retry_after(response.headers.get("retry-after"))
                raise from_problem(response.status_code, await response.aread(), asked)
            async for sent in server_sent(response.aiter_lines()):
                yield Heard(sent.id, notice_of(sent.data))

    # How it is asked.

    async def _of_referral(self, referral: str, verb: str, body: Part | None, id: str | None) -> Answer:
        return await self._say("POST", f"/v1/referrals/{_path(referral)}/{verb}", _body(body), id)

    async def _of_offer(self, task: str, verb: str, body: Part | None, id: str | None) -> Answer:
        return await self._say("POST", f"/v1/offers/{_path(task)}/{verb}", _body(body), id)

    async def _say(self, method: str, path: str, body: Row, id: str | None) -> Answer:
        headers = {"idempotency-key": new_id() if id is None else id}
        response = await self._request("intake", method, path, json=body, headers=headers)
        try:
            return Answer.model_validate_json(response.content)
        except ValidationError:
            raise BusError(f"The answer to {method} {path} is not intake's. Is this its address?") from None

    async def _page(self, view: str, paging: Paging, **others: object) -> Page:
        said = await self._object("GET", f"/v1/{view}", of="queries", params=_params(**paging, **others))
        return Page.model_validate(said)

    async def _object(self, method: str, path: str, *, of: str = "intake", **request: Any) -> Row:
        said = _json(await self._request(of, method, path, **request))
        if not isinstance(said, dict):
            raise BusError(f"The answer to {method} {path} is not a JSON object. Is this the right address?")
        return said

    async def _request(
        self, service: str, method: str, path: str, *, headers: dict[str, str] | None = None, **request: Any
    ) -> httpx.Response:
        url, deadline, tries = self._url(service, path), time.monotonic() + self._patience, 0
        while True:
            tries += 1
            failure: BusError
            try:
                response = await self._http.request(
                    method, url, headers={**self._authorization(), **(headers or {})}, **request
                )
            except httpx.TransportError as error:
                failure = Unavailable(f"{service} can't be reached at {url}: {type(error).__name__}.")
            else:
                if response.is_success:
                    return response
                asked = retry.retry_after(response.headers.get("retry-after"))
                failure = from_problem(response.status_code, response.content, asked)
                if response.status_code not in retry.AGAIN:
                    raise failure
            wait = retry.pause(tries, failure.retry_after)
            if time.monotonic() + wait > deadline:
                raise failure
            logger.info("%s, trying again in %.1f s", failure.code, wait)
            await asyncio.sleep(wait)

    def _url(self, service: str, path: str) -> str:
        address = self._addresses[service]
        if address is None:
            raise Refused(
                f"The address of {service} was not given: pass {service}=... to the client.",
                code="no_address",
            )
        return address.rstrip("/") + path

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token()}"}


def _body(body: Part | None) -> Row:
    return {} if body is None else body.model_dump(mode="json", exclude_none=True)


def _path(part: str) -> str:
    return quote(part, safe="")


def _params(**given: object) -> dict[str, str]:
    return {name: str(value) for name, value in given.items() if value is not None}


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise BusError("The answer is not JSON. Is this the right address?") from None


def _result(result: Any) -> Answer | BusError:
    if not isinstance(result, dict) or not isinstance(result.get("status"), int):
        raise BusError(
            "Intake answered the batch with something that is no result. Is this the address of intake?"
        )
    if result["status"] < 300:
        return Answer.model_validate(result)
    return from_fields(result["status"], result)
