"""The embedded database keeps what was committed, wherever its folder is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from referral_bus.embedded.postgres import EmbeddedPostgres


@pytest.fixture(params=[True, False], ids=["durable", "forgetful"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres", durable=request.param)
    server.start()
    yield server
    server.stop()


def connect(server: EmbeddedPostgres) -> psycopg.Connection:
    return psycopg.connect(server.url("kept").replace("+psycopg", ""), autocommit=True)


def test_what_was_committed_survives_a_stop_and_a_kill(server: EmbeddedPostgres) -> None:
    with connect(server) as connection:
        connection.execute("create table lines (line text)")
        connection.execute("insert into lines values ('before the stop')")
    server.stop()
    assert not server.running

    server.start()
    open_connection = connect(server)
    open_connection.execute("insert into lines values ('before the kill')")
    server.kill()
    assert not server.running
    with pytest.raises(psycopg.OperationalError):
        # What serves the connection outlives its parent by a moment, in which it would still answer.
        open_connection.execute("select pg_sleep(60)")
    open_connection.close()

    server.start()
    with connect(server) as connection:
        lines = connection.execute("select line from lines").fetchall()
    assert lines == [("before the stop",), ("before the kill",)]


def test_a_database_is_made_when_it_is_first_asked_for_and_then_stays(server: EmbeddedPostgres) -> None:
    engine = create_engine(server.url("one"))
    with engine.begin() as connection:
        connection.execute(text("create table here (id int)"))
    engine.dispose()
    again = create_engine(server.url("one"))
    with again.begin() as connection:
        assert connection.execute(text("select count(*) from here")).scalar_one() == 0
        assert connection.execute(text("select current_database()")).scalar_one() == "one"
    again.dispose()


def test_a_folder_too_deep_for_a_socket_and_with_odd_characters_works(tmp_path: Path) -> None:
    deep = tmp_path / ("a folder & 'more' " + "x" * 90) / ("y" * 90)
    server = EmbeddedPostgres(deep, durable=False)
    server.start()
    try:
        with psycopg.connect(server.url("deep").replace("+psycopg", "")) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        server.stop()


def test_two_hundred_connections_are_served(server: EmbeddedPostgres) -> None:
    with connect(server) as connection:
        assert connection.execute("show max_connections").fetchone() == ("200",)


def test_an_initialisation_that_was_interrupted_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "data.new").mkdir()
    (tmp_path / "data.new" / "PG_VERSION").write_text("18")
    server = EmbeddedPostgres(tmp_path, durable=False)
    server.start()
    server.stop()
    assert not (tmp_path / "data.new").exists()
