"""After a fault ``make chaos`` waits for each lane of a client by itself: one that goes on says nothing of the other."""

from __future__ import annotations

from tests.chaos.cluster.standstill import of_line
from tests.chaos.cluster.striking import stand_still
from tests.support.checking import Line

HEALED = 10.0


def line(door: str, at: float) -> Line:
    return {"at": at, "what": "acknowledged", "door": door, "organisation": "school", "id": f"{door} {at}"}


def left(*acknowledged: Line, not_admitted: tuple[Line, ...] = ()) -> list[str]:
    missing = set(map(of_line, not_admitted))
    return stand_still(acknowledged, HEALED, lambda submissions: submissions & missing)


OLD, FRESH, TYPED = line("outbox", 9.0), line("outbox", 11.0), line("http", 11.0)


def test_a_client_that_is_acknowledged_to_and_read_goes_on() -> None:
    assert left(OLD, FRESH, TYPED) == []


def test_what_is_put_on_an_outbox_is_no_acknowledgement_by_intake() -> None:
    assert left(OLD, line("http", 9.5), FRESH) == ["acknowledgements"]


def test_an_outbox_goes_on_once_what_rested_on_it_is_on_the_inbox() -> None:
    assert left(OLD, FRESH, TYPED, not_admitted=(OLD,)) == ["outboxes"]


def test_an_outbox_goes_on_once_something_new_of_it_is_on_the_inbox() -> None:
    later = line("outbox", 12.0)
    assert left(OLD, TYPED) == ["outboxes"]
    assert left(OLD, FRESH, TYPED, not_admitted=(FRESH,)) == ["outboxes"]
    assert left(OLD, FRESH, later, TYPED, not_admitted=(later,)) == []
