"""Forgetting a person: their keys are destroyed, and every region hears it."""

from __future__ import annotations

import logging

from referral_bus.access.caller import Caller
from referral_bus.contracts.ids import inbox_token
from referral_bus.contracts.inbox import ForgetSubject
from referral_bus.log.port import Appender
from referral_bus.runtime.clock import Clock
from referral_bus.runtime.logs import correlation
from referral_bus.sealing.digest import body_digest
from referral_bus.sealing.port import Keys
from referral_bus.sealing.pseudonym import subject_id
from referral_bus.sealing.secrets import Secrets
from referral_bus.wire.codec import Codec
from referral_bus.wire.inbox import submission_record
from services.intake.outages import RETRY_SECONDS
from services.intake.reference import ReferenceView
from services.intake.refusals import Refused

logger = logging.getLogger(__name__)


class Forgetting:
    """Forgets people for the agency that knows them, or for operations. ``topic`` is the inbox."""

    def __init__(
        self,
        *,
        view: ReferenceView,
        keys: Keys,
        appender: Appender,
        codec: Codec,
        secrets: Secrets,
        clock: Clock,
        topic: str,
    ) -> None:
        self._view = view
        self._keys = keys
        self._appender = appender
        self._codec = codec
        self._secrets = secrets
        self._clock = clock
        self._topic = topic

    @property
    def regions(self) -> int:
        """How many regions hear of it."""
        return len(self._view.reference.regions)

    def subject_of(self, reference: str, organisation: str | None, caller: Caller) -> str:
        """The pseudonym of the person whom the caller, or for operations ``organisation``, knows as ``reference``. Raises Refused."""
        whose = organisation or caller.organisation
        if caller.has("operations"):
            if organisation is None and not caller.has("agency"):
                raise Refused("invalid", "organisation: say whose reference it is.", field="organisation")
        elif not caller.has("agency"):
            raise Refused("role_missing", "It takes the role agency or operations.", field="Authorization")
        elif whose != caller.organisation:
            raise Refused("not_yourself", field="organisation")
        return subject_id(self._secrets.pseudonym_key, whose, reference)

    async def forget(self, subject: str, caller: Caller) -> dict[str, str]:
        """Destroy the subject's keys and tell every region; returns the inbox tokens by region. To repeat it does no harm, and
        finishes what an outage interrupted. Raises Refused, and what Kafka and the key store raise."""
        if not self._view.ready:
            raise Refused(
                "unavailable", "Intake has not read the reference data yet.", retry_after=RETRY_SECONDS
            )
        body = ForgetSubject(subject=subject)
        digest = body_digest(self._secrets.digest_key, body.event_type(), body)
        regions = sorted(self._view.reference.regions.items())
        # The log first: once it is there, the notifier destroys the keys as it reads of it, and every service that starts, whatever becomes
        # of this one.
        positions = await self._appender.append(
            [
                submission_record(
                    body,
                    codec=self._codec,
                    topic=self._topic,
                    partition=partition,
                    region=region,
                    # Not to be guessed: an id that was used before would have the region refuse this one.
                    id=f"forget.{digest.hex()}",
                    organisation=caller.organisation,
                    sent_at=self._clock.now(),
                    digest=digest,
                    about=subject,
                    correlation=correlation(),
                )
                for region, partition in regions
            ]
        )
        await self._keys.destroy([subject])
        logger.info("the subject %s was forgotten for %s", subject, caller.organisation)
        return {
            region: inbox_token(region, at.partition, at.offset)
            for (region, _), at in zip(regions, positions, strict=True)
        }
