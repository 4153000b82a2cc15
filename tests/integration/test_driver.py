"""Statements on the fast path past PyMySQL, and by PyMySQL itself where there is none."""

# ruff: noqa: SLF001

from __future__ import annotations

import ast
import contextlib
import io
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from pymysql.constants import COMMAND

import turnwise.driver
from tests.pipeline import Pipeline
from turnwise.database import Connection, parse_url
from turnwise.driver import PRIVATE


@pytest.fixture
def connection(pipeline: Pipeline) -> Iterator[Connection]:
    with contextlib.closing(parse_url(pipeline.mysql_url).connect("test")) as connection:
        connection.query("CREATE TABLE numbers (n INT PRIMARY KEY, t TEXT) CHARSET utf8mb4")
        yield connection


@pytest.fixture(params=["short", "plain"])
def either(request: pytest.FixtureRequest, connection: Connection) -> Connection:
    """Return a connection with the fast path, or one whose PyMySQL has changed internally."""
    if request.param == "plain":
        connection._find_short_way = lambda: None  # type: ignore[method-assign]
    return connection


def rows(connection: Connection) -> object:
    with connection.cursor() as cursor:
        cursor.execute("SELECT n, t FROM numbers ORDER BY n")
        return cursor.fetchall()


def test_a_statement_returns_its_number_of_affected_rows(either: Connection) -> None:
    assert either.run("INSERT INTO numbers VALUES (1, 'ü😀')") == 1
    many = ",".join(f"({n}, 'x')" for n in range(2, 502))
    assert either.run(f"INSERT INTO numbers VALUES {many}") == 500
    assert either.run("UPDATE numbers SET t = 'y' WHERE n > 500") == 1
    assert either.run("DELETE FROM numbers WHERE n > 1") == 500
    assert rows(either) == ((1, "ü😀"),)


def test_an_error_is_raised_and_the_next_statement_succeeds(either: Connection) -> None:
    assert either.run("INSERT INTO numbers VALUES (1, '')") == 1
    with pytest.raises(pymysql.IntegrityError) as caught:
        either.run("INSERT INTO numbers VALUES (2, ''), (1, '')")
    assert caught.value.args[0] == pymysql.constants.ER.DUP_ENTRY
    with pytest.raises(pymysql.ProgrammingError):
        either.run("INSERT nonsense")
    assert either.run("SELECT 1 UNION SELECT 2") == 2
    assert either.run("INSERT INTO numbers VALUES (3, '')") == 1


def test_a_query_that_is_sent_with_a_statement_sees_what_it_did(either: Connection) -> None:
    look = (COMMAND.COM_QUERY, b"SELECT t FROM numbers WHERE n = 2")

    def look_after(statement: str) -> tuple[int, bool]:
        return either.look_after((COMMAND.COM_QUERY, statement.encode()), look)

    assert look_after("INSERT INTO numbers VALUES (1, 'x')") == (1, False)
    assert look_after("INSERT INTO numbers VALUES (2, 'x'), (3, 'x')") == (2, True)
    with pytest.raises(pymysql.IntegrityError):
        look_after("INSERT INTO numbers VALUES (3, 'y')")
    assert either.run("DELETE FROM numbers WHERE n = 2") == 1
    with pytest.raises(pymysql.IntegrityError):
        look_after("INSERT INTO numbers VALUES (3, 'y')")
    assert look_after(f"INSERT INTO numbers VALUES (4, '{'x' * 60_000}')") == (1, False)
    assert rows(either) == ((1, "x"), (3, "x"), (4, "x" * 60_000))


def test_a_connection_that_ends_before_the_query_is_lost(either: Connection) -> None:
    with either.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        [(number,)] = cursor.fetchall()
    with pytest.raises(pymysql.OperationalError):
        either.look_after(
            (COMMAND.COM_QUERY, f"KILL {number}".encode()), (COMMAND.COM_QUERY, b"SELECT 'x'")
        )
    with pytest.raises(pymysql.Error):
        either.run("INSERT INTO numbers VALUES (1, '')")


def test_the_generated_id_is_known(either: Connection) -> None:
    either.query("CREATE TABLE counted (id INT AUTO_INCREMENT PRIMARY KEY, n INT)")
    either.query("ALTER TABLE counted AUTO_INCREMENT = 249")
    for number in range(249, 253):
        assert either.write(f"INSERT INTO counted (n) VALUES ({number})") == (1, number)
    either.query("ALTER TABLE counted AUTO_INCREMENT = 16777216")
    assert either.write("INSERT INTO counted (n) VALUES (1), (2)") == (2, 16_777_216)
    assert either.write("UPDATE counted SET n = 0 WHERE n = 1") == (1, 0)


def test_the_transaction_status_is_kept(either: Connection) -> None:
    either.begin()
    assert either.run("INSERT INTO numbers VALUES (1, '')") == 1
    assert either.server_status & pymysql.constants.SERVER_STATUS.SERVER_STATUS_IN_TRANS
    either.rollback()
    assert rows(either) == ()


def test_a_statement_may_exceed_the_socket_buffers(either: Connection) -> None:
    with either.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        [(packet,)] = cursor.fetchall()
    text = "x" * min(4_000_000, packet - 1000)
    assert either.run(f"INSERT INTO numbers VALUES (1, LEFT('{text}', 5))") == 1
    assert rows(either) == ((1, "xxxxx"),)


def test_a_hung_statement_ends_at_the_time_limit(either: Connection) -> None:
    either.allow(0.5)
    begun = time.monotonic()
    with pytest.raises(pymysql.OperationalError) as caught:
        either.run("DO SLEEP(20)")
    assert time.monotonic() - begun < 15
    assert caught.value.args[0] == pymysql.constants.CR.CR_SERVER_LOST
    with pytest.raises(pymysql.Error):
        either.run("DO 1")


def test_a_connection_closed_by_the_server_raises(pipeline: Pipeline, either: Connection) -> None:
    number: int = either.thread_id()  # type: ignore[no-untyped-call]
    pipeline.servers.database.query(f"KILL {number}")
    with pytest.raises(pymysql.OperationalError):
        either.run("INSERT INTO numbers VALUES (1, '')")


def test_a_callback_runs_while_the_server_is_busy(connection: Connection) -> None:
    called: list[float] = []
    begun = time.monotonic()
    connection.run("DO SLEEP(1)", lambda: called.append(time.monotonic()))
    [moment] = called
    assert moment - begun < time.monotonic() - moment


def test_what_fails_meanwhile_leaves_no_answer_behind(connection: Connection) -> None:
    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        connection.run("DO SLEEP(0.2)", fail)
    with pytest.raises(pymysql.Error):
        connection.run("DO 1")


def test_pymysql_is_inside_what_the_short_way_needs(connection: Connection) -> None:
    connection.run("DO 1")
    assert connection._readable is not None
    assert isinstance(connection._sock, socket.socket)
    assert isinstance(connection._rfile, io.BufferedReader)
    assert connection._current_timeout == 0
    assert connection._next_seq_id in range(256)
    tree = ast.parse(Path(turnwise.driver.__file__).read_text())
    used = {each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)}
    theirs = {
        name for name in used - vars(Connection).keys()
        if name.startswith("_") and hasattr(connection, name)
        and name not in Connection.__annotations__.keys() - set(PRIVATE)
    }  # fmt: skip
    assert theirs == set(PRIVATE)


@pytest.mark.parametrize("private", PRIVATE)
def test_without_one_of_them_pymysql_runs_the_statement(
    connection: Connection, private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = "_no_such_name"
    monkeypatch.setattr(
        turnwise.driver, "PRIVATE", tuple(hidden if n == private else n for n in PRIVATE)
    )
    assert connection.run("INSERT INTO numbers VALUES (1, '')") == 1
    assert connection._readable is None
