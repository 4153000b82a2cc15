"""Two prunes, one of which is killed before each of its statements in turn, while all others go on.

The others are a recount, a worker to which old requests come again, and an audit.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.integration.halting_prune import OLDER_THAN
from tests.pipeline import Pipeline
from turnwise.account import Audit
from turnwise.database import Connection, Database, fetch, interrupts, parse_url
from turnwise.errors import Transient
from turnwise.message import Request
from worker.counting import recount
from worker.pruning import prune
from worker.store import Outcome, Store

CLIENTS = ("alice", "bob")
EACH = 4
"""Requests of a client in each round, of which the second is missing until the round after."""

STATEMENTS = 25
"""Statements of a prune, at least."""

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def database(pipeline: Pipeline) -> Database:
    pipeline.run("worker", "migrate")
    return parse_url(pipeline.mysql_url)


@pytest.fixture
def halting(pipeline: Pipeline, database: Database) -> Iterator[Callable[[int], str]]:  # noqa: ARG001
    """Return what kills a prune before a statement, and tells whether it came so far."""
    command = [sys.executable, "-m", "tests.integration.halting_prune"]
    environment = {**os.environ, "MYSQL_URL": pipeline.mysql_url}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked
        assert told

        def run(step: int) -> str:
            print(step, file=asked, flush=True)
            return told.readline().strip()

        yield run
        asked.close()


def persisting(work: Callable[[Connection], object], connection: Connection) -> None:
    """Do it again if it lost its locks to somebody else."""
    while True:
        try:
            work(connection)
        except Exception as error:
            if not interrupts(error):
                raise
            connection.rollback()
        else:
            return


class Bystanders:
    """A recount, and others that go on until the prune is over: repeats arrive, audits look."""

    def __init__(
        self, database: Database, pool: ThreadPoolExecutor, stack: contextlib.ExitStack
    ) -> None:
        self._pool = pool
        self._store = stack.enter_context(contextlib.closing(Store(database, "w2")))
        self._auditing, self._counting = (
            stack.enter_context(contextlib.closing(database.connect("test"))) for _ in range(2)
        )

    @contextlib.contextmanager
    def about(self, known: Sequence[Request], missing: int) -> Iterator[None]:
        over = threading.Event()
        tasks = [
            self._pool.submit(self._repeat, over, known[-3 * EACH :]),
            self._pool.submit(self._look, over, len(known), missing),
            self._pool.submit(persisting, recount, self._counting),
        ]
        try:
            yield
        finally:
            over.set()
        for task in tasks:
            task.result()

    def _repeat(self, over: threading.Event, requests: Sequence[Request]) -> None:
        while not over.is_set():
            with contextlib.suppress(Transient):
                assert set(self._store.write(requests)) == {Outcome.REPEATED}

    def _look(self, over: threading.Event, served: int, missing: int) -> None:
        while not over.is_set():
            audit = Audit(self._auditing)
            list(audit.accounts())
            assert (audit.totals.served, audit.totals.missing) == (served, missing)
            assert sum(audit.totals.served_by.values()) == served


def block(begin: int) -> list[Request]:
    counters = [begin + n for n in range(1, EACH + 1) if n != 2]
    return [Request(client, counter, "m", NOW) for client in CLIENTS for counter in counters]


def late(begin: int) -> list[Request]:
    return [Request(client, begin + 2, "m", NOW) for client in CLIENTS]


@pytest.mark.parametrize(
    ("at_once", "epoch"), [(False, True), (True, False)], ids=["in_turn", "at_once_no_epoch"]
)
def test_nothing_is_lost_or_served_twice_wherever_a_prune_is_killed(
    database: Database, halting: Callable[[int], str], at_once: bool, epoch: bool
) -> None:
    ends: Counter[str] = Counter()
    known: list[Request] = []
    with contextlib.ExitStack() as stack:
        one, other = (
            stack.enter_context(contextlib.closing(database.connect("test"))) for _ in range(2)
        )
        store = stack.enter_context(contextlib.closing(Store(database, "w1")))
        pool = stack.enter_context(ThreadPoolExecutor())
        bystanders = Bystanders(database, pool, stack)
        if not epoch:
            fetch(one, "DELETE FROM prune_epoch")
        # If both run at once, the other one often leaves it nothing to do.
        while not ends["ended"] or (at_once and ends.total() < STATEMENTS):
            begin = ends.total() * EACH
            new = [*block(begin), *(late(begin - EACH) if begin else [])]
            assert store.write(new) == [Outcome.SERVED] * len(new)
            known += new
            fetch(one, "UPDATE requests SET served_at = served_at - INTERVAL 2 DAY")
            with bystanders.about(known, missing=len(CLIENTS)):
                tasks = [pool.submit(persisting, prune_old, other)] if at_once else []
                ends[halting(ends.total() + 1)] += 1
                for task in tasks:
                    task.result()
            assert not ends["failed"]
            prune_old(other)
            assert fetch(one, "SELECT COUNT(*) FROM requests") == [(0,)]
            assert fetch(one, "SELECT SUM(removed) FROM pruned") == [(len(known),)]
        assert ends["killed"] >= (5 if at_once else STATEMENTS)
        assert set(store.write(known)) == {Outcome.REPEATED}
        assert store.write(late(begin)) == [Outcome.SERVED] * len(CLIENTS)
        assert fetch(one, "SELECT COUNT(*) FROM prune_epoch") == [(1,)]
        recount(one)
        each = len(known) // len(CLIENTS)
        found = [(a.served, a.missing, a.removed) for a in Audit(one).accounts()]
        assert found == [(each + 1, 0, each)] * len(CLIENTS)


def prune_old(connection: Connection) -> None:
    prune(connection, OLDER_THAN)
