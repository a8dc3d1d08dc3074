"""Pseudonyms and digests: the same for the same, unlike for anything else, and telling nothing without the key."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from referral_bus.contracts.facts import Facts, Need, NumberFact
from referral_bus.contracts.ids import SubjectId
from referral_bus.sealing.digest import body_digest, canonical, same_digest
from referral_bus.sealing.pseudonym import subject_id

KEY, OTHER = bytes(32), bytes([1]) * 32
FACTS = Facts(needs=[Need(code="food")])


def test_a_person_has_one_pseudonym_at_an_organisation_and_another_at_every_other() -> None:
    assert subject_id(KEY, "hospital", "case-7") == subject_id(KEY, "hospital", "case-7")
    assert subject_id(KEY, "hospital", "case-7") != subject_id(KEY, "school", "case-7")
    assert subject_id(KEY, "hospital", "case-7") != subject_id(OTHER, "hospital", "case-7")


@given(st.text(max_size=300))
def test_every_reference_gives_a_subject_id_that_the_contracts_take(reference: str) -> None:
    subject = subject_id(KEY, "hospital", reference)
    assert TypeAdapter(SubjectId).validate_python(subject) == subject
    assert re.fullmatch(r"sj-[a-z2-7]{26}", subject)


def test_organisation_and_reference_do_not_run_into_each_other() -> None:
    assert subject_id(KEY, "ab", "c") != subject_id(KEY, "a", "bc")


def test_the_digest_of_a_body_depends_on_key_type_and_content() -> None:
    digest = body_digest(KEY, "type", FACTS)
    assert len(digest) == 32
    assert same_digest(digest, body_digest(KEY, "type", FACTS))
    assert not same_digest(digest, body_digest(OTHER, "type", FACTS))
    assert not same_digest(digest, body_digest(KEY, "other type", FACTS))
    assert not same_digest(digest, body_digest(KEY, "type", Facts(needs=[Need(code="shelter")])))


def test_saying_a_default_and_not_saying_it_are_the_same_body() -> None:
    said = Facts(age=NumberFact(status="not_said"), needs=[Need(vocabulary="openeligibility", code="food")])
    assert canonical(said) == canonical(FACTS)
    assert canonical(Facts(age=NumberFact(status="unknown"), needs=FACTS.needs)) != canonical(FACTS)


def test_the_canonical_form_is_pinned_since_digests_of_it_are_kept() -> None:
    assert canonical(Facts(age=NumberFact(status="stated", value=7), needs=FACTS.needs)) == (
        b'{"age":{"status":"stated","value":7},"needs":[{"code":"food"}]}'
    )
