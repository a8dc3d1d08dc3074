"""What of a referral a caller may see, in the roles its token carries, and what is recorded of it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral_bus.access.caller import Caller
from referral_bus.contracts.disclosure import Disclosed
from referral_bus.contracts.reference import Agreement
from referral_bus.contracts.vocabulary import DataClass, OrganisationKind, Role
from referral_bus.disclosure.releases import Releases
from referral_bus.log.memory import MemoryLog
from referral_bus.log.topics import topics
from referral_bus.sealing.port import DESTROYED, Destroyed, Section
from referral_bus.sealing.sections import Sealer
from services.projections.queries import Found
from services.projections.showing import Showing, View
from tests.support.clocks import ManualClock
from tests.support.viewing import CODEC, START, subject

CLASSES: tuple[DataClass, ...] = get_args(DataClass)
PERSON = subject(1)
KEY = bytes(range(32))


def referral(**changed: Any) -> Found:
    row = {
        "referral": "rf-north-" + "a" * 20,
        "region": "north",
        "subject": PERSON,
        "agency": "hospital",
        "purpose": "care_coordination",
        "accepted_by": None,
        "outcome": None,
        "outcome_at": None,
    }
    return {**row, **changed}


def view(
    organisation: str,
    *roles: Role,
    offered_to: tuple[str, ...] = (),
    kind: OrganisationKind | None = "hospital",
    agreements: tuple[Agreement, ...] = (),
    **changed: Any,
) -> View:
    return View(
        referral(**changed), offered_to, Caller(organisation, frozenset(roles)), kind, agreements, START
    )


def escalated(organisation: str, *roles: Role, to: str) -> View:
    return View(referral(), (), Caller(organisation, frozenset(roles)), "hospital", (), START, {to})


def seen(one: View) -> set[DataClass]:
    return {data for data in CLASSES if one.shows(data)}


@pytest.mark.parametrize(
    ("one", "classes"),
    [
        (view("hospital", "agency"), {"status", "facts", "identity", "outcome", "exchange"}),
        (view("hospital", "agency", kind="police"), {"status", "facts", "identity", "exchange"}),
        (view("hospital", "agency", kind=None), {"status", "facts", "identity", "exchange"}),
        (view("shelter", "provider", offered_to=("shelter",)), {"status", "facts"}),
        (view("shelter", "provider", accepted_by="shelter"), {"status", "facts", "identity", "outcome"}),
        (view("shelter", "provider", offered_to=("clinic",)), set()),
        (view("police", "agency"), set()),
        (view("operations", "operations"), set()),
    ],
)
def test_a_caller_sees_what_its_standing_grants(one: View, classes: set[DataClass]) -> None:
    assert seen(one) == classes


@pytest.mark.parametrize(
    "one",
    [
        view("hospital", "provider", "operations"),
        view("shelter", "agency", "operations", offered_to=("shelter",)),
        view("shelter", "agency", accepted_by="shelter"),
    ],
)
def test_a_standing_counts_only_in_a_role_the_token_carries(one: View) -> None:
    assert seen(one) == set()


@given(
    organisation=st.sampled_from(["police", "clinic", "operations"]),
    roles=st.sets(st.sampled_from(get_args(Role)), min_size=1),
    offered=st.booleans(),
    accepted=st.booleans(),
)
def test_who_takes_no_part_sees_nothing_in_any_role(
    organisation: str, roles: set[Role], offered: bool, accepted: bool
) -> None:
    one = view(
        organisation,
        *roles,
        offered_to=("shelter",) if offered else (),
        accepted_by="shelter" if accepted else None,
    )
    assert seen(one) == set() and one.releases() == []


def test_what_was_shown_is_recorded_with_the_grant_of_each_class() -> None:
    agreement = Agreement(
        agreement="mou-1",
        recipient="hospital",
        data_classes=["outcome"],
        purposes=["care_coordination"],
        legal_basis="consent",
        valid_from=START,
        valid_until=START + 1,
    )
    one = view("hospital", "agency", kind="police", agreements=(agreement,))
    assert one.shows("status") and one.shows("outcome")
    first, second = one.releases()
    assert (first.grant, first.data_classes) == ("own_referral", ["status"])
    assert (second.grant, second.data_classes) == ("agreement:mou-1", ["outcome"])
    assert (first.recipient, first.subject, first.at) == ("hospital", PERSON, START)


def test_of_an_erased_person_nothing_is_left_to_record() -> None:
    one = view("hospital", "agency", subject=None)
    assert one.shows("status")
    assert one.releases() == []


@pytest.mark.parametrize(
    ("one", "asked_by", "grant"),
    [
        (view("hospital", "agency"), "shelter", "own_referral"),
        (view("hospital", "agency", kind="police"), "shelter", "own_referral"),
        (view("shelter", "provider", offered_to=("shelter",)), "shelter", "asked"),
        (view("shelter", "provider", accepted_by="shelter"), "shelter", "asked"),
        (view("shelter", "provider", offered_to=("shelter", "clinic")), "clinic", None),
        (view("shelter", "provider"), "shelter", None),
        (view("hospital", "provider"), "shelter", None),
        (view("operations", "operations"), "shelter", None),
        (escalated("court", "agency", to="court"), "court", None),
    ],
)
def test_an_exchange_is_for_the_agency_and_who_asked_while_it_has_a_part(
    one: View, asked_by: str, grant: str | None
) -> None:
    assert one.shows("exchange", asked_by) is (grant is not None)
    assert one.shown.get("exchange") == grant


def test_whom_a_step_was_escalated_to_sees_where_it_stands_in_any_role_and_nothing_else() -> None:
    told = escalated("court", "agency", to="court")
    assert (seen(told), told.shown) == ({"status"}, {"status": "escalated"})
    assert seen(escalated("court", "provider", to="court")) == {"status"}
    assert seen(escalated("court", "agency", to="clinic")) == set()


class OneKey:
    """A key store with one person in it, or whose key was destroyed."""

    def __init__(self, key: bytes | Destroyed | None) -> None:
        self.key = key

    async def fetch(self, subjects: Any, section: Section) -> dict[str, bytes | Destroyed]:
        return {} if self.key is None else dict.fromkeys(subjects, self.key)


def showing(key: bytes | Destroyed | None, releases: Any = None) -> Showing:
    keys: Any = OneKey(key)
    nothing: Any = None
    return Showing(nothing, keys, Sealer(CODEC), releases, ManualClock(START))


@pytest.mark.parametrize(
    ("key", "sealed", "changed", "why"),
    [
        (KEY, {}, {}, "none_given"),
        (DESTROYED, {"facts": b"\x01x"}, {}, "erased"),
        (KEY, {"facts": b"\x01x"}, {"subject": None}, "erased"),
        (KEY, {"facts": b"\x01" + bytes(40)}, {}, "unreadable"),
        (None, {"facts": b"\x01" + bytes(40)}, {}, "unreadable"),
    ],
)
async def test_what_could_not_be_opened_says_why_and_is_not_recorded_as_shown(
    key: bytes | Destroyed | None, sealed: dict[str, bytes], changed: dict[str, Any], why: str
) -> None:
    one = view("hospital", "agency", **changed)
    sections = [
        {"referral": one.referral["referral"], "section": name, "sealed": of} for name, of in sealed.items()
    ]
    assert await showing(key).opened(one, "facts", sections) == why
    assert "facts" not in one.shown


async def test_an_outcome_that_was_not_reported_is_not_recorded_as_shown() -> None:
    one = view("hospital", "agency")
    assert await showing(KEY).opened(one, "outcome", []) == "none_given"
    assert one.shown == {}


async def test_releases_are_on_the_log_once_recording_returns() -> None:
    log = MemoryLog()
    await log.ensure(topics("main", 2, 1))
    releases = Releases(await log.appender(), "main", CODEC, 2)
    one = view("hospital", "agency")
    one.shows("status")
    await showing(KEY, releases).record([one, view("police", "agency")])
    [record] = log.records("refbus.main.disclosure")
    disclosed = CODEC.decode(record.value)
    assert isinstance(disclosed, Disclosed) and disclosed.recipient == "hospital"
