"""``refbus verify``, ``explain`` and ``whatif``: what matching decided, decided again, put into words, and lived under another policy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from referral_bus.cli.errors import Rejected
from referral_bus.cli.home import Home, local_settings
from referral_bus.cli.party import Organisation
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.reference import Policy
from referral_bus.contracts.vocabulary import DataClass
from referral_bus.disclosure.releases import Releases
from referral_bus.disclosure.rules import Standing, may_disclose
from referral_bus.log import topics
from referral_bus.log.kafka import KafkaLog
from referral_bus.log.port import Log
from referral_bus.runtime.clock import SystemClock
from referral_bus.sealing.keys import KeyStore
from referral_bus.sealing.port import KeyStoreError
from referral_bus.sealing.replay import replay_destroyed
from referral_bus.sealing.secrets import read_key
from referral_bus.sealing.sections import Sealer
from referral_bus.store.engine import new_engine
from referral_bus.wire.codec import Codec
from services.matching.explain import History, NotThere, full_table, region_in, sentences
from services.matching.facts import FactsOpener
from services.matching.recompute import recompute
from services.matching.settings import LookSettings
from services.matching.verify import Report, verify_ledger, whole_ledger
from services.matching.whatif import (
    Comparison,
    compare,
    comparison_as_json,
    comparison_lines,
    write_referrals,
)

console = Console(soft_wrap=True)
errors = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class _Sight:
    settings: LookSettings
    log: Log
    codec: Codec
    opener: FactsOpener


@asynccontextmanager
async def _sight(home: Path) -> AsyncIterator[_Sight]:
    settings = LookSettings.load(**local_settings(home, "facts_key"))
    log, codec = KafkaLog(settings.kafka_access()), Codec.load()
    engine = new_engine(settings.database_url.get_secret_value(), pool_size=2)
    try:
        await replay_destroyed(log, topics.ledger(settings.bus), codec, engine)
        keys = KeyStore(
            engine, {"facts": read_key(settings.facts_key.get_secret_value(), "REFBUS_FACTS_KEY")}
        )
        yield _Sight(settings, log, codec, FactsOpener(keys, Sealer(codec)))
    except KeyStoreError as error:
        raise Rejected(f"The facts can't be opened: {error}") from None
    finally:
        await log.close()
        await engine.dispose()


def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    home: Home = Path(".refbus"),
) -> None:
    """Decide the whole ledger again, from the ledger alone, and check its hash chain. What matching failed on is told, with what it comes
    to now. Exit code 1 where anything is not as it was, or where no match could be checked for want of keys."""
    report = asyncio.run(_verify(home))
    if as_json:
        print(json.dumps(_as_json(report), indent=2))
    else:
        _tell(report)
    raise typer.Exit(0 if report.good else 1)


async def _verify(home: Path) -> Report:
    async with _sight(home) as sight:
        with Progress(console=errors, transient=True) as bar:
            task = bar.add_task("deciding again", total=1.0)
            return await verify_ledger(
                sight.log,
                topics.ledger(sight.settings.bus),
                sight.codec,
                sight.opener,
                lambda share: bar.update(task, completed=share),
            )


def whatif(
    policy: Annotated[
        Path, typer.Option(help="The other policy, as a JSON file in the form it would be published.")
    ],
    since: Annotated[
        str, typer.Option("--from", help="When the stretch begins, as 2026-05-01 or 2026-05-01T08:00Z.")
    ],
    until: Annotated[str, typer.Option("--to", help="When it ends.")],
    referrals: Annotated[
        Path | None,
        typer.Option(help="Also write a CSV line for each referral to this file, for operations alone."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    home: Home = Path(".refbus"),
) -> None:
    """Live a stretch of the ledger again under another policy: who would have been served, when and where, and what differs by language,
    area and urgency. Nothing is changed, and no group of fewer than five people is shown."""
    try:
        other = Policy.model_validate_json(policy.read_text(encoding="utf-8"))
    except OSError as error:
        raise Rejected(f"{policy} can't be read: {error.strerror}.") from None
    except ValidationError as error:
        raise Rejected(
            f"{policy} is no policy: {error.errors()[0]['msg']} (at {error.errors()[0]['loc']})."
        ) from None
    compared = asyncio.run(_whatif(home, other, _moment(since), _moment(until)))
    if not compared:
        raise Rejected("Nothing was decided in that stretch.")
    if as_json:
        print(json.dumps({region: comparison_as_json(one) for region, one in compared}, indent=2))
    else:
        for region, one in compared:
            for line in comparison_lines(region, one):
                console.print(line, markup=False, highlight=False)
    if referrals is not None:
        try:
            write_referrals(referrals, [one for _, one in compared])
        except OSError as error:
            raise Rejected(f"{referrals} can't be written: {error.strerror}.") from None


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Rejected(f"{text[:40]!r} is no time: write 2026-05-01, or 2026-05-01T08:00Z.") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


async def _whatif(home: Path, policy: Policy, since: int, until: int) -> list[tuple[str, Comparison]]:
    async with _sight(home) as sight:
        topic = topics.ledger(sight.settings.bus)
        return await compare(sight.log, topic, sight.codec, sight.opener.open, policy, since, until)


def _as_json(report: Report) -> dict[str, object]:
    return {
        "good": report.good,
        "events": report.events,
        "regions": report.regions,
        "decisions": report.outcomes.total(),
        "same": report.outcomes["same"],
        "different": report.outcomes["different"],
        "erased": report.outcomes["erased"],
        "no_key": report.outcomes["no_key"],
        "gave_up": report.outcomes["gave_up"],
        "no_match_checked": report.no_match_checked,
        "differences": report.differences,
        "gave_up_at": report.gave_up,
        "broken": report.broken,
        "unfinished": report.unfinished,
    }


def _tell(report: Report) -> None:
    outcomes = report.outcomes
    console.print(f"{report.events} events of {report.regions} regions, {outcomes.total()} decisions.")
    console.print(f"{outcomes['same']} came out the same, byte for byte.")
    if outcomes["erased"]:
        console.print(
            f"{outcomes['erased']} are right in what needs no facts of people whose keys were destroyed; the rest can't be checked: erased."
        )
    if outcomes["no_key"]:
        console.print(
            f"{outcomes['no_key']} are right in what needs no facts that this database holds no key for; the rest can't be checked."
        )
    if outcomes["gave_up"]:
        console.print(
            f"{outcomes['gave_up']} came to nothing then, since matching failed on them. Decided again now, the first of them:"
        )
        for line in report.gave_up:
            console.print(f"  {line}", markup=False, highlight=False)
    if report.no_match_checked:
        console.print("No match could be checked: of none can the facts be opened.")
    if not outcomes.total():
        console.print("Nothing could be checked: there is nothing on the ledger.")
    if outcomes["different"]:
        console.print(f"{outcomes['different']} came out DIFFERENT, the first at:")
        for line in report.differences:
            console.print(f"  {line}", markup=False, highlight=False)
    for line in report.broken:
        console.print(f"The chain is BROKEN: {line}", markup=False, highlight=False)
    for line in report.unfinished:
        console.print(
            f"The ledger ends in the midst of what follows of itself: {line}.", markup=False, highlight=False
        )
    if not report.broken and not outcomes["different"]:
        console.print("Every hash chain holds.")


def explain(
    referral: Annotated[str, typer.Argument(help="The referral (rf-...).")],
    organisation: Organisation,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Also make the whole table of each match anew and hold it against its digest."
        ),
    ] = False,
    home: Home = Path(".refbus"),
) -> None:
    """Show how a referral was matched, in sentences: who was considered, who was asked, who was near, and why."""
    try:
        region = region_in(referral)
        lines = asyncio.run(_explain(home, referral, region, organisation, full))
    except NotThere:
        raise Rejected(f"{organisation} has no referral {referral[:80]} on this bus.") from None
    for line in lines:
        console.print(line, markup=False, highlight=False)


async def _explain(home: Path, referral: str, region: str, organisation: str, full: bool) -> list[str]:
    async with _sight(home) as sight:
        topic = topics.ledger(sight.settings.bus)
        history = History(referral)
        async for record, _ in whole_ledger(sight.log, topic):
            if record.key == region.encode():
                history.take(sight.codec.decode_entry(record.value))
        shown = await _released(sight, history, organisation)
        lines = sentences(history, "outcome" in shown, organisation)
        if full:
            lines += await _full(sight, history, region, organisation)
        return lines


async def _released(sight: _Sight, history: History, organisation: str) -> list[DataClass]:
    """What of the referral the organisation may see; recorded before it is shown. Verdicts tell of the facts, so those are needed.

    Raises NotThere where that is not enough.
    """
    opened = history.opened
    if opened is None:
        raise NotThere
    standing = Standing(
        referral=history.referral,
        subject=opened.subject,
        agency=history.agency,
        agency_kind=history.kinds.get(history.agency),
        purpose=opened.purpose,
        offered_to=history.offered_to,
        accepted_by=history.accepted_by,
    )
    at, agreements = SystemClock().now(), list(history.agreements.values())
    classes: tuple[DataClass, ...] = ("status", "facts", "outcome")
    granted = {
        data: grant
        for data in classes
        if (grant := may_disclose(data, standing, organisation, opened.purpose, at, agreements)) is not None
    }
    if not {"status", "facts"} <= granted.keys():
        raise NotThere
    bus = sight.settings.bus
    partitions = await sight.log.partitions(topics.disclosure(bus))
    releases = Releases(await sight.log.appender(), bus, sight.codec, partitions)
    by_grant: dict[str, list[DataClass]] = {}
    for data, grant in granted.items():
        by_grant.setdefault(grant, []).append(data)
    await releases.record(
        [
            Disclosed(
                subject=opened.subject,
                referral=history.referral,
                recipient=organisation,
                data_classes=shown,
                purpose=opened.purpose,
                grant=grant,
                channel="cli",
                at=at,
            )
            for grant, shown in by_grant.items()
        ]
    )
    return list(granted)


async def _full(sight: _Sight, history: History, region: str, reader: str) -> list[str]:
    lines: list[str] = []
    async for made in recompute(
        sight.log, topics.ledger(sight.settings.bus), region, history.referral, sight.codec, sight.opener
    ):
        table = full_table(history, made, reader)
        lines += ["", *table] if table else []
    return lines
