"""Logs: one JSON object a line, followed by a correlation id, and nothing of a person."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from referral_bus.runtime import logs
from referral_bus.runtime.logs import JsonLines, correlated, correlation, told
from referral_bus.store.port import StoreUnavailable

NAME = "Quentin Featherstonehaugh"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    former, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in logs._QUIET}
    logs.configure("intake", "INFO")
    yield logging.getLogger("referral_bus.test")
    root.handlers[:] = former
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)


def line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonLines("intake").format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    about = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("referral_bus.test", logging.INFO, __file__, 1, message, args, about)


def fail() -> None:
    raise ValueError(f"invalid name: {NAME}")


def test_a_line_says_when_how_grave_who_and_what() -> None:
    said = line(record("put %d records", 3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(said.pop("time")))
    assert said == {
        "level": "INFO",
        "service": "intake",
        "logger": "referral_bus.test",
        "message": "put 3 records",
    }


def test_the_time_is_utc() -> None:
    moment = record("x")
    moment.created, moment.msecs = 0.0, 7.0
    assert line(moment)["time"] == "1970-01-01T00:00:00.007Z"


def test_an_exception_is_logged_by_type_and_place_and_never_by_its_text() -> None:
    try:
        fail()
    except ValueError as error:
        said = line(record("it failed", error=error))
    assert said["error"] == "ValueError"
    assert any("fail" in str(frame) for frame in said["at"])  # type: ignore[attr-defined]
    assert NAME not in json.dumps(said)


def test_not_even_the_text_of_a_cause_is_logged() -> None:
    try:
        try:
            fail()
        except ValueError as error:
            raise RuntimeError("it failed") from error
    except RuntimeError as error:
        assert NAME not in json.dumps(line(record("it failed", error=error)))


async def test_of_a_task_that_nobody_waited_for_the_type_of_its_error_is_logged_and_not_its_text(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails() -> None:
        fail()

    logs.configure("intake", "INFO")
    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    del task
    gc.collect()
    said = json.loads(capsys.readouterr().err)
    assert (said["message"], said["error"]) == ("Task exception was never retrieved", "ValueError")
    assert NAME not in str(said)


def test_of_the_buss_own_errors_the_text_may_be_said_and_of_others_the_type() -> None:
    assert told(StoreUnavailable("start the database")) == "start the database"
    assert told(ValueError(NAME)) == "ValueError"
    assert told(UnicodeDecodeError("utf-8", NAME.encode(), 0, 1, NAME)) == "UnicodeDecodeError"


def test_a_long_message_is_cut_and_a_line_break_does_not_make_another_line() -> None:
    assert len(str(line(record("x" * 10_000))["message"])) == 2_000
    assert line(record("one\ntwo"))["message"] == "one\ntwo"


def test_what_is_worked_on_is_followed_by_its_correlation_id_and_only_as_long() -> None:
    with correlated("outer"):
        with correlated("inner"):
            assert line(record("x"))["correlation"] == "inner"
        assert (line(record("x"))["correlation"], correlation()) == ("outer", "outer")
    assert "correlation" not in line(record("x"))


async def test_requests_side_by_side_keep_their_own_correlation_ids() -> None:
    async def work(about: str) -> object:
        with correlated(about):
            await asyncio.sleep(0)
            return line(record("x"))["correlation"]

    assert await asyncio.gather(*(work(str(n)) for n in range(5))) == ["0", "1", "2", "3", "4"]


def test_a_process_logs_to_standard_error_alone(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    # Beside pytest's own, which collect what a test logs.
    [handler] = [h for h in logging.getLogger().handlers if type(h) is logging.StreamHandler]
    handler.stream = sys.stderr
    logger.info("hello")
    logger.debug("too fine")
    said = capsys.readouterr()
    assert said.out == ""
    assert [json.loads(text)["message"] for text in said.err.splitlines()] == ["hello"]


def test_libraries_that_quote_what_they_are_given_are_quiet(logger: logging.Logger) -> None:
    for name in ("httpx", "aiokafka.consumer", "uvicorn.error"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)
