"""Why no broker lets us in. aiokafka's clients tell one that refuses from one that is away in their log alone, and knock at both again
and again; whoever waits for them hears of a broker that does not answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from typing import Final

from aiokafka import errors as kafka_errors
from aiokafka.conn import create_conn, get_ip_port_afi

from referral_bus.log.access import KafkaAccess

ASK_SECONDS: Final = 5.0
"""For a broker to say why it lets nobody in."""


async def refusal(access: KafkaAccess) -> str | None:
    """Why no broker lets us in, in a sentence; None where one does, or none says that it does not."""
    if not access.options:
        return None
    found: list[str] = []
    for one in await asyncio.gather(*(_refused(access, address) for address in access.bootstrap.split(","))):
        if one == "":
            return None
        if one is not None:
            found.append(one)
    return found[0] if found else None


async def _refused(access: KafkaAccess, address: str) -> str | None:
    """Empty where this one lets us in; None where it says nothing."""
    host, port, _ = get_ip_port_afi(address)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            connection = await create_conn(
                host, port, request_timeout_ms=int(ASK_SECONDS * 1000), **access.options
            )
    except (OSError, TimeoutError, kafka_errors.KafkaError, ValueError) as error:
        for cause in _causes(error):
            if (said := _said(cause, access, address)) is not None:
                return said
        return None
    connection.close()
    return ""


def _said(error: BaseException, access: KafkaAccess, address: str) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of Kafka at {address} is not trusted ({error.verify_message}): check that REFBUS_KAFKA_CA names who signed "
            "it, and that it is for this host"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"Kafka at {address} does not agree on TLS ({error.reason}): check that this is a port for "
            f"{access.options['security_protocol']}, and REFBUS_KAFKA_CERTIFICATE where it asks for one"
        )
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError | kafka_errors.IllegalSaslStateError):
        return (
            f"Kafka at {address} does not take {access.options.get('sasl_mechanism', 'SASL')}: check REFBUS_KAFKA_PROTOCOL and "
            "REFBUS_KAFKA_MECHANISM against the listener's"
        )
    if isinstance(error, kafka_errors.SaslAuthenticationFailed | kafka_errors.AuthenticationFailedError):
        return (
            f"Kafka at {address} does not let in the user {access.user} by {access.options.get('sasl_mechanism')}: check "
            "REFBUS_KAFKA_USER and REFBUS_KAFKA_PASSWORD"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
