"""Each attempt counts once, whatever becomes of the commit that records it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pymysql
import pytest

from tests.pipeline import Pipeline
from turnwise import Retry
from turnwise.database import parse_url
from turnwise.driver import Connection
from turnwise.errors import Transient
from turnwise.handler import Transaction
from turnwise.message import Request
from worker.handler import Terms, Turns, Work
from worker.handler_watch import Watch
from worker.store import Outcome
from worker.vitals import Vitals

REQUEST = Request("alice", 5, "an order", datetime(2026, 1, 31, tzinfo=UTC))
OF_REQUEST = "(client, counter, message, sent_at, served_at, served_by, deliveries)"


class Link:
    """Cuts the connection between a commit and its answer, ``times`` times."""

    def __init__(self) -> None:
        self.times = 0

    def commit(self, connection: Connection) -> None:
        super(Connection, connection).commit()
        if self.times:
            self.times -= 1
            connection.close()
            raise pymysql.OperationalError(2013, "Lost connection to MySQL server during query")


class Bench:
    """A worker's turns, on real connections."""

    def __init__(self, pipeline: Pipeline, link: Link) -> None:
        self.link = link
        self.calls = 0
        self.error: Exception | None = None
        self.pipeline = pipeline
        database = parse_url(pipeline.environment()["MYSQL_URL"])
        watch: Watch[Work] = Watch(60)
        self.turns = Turns(database, "worker-1", self._handle, Terms(60, 10), watch, Vitals())

    def _handle(self, _request: Request, _db: Transaction) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error

    def serve(self, work: Work) -> Outcome | None:
        """Serve it as the worker does: again, after each outage."""
        while True:
            with contextlib.suppress(Transient):
                self.turns.serve([work])
                return work.outcome

    def query(self, statement: str) -> list[tuple[object, ...]]:
        return self.pipeline.servers.database.query(statement, name=self.pipeline.name)

    def counted(self) -> list[tuple[object, ...]]:
        return self.query("SELECT attempts, deaths FROM failures")


@pytest.fixture
def bench(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    pipeline.run("worker", "migrate")
    link = Link()

    def commit(connection: Connection) -> None:
        link.commit(connection)

    monkeypatch.setattr(Connection, "commit", commit, raising=False)
    bench = Bench(pipeline, link)
    with contextlib.closing(bench.turns):
        yield bench


def test_a_failure_whose_record_was_not_confirmed_counts_once(bench: Bench) -> None:
    bench.error = Retry(after=1000)
    bench.link.times = 2
    assert bench.serve(Work(REQUEST)) is Outcome.FAILED
    assert (bench.calls, bench.counted()) == (1, [(1, 0)])


def test_a_redelivered_attempt_whose_note_was_not_confirmed_counts_once(bench: Bench) -> None:
    """Two attempts: the one that the first delivery may have been, and this one."""
    bench.error = Retry(after=1000)
    bench.link.times = 2
    assert bench.serve(Work(REQUEST, redelivered=True)) is Outcome.FAILED
    assert (bench.calls, bench.counted()) == (1, [(2, 1)])


def test_a_due_attempt_whose_note_was_not_confirmed_counts_once(bench: Bench) -> None:
    """It is made at once, too, and not after a time that would do for its worker's death."""
    bench.error = Retry(after=0)
    bench.serve(Work(REQUEST))
    bench.error = Retry(after=1000)
    bench.link.times = 1
    with pytest.raises(Transient):
        bench.turns.serve_due()
    assert bench.turns.serve_due()
    assert (bench.calls, bench.counted()) == (2, [(2, 0)])


def test_a_lost_delivery_whose_note_was_not_confirmed_is_no_death(bench: Bench) -> None:
    work = Work(REQUEST, redelivered=True)
    bench.link.times = 1
    with pytest.raises(Transient):
        bench.turns.serve([work])
    bench.turns.lose([work])
    bench.turns.serve([])
    assert bench.counted() == [(1, 1)]


def test_an_attempt_does_not_count_while_it_waits_for_another_worker(bench: Bench) -> None:
    """A worker that is killed meanwhile must not be taken for one that its handler killed."""
    other = bench.pipeline.servers.database.connect(bench.pipeline.name)
    with other as cursor:
        cursor.execute("BEGIN")
        cursor.execute(
            f"INSERT INTO requests {OF_REQUEST} VALUES"
            " ('alice', 5, 'an order', '2026-01-31', UTC_TIMESTAMP(6), 'worker-2', 1)"
        )
        work = Work(REQUEST, redelivered=True)
        serving = threading.Thread(target=bench.serve, args=(work,))
        serving.start()
        waiting = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        bench.pipeline.wait(lambda: bench.query(waiting), "a worker that waits")
        assert bench.counted() == []
        cursor.execute("ROLLBACK")
        serving.join(30)
    assert work.outcome is Outcome.SERVED
    assert (bench.calls, bench.counted()) == (1, [])


def test_a_redelivered_request_that_is_served_is_not_noted(bench: Bench) -> None:
    assert bench.serve(Work(REQUEST)) is Outcome.SERVED
    bench.query("CREATE TRIGGER noted BEFORE INSERT ON failures FOR EACH ROW SET NEW.client = NULL")
    assert bench.serve(Work(REQUEST, redelivered=True)) is Outcome.REPEATED
    assert bench.calls == 1
