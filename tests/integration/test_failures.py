"""The table of failures, and concurrent changes to one of its rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.pipeline import Pipeline
from turnwise.database import Connection, parse_url
from turnwise.message import Request
from worker import failures
from worker.failures import FAILED, Failure

REQUEST = Request("alice", 5, "an order", datetime(2026, 1, 31, tzinfo=UTC))
DROP = "UPDATE failures SET reason = 'dropped', due_at = NULL, message = '', traceback = NULL"


@pytest.fixture
def connection(pipeline: Pipeline) -> Iterator[Connection]:
    pipeline.run("worker", "migrate")
    database = parse_url(pipeline.environment()["MYSQL_URL"])
    with contextlib.closing(database.connect("test")) as connection:
        yield connection


@pytest.mark.parametrize("then", ["put off", "note", "end", "begin"])
def test_a_failure_dropped_during_an_attempt_stays_dropped(
    connection: Connection, then: str
) -> None:
    """Its message is gone: serving it now would run the handler without one."""
    failure = Failure(FAILED, "ValueError", "no", due_in=0.0)
    failures.note(connection, REQUEST, "w1", failure)
    assert failures.begin_due(connection, "w1", 0.0) is not None
    connection.query(DROP)
    match then:
        case "put off":
            failures.put_off(connection, REQUEST, "w1", noted=True)
        case "note":
            failures.note(connection, REQUEST, "w1", failure)
        case "end":
            failures.end(connection, REQUEST, "w1", failure)
        case "begin":
            failures.begin_redelivered(connection, REQUEST, "w1", 0.0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT reason, due_at, attempts >= 0, deaths >= 0 FROM failures")
        assert cursor.fetchall() == (("dropped", None, 1, 1),)
    assert failures.begin_due(connection, "w2", 0.0) is None
    assert failures.count(connection) == (0, 0)


def test_a_repeated_failure_updates_its_row(connection: Connection) -> None:
    failures.note(connection, REQUEST, "w1", Failure(FAILED, "A", "A: first", due_in=0.0))
    failures.note(connection, REQUEST, "w2", Failure("rejected", "B", "B: second", "trace"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT attempts, error, traceback, reason, failed_by, due_at FROM failures")
        assert cursor.fetchall() == ((2, "B: second", "trace", "rejected", "w2", None),)
    assert failures.count(connection) == (0, 1)
