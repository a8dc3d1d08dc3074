"""``refbus directory import``: read a directory of services, say what became of every row, and publish it if
asked to."""

import asyncio
import csv
import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from referral_bus.access.tokens import issue_token
from referral_bus.cli.home import Home, addresses
from referral_bus.contracts.facts import Need
from referral_bus.contracts.vocabulary import Role
from referral_bus.directory.build import ASSUMED_PLACES, ASSUMED_TERMS
from referral_bus.directory.model import Assumptions, DirectoryError, Import, Problem
from referral_bus.directory.publish import Published, PublishError, publish
from referral_bus.directory.reader import read
from referral_bus.directory.taxonomy import OPEN_ELIGIBILITY, terms

SHOWN_PROBLEMS = 20
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")

console = Console()
errors = Console(stderr=True)


commands = typer.Typer(no_args_is_help=True, add_completion=False, help="Directories of services in HSDS.")


@commands.callback()
def _several() -> None:
    # With this a single command keeps its name.
    pass


@commands.command("import")
def import_directory(
    path: Annotated[
        Path, typer.Argument(help="A folder of HSDS tables (.csv) or documents (.json), or one such file.")
    ],
    region: Annotated[str, typer.Option(help="The region that all services of the directory belong to.")],
    places_per_service: Annotated[
        int, typer.Option(help="Places of a service whose capacity is not stated.", min=0, max=1_000_000)
    ] = 10,
    zone: Annotated[
        str | None,
        typer.Option(
            help="IANA time zone that opening hours are told in, as America/Chicago. Without it nobody knows when a service is open."
        ),
    ] = None,
    term: Annotated[
        list[str] | None,
        typer.Option(help="Open Eligibility code taken for services with no taxonomy term. Can be repeated."),
    ] = None,
    problems: Annotated[
        Path | None, typer.Option(help="Write every problem to this CSV file (file, row, used, reason).")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write organisations, taxonomies and services as the bus takes them to this JSON file."
        ),
    ] = None,
    do_publish: Annotated[
        bool,
        typer.Option(
            "--publish",
            help="Put organisations, taxonomies and services on the bus. Otherwise nothing is sent.",
        ),
    ] = False,
    intake: Annotated[
        str | None,
        typer.Option(help="Address of intake. Left out: the local bus's.", envvar="REFBUS_INTAKE"),
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(help="The JWK that signs development tokens. Left out: the local bus's."),
    ] = None,
    bus: Annotated[
        str | None,
        typer.Option(
            help="The bus's id, as in its tokens. Left out: the local bus's, or main.", envvar="REFBUS_BUS"
        ),
    ] = None,
    home: Home = Path(".refbus"),
) -> None:
    """Read an HSDS directory and report on every row; publish it with --publish."""
    try:
        assumptions = _assumptions(region, places_per_service, term or [], zone)
        found = read(path, assumptions)
        console.print(_counts(found))
        console.print(_summary(found, assumptions))
        _show_problems(found, problems)
        if output is not None:
            _write_import(found, output)
        if do_publish:
            _show_published(found, asyncio.run(_publish(found, *_border(home, intake, bus, signing_key))))
        else:
            console.print("Nothing was sent to the bus: add --publish to do so.")
    except (DirectoryError, PublishError) as error:
        errors.print(f"refbus: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except OSError as error:
        errors.print(
            f"refbus: {error.filename}: {error.strerror}; check the path",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1) from None


def _assumptions(region: str, places: int, codes: list[str], zone: str | None) -> Assumptions:
    for code in codes:
        if code not in terms():
            raise DirectoryError(
                f"--term {code!r} is no Open Eligibility code, such as 1375 (Advocacy & Legal Aid)"
            )
    needs = tuple(Need(vocabulary=OPEN_ELIGIBILITY, code=code) for code in codes)
    return assumed(region=region, places_per_service=places, terms=needs, zone=zone)


def assumed(**given: Any) -> Assumptions:
    """What is assumed of a directory that is read today. Raises DirectoryError, which names the option that is wrong."""
    try:
        return Assumptions(**given, today=date.today())
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise DirectoryError(f"--{option}: {first['msg'].removeprefix('Value error, ')}") from None


def _counts(found: Import) -> Table:
    table = Table("file", title="Rows of the directory")
    for name in ("rows", "used", "left out"):
        table.add_column(name, justify="right")
    for file in found.files:
        table.add_row(file.file, str(file.rows), str(file.used), str(file.left_out))
    return table


def _summary(found: Import, assumptions: Assumptions) -> str:
    lines = [
        f"{len(found.services)} services of {len(found.organisations)} organisations for region "
        f"{found.region}."
    ]
    told = [service for service in found.services if service.hours or service.schedules]
    if told and assumptions.zone is None:
        lines.append(
            f"{len(told)} services tell their opening hours, but not by which clock, so nobody knows when they are open: "
            "--zone names the directory's time zone, as America/Chicago."
        )
    if found.taxonomies:
        names = ", ".join(taxonomy.taxonomy for taxonomy in found.taxonomies)
        lines.append(f"Services are coded by the directory's own {names}.")
    if count := found.assumed.get(ASSUMED_PLACES):
        lines.append(
            f"{count} services state no capacity: {assumptions.places_per_service} places each are assumed, "
            "and trusted least until their providers count (--places-per-service)."
        )
    if ages := _ages_of_counts(found):
        lines.append(ages)
    if count := found.assumed.get(ASSUMED_TERMS):
        lines.append(f"{count} services have no taxonomy term: those of --term are assumed.")
    if count := sum(not service.terms for service in found.services):
        lines.append(
            f"{count} services have no taxonomy term, so they are never offered a referral; --term says what "
            "they help with."
        )
    return "\n".join(lines)


def _ages_of_counts(found: Import) -> str | None:
    """How old the counts of places are that the directory states."""
    dates = sorted(
        f"{datetime.fromtimestamp(unit.counted_at / 1000, UTC):%Y-%m-%d}"
        for service in found.services
        for unit in service.units
        if unit.counted_at
    )
    if not dates:
        return None
    return (
        f"{len(dates)} counts of places are of {dates[0]} to {dates[-1]}: the older a count, the less it is trusted, "
        "until its provider counts anew."
    )


def _show_problems(found: Import, file: Path | None) -> None:
    """Problems that differ only in the values they name are shown as one, by the first of them."""
    alike: dict[tuple[str, bool, str], list[Problem]] = {}
    for problem in found.problems:
        key = (problem.file, problem.used, _VALUES.sub("", problem.reason))
        alike.setdefault(key, []).append(problem)
    if alike:
        table = Table(
            "file", "times", "first row", "row used", "reason", title=f"Problems ({len(found.problems)})"
        )
        for problems in sorted(alike.values(), key=len, reverse=True)[:SHOWN_PROBLEMS]:
            first = problems[0]
            used = "in part" if first.used else "no"
            table.add_row(
                _plain(first.file), str(len(problems)), _plain(first.row), used, _plain(first.reason)
            )
        console.print(table)
    if file is not None:
        with file.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["file", "row", "used", "reason"])
            writer.writerows([p.file, p.row, "in part" if p.used else "no", p.reason] for p in found.problems)
        console.print(f"All {len(found.problems)} problems are in {file}.", markup=False)
    elif len(found.problems) > len(alike) or len(alike) > SHOWN_PROBLEMS:
        console.print("--problems FILE writes each of them.")


def _write_import(found: Import, file: Path) -> None:
    content = {
        "organisations": [one.model_dump(mode="json") for one in found.organisations],
        "taxonomies": [one.model_dump(mode="json") for one in found.taxonomies],
        "services": [one.model_dump(mode="json") for one in found.services],
    }
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(f"The services are in {file}.", markup=False)


def _border(home: Path, intake: str | None, bus: str | None, key: Path | None) -> tuple[str, str, str]:
    """Intake's address, the bus's id and the key that signs tokens: as given, else those of the bus in this home."""
    here, own = addresses(home), home / "secrets" / "token_key"
    address = intake or (here.intake if here is not None else None)
    file = key if key is not None or not own.exists() else own
    signing_key = None if file is None else file.read_text(encoding="utf-8")
    if address is None or signing_key is None:
        raise DirectoryError(
            "--publish needs --signing-key and --intake, or a local bus: start one with 'refbus up', or name its folder "
            "with --home. Each service is published with a token of its own organisation"
        )
    return address, bus or (here.bus if here is not None else "main"), signing_key


async def _publish(found: Import, intake: str, bus: str, key: str) -> Published:
    def token(organisation: str, roles: list[Role]) -> str:
        return issue_token(key, bus, organisation, roles)

    async with httpx.AsyncClient(timeout=30.0) as http:
        return await publish(http, intake, found.organisations, found.services, token, found.taxonomies)


def _show_published(found: Import, published: Published) -> None:
    console.print(
        f"Published {len(published.tokens)} of {len(found.services)} services; "
        f"{published.organisations} organisations are new, {published.unchanged} were known."
    )
    if found.taxonomies:
        console.print(
            f"{published.taxonomies} taxonomies are new, {published.known_taxonomies} were known and stay as they are."
        )
    for refusal in published.refused[:SHOWN_PROBLEMS]:
        console.print(f"refused: {refusal.id}: {refusal.reason}", markup=False)
    if published.refused:
        console.print(f"{len(published.refused)} were refused.")
        raise typer.Exit(1)


def _plain(text: str) -> str:
    """Text of a directory, kept from being read as markup or as a terminal's control codes."""
    return "".join(char if char.isprintable() else " " for char in text).replace("[", r"\[")
