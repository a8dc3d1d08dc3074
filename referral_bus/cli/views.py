"""``refbus show``: what the views hold for an organisation, as tables for people or as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer

from referral_bus.cli.home import Home
from referral_bus.cli.party import Organisation, Queries, Token, connected
from referral_bus.cli.rows import MOST, AsJson, Most, rows_of, show_rows
from referral_bus.client.answers import Page
from referral_bus.client.sync import SyncBus
from referral_bus.contracts.vocabulary import Role

show = typer.Typer(
    help="Show a caseload, an inbox, what waits, places, or what a region decides by.",
    no_args_is_help=True,
    add_completion=False,
)

After = Annotated[
    str | None, typer.Option("--after", help="Token of an answer: wait until the view reflects that.")
]
Mine = Annotated[
    bool,
    typer.Option("--mine", help="Only the organisation's own: its units, or what it must do itself."),
]


class _View(NamedTuple):
    """A view as it is shown: how it is asked for, by whom, and the columns of the table."""

    help: str
    ask: Callable[[SyncBus], Callable[..., Page]]
    roles: tuple[Role, ...]
    columns: tuple[str, ...]
    others_too: bool = False
    """Whether there is more in it than the organisation's own."""


VIEWS: Final = {
    "caseload": _View(
        "The agency's referrals, the latest first.",
        lambda bus: bus.caseload,
        ("agency",),
        ("referral", "urgency", "standing", "service", "accepted_by", "outcome", "opened_at"),
    ),
    "inbox": _View(
        "What is offered to the provider and what it has accepted, the latest first.",
        lambda bus: bus.inbox,
        ("provider",),
        ("task", "urgency", "service", "business_status", "expires_at", "starts_at", "outcome"),
    ),
    "queue": _View(
        "What waits for somebody, what is overdue first.",
        lambda bus: bus.queue,
        ("agency", "provider"),
        ("referral", "task", "urgency", "waits_for", "step", "party", "due_at", "overdue"),
        others_too=True,
    ),
    "waiting-list": _View(
        "The agency's referrals that wait for a place, each with its place in every line.",
        lambda bus: bus.waiting_list,
        ("agency",),
        ("referral", "urgency", "since", "review_at", "lines"),
    ),
    "capacity": _View(
        "Units with their places: in all, taken, held, in doubt and free, when they were counted and when that was reported.",
        lambda bus: bus.capacity,
        ("agency", "provider"),
        (
            "unit",
            "service_name",
            "name",
            "total",
            "taken",
            "held",
            "doubted",
            "free",
            "counted_at",
            "reported_at",
        ),
        others_too=True,
    ),
    "submissions": _View(
        "What the organisation sent that was refused, or had to wait for what it refers to.",
        lambda bus: bus.submissions,
        ("agency", "provider"),
        ("submission", "state", "about", "reason", "detail", "until", "at"),
    ),
}


def _shown(view: _View) -> Callable[..., None]:
    def narrowed(
        organisation: Organisation,
        mine: Mine = False,
        after: After = None,
        most: Most = MOST,
        as_json: AsJson = False,
        token: Token = None,
        queries: Queries = None,
        home: Home = Path(".refbus"),
    ) -> None:
        with connected(home, organisation, view.roles, token, queries=queries) as bus:
            rows = rows_of(view.ask(bus), most, after=after, mine=mine or None)
            show_rows(rows, view.columns, as_json)

    def command(
        organisation: Organisation,
        after: After = None,
        most: Most = MOST,
        as_json: AsJson = False,
        token: Token = None,
        queries: Queries = None,
        home: Home = Path(".refbus"),
    ) -> None:
        narrowed(organisation, False, after, most, as_json, token, queries, home)

    return narrowed if view.others_too else command


for _name, _view in VIEWS.items():
    show.command(_name, help=_view.help)(_shown(_view))


@show.command()
def reference(
    organisation: Organisation,
    kind: Annotated[
        str | None, typer.Argument(help="policy, protocol, calendar, service, ... Left out: all of them.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="Which one: its content as it was published.")] = None,
    region: Annotated[str | None, typer.Option(help="The region that decides by it.")] = None,
    version: Annotated[int | None, typer.Option(help="Left out: the latest.", min=1)] = None,
    most: Most = MOST,
    as_json: AsJson = False,
    token: Token = None,
    queries: Queries = None,
    home: Home = Path(".refbus"),
) -> None:
    """What regions decide by, and the services that are published; with KIND and NAME, one of them as it is."""
    with connected(home, organisation, ("agency", "provider"), token, queries=queries) as bus:
        if name is None:
            rows = rows_of(bus.references, most, kind=kind, region=region)
            show_rows(rows, ("region", "kind", "name", "version", "at"), as_json)
            return
        if region is None:
            raise typer.BadParameter("Name the region with --region: each adopts its own versions.")
        print(json.dumps(bus.reference(kind or "", name, region, version), indent=2, ensure_ascii=False))
