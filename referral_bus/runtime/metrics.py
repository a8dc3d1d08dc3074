"""Every metric of the bus, with its meaning. Labels take values from closed sets only: services, reasons, kinds, partitions, the
eleven widest kinds of help, and the regions of the published table. Never an organisation: nobody knows how many there will be (see
:data:`REFUSED_BY_ONE`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
_SLOW = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600)
_DAYS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800, 604800, 2592000)

READY = Gauge("refbus_ready", "1 where the service may be sent work, else 0: as /readyz says")
HINDERED = Gauge(
    "refbus_hindered",
    "1 where a part can't serve that the service is ready without, else 0: /readyz says which, and why",
)
EXPIRES = Gauge(
    "refbus_expires_timestamp_seconds",
    "When what the service is given ends to be valid: certificate files by name, and token_keys, the last of the key set",
    ["what"],
)
KEY_SET_READ = Gauge(
    "refbus_key_set_read_timestamp_seconds",
    "When the key set was last read by which tokens are verified; after an hour without that a new key of its issuer may be unknown here",
    ["what"],
)
TOKENS_REFUSED_SECONDS = Gauge(
    "refbus_tokens_refused_seconds",
    "For how long tokens have been refused and none taken between: from the first to the last of ten or more, else 0; the log says why",
    ["what"],
)

SERVICES: Final = ("intake", "matching", "notifier", "projections")


class Shown(Collector):
    """What one service shows: its own metrics, and those that are no one service's. The metrics of another would stand at 0, as if it
    ran here and had nothing to do."""

    def __init__(self, service: str) -> None:
        self._others = tuple(f"refbus_{name}_" for name in SERVICES if name != service)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        return (metric for metric in REGISTRY.collect() if not metric.name.startswith(self._others))


LAG = Gauge(
    "refbus_lag_records",
    "Records between the position of a service and the end of what it reads",
    ["topic", "partition"],
)
POSITION = Gauge(
    "refbus_position_offset", "The next offset a service is to work through", ["topic", "partition"]
)
DEAD_LETTERS = Counter("refbus_dead_letters_total", "Records put to the dead letters", ["reason"])
for _reason in ("undecidable", "unreadable", "internal", "not_sealed", "untold"):
    DEAD_LETTERS.labels(_reason)  # from 0 on, so that the first is an increase
REFUSED_BY_ONE = Gauge(
    "refbus_refused_by_one",
    "Submissions refused in ten minutes of the one organisation that had the most; the log says which it is",
    ["where"],
)
REFUSED_IN_A_ROW = Gauge(
    "refbus_refused_in_a_row",
    "Submissions refused one after the other, with none taken between, of the one organisation that had the most; the log says which it is",
    ["where"],
)

SUBMISSIONS = Counter(
    "refbus_intake_submissions_total", "Submissions by what became of them at the border", ["door", "result"]
)
REFUSED_AT_BORDER = Counter(
    "refbus_intake_refused_total", "Submissions and requests of operations refused at the border", ["reason"]
)
ADMISSION_SECONDS = Histogram(
    "refbus_intake_admission_seconds", "From a request's arrival to Kafka's acknowledgement", buckets=_FAST
)
OUTBOX_STILL_SECONDS = Gauge(
    "refbus_intake_outbox_still_seconds",
    "For how long the outbox that has stood still longest has done so, though records wait on it; the log says which it is",
)
RELAYED = Counter("refbus_intake_relayed_total", "Adoptions of reference data put to regions", ["kind"])

DECISION_SECONDS = Histogram(
    "refbus_matching_decision_seconds",
    "From a submission's append on the inbox to the commit of what was decided of it, by the broker's and the worker's clock",
    buckets=_FAST,
)
DECIDED = Counter("refbus_matching_decided_total", "Submissions decided", ["type"])
REFUSED = Counter("refbus_matching_refused_total", "Submissions refused on the ledger", ["reason"])
OFFERS_OPEN = Gauge("refbus_matching_offers_open", "Offers that wait for an answer", ["partition"])
REFERRALS_ACTIVE = Gauge("refbus_matching_referrals_active", "Referrals that are not closed", ["partition"])
CLOSED = Counter(
    "refbus_matching_closed_total",
    "Referrals closed, by why and by what came of them; result none: nobody served the person",
    ["reason", "result"],
)
DECLINED = Counter(
    "refbus_matching_declined_total",
    "Offers that were declined and persons who were given back, by whose no it is (client or provider, as HUD counts them) and by reason",
    ["side", "reason"],
)
UNMATCHED = Counter("refbus_matching_unmatched_total", "Matches that found no service", ["urgency"])
for _urgency in ("crisis", "urgent", "routine"):
    UNMATCHED.labels(_urgency)
NEEDS = Counter(
    "refbus_matching_needs_total",
    "Kinds of help that referrals were matched for, each match anew, by whether a service was found; other: of no shipped vocabulary",
    ["need", "result"],
)
REFERRAL_SECONDS = Histogram(
    "refbus_matching_referral_seconds",
    "From a referral's opening to the stage: acknowledged, accepted, started (the service, as its provider says)",
    ["stage", "urgency"],
    buckets=_DAYS,
)
UNACCEPTED = Gauge(
    "refbus_matching_unaccepted", "Referrals that could be accepted and are not", ["region", "urgency"]
)
UNACCEPTED_SECONDS = Gauge(
    "refbus_matching_unaccepted_oldest_seconds", "How long the longest of them waits", ["region", "urgency"]
)
CRISIS_OVERDUE = Gauge(
    "refbus_matching_crisis_overdue",
    "Crisis referrals that nobody accepted in the time their protocol gives one offer",
    ["region"],
)
WAITLISTED = Gauge("refbus_matching_waitlisted", "Referrals that wait for a place to come free", ["region"])
PLACES = Gauge(
    "refbus_matching_places",
    "Places of the services offered: free, held by offers, taken",
    ["region", "state"],
)
PLACES_STALE = Gauge(
    "refbus_matching_places_stale", "Free places that no provider has counted for a day", ["region"]
)
EXPIRED = Counter("refbus_matching_offers_expired_total", "Offers nobody answered in time")
REGION_MESSAGES = Counter(
    "refbus_matching_region_messages_total",
    "Messages put on other regions' inboxes; unroutable: not put, since the region table does not name the region",
    ["type"],
)
REGION_MESSAGES.labels("unroutable")
BATCH_RECORDS = Histogram(
    "refbus_matching_batch_records",
    "Inbox records decided in one transaction",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
)
COMMIT_SECONDS = Histogram(
    "refbus_matching_commit_seconds", "One transaction's round to the broker", buckets=_FAST
)
REBUILD_PROGRESS = Gauge(
    "refbus_rebuild_progress_ratio",
    "How much of a rebuild is done, 0 to 1; 1 when none is under way",
    ["partition"],
)
TRANSACTIONS_FAILED = Counter(
    "refbus_matching_transactions_failed_total", "Transactions that did not commit", ["reason"]
)
for _reason in ("fenced", "unavailable", "log", "work"):
    TRANSACTIONS_FAILED.labels(_reason)

DELIVERY_ATTEMPTS = Counter(
    "refbus_notifier_attempts_total",
    "Attempts to deliver a notice, by what came of them",
    ["channel", "result"],
)
DELIVERIES_GIVEN_UP = Counter(
    "refbus_notifier_given_up_total", "Deliveries nobody took until the time for trying was over", ["channel"]
)
for _channel in ("webhook", "feed"):
    DELIVERIES_GIVEN_UP.labels(_channel)
    for _result in ("delivered", "failed", "withheld"):
        DELIVERY_ATTEMPTS.labels(_channel, _result)
DELIVERIES_WAITING = Gauge("refbus_notifier_deliveries_waiting", "Deliveries that are not done yet")
OLDEST_DUE_SECONDS = Gauge(
    "refbus_notifier_oldest_due_seconds", "For how long a delivery has been due that nobody attempts"
)
OLDEST_FAILED_SECONDS = Gauge(
    "refbus_notifier_oldest_failed_seconds",
    "How long the oldest delivery has waited that is not taken though it was attempted: of whichever organisation",
)
ATTEMPT_SECONDS = Histogram(
    "refbus_notifier_attempt_seconds", "One attempt to deliver", ["channel"], buckets=_SLOW
)
for _channel in ("webhook", "feed"):
    ATTEMPT_SECONDS.labels(_channel)
NOTICES_UNSEALED = Counter(
    "refbus_notifier_unsealed_total",
    "Notices that left without content they were allowed, since it could not be opened or sealed",
    ["reason"],
)
for _reason in ("recipient_key", "sealed_section"):
    NOTICES_UNSEALED.labels(_reason)
STREAMS_OPEN = Gauge("refbus_notifier_streams_open", "Event streams (SSE) that are connected")

PROJECTION_SECONDS = Histogram(
    "refbus_projections_batch_seconds",
    "Folding one batch of a partition and writing it with its position",
    buckets=_FAST,
)
PROJECTION_CLAIMS = Counter(
    "refbus_projections_claims_total",
    "Partitions claimed: as assigned, after another owner, after the store failed",
    ["reason"],
)
for _reason in ("assigned", "superseded", "store_failed"):
    PROJECTION_CLAIMS.labels(_reason)
AFTER_SECONDS = Histogram(
    "refbus_projections_after_seconds",
    "How long queries with ?after= waited for the views",
    ["result"],
    buckets=_FAST,
)
for _result in ("visible", "not_yet_visible"):
    AFTER_SECONDS.labels(_result)

CHECKS = CollectorRegistry()
"""What ``refbus check-views`` found, for a file of its own: no service knows it."""
VIEWS_DIFFERENT = Gauge(
    "refbus_views_different_rows", "Rows of the views that are not as the ledger says", registry=CHECKS
)
VIEWS_CHECKED = Gauge(
    "refbus_views_checked_timestamp_seconds",
    "When the views were last held against the ledger",
    registry=CHECKS,
)

BACKUPS = CollectorRegistry()
"""What ``refbus backup`` did, for a file of its own as well."""
BACKUP_FINISHED = Gauge(
    "refbus_backup_finished_timestamp_seconds", "When the last backup was whole on the disk", registry=BACKUPS
)
BACKUP_SECONDS = Gauge("refbus_backup_duration_seconds", "How long the last backup took", registry=BACKUPS)
BACKUP_BYTES = Gauge("refbus_backup_size_bytes", "Bytes of the files of the last backup", registry=BACKUPS)

LETTERS = CollectorRegistry()
"""What ``refbus deadletter list`` found, for a file of its own: a service knows which letters it put, and not what became of them."""
LETTERS_OPEN = Gauge(
    "refbus_dead_letters_open",
    "Dead letters that nobody has resent or discarded",
    registry=LETTERS,
)
LETTERS_LOOKED = Gauge(
    "refbus_dead_letters_looked_timestamp_seconds",
    "When it was last looked for open dead letters",
    registry=LETTERS,
)
