"""Who may see what. Everything that is not allowed here is denied."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import AgreedClass, DataClass, OrganisationKind, Purpose
from referral_bus.disclosure.rules import Standing, may_disclose

CLASSES: tuple[DataClass, ...] = get_args(DataClass)
KINDS: tuple[OrganisationKind, ...] = get_args(OrganisationKind)
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
CARE: Purpose = "care_coordination"


def standing(kind: OrganisationKind | None = "hospital", accepted_by: str | None = "shelter") -> Standing:
    return Standing("rf-1", "sj-1", "agency", kind, CARE, frozenset({"clinic", "kitchen"}), accepted_by)


def seen(
    who: str, where: Standing, agreements: tuple[Agreement, ...] = (), purpose: Purpose = CARE, at: int = 50
) -> set[str]:
    return {data for data in CLASSES if may_disclose(data, where, who, purpose, at, agreements)}


def agreement(recipient: str, *classes: DataClass, **more: object) -> Agreement:
    content = {
        "agreement": "mou-1",
        "recipient": recipient,
        "data_classes": list(classes),
        "purposes": [CARE],
        "legal_basis": "consent",
        "valid_from": 10,
        "valid_until": 100,
        **more,
    }
    return Agreement.model_validate(content)


@pytest.mark.parametrize(
    ("who", "may_see"),
    [
        ("agency", {"status", "facts", "identity", "outcome", "exchange"}),
        ("clinic", {"status", "facts"}),
        ("kitchen", {"status", "facts"}),
        ("shelter", {"status", "facts", "identity", "outcome"}),
        ("stranger", set()),
        ("", set()),
    ],
)
def test_who_may_see_what(who: str, may_see: set[str]) -> None:
    assert seen(who, standing()) == may_see


def test_the_grant_says_why() -> None:
    grants = {
        who: may_disclose("facts", standing(), who, CARE, 50) for who in ("agency", "shelter", "clinic")
    }
    assert grants == {"agency": "own_referral", "shelter": "accepted", "clinic": "offered"}


@pytest.mark.parametrize("kind", ["police", None])
def test_police_see_that_it_was_taken_up_and_not_what_came_of_it(kind: OrganisationKind | None) -> None:
    assert seen("agency", standing(kind)) == {"status", "facts", "identity", "exchange"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "police"])
def test_every_other_agency_sees_what_came_of_its_referral(kind: OrganisationKind) -> None:
    assert "outcome" in seen("agency", standing(kind))


def test_before_anybody_accepted_nobody_is_the_one_who_accepted() -> None:
    assert seen("shelter", standing(accepted_by=None)) == set()
    assert seen("None", standing(accepted_by=None)) == set()


@pytest.mark.parametrize(
    ("more", "grant"),
    [
        ({"was_own_of": frozenset({"former"})}, "was_own"),
        ({"escalated_to": frozenset({"former"})}, "escalated"),
        ({"was_offered_to": frozenset({"former"})}, "was_offered"),
    ],
)
def test_who_is_told_of_its_former_part_or_of_what_is_overdue_sees_that_and_nothing_else(
    more: dict[str, frozenset[str]], grant: str
) -> None:
    where = replace(standing(), **more)
    assert seen("former", where) == {"status"}
    assert may_disclose("status", where, "former", CARE, 50) == grant


def test_another_provider_that_was_asked_at_the_same_time_does_not_see_the_answer() -> None:
    where = replace(standing(accepted_by=None), asked_by="clinic")
    assert [who for who in ("clinic", "kitchen") if "exchange" in seen(who, where)] == ["clinic"]


def test_an_agreement_gives_a_party_more_and_is_named_in_the_grant() -> None:
    police = standing("police")
    assert "outcome" in seen("agency", police, (agreement("agency", "outcome"),))
    assert (
        may_disclose("outcome", police, "agency", CARE, 50, [agreement("agency", "outcome")])
        == "agreement:mou-1"
    )


@pytest.mark.parametrize(
    "given_instead",
    [
        agreement("clinic", "outcome"),
        agreement("agency", "identity"),
        agreement("agency", "outcome", purposes=["reporting"]),
        agreement("agency", "outcome", valid_from=51),
        agreement("agency", "outcome", valid_until=50),
    ],
    ids=["another recipient", "another class", "another purpose", "not yet", "no longer"],
)
def test_an_agreement_that_does_not_fit_gives_nothing(given_instead: Agreement) -> None:
    assert "outcome" not in seen("agency", standing("police"), (given_instead,))


def test_an_agreement_is_in_force_from_its_first_moment_and_up_to_its_last() -> None:
    mou = (agreement("agency", "outcome", valid_from=10, valid_until=100),)
    in_force = [at for at in (9, 10, 99, 100) if "outcome" in seen("agency", standing("police"), mou, at=at)]
    assert in_force == [10, 99]


names = st.sampled_from(["agency", "clinic", "kitchen", "shelter", "court", "school"])
standings = st.builds(
    Standing,
    referral=st.just("rf-1"),
    subject=st.just("sj-1"),
    agency=names,
    agency_kind=st.sampled_from([*KINDS, None]),
    purpose=st.sampled_from(PURPOSES),
    offered_to=st.frozensets(names, max_size=4),
    accepted_by=st.none() | names,
    was_offered_to=st.frozensets(names, max_size=2),
    asked_by=st.none() | names,
    was_own_of=st.frozensets(names, max_size=2),
    escalated_to=st.frozensets(names, max_size=2),
)
agreements = st.lists(
    st.builds(
        Agreement,
        agreement=st.sampled_from(["mou-1", "mou-2"]),
        version=st.just(1),
        recipient=names,
        data_classes=st.lists(st.sampled_from(get_args(AgreedClass)), min_size=1, max_size=4),
        purposes=st.lists(st.sampled_from(PURPOSES), min_size=1, max_size=3),
        legal_basis=st.just("consent"),
        valid_from=st.integers(0, 100),
        valid_until=st.integers(0, 100),
    ),
    max_size=4,
)
asked = (st.sampled_from(CLASSES), standings, names, st.sampled_from(PURPOSES), st.integers(0, 100))


@given(*asked, agreements)
def test_who_has_no_part_in_a_referral_never_sees_anything_of_it(
    data: DataClass, where: Standing, who: str, purpose: Purpose, at: int, mous: list[Agreement]
) -> None:
    told = where.was_offered_to | where.was_own_of | where.escalated_to
    if who not in {where.agency, where.accepted_by, *where.offered_to, *told}:
        assert may_disclose(data, where, who, purpose, at, mous) is None


@given(*asked, agreements)
def test_who_is_only_told_that_its_part_ended_or_of_what_is_overdue_sees_no_more_than_status(
    data: DataClass, where: Standing, who: str, purpose: Purpose, at: int, mous: list[Agreement]
) -> None:
    if who not in {where.agency, where.accepted_by, *where.offered_to, *where.was_offered_to}:
        assert data == "status" or may_disclose(data, where, who, purpose, at, mous) is None


@given(*asked, agreements)
def test_identity_and_outcome_go_to_agency_and_acceptor_or_under_a_fitting_agreement(
    data: DataClass, where: Standing, who: str, purpose: Purpose, at: int, mous: list[Agreement]
) -> None:
    grant = may_disclose(data, where, who, purpose, at, mous)
    if grant is None or data not in ("identity", "outcome") or who in (where.agency, where.accepted_by):
        return
    named = [mou for mou in mous if grant == f"agreement:{mou.agreement}"]
    assert any(
        mou.recipient == who
        and data in mou.data_classes
        and purpose in mou.purposes
        and mou.valid_from <= at < mou.valid_until
        for mou in named
    )


@given(*asked[1:], agreements)
def test_what_was_asked_and_answered_goes_to_the_agency_and_to_who_asked_and_still_has_a_part(
    where: Standing, who: str, purpose: Purpose, at: int, mous: list[Agreement]
) -> None:
    has_part = who == where.asked_by and (who == where.accepted_by or who in where.offered_to)
    seen = may_disclose("exchange", where, who, purpose, at, mous) is not None
    assert seen == (who == where.agency or has_part)


@given(*asked, agreements)
def test_an_agreement_never_takes_anything_away(
    data: DataClass, where: Standing, who: str, purpose: Purpose, at: int, mous: list[Agreement]
) -> None:
    without = may_disclose(data, where, who, purpose, at)
    assert without is None or may_disclose(data, where, who, purpose, at, mous) == without
