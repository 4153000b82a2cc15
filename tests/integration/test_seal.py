"""The seal: up to which moment all rows are counted, so that an audit need not look for others."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.pipeline import Pipeline
from turnwise import account, sealed, walk
from turnwise.account import CHUNK, Account, Audit, Totals
from turnwise.database import Connection, fetch, parse_url
from turnwise.message import Request
from turnwise.sealed import read_seal
from worker import counting, sealing, store
from worker.counting import advance, count_fully, recount
from worker.pruning import prune
from worker.sealing import move_seal
from worker.store import Store, claim

NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def connection(connect: Callable[[], Connection]) -> Connection:
    return connect()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are sealed as soon as they are committed."""
    monkeypatch.setattr(sealed, "SEAL_AGE", timedelta())
    monkeypatch.setattr(sealing, "EVERY", timedelta())


def serve(connection: Connection, *counters: int, client: str = "alice", by: str = "w1") -> None:
    for counter in counters:
        fetch(connection, "INSERT INTO requests (client, counter, message, sent_at, served_at,"
            " served_by) VALUES (%s, %s, 'm', '2026-01-31', UTC_TIMESTAMP(6), %s)",
            client, counter, by)  # fmt: skip


def seal(connection: Connection) -> datetime:
    while move_seal(connection, rows=3):
        pass
    now = read_seal(connection)
    assert now
    return now.moment


def repeat(times: int, work: Callable[[], object]) -> None:
    for _ in range(times):
        work()


def read(connection: Connection, *, every: bool = True) -> tuple[list[Account], Totals]:
    audit = Audit(connection, every=every)
    return list(audit.accounts()), audit.totals


def rows_read(connection: Connection, work: Callable[[], object]) -> int:
    def total() -> int:
        found = fetch(connection, "SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(str(count)) for _, count in found)

    before = total()
    work()
    return total() - before


@pytest.mark.usefixtures("at_once")
def test_an_audit_reads_no_rows_of_quiet_clients(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
            " VALUES (%s, %s, 'm', '2026-01-31', UTC_TIMESTAMP(6), 'w1')",
            [(f"client-{n:04}", counter) for n in range(1000) for counter in range(1, 11)],
        )
    expected = read(connection)
    while move_seal(connection):
        pass
    # Of each client, its account and its share, read by five statements; none of the ten rows.
    assert rows_read(connection, lambda: read(connection, every=False)) < 6_000
    assert read(connection) == expected
    serve(connection, 11, client="client-0500")
    serve(connection, 2, client="new")
    [needy], totals = read(connection, every=False)
    assert (needy.client, needy.gaps) == ("new", ((1, 1),))
    assert (totals.clients, totals.served, totals.missing) == (1001, 10_002, 1)


@pytest.mark.usefixtures("at_once")
def test_the_account_agrees_with_a_naive_one_however_the_seal_moves(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (walk, counting):
        monkeypatch.setattr(module, "STEP", 5)
    for seed in (*range(3), *random.sample(range(3, 1_000_000), 3)):
        dice = random.Random(seed)
        fetch(connection, "DELETE FROM requests")
        recount(connection)
        rows: dict[tuple[str, int], str] = {}
        for _ in range(30):
            kind = dice.choice(["serve", "serve", "serve", "count", "recount", "seal", "step"])
            there = sorted({client for client, _ in rows})
            if kind == "serve":
                client, by = dice.choice("abc"), dice.choice(["w1", "w2"])
                counter = dice.randint(1, dice.choice([8, 1000]))
                if (client, counter) not in rows:
                    rows[client, counter] = by
                    serve(connection, counter, client=client, by=by)
            elif kind == "count":
                advance(connection, dice.sample(there, dice.randint(0, len(there))), margin=0)
            elif kind == "recount":
                recount(connection)
            elif kind == "seal":
                seal(connection)
            else:
                move_seal(connection, rows=2)
            chunk, every = dice.choice([1, 2, CHUNK]), dice.choice([True, False])
            assert_agrees(rows, Audit(connection, every=every, chunk=chunk), every,
                          f"seed {seed}")  # fmt: skip


def assert_agrees(rows: dict[tuple[str, int], str], audit: Audit, every: bool, hint: str) -> None:
    expected = {}
    for client in {client for client, _ in rows}:
        counters = {counter for name, counter in rows if name == client}
        missing = max(counters) - len(counters)
        expected[client] = (len(counters), max(counters), missing)
    found = {a.client: (a.served, a.highest, a.missing) for a in audit.accounts()}
    assert found == {c: it for c, it in expected.items() if every or it[2]}, hint
    assert audit.totals.clients == len(expected), hint
    assert audit.totals.served == len(rows), hint
    shares = {by: n for by in ("w1", "w2") if (n := list(rows.values()).count(by))}
    assert dict(audit.totals.served_by) == shares, hint


@pytest.mark.usefixtures("at_once")
def test_an_audit_is_of_one_moment_while_the_seal_is_moved_and_broken(
    connect: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, other = connect(), connect()
    serve(connection, *range(1, 20), *range(25, 40))
    serve(connection, 1, 2, client="bob")
    seal(connection)
    serve(connection, 41, 43)
    expected = read(connection)
    turn = 0
    original = Audit._all  # noqa: SLF001 - where the others come in between

    def interrupted(self: Audit, statement: str, values: object) -> list[object]:
        nonlocal turn
        turn += 1
        if turn % 3 == 0:
            seal(other)
        elif turn % 3 == 1:
            recount(other)
        else:
            serve(other, 50 + turn)
        return original(self, statement, values)

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "_all", interrupted)
        assert read(connection) == expected
    assert turn > 6
    assert read(connection)[1].served > expected[1].served


@pytest.mark.usefixtures("at_once")
def test_the_seal_waits_for_a_transaction_that_has_served_a_request(
    connect: Callable[[], Connection],
) -> None:
    """A handler may take long, and a worker may be frozen before its commit."""
    connection, working = connect(), connect()
    serve(connection, 1)
    working.begin()
    claim(working, [Request("alice", 3, "m", NOW)], "w2")
    serve(connection, 2)
    before = read_seal(connection)
    seal(connection)
    now = read_seal(connection)
    assert before is None
    assert now
    assert now.micros == 0
    working.commit()
    seal(connection)
    assert read(connection)[1].served == 3
    fetch(connection, "DELETE FROM requests WHERE counter = 1")
    assert read(connection)[1].served == 3  # nothing is read that was sealed


@pytest.mark.usefixtures("at_once")
def test_a_recount_breaks_the_seal_before_it_forgets_anything(
    connect: Callable[[], Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, other = connect(), connect()
    serve(connection, 1, 2, 4)
    seal(connection)
    expected = read(other)
    original = counting.count_fully

    def looking(*arguments: object, **options: object) -> None:
        assert read(other) == expected
        seal(other)
        assert read(other) == expected
        original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(counting, "count_fully", looking)
    recount(connection)
    assert read(other) == expected


def test_a_clock_that_was_set_back_breaks_the_seal(connection: Connection) -> None:
    serve(connection, 1)
    fetch(connection, "UPDATE requests SET served_at = served_at - INTERVAL 1 DAY")
    seal(connection)
    assert read_seal(connection).sound  # type: ignore[union-attr]
    fetch(connection, "SET timestamp = UNIX_TIMESTAMP() - 3600")
    serve(connection, 2, 5)
    [found] = read(connection)[0]
    assert (found.served, found.gaps) == (3, ((3, 4),))
    moment = seal(connection)
    fetch(connection, "SET timestamp = DEFAULT")
    assert seal(connection) > moment
    assert read(connection)[0][0].served == 3


@pytest.mark.usefixtures("at_once")
def test_an_audit_does_without_a_seal_if_too_much_is_behind_it(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(connection, 1, 2)
    seal(connection)
    for client in "abcdef":
        serve(connection, 2, client=client)
    expected = read(connection)
    for name, statement in (("_TOO_MANY", "SELECT 1 FROM DUAL WHERE %s"), ("MOST_UNCOUNTED", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(account, name, statement)
            assert read(connection) == expected
            assert read(connection, every=False)[1] == expected[1]


def test_workers_move_the_seal_and_count_clients_that_nobody_has_counted(
    pipeline: Pipeline, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_SEAL_EVERY", 0)
    monkeypatch.setattr(store, "_SEAL_SHARE", math.inf)
    monkeypatch.setattr(store, "_REMEMBERED", 0)
    with contextlib.closing(Store(parse_url(pipeline.mysql_url), "w1")) as writing:
        writing.write([Request(f"client-{n}", 1, "m", NOW) for n in range(300)])
        fetch(connection, "UPDATE requests SET served_at = served_at - INTERVAL 1 DAY")
        for _ in range(8):
            writing.keep_account()
    assert fetch(connection, "SELECT COUNT(*) FROM audits WHERE through = 1") == [(300,)]
    assert read_seal(connection).sound  # type: ignore[union-attr]


@pytest.mark.usefixtures("at_once")
def test_the_seal_moves_beside_prunes_and_recounts(connect: Callable[[], Connection]) -> None:
    connection = connect()
    for begin in range(1, 2000, 200):
        serve(connection, *range(begin, begin + 200), client=f"client-{begin}")
    fetch(connection, "UPDATE requests SET served_at = served_at - INTERVAL 2 DAY"
        " WHERE counter < 1500")  # fmt: skip
    count_fully(connection, [f"client-{begin}" for begin in range(1, 2000, 200)], 0)
    expected = read(connection)[1]
    others = [connect() for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        tasks = [
            pool.submit(repeat, 1, lambda: prune(others[0], timedelta(days=1))),
            pool.submit(repeat, 5, lambda: seal(others[1])),
            pool.submit(repeat, 3, lambda: recount(others[2])),
        ]
        while not all(task.done() for task in tasks):
            totals = read(connection)[1]
            totals.removed = 0
            assert totals == expected
        for task in tasks:
            task.result()
    # A prune that met a recount left what was not counted at that moment.
    repeat(1, lambda: prune(connection, timedelta(days=1)))
    assert read(connection)[1].removed == 1500 - 1
