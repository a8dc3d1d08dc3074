"""The typed routes: what people's programs say of a referral, an offer, a unit or a service, each thing by a route of its own."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Body, Header
from fastapi.responses import Response

from referral_bus.access.caller import Caller
from referral_bus.contracts.ids import ReferralId, ServiceId, SubmissionId, TaskId, UnitId
from referral_bus.contracts.message import Part
from referral_bus.contracts.requests import (
    AcceptBody,
    AcceptRequest,
    AcknowledgeRequest,
    AmendBody,
    AmendRequest,
    AnswerBody,
    AnswerRequest,
    AskBody,
    AskRequest,
    CapacityBody,
    CapacityRequest,
    ContactBody,
    ContactRequest,
    DeclineBody,
    DeclineRequest,
    FollowUpBody,
    FollowUpRequest,
    HandoffBody,
    HandoffRequest,
    HoldBody,
    HoldRequest,
    NoShowBody,
    NoShowRequest,
    OutcomeBody,
    OutcomeRequest,
    ProposeBody,
    ProposeRequest,
    ReferralRequest,
    ReopenBody,
    ReopenRequest,
    ResumeRequest,
    RetractBody,
    RetractRequest,
    ServiceRequest,
    SplitBody,
    SplitRequest,
    StartBody,
    StartRequest,
    TransferBody,
    TransferRequest,
    WithdrawBody,
    WithdrawRequest,
)
from referral_bus.contracts.services import ServiceDefinition
from referral_bus.web.bodies import Given
from referral_bus.web.caller import CallerOf
from services.intake.refusals import Refused, problem

Request = TypeVar("Request", bound=Part)
Say = Callable[[Part, Caller, str | None], Awaitable[Response]]
"""Admits a request of a caller under an id, and answers it."""

_Key = Annotated[
    SubmissionId | None,
    Header(
        alias="Idempotency-Key",
        description="The submission's id. Send a repeat with the same: it is answered like the first, and nothing is done twice.",
    ),
]


class Nothing(Part):
    """Nothing more is said than the path does."""


_Nothing = Annotated[Given[Nothing | None], Body()]
_Acceptance = Annotated[Given[AcceptBody | None], Body()]


class Typed:
    """The routes; what they are told goes to ``say``."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def install(self, router: APIRouter, taken: dict[str, Any]) -> None:
        """Add the routes; ``taken`` is what all of them have in common for the OpenAPI page."""
        for method, path, route, *tags in (
            ("POST", "/referrals", self.submit, _AGENCIES),
            ("POST", "/referrals/{referral}/amend", self.amend, _AGENCIES),
            ("POST", "/referrals/{referral}/hold", self.hold, _AGENCIES, _PROVIDERS),
            ("POST", "/referrals/{referral}/resume", self.resume, _AGENCIES, _PROVIDERS),
            ("POST", "/referrals/{referral}/transfer", self.transfer, _AGENCIES),
            ("POST", "/referrals/{referral}/split", self.split, _AGENCIES),
            ("POST", "/referrals/{referral}/reopen", self.reopen, _AGENCIES),
            ("POST", "/referrals/{referral}/withdraw", self.withdraw, _AGENCIES),
            ("POST", "/offers/{task}/answer", self.answer, _AGENCIES),
            ("POST", "/offers/{task}/acknowledge", self.acknowledge, _PROVIDERS),
            ("POST", "/offers/{task}/ask", self.ask, _PROVIDERS),
            ("POST", "/offers/{task}/accept", self.accept, _PROVIDERS),
            ("POST", "/offers/{task}/decline", self.decline, _PROVIDERS),
            ("POST", "/offers/{task}/propose", self.propose, _PROVIDERS),
            ("POST", "/referrals/{referral}/handoff", self.confirm_handoff, _AGENCIES, _PROVIDERS),
            ("POST", "/referrals/{referral}/contacts", self.contact, _PROVIDERS),
            ("POST", "/referrals/{referral}/no-show", self.no_show, _PROVIDERS),
            ("POST", "/referrals/{referral}/start", self.start, _PROVIDERS),
            ("POST", "/referrals/{referral}/outcome", self.outcome, _PROVIDERS),
            ("POST", "/referrals/{referral}/follow-up", self.follow_up, _AGENCIES, _PROVIDERS),
            ("POST", "/referrals/{referral}/retract", self.retract, _AGENCIES, _PROVIDERS),
            ("PUT", "/capacity/{unit}", self.report_capacity, _PROVIDERS),
            ("PUT", "/services/{service}", self.publish_service, _PROVIDERS),
        ):
            router.add_api_route(path, route, methods=[method], tags=list(tags), **taken)

    async def submit(self, body: Given[ReferralRequest], caller: CallerOf, key: _Key = None) -> Response:
        """Ask for help for a person. What concerns them is sealed before it goes anywhere.

        In mode *match* the bus chooses a service, in *direct* the referral names it, in *broadcast* several are asked at once and the
        first to accept gets the person, in *waitlist* the person waits in a fair order for a place that comes free."""
        return await self._say(body, caller, key)

    async def amend(
        self, referral: ReferralId, body: Given[AmendBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Correct a referral. What is given replaces what was said before: facts and identity as a whole. Once it is split, urgency and
        facts are corrected of its parts."""
        return await self._say(_request(AmendRequest, body, referral=referral), caller, key)

    async def hold(
        self, referral: ReferralId, body: Given[HoldBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Let it rest, until a date or until it is resumed. The agency may say so before a service has accepted: open offers end. The
        provider may once it has accepted: the place stays the person's. Said of what rests already, it replaces the reason and the date."""
        return await self._say(_request(HoldRequest, body, referral=referral), caller, key)

    async def resume(
        self, referral: ReferralId, caller: CallerOf, body: _Nothing = None, key: _Key = None
    ) -> Response:
        """Go on with what was put on hold. A referral is matched anew."""
        return await self._say(ResumeRequest(referral=referral), caller, key)

    async def transfer(
        self, referral: ReferralId, body: Given[TransferBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Hand a referral to another agency. From then on that one follows it, and only it may change it."""
        return await self._say(_request(TransferRequest, body, referral=referral), caller, key)

    async def split(
        self, referral: ReferralId, body: Given[SplitBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Split a referral whose needs no one service meets. Each part is a referral of its own, whose id is in ``parts`` of the answer;
        the whole is closed with the last of them."""
        return await self._say(_request(SplitRequest, body, referral=referral), caller, key)

    async def reopen(
        self, referral: ReferralId, body: Given[ReopenBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Take a closed referral up again, as long as its protocol allows. It is matched anew by the facts given here."""
        return await self._say(_request(ReopenRequest, body, referral=referral), caller, key)

    async def withdraw(
        self, referral: ReferralId, body: Given[WithdrawBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Take a referral back. A service that has begun goes on until its provider says what came of it. A referral that is closed can be
        taken back as entered in error alone."""
        return await self._say(_request(WithdrawRequest, body, referral=referral), caller, key)

    async def answer(
        self, task: TaskId, body: Given[AnswerBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Answer what a provider asked about its offer. The text is sealed; that provider can read it."""
        return await self._say(_request(AnswerRequest, body, task=task), caller, key)

    async def acknowledge(
        self, task: TaskId, caller: CallerOf, body: _Nothing = None, key: _Key = None
    ) -> Response:
        """Say that an offer was seen and will be answered. Its time runs on."""
        return await self._say(AcknowledgeRequest(task=task), caller, key)

    async def ask(self, task: TaskId, body: Given[AskBody], caller: CallerOf, key: _Key = None) -> Response:
        """Ask the agency for more before answering an offer, whose time runs on. The text is sealed; the agency can read it."""
        return await self._say(_request(AskRequest, body, task=task), caller, key)

    async def accept(
        self, task: TaskId, caller: CallerOf, body: _Acceptance = None, key: _Key = None
    ) -> Response:
        """Accept an offer. Of several offers of one referral the first acceptance counts, and the others end."""
        return await self._say(_request(AcceptRequest, body or AcceptBody(), task=task), caller, key)

    async def decline(
        self, task: TaskId, body: Given[DeclineBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Decline an offer, or give back a person who was accepted. What happens next follows from the reason."""
        return await self._say(_request(DeclineRequest, body, task=task), caller, key)

    async def propose(
        self, task: TaskId, body: Given[ProposeBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Propose another service: instead of the offer, or to take over a person who was accepted, who stays until it accepts."""
        return await self._say(_request(ProposeRequest, body, task=task), caller, key)

    async def confirm_handoff(
        self, referral: ReferralId, body: Given[HandoffBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Confirm that the person was handed over from the agency to the provider. Each of the two says so."""
        return await self._say(_request(HandoffRequest, body, referral=referral), caller, key)

    async def contact(
        self, referral: ReferralId, body: Given[ContactBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Say that it was tried to reach the person."""
        return await self._say(_request(ContactRequest, body, referral=referral), caller, key)

    async def no_show(
        self, referral: ReferralId, body: Given[NoShowBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Say that the person did not come."""
        return await self._say(_request(NoShowRequest, body, referral=referral), caller, key)

    async def start(
        self, referral: ReferralId, body: Given[StartBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Say that the service began. Said again with another time, it is recorded as a correction."""
        return await self._say(_request(StartRequest, body, referral=referral), caller, key)

    async def outcome(
        self, referral: ReferralId, body: Given[OutcomeBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Say what came of it. Said again after the referral was closed, it is recorded as a correction."""
        return await self._say(_request(OutcomeRequest, body, referral=referral), caller, key)

    async def follow_up(
        self, referral: ReferralId, body: Given[FollowUpBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Say how it is 30 or 90 days after the referral was completed. Said again, it is recorded as a correction."""
        return await self._say(_request(FollowUpRequest, body, referral=referral), caller, key)

    async def retract(
        self, referral: ReferralId, body: Given[RetractBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Take back a no-show, a contact or a confirmed handoff that one reported by mistake. The timeline has its sequence."""
        return await self._say(_request(RetractRequest, body, referral=referral), caller, key)

    async def report_capacity(
        self, unit: UnitId, body: Given[CapacityBody], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Say how many places a unit has, and how many are free."""
        return await self._say(_request(CapacityRequest, body, unit=unit), caller, key)

    async def publish_service(
        self, service: ServiceId, body: Given[ServiceDefinition], caller: CallerOf, key: _Key = None
    ) -> Response:
        """Offer a service as described from now on."""
        if body.service != service:
            raise problem(Refused("invalid", "service: another id than in the path.", field="service"))
        return await self._say(ServiceRequest(definition=body), caller, key)


_AGENCIES: Final = "agencies"
_PROVIDERS: Final = "providers"


def _request(request: type[Request], body: Part, **about: str) -> Request:
    """The request of a body and the id in the path. The body's parts are checked already, and taken as they are."""
    return request.model_validate({**dict(body), **about})
