"""Pruning old rows while old repeats arrive: before, during and after it."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard.answers import one
from dashboard.board import Board
from dashboard.database import Requests
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from tests.pipeline import Pipeline
from turnwise.account import Audit
from turnwise.database import Connection, fetch, parse_url
from turnwise.errors import ExitCode
from turnwise.message import Request
from worker.counting import advance, count_fully, recount
from worker.handler_claim import Claims
from worker.lines import Lines
from worker.pruning import delete, draw_lines, prune
from worker.schema import STEPS
from worker.store import Outcome, Store, claim

EPOCH_STEP = 1 + next(
    n for n, step in enumerate(STEPS) if "TABLE IF NOT EXISTS prune_epoch" in step
)
NOW = datetime(2026, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)
ROOT = Path(__file__).parent.parent.parent


def request(counter: int, message: str = "m", client: str = "alice") -> Request:
    return Request(client, counter, message, NOW)


def requests(*counters: int) -> list[Request]:
    return [request(counter) for counter in counters]


def outcomes(found: list[Outcome]) -> str:
    return "".join(outcome.name[0] for outcome in found)


@pytest.fixture
def store(pipeline: Pipeline, connect: object) -> Iterator[Store]:  # noqa: ARG001
    with contextlib.closing(Store(parse_url(pipeline.mysql_url), "w1")) as store:
        yield store


def age(connection: Connection) -> None:
    """Age all rows, as if they had been served two days earlier."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE requests SET served_at = served_at - INTERVAL 2 DAY")


def counters(connection: Connection) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT counter FROM requests ORDER BY client, counter")
        return [counter for (counter,) in cursor.fetchall()]


def accounts(connection: Connection) -> list[tuple[str, int, int, int, int]]:
    read = Audit(connection).accounts()
    return [(a.client, a.served, a.removed, a.highest, a.missing) for a in read]


def wait_blocked(pipeline: Pipeline, transactions: int = 1) -> None:
    blocked = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    pipeline.wait(
        lambda: pipeline.servers.database.query(blocked) == [(transactions,)],
        f"{transactions} wait for a lock",
        timeout=4,
        # InnoDB refreshes this table only if it was not read for 0.1 s.
        interval=0.25,
    )


def test_removed_requests_still_count_as_served(
    pipeline: Pipeline, connect: Callable[[], Connection], store: Store
) -> None:
    connection = connect()
    store.write(requests(1, 2, 3, 5, 6))
    age(connection)
    store.write(requests(7))
    shown = pipeline.run("worker", "prune", "--older-than", "1d", "--dry-run").stdout
    assert shown == "5 rows are that old\n"
    assert len(counters(connection)) == 6
    assert pipeline.run("worker", "prune", "--older-than", "1d").stdout == "removed 5 rows\n"
    for _ in range(2):
        assert counters(connection) == [7]
        result = pipeline.run("worker", "audit", "--json", code=ExitCode.FAILED)
        audit = json.loads(result.stdout)
        [account] = audit["clients"]
        assert (account["served"], account["removed"], account["gaps"]) == (6, 5, [[4, 4]])
        assert audit["served_by"] == {"w1": 6}
        pipeline.run("worker", "audit", "--recount", code=ExitCode.FAILED)
    # A repeat is refused, whatever its message; missing and new requests are served.
    assert outcomes(store.write([request(2), request(3, "other")])) == "RR"
    assert outcomes(store.write(requests(1, 4, 8, 4))) == "RSSR"
    assert counters(connection) == [4, 7, 8]
    pipeline.run("worker", "audit")
    age(connection)
    assert pipeline.run("worker", "prune", "--older-than", "1d").stdout == "removed 3 rows\n"
    assert accounts(connection) == [("alice", 8, 8, 8, 0)]
    assert outcomes(store.write(requests(*range(1, 9)))) == "R" * 8
    assert counters(connection) == []
    pipeline.run("worker", "audit", "--recount")
    assert accounts(connection) == [("alice", 8, 8, 8, 0)]


def test_the_page_finds_removed_requests(connect: Callable[[], Connection], store: Store) -> None:
    connection = connect()
    store.write(requests(1, 2, 4))
    age(connection)
    prune(connection, DAY)
    board = Board(["database"])
    source = Requests(store.database, board, Logouts(Lookups(store.database, "test")))
    found = []
    with contextlib.closing(source), ThreadPoolExecutor() as pool:
        for counter in (2, 3, 5):
            asking = pool.submit(board.follow, ("alice", counter), 20, lambda: None)
            while not asking.done():
                source.look()
            found.append(json.loads(one(("alice", counter), asking.result())))
    removed, missing, unknown = found
    assert removed == {"served": True, "removed": True, "client": "alice", "counter": 2}
    assert (missing["served"], missing["known"]) == (False, True)
    assert (unknown["served"], unknown["known"]) == (False, True)


def test_rows_not_counted_yet_are_kept(
    pipeline: Pipeline, connect: Callable[[], Connection], store: Store
) -> None:
    """Only rows served ten seconds ago are counted: a gap before them may still be unsettled."""
    store.write(requests(1, 3))
    shown = pipeline.run("worker", "prune", "--older-than", "0").stdout
    assert shown == "removed 0 rows; kept 2 that are not counted yet\n"
    assert counters(connect()) == [1, 3]


def test_a_killed_prune_resumes_where_it_stopped(
    connect: Callable[[], Connection], store: Store
) -> None:
    connection = connect()
    store.write(requests(1, 2, 3))
    age(connection)
    count_fully(connection, ["alice"])
    assert draw_lines(connection, {"alice": [1, 2, 3]}) == {"alice": [1, 2, 3]}
    assert outcomes(store.write([request(1), request(2, "other"), request(4)])) == "RCS"
    assert delete(connection, {"alice": [1]}) == 1
    assert outcomes(store.write([request(1), request(2, "other"), request(3)])) == "RCR"
    assert prune(connection, DAY).removed == 2
    assert accounts(connection) == [("alice", 4, 3, 4, 0)]


@pytest.mark.parametrize("batch", [(2,), (2, 3)], ids=["one", "several"])
def test_a_worker_frozen_between_its_check_and_its_write_serves_nothing_twice(
    connect: Callable[[], Connection],
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    batch: tuple[int, ...],
) -> None:
    connection = connect()
    store.write(requests(1, 2, 3))
    age(connection)
    clear_of = Lines.clear_of

    def frozen(self: Lines, *arguments: object) -> bool:
        clear = clear_of(self, *arguments)  # type: ignore[arg-type]
        prune(connection, DAY)
        return clear

    with monkeypatch.context() as patch:
        patch.setattr(Lines, "clear_of", frozen)
        assert outcomes(store.write(requests(*batch))) == "R" * len(batch)
    assert counters(connection) == []
    assert outcomes(store.write(requests(1, 2, 3, 4))) == "RRRS"


@pytest.mark.parametrize(
    ("batch", "outcome", "later", "answers"),
    [
        ((4, 1), "SR", (1, 5), "RS"),
        # A single write has read the epoch but not yet inserted its row.
        ((9,), "S", (1,), "R"),
    ],
    ids=["batch", "single"],
)
def test_a_line_waits_for_the_writes_that_rely_on_its_absence(
    pipeline: Pipeline, connect: Callable[[], Connection], store: Store,
    batch: tuple[int, ...], outcome: str, later: tuple[int, ...], answers: str,
) -> None:  # fmt: skip
    pruning, holding = connect(), connect()
    store.write(requests(1, 2, 3))
    age(pruning)
    count_fully(pruning, ["alice"])
    holding.begin()
    claim(holding, requests(batch[0]), "w2")
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(store.write, requests(*batch))
        wait_blocked(pipeline)
        drawing = pool.submit(draw_lines, pruning, {"alice": [1, 2, 3]})
        wait_blocked(pipeline, 2)
        holding.rollback()
        assert outcomes(writing.result()) == outcome
        drawing.result()
    assert outcomes(store.write(requests(*later))) == answers


def test_the_epoch_of_an_older_schema_is_continued(
    pipeline: Pipeline, connect: Callable[[], Connection]
) -> None:
    connection = connect()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE prune_epoch")
        cursor.execute("INSERT INTO pruned (client, through) VALUES ('', 7)")
        cursor.execute("DELETE FROM schema_version WHERE version >= %s", (EPOCH_STEP,))
        pipeline.run("worker", "migrate")
        cursor.execute("SELECT epoch FROM prune_epoch")
        assert list(cursor.fetchall()) == [(7,)]
        cursor.execute("SELECT * FROM pruned")
        assert list(cursor.fetchall()) == []


@pytest.mark.parametrize("short_way", [False, True])
def test_a_claim_that_waited_for_a_deletion_sees_the_line(
    pipeline: Pipeline, connect: Callable[[], Connection], store: Store, short_way: bool
) -> None:
    pruning, looking = connect(), connect()
    store.write(requests(1, 2, 3))
    age(pruning)
    count_fully(pruning, ["alice"])
    worker = store.open()
    worker.begin()
    with worker.cursor() as cursor:
        cursor.execute("SELECT * FROM pruned")  # before a line exists
    draw_lines(pruning, {"alice": [1, 2, 3]})
    pruning.begin()
    with pruning.cursor() as cursor:
        cursor.execute("DELETE FROM requests WHERE counter = 2")
    with ThreadPoolExecutor() as pool:
        claiming: Future[Any]
        if short_way:
            claiming = pool.submit(Claims("w1").all_new, worker, requests(2, 4))
        else:
            claiming = pool.submit(claim, worker, requests(2, 4), "w1")
        wait_blocked(pipeline)
        pruning.commit()
        if not short_way:
            assert outcomes(claiming.result()) == "RS"
        else:
            assert claiming.result() is False
            worker.rollback()
            worker.begin()
            assert outcomes(claim(worker, requests(2, 4), "w1")) == "RS"
    worker.commit()
    assert counters(looking) == [1, 3, 4]


def test_a_late_request_is_neither_taken_for_a_repeat_nor_removed_too_early(
    connect: Callable[[], Connection], store: Store
) -> None:
    """It is below the line, and claimed but not committed when a prune runs."""
    connection = connect()
    store.write(requests(1, 3, 5))
    age(connection)
    prune(connection, DAY)
    worker = store.open()
    worker.begin()
    assert outcomes(claim(worker, requests(2), "w1")) == "S"
    assert prune(connection, timedelta()).removed == 0
    recount(connection)
    worker.commit()
    assert outcomes(store.write(requests(1, 2, 3))) == "RRR"
    age(connection)
    assert prune(connection, DAY).removed == 1
    assert outcomes(store.write(requests(1, 2, 3, 4))) == "RRRS"
    assert accounts(connection) == [("alice", 5, 4, 5, 0)]


def test_a_continuous_prune_survives_a_database_outage(
    pipeline: Pipeline, connect: Callable[[], Connection], store: Store
) -> None:
    store.write(requests(1, 2, 3))
    age(connect())
    command = ["worker", "prune", "--older-than", "1d", "--every", "1s"]
    prune = pipeline.start("prune", *command)
    pipeline.wait(lambda: "removed 3 rows" in prune.log.read_text(), "the first round")
    pipeline.servers.database.kill()
    pipeline.wait(lambda: "; next attempt in" in prune.log.read_text(), "a round that fails")
    pipeline.servers.database.start()
    connection = parse_url(pipeline.mysql_url).connect("test")
    with contextlib.closing(connection), contextlib.closing(Store(store.database, "w2")) as other:
        other.write(requests(4, 5))
        age(connection)
        pipeline.wait(lambda: "removed 2 rows" in prune.log.read_text(), "a round after it")
    assert prune.alive()


def test_after_a_prune_a_write_takes_as_many_statements_as_before(
    connect: Callable[[], Connection], store: Store
) -> None:
    def asked(first: int) -> int:
        """Return how many statements ten writes take, of one request and of twenty."""
        worker = store.open()
        [(_, before)] = fetch(worker, "SHOW SESSION STATUS LIKE 'Questions'")
        for counter in range(first, first + 210, 21):
            store.write(requests(counter))
            store.write(requests(*range(counter + 1, counter + 21)))
        [(_, after)] = fetch(worker, "SHOW SESSION STATUS LIKE 'Questions'")
        return int(after) - int(before) - 1

    store.write(requests(1))
    assert asked(2) == 20
    connection = connect()
    age(connection)
    assert prune(connection, DAY).removed == 211
    store.write(requests(212))
    store.write(requests(213))
    assert asked(214) == 20


def test_two_prunes_may_run_at_once(connect: Callable[[], Connection], store: Store) -> None:
    for begin in range(1, 5001, 1000):
        store.write(requests(*range(begin, begin + 1000)))
    one, other = connect(), connect()
    age(one)
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(prune, connection, DAY) for connection in (one, other)]
        removed = [each.result().removed for each in running]
    assert sum(removed) == 5000
    assert counters(one) == []
    assert accounts(one) == [("alice", 5000, 5000, 5000, 0)]


def test_each_request_is_served_once_during_prunes(
    pipeline: Pipeline, connect: Callable[[], Connection]
) -> None:
    """Workers write the same requests repeatedly while prunes and counts run."""
    served: Counter[int] = Counter()
    mutex = threading.Lock()
    until = time.monotonic() + 8
    old = datetime(2026, 1, 1, tzinfo=UTC)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        with contextlib.closing(Store(parse_url(pipeline.mysql_url), f"w{seed}")) as store:
            while time.monotonic() < until:
                batch = [request(dice.randint(1, 300)) for _ in range(dice.choice([1, 1, 5]))]
                with contextlib.suppress(Exception):  # a deadlock: nothing was committed
                    found = store.write(batch)
                    with mutex:
                        for each, outcome in zip(batch, found, strict=True):
                            assert outcome is not Outcome.CONFLICT
                            served[each.counter] += outcome is Outcome.SERVED

    def look_after(connection: Connection) -> None:
        dice = random.Random(7)
        while time.monotonic() < until:
            with contextlib.suppress(Exception):
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE requests SET served_at = %s WHERE served_at > %s"
                                   " ORDER BY client, counter LIMIT 20", (old, old))  # fmt: skip
                kind = dice.choice(["prune", "prune", "count", "recount"])
                if kind == "prune":
                    prune(connection, DAY)
                elif kind == "count":
                    advance(connection, ["alice"])
                else:
                    recount(connection)

    with ThreadPoolExecutor(5) as pool:
        tasks = [pool.submit(work, seed) for seed in range(3)]
        tasks += [pool.submit(look_after, connect()) for _ in range(2)]
        for task in tasks:
            task.result()
    connection = connect()
    assert max(served.values()) == 1
    [(_, count, removed, highest, missing)] = accounts(connection)
    assert count == sum(served.values()) == removed + len(counters(connection))
    assert missing == highest - count
    assert removed > 50
