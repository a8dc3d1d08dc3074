"""Writes the dashboards: ``python deploy/grafana/make.py``. A panel is a title, a unit, and what it asks of Prometheus."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


class Panel(NamedTuple):
    """``asks``: legend and expression of each line. ``kind`` is Grafana's name of a sort of panel."""

    title: str
    unit: str
    asks: dict[str, str]
    kind: str = "timeseries"
    about: str = ""


class Row(NamedTuple):
    """Panels under a heading."""

    title: str
    panels: list[Panel]


def _quantiles(metric: str, by: str = "") -> dict[str, str]:
    legend, labels = (f" {{{{{by}}}}}", f"le, {by}") if by else ("", "le")
    rate = f"sum by ({labels}) (rate({metric}_bucket[$__rate_interval]))"
    return {f"p{part}{legend}": f"histogram_quantile(0.{part}, {rate})" for part in (50, 99)}


def _rate(metric: str, by: str) -> dict[str, str]:
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}[$__rate_interval]))"}


def _stage(stage: str) -> dict[str, str]:
    return {
        f"{part} {{{{urgency}}}}": f'refbus:stage_seconds:{part}{{stage="{stage}"}}'
        for part in ("p50", "p90")
    }


OPERATIONS: Final = [
    Row(
        "Is it well?",
        [
            Panel("Services ready", "none", {"{{service}} {{instance}}": "refbus_ready"}, "stat"),
            Panel(
                "Alerts",
                "none",
                {
                    "{{alertname}}": 'count by (alertname) (ALERTS{alertname=~"Refbus.*", alertstate="firing"})'
                },
                "stat",
            ),
            Panel(
                "Dead letters, last day",
                "none",
                {"{{reason}}": "sum by (reason) (increase(refbus_dead_letters_total[1d]))"},
                "stat",
            ),
            Panel(
                "Records behind",
                "none",
                {"{{service}} {{topic}}/{{partition}}": "refbus:lag_records:max > 0"},
            ),
            Panel(
                "Rebuilds",
                "percentunit",
                {
                    "{{service}} {{partition}}": "min by (service, partition) (refbus_rebuild_progress_ratio) < 1"
                },
            ),
            Panel(
                "Ends to be valid in",
                "s",
                {
                    "{{service}} {{what}}": "min by (service, what) (refbus_expires_timestamp_seconds) - time()"
                },
            ),
        ],
    ),
    Row(
        "Intake",
        [
            Panel("Submissions", "reqps", _rate("refbus_intake_submissions_total", "result")),
            Panel("Refused at the border", "reqps", _rate("refbus_intake_refused_total", "reason")),
            Panel("Time to admit", "s", _quantiles("refbus_intake_admission_seconds")),
            Panel(
                "Refused of one organisation in ten minutes",
                "none",
                {"{{where}}": "max by (where) (refbus_refused_by_one)"},
                about="The organisation that had the most; the log names it.",
            ),
            Panel(
                "Refused of one organisation, one after the other",
                "none",
                {"{{where}}": "max by (where) (refbus_refused_in_a_row)"},
                about="With none taken between: nothing of it gets through. The log names it.",
            ),
            Panel(
                "Longest that an outbox has stood still",
                "s",
                {"{{instance}}": "refbus_intake_outbox_still_seconds"},
                about="Though records wait on it. The log names it.",
            ),
            Panel("Reference data relayed", "reqps", _rate("refbus_intake_relayed_total", "kind")),
        ],
    ),
    Row(
        "Matching",
        [
            Panel("Decided", "reqps", _rate("refbus_matching_decided_total", "type")),
            Panel("Inbox to commit", "s", _quantiles("refbus_matching_decision_seconds")),
            Panel("Refused on the ledger", "reqps", _rate("refbus_matching_refused_total", "reason")),
            Panel("Records in a transaction", "none", _quantiles("refbus_matching_batch_records")),
            Panel("Commit", "s", _quantiles("refbus_matching_commit_seconds")),
            Panel(
                "Failed transactions", "reqps", _rate("refbus_matching_transactions_failed_total", "reason")
            ),
            Panel(
                "Open",
                "none",
                {
                    "offers": "sum(refbus_matching_offers_open)",
                    "referrals": "sum(refbus_matching_referrals_active)",
                },
                about="Offers that wait for an answer, and referrals that are not closed.",
            ),
            Panel(
                "Messages between regions, last hour",
                "none",
                {"{{type}}": "sum by (type) (increase(refbus_matching_region_messages_total[1h]))"},
                about="unroutable: lost, for want of the region, which the log names. Once it is there, publish the service anew.",
            ),
        ],
    ),
    Row(
        "Notifier and views",
        [
            Panel("Deliveries", "reqps", _rate("refbus_notifier_attempts_total", "result")),
            Panel(
                "Deliveries waiting, and for how long",
                "none",
                {
                    "waiting": "max(refbus_notifier_deliveries_waiting)",
                    "oldest due, s": "max(refbus_notifier_oldest_due_seconds)",
                    "oldest failed, s": "max(refbus_notifier_oldest_failed_seconds)",
                },
            ),
            Panel("Attempts that fail", "percentunit", {"{{channel}}": "refbus:delivery_failures:ratio"}),
            Panel("An attempt to deliver", "s", _quantiles("refbus_notifier_attempt_seconds", "channel")),
            Panel(
                "Notices without what they may show",
                "reqps",
                _rate("refbus_notifier_unsealed_total", "reason"),
                about="It could not be opened, or not be sealed to the organisation's key (recipient_key): the log says which.",
            ),
            Panel("Streams open", "none", {"{{instance}}": "refbus_notifier_streams_open"}),
            Panel("A batch of the views", "s", _quantiles("refbus_projections_batch_seconds")),
            Panel(
                "Waiting for what was just submitted",
                "s",
                _quantiles("refbus_projections_after_seconds"),
                about="How long queries with ?after= waited for the views.",
            ),
            Panel(
                "Partitions of the views claimed", "reqps", _rate("refbus_projections_claims_total", "reason")
            ),
            Panel(
                "Rows that are not as the ledger says",
                "none",
                {"rows": "max(refbus_views_different_rows)"},
                "stat",
            ),
        ],
    ),
]

PROGRAMME: Final = [
    Row(
        "How long people wait",
        [
            Panel("To acknowledge", "s", _stage("acknowledged"), about="From the referral's opening."),
            Panel("To accept", "s", _stage("accepted"), about="From the referral's opening."),
            Panel("To service", "s", _stage("started"), about="From the referral's opening."),
            Panel(
                "Not accepted yet",
                "none",
                {"{{region}} {{urgency}}": "sum by (region, urgency) (refbus_matching_unaccepted)"},
            ),
            Panel(
                "Longest without an acceptance",
                "s",
                {
                    "{{region}} {{urgency}}": "max by (region, urgency) (refbus_matching_unaccepted_oldest_seconds)"
                },
            ),
            Panel(
                "Crisis referrals overdue",
                "none",
                {"{{region}}": "sum by (region) (refbus_matching_crisis_overdue)"},
                "stat",
            ),
        ],
    ),
    Row(
        "Capacity",
        [
            Panel(
                "Free places",
                "none",
                {"{{region}}": 'sum by (region) (refbus_matching_places{state="free"})'},
            ),
            Panel(
                "Places in use",
                "percentunit",
                {
                    "{{region}}": 'sum by (region) (refbus_matching_places{state!="free"}) / sum by (region) (refbus_matching_places)'
                },
            ),
            Panel(
                "Free places not counted for a day",
                "percentunit",
                {"{{region}}": "refbus:places_stale:ratio"},
                about="Offers to them may be in vain.",
            ),
        ],
    ),
    Row(
        "Unmet need",
        [
            Panel(
                "Referrals in vain, of all that ended in a week",
                "percentunit",
                {"share": "refbus:unmet:ratio"},
                "stat",
                "Nobody served the person, or it did not help. Withdrawn ones are left out.",
            ),
            Panel(
                "Why referrals ended, last day",
                "none",
                {
                    "{{reason}} {{result}}": "sum by (reason, result) (increase(refbus_matching_closed_total[1d])) > 0"
                },
            ),
            Panel(
                "Why providers declined, last day",
                "none",
                {
                    "{{side}}: {{reason}}": "sum by (side, reason) (increase(refbus_matching_declined_total[1d])) > 0"
                },
                about="Whose no it is as HUD counts unsuccessful referrals; persons who were given back included.",
            ),
            Panel(
                "Matches that found no service, last day",
                "none",
                {"{{urgency}}": "sum by (urgency) (increase(refbus_matching_unmatched_total[1d]))"},
                about="How often, not of how many people: whoever waits is matched again and again.",
            ),
            Panel(
                "Needs no service was found for, last day",
                "none",
                {"{{need}}": 'sum by (need) (increase(refbus_matching_needs_total{result="none"}[1d])) > 0'},
                about="By the widest kinds of help of Open Eligibility, of the whole bus. refbus explain says it of each referral.",
            ),
            Panel(
                "Share of each need no service was found for, last week",
                "percentunit",
                {"{{need}}": "refbus:unmet_need:ratio"},
            ),
            Panel(
                "Waiting for a place", "none", {"{{region}}": "sum by (region) (refbus_matching_waitlisted)"}
            ),
            Panel(
                "Offers nobody answered, last day",
                "none",
                {"offers": "sum(increase(refbus_matching_offers_expired_total[1d]))"},
            ),
        ],
    ),
]

DASHBOARDS: Final = {
    "operations": ("Referral bus: operations", OPERATIONS),
    "programme": ("Referral bus: for programme managers", PROGRAMME),
}
_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana imports it, or is provisioned with it."""
    title, rows = DASHBOARDS[name]
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows:
        panels.append({"type": "row", "title": row.title, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for place, panel in enumerate(row.panels):
            at = {"x": place % _COLUMNS * _WIDTH, "y": y + place // _COLUMNS * _HEIGHT}
            panels.append(_panel(panel, {**at, "w": _WIDTH, "h": _HEIGHT}))
        y += -(-len(row.panels) // _COLUMNS) * _HEIGHT
    return {
        "uid": f"refbus-{name}",
        "title": title,
        "tags": ["refbus"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        **({"description": panel.about} if panel.about else {}),
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": _SOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for number, (legend, expression) in enumerate(panel.asks.items())
        ],
    }


def text(name: str) -> str:
    """The file's content."""
    return json.dumps(dashboard(name), indent=1) + "\n"


if __name__ == "__main__":
    for name in DASHBOARDS:
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(text(name), encoding="utf-8")
        print(path, file=sys.stderr)
