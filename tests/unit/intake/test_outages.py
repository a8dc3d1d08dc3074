"""What all hear who ask at the same time, and what may be one caller's alone."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from referral_bus.log.port import LogError, LogUnavailable
from referral_bus.sealing.port import KeyStoreBusy, KeyStoreError, KeyStoreUnavailable
from services.intake.outages import away


class Told(Exception):
    """What PostgreSQL's driver raises, with its code where there is one."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate


def of_the_database(sqlstate: str | None) -> OperationalError:
    return OperationalError("select", {}, Told(sqlstate))


@pytest.mark.parametrize(
    "error",
    [
        LogUnavailable("no leader"),
        KeyStoreUnavailable("away"),
        of_the_database(None),
        of_the_database("08006"),
        of_the_database("53300"),
        of_the_database("57P01"),
        PoolTimeout(),
        OSError(),
    ],
    ids=str,
)
def test_what_is_away_is_so_for_all(error: Exception) -> None:
    assert away(error)


@pytest.mark.parametrize(
    "error",
    [
        of_the_database("57014"),
        of_the_database("40P01"),
        of_the_database("55P03"),
        KeyStoreBusy("locked"),
        KeyStoreError("refused"),
        LogError("too large"),
        ZeroDivisionError(),
    ],
    ids=str,
)
def test_what_a_server_answers_may_be_one_caller_s(error: Exception) -> None:
    assert not away(error)
