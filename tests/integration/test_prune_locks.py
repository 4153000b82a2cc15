"""A prune loses its locks, or the rows it has read, to somebody else, and goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lab.harness.process import Process
from tests.pipeline import Pipeline
from turnwise.database import Connection, fetch, interrupts, parse_url
from turnwise.message import Request
from worker import pruning
from worker.store import Store

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def holding(pipeline: Pipeline) -> Iterator[Connection]:
    """Return a connection; three requests were served two days ago."""
    pipeline.run("worker", "migrate")
    database = parse_url(pipeline.mysql_url)
    with (
        contextlib.closing(database.connect("holding")) as holding,
        contextlib.closing(Store(database, "w1")) as store,
    ):
        store.write([Request("alice", counter, "m", NOW) for counter in (1, 2, 3)])
        fetch(holding, "UPDATE requests SET served_at = served_at - INTERVAL 2 DAY")
        yield holding


def start(pipeline: Pipeline) -> Process:
    return pipeline.start("prune", "worker", "prune", "--older-than", "1d", "--every", "1s")


def hold(holding: Connection, counter: int) -> None:
    found = f"SELECT counter FROM requests WHERE counter = {counter} AND client = 'alice'"
    fetch(holding, f"{found} FOR UPDATE")


def count(pipeline: Pipeline, metric: str) -> int:
    statement = "SELECT count FROM information_schema.innodb_metrics WHERE name = %s"
    [(found,)] = pipeline.servers.database.query(statement, metric)
    return int(found)


def met(pipeline: Pipeline, metric: str) -> Callable[[], bool]:
    before = count(pipeline, metric)
    return lambda: count(pipeline, metric) > before


def test_a_continuous_prune_outlasts_a_lock_wait_timeout(
    pipeline: Pipeline, holding: Connection
) -> None:
    timed_out = met(pipeline, "lock_timeouts")
    holding.begin()
    hold(holding, 2)
    prune = start(pipeline)
    pipeline.wait(timed_out, "the prune gives up waiting", interval=0.25)
    holding.rollback()
    pipeline.wait(lambda: "removed 3 rows" in prune.log.read_text(), "all is removed")
    assert prune.alive()


def test_a_continuous_prune_outlasts_a_deadlock(pipeline: Pipeline, holding: Connection) -> None:
    deadlocked = met(pipeline, "lock_deadlocks")
    blocked = met(pipeline, "lock_row_lock_waits")
    holding.begin()
    # The server ends the transaction that has changed less.
    with holding.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
            " VALUES ('bob', %s, 'm', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'w1')",
            [(counter,) for counter in range(1, 501)],
        )
    hold(holding, 2)
    prune = start(pipeline)
    pipeline.wait(blocked, "the prune waits", interval=0.25)
    hold(holding, 1)
    assert deadlocked()
    holding.commit()
    pipeline.wait(lambda: "removed 3 rows" in prune.log.read_text(), "all is removed")
    assert prune.alive()


def test_a_prune_outlasts_a_row_that_was_changed_since_its_snapshot(
    pipeline: Pipeline, holding: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MariaDB's error 1020, which newer releases report by default."""
    if not fetch(holding, "SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
        pytest.skip("this server has no such error")
    reported: list[int] = []

    fetch(holding, "INSERT INTO pruned (client, through) VALUES ('alice', 0)")

    def overtaken(connection: Connection, statement: str, *values: object) -> list[object]:
        found: list[object] = fetch(connection, statement, *values)
        if statement == pruning._LINES and not reported:  # noqa: SLF001
            fetch(holding, "UPDATE pruned SET removed = removed + 1")
            fetch(holding, "UPDATE pruned SET removed = removed - 1")
        return found

    def told(error: Exception) -> bool:
        reported.append(int(error.args[0]))
        return interrupts(error)

    monkeypatch.setattr(pruning, "fetch", overtaken)
    monkeypatch.setattr(pruning, "interrupts", told)
    database = parse_url(pipeline.mysql_url)
    with contextlib.closing(database.connect("prune")) as connection:
        fetch(connection, "SET SESSION innodb_snapshot_isolation = ON")
        assert pruning.prune(connection, DAY).removed == 3
    assert reported == [1020]
