"""The strict write: one request, one round trip, by a prepared statement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

import worker.prepared
from tests.pipeline import Pipeline
from turnwise.database import parse_url
from turnwise.message import MAX_COUNTER, Request
from worker.prepared import Prepared
from worker.store import Outcome, Store

SENT_AT = datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC)
MESSAGES = ["", "m", "'\\\"\t\n%s?", "ä€𝄞", "x" * 250, "x" * 251, "€" * 5461, "x" * 16_384]


@pytest.fixture
def store(pipeline: Pipeline) -> Iterator[Store]:
    pipeline.run("worker", "migrate")
    with contextlib.closing(Store(parse_url(pipeline.mysql_url), "w1")) as store:
        yield store


def assert_stores(pipeline: Pipeline, store: Store) -> None:
    for counter, message in enumerate(MESSAGES, MAX_COUNTER - len(MESSAGES) + 1):
        assert store.write([Request("alice", counter, message, SENT_AT)]) == [Outcome.SERVED]
    assert [(row.message, row.counter, row.sent_at) for row in pipeline.rows()] == [
        (message, counter, SENT_AT.replace(tzinfo=None))
        for counter, message in enumerate(MESSAGES, MAX_COUNTER - len(MESSAGES) + 1)
    ]
    assert {(row.client, row.served_by, row.deliveries) for row in pipeline.rows()} == {
        ("alice", "w1", 1)
    }
    again = [Request("alice", MAX_COUNTER, MESSAGES[-1], SENT_AT)]
    assert store.write(again) == [Outcome.REPEATED]


def sent(store: Store, what: str) -> int:
    with store.open().cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE %s", (what,))
        row = cursor.fetchone()
    assert row
    return int(row[1])


def test_one_request_is_one_prepared_statement(pipeline: Pipeline, store: Store) -> None:
    assert_stores(pipeline, store)
    before = [sent(store, what) for what in ("Com_stmt_execute", "Questions")]
    for counter in range(1, 11):
        store.write([Request("bob", counter, "m", SENT_AT)])
    after = [sent(store, what) for what in ("Com_stmt_execute", "Questions")]
    # Two of the questions are the test's own.
    assert [b - a for a, b in zip(before, after, strict=True)] == [10, 12]


def test_a_driver_that_has_changed_internally_falls_back_to_text(
    pipeline: Pipeline, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(connection: object) -> object:
        return connection.gone  # type: ignore[attr-defined]

    monkeypatch.setattr(worker.prepared, "_ways", changed)
    assert_stores(pipeline, store)
    assert sent(store, "Com_stmt_execute") == 0


def test_a_server_out_of_prepared_statements_falls_back_to_text(
    pipeline: Pipeline, store: Store
) -> None:
    [(usual,)] = pipeline.servers.database.query("SELECT @@max_prepared_stmt_count")
    pipeline.servers.database.query("SET GLOBAL max_prepared_stmt_count = 0")
    try:
        assert_stores(pipeline, store)
    finally:
        pipeline.servers.database.query("SET GLOBAL max_prepared_stmt_count = %s", usual)
    assert sent(store, "Com_stmt_execute") == 0


def test_a_server_error_leaves_the_connection_usable(store: Store) -> None:
    connection = store.open()
    statement = Prepared.on(connection, "INSERT INTO prune_epoch VALUES (? / 1)")
    assert statement
    assert statement.run(41) == 1
    with pytest.raises(Exception, match="Duplicate"):
        statement.run(41)
    with pytest.raises(Exception, match="incorrect"):
        statement.run("no number")
    assert statement.run("42") == 1
    assert store.write([Request("alice", 1, "m", SENT_AT)]) == [Outcome.SERVED]
