"""What a region adopts, and from when on it decides by it."""

from __future__ import annotations

import pytest

from referral_bus.contracts.inbox import AdoptReference
from referral_bus.contracts.ledger import ReferenceAdopted, RulesActivated, SubmissionRefused
from referral_bus.contracts.reference import Agreement
from referral_bus.wire.codec import Codec
from services.matching.chain import Chain
from services.matching.core.fold import fold
from services.matching.core.rules import FIRST, SUPPORTED, UnsupportedRules
from services.matching.core.state import Region
from tests.support.deciding import (
    DAY,
    OPERATIONS,
    POLICY,
    PROTOCOL,
    REGION,
    START,
    World,
    offers,
    organisation,
    policy,
    protocol,
    refused,
    rules,
)


def test_a_later_version_is_adopted_and_an_earlier_one_is_not(world: World) -> None:
    longer = PROTOCOL.model_copy(update={"version": 3, "maximum_offers": 9})
    [adopted] = world.send(protocol(longer), OPERATIONS)
    assert isinstance(adopted, ReferenceAdopted)
    assert (adopted.kind, adopted.reference, adopted.version) == ("protocol", "simple", 3)
    between = protocol(PROTOCOL.model_copy(update={"version": 2}))
    assert refused(world.send(between, OPERATIONS)) == "reference_outdated"
    assert world.state.protocols == {"simple": longer}


def test_versions_may_skip_and_are_counted_for_each_kind_and_id(world: World) -> None:
    world.send(policy(POLICY.model_copy(update={"version": 7})), OPERATIONS)
    other = POLICY.model_copy(update={"policy": "other", "version": 1})
    assert isinstance(world.send(policy(other), OPERATIONS)[0], ReferenceAdopted)
    assert world.state.policy == other
    assert world.state.versions["policy", "plain"] == 7
    assert world.state.versions["policy", "other"] == 1


def test_adoption_needs_no_adopted_sender(codec: Codec) -> None:
    world = World(codec, adopted=False)
    assert isinstance(world.send(protocol(), OPERATIONS)[0], ReferenceAdopted)


def test_an_agreement_is_adopted_though_no_decision_reads_it(world: World) -> None:
    content = Agreement(
        agreement="mou-1",
        recipient="shelter",
        data_classes=["facts"],
        purposes=["care_coordination"],
        legal_basis="consent",
        valid_from=START,
        valid_until=START + DAY,
    )
    body = AdoptReference(kind="agreement", reference="mou-1", version=1, agreement=content)
    [adopted] = world.send(body, OPERATIONS)
    assert isinstance(adopted, ReferenceAdopted)
    assert adopted.agreement == content


def test_an_organisation_speaks_from_its_adoption_on(world: World) -> None:
    world.send(organisation("court"), OPERATIONS)
    world.publish(offers("law", "court"))
    assert "sv-north-law" in world.state.catalogue.definitions


def test_a_policy_counts_from_the_next_match_on(world: World) -> None:
    world.publish(offers("beds", total=3))
    world.refer(number=1)
    world.send(policy(POLICY.model_copy(update={"version": 2})), OPERATIONS)
    world.refer(number=2)
    versions = [
        event.certificate.policy_version  # type: ignore[attr-defined]
        for event in world.events
        if type(event).__name__ == "MatchDecided"
    ]
    assert versions == [1, 2]


def test_a_region_decides_by_the_first_rules_until_others_are_activated(world: World) -> None:
    assert world.state.rules == FIRST
    assert {entry.meta.rules for entry, _ in world.entries} == {FIRST}


def test_rules_this_version_does_not_know_are_refused(world: World) -> None:
    latest = max(SUPPORTED)
    assert refused(world.send(rules(latest + 1), OPERATIONS)) == "rules_unsupported"
    assert world.state.rules == FIRST


def test_rules_are_activated_by_an_event_that_is_still_stamped_with_the_former(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = newer_world(codec, monkeypatch)
    assert newer.send(rules(2), OPERATIONS) == [RulesActivated(version=2)]
    assert newer.state.rules == 2
    newer.publish(offers("beds"))
    assert [entry.meta.rules for entry, _ in newer.entries[-2:]] == [1, 2]
    assert refused(newer.send(rules(2), OPERATIONS)) == "reference_outdated"
    assert refused(newer.send(rules(1), OPERATIONS)) == "reference_outdated"


def test_an_old_worker_stops_at_newer_rules(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = newer_world(codec, monkeypatch)
    newer.send(rules(2), OPERATIONS)
    monkeypatch.undo()
    with pytest.raises(UnsupportedRules, match="region north activated rules 2 at sequence 8: upgrade"):
        newer.folded()


def test_a_refusal_of_rules_keeps_the_worker_going(world: World) -> None:
    [event] = world.send(rules(2), OPERATIONS)
    assert event == SubmissionRefused(reason="rules_unsupported", about="matching")
    world.publish(offers("beds"))
    world.refer()
    assert world.folded().state.sequence == world.state.sequence


def newer_world(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> World:
    """A region whose worker knows rules 2 as well."""
    both = frozenset({1, 2})
    monkeypatch.setattr("services.matching.chain.fold", lambda state, entry: fold(state, entry, both))
    assert Chain(Region(REGION)).state.rules == FIRST
    return World(codec, supported=both)
