"""Who calls: the bearer token of a request, verified, as a FastAPI dependency."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from referral_bus.access.caller import Caller
from referral_bus.access.tokens import TokenRefused, TokenVerifier
from referral_bus.web.problems import Problem

_bearer = HTTPBearer(
    auto_error=False, bearerFormat="JWT", description="`refbus token` issues one for development."
)


async def caller_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """The organisation that calls. Raises a 401 problem where the token is missing or refused."""
    if credentials is None:
        raise Problem(
            401,
            "no_token",
            "Send the organisation's token: 'Authorization: Bearer TOKEN'.",
            field="Authorization",
        )
    verifier: TokenVerifier = request.app.state.verifier
    try:
        caller = await verifier.verify(credentials.credentials)
    except TokenRefused as error:
        raise Problem(401, "token_refused", str(error), field="Authorization") from None
    request.state.caller = caller
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]
