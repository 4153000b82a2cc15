"""The account of served requests, with any number of rows and with concurrent counting."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.pipeline import Pipeline
from turnwise import walk
from turnwise.account import CHUNK, Account, Audit, Totals
from turnwise.database import Connection, parse_url
from turnwise.errors import ExitCode
from turnwise.message import MAX_COUNTER
from worker import counting
from worker.counting import advance, count_fully, recount

Row = tuple[str, int]
SERVED_AT = "2026-01-31"


@pytest.fixture
def connection(pipeline: Pipeline) -> Iterator[Connection]:
    pipeline.run("worker", "migrate")
    with parse_url(pipeline.mysql_url).connect("test") as connection:
        yield connection


@pytest.fixture
def other(pipeline: Pipeline, connection: Connection) -> Iterator[Connection]:  # noqa: ARG001
    with parse_url(pipeline.mysql_url).connect("other") as other:
        yield other


def insert(connection: Connection, *counters: int, client: str = "alice", by: str = "w1") -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
            f" VALUES (%s, %s, 'm', '2026-01-31', '{SERVED_AT}', '{by}')",
            [(client, counter) for counter in counters],
        )


def fail(connection: Connection, counter: int, *, due: bool, reason: str = "failed") -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error,"
            " reason, failed_at, failed_by, due_at) VALUES ('alice', %s, 'm', '2026-01-31', 1, 0,"
            f" 'e', %s, '{SERVED_AT}', 'w1', %s)",
            (counter, reason, SERVED_AT if due else None),
        )


def read(connection: Connection, *, every: bool = True) -> tuple[list[Account], Totals]:
    audit = Audit(connection, every=every)
    return list(audit.accounts()), audit.totals


def found(connection: Connection) -> tuple[int, int, int, int, tuple[tuple[int, int], ...]]:
    [account], _ = read(connection)
    return account.served, account.highest, account.missing, account.resume_at, account.gaps


def query(connection: Connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def statements(connection: Connection) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        row = cursor.fetchone()
    assert row
    return int(row[1])


def test_the_account_does_not_depend_on_how_far_counting_has_got(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "STEP", 700)
    monkeypatch.setattr(counting, "STEP", 700)
    there = [n for n in range(1, 5001) if n not in {1, 2, 50, 700, 701, 1400, 4500, 4999}]
    insert(connection, *there)
    expected = (4992, 5000, 8, 1, ((1, 2), (50, 50), (700, 701), (1400, 1400), (4500, 4500),
                                   (4999, 4999)))  # fmt: skip
    assert found(connection) == expected
    through = 0
    while through < 5000:
        now = advance(connection, ["alice"])["alice"]
        assert through < now <= through + 710
        through = now
        assert found(connection) == expected
        assert read(connection)[1].served_by == {"w1": 4992}
    assert advance(connection, ["alice"]) == {"alice": 5000}


def test_rows_served_a_moment_ago_are_not_counted_yet(connection: Connection) -> None:
    """A gap before it may still be held by a worker."""
    insert(connection, 1, 3)
    query(connection, "UPDATE requests SET served_at = UTC_TIMESTAMP(6) WHERE counter = 3")
    assert advance(connection, ["alice"]) == {"alice": 1}
    assert advance(connection, ["alice"], margin=0) == {"alice": 3}
    assert found(connection) == (2, 3, 1, 2, ((2, 2),))


def test_a_gap_that_closes_later_is_noticed(connection: Connection) -> None:
    insert(connection, *range(1, 100), *range(110, 3001))
    count_fully(connection, ["alice"])
    assert found(connection) == (2990, 3000, 10, 100, ((100, 109),))
    insert(connection, 100, 105, by="w2")
    for _ in range(2):
        assert found(connection) == (2992, 3000, 8, 101, ((101, 104), (106, 109)))
        assert read(connection)[1].served_by == {"w1": 2990, "w2": 2}
        advance(connection, ["alice"])
    insert(connection, *range(101, 105), *range(106, 110), by="w2")
    for _ in range(2):
        assert found(connection) == (3000, 3000, 0, 3001, ())
        assert read(connection)[1].holds
        advance(connection, ["alice"])


def test_duplicates_are_found_in_a_table_without_its_key(connection: Connection) -> None:
    query(connection, "ALTER TABLE requests DROP PRIMARY KEY")
    insert(connection, *range(1, 3001), 7, 7, 2999)
    for _ in range(2):
        [account], _ = read(connection)
        assert (account.served, account.repeated, account.holds) == (3000, 3, False)
        count_fully(connection, ["alice"])


@pytest.mark.parametrize("counted", [False, True])
def test_huge_counters_cost_no_more_than_their_rows(connection: Connection, counted: bool) -> None:
    insert(connection, 5, 10**9, MAX_COUNTER - 1, MAX_COUNTER)
    if counted:
        count_fully(connection, ["alice"])
    before = statements(connection)
    assert found(connection) == (
        4, MAX_COUNTER, MAX_COUNTER - 4, 1,
        ((1, 4), (6, 10**9 - 1), (10**9 + 1, MAX_COUNTER - 2)),
    )  # fmt: skip
    assert statements(connection) - before < 40


def test_a_gap_at_every_second_counter_takes_only_a_few_statements(
    connection: Connection,
) -> None:
    insert(connection, *range(2, 10_001, 2))
    before = statements(connection)
    count_fully(connection, ["alice"])
    assert statements(connection) - before < 120
    insert(connection, 9_999, 777)
    before = statements(connection)
    assert found(connection)[:4] == (5_002, 10_000, 4_998, 1)
    assert statements(connection) - before < 120


def test_many_clients_are_counted_in_shared_statements(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
            " VALUES (%s, %s, 'm', '2026-01-31', '2026-01-31', 'w1')",
            [(f"client-{n}", counter) for n in range(2000) for counter in (1, 2)],
        )
    insert(connection, 2, client="client-7777")
    before = statements(connection)
    for _ in range(2):
        accounts, totals = read(connection, every=False)
        assert [(a.client, a.gaps) for a in accounts] == [("client-7777", ((1, 1),))]
        assert (totals.clients, totals.served, totals.missing) == (2001, 4001, 1)
        assert totals.served_by == {"w1": 4001}
        assert statements(connection) - before < 400
        recount(connection)
        before = statements(connection)
    assert statements(connection) - before < 40
    assert len(read(connection)[0]) == 2001


def test_each_client_has_its_own_account(pipeline: Pipeline, connection: Connection) -> None:
    insert(connection, 1, 2, 3)
    insert(connection, 2, client="bob")
    insert(connection, 1, client="Alice")
    insert(connection, 1, client="alic")
    assert [(a.client, a.served, a.missing) for a in read(connection)[0]] == [
        ("Alice", 1, 0), ("alic", 1, 0), ("alice", 3, 0), ("bob", 1, 1),
    ]  # fmt: skip
    shown = pipeline.run("worker", "audit", "--client", "alice").stdout
    assert "alice" in shown
    assert "bob" not in shown
    assert "alic " not in shown


def test_failures_are_accounted_for_and_shown_separately(
    pipeline: Pipeline, connection: Connection
) -> None:
    insert(connection, 1, 2, 5)
    fail(connection, 3, due=True)
    fail(connection, 8, due=True)
    fail(connection, 2, due=True)  # a failure row that outlived the request being served
    for _ in range(2):
        [account], _ = read(connection)
        assert (account.served, account.failed, account.given_up) == (3, 2, 0)
        assert (account.missing, account.highest, account.gaps) == (3, 8, ((4, 4), (6, 7)))
        count_fully(connection, ["alice"])
    insert(connection, 4, 6, 7)
    assert read(connection)[1].holds
    pipeline.run("worker", "audit")
    fail(connection, 9, due=False, reason="dropped")
    pipeline.run("worker", "audit")
    fail(connection, 10, due=False)
    shown = pipeline.run("worker", "audit", code=ExitCode.FAILED).stdout
    assert "given up: 1" in shown


def test_any_number_of_failures_is_read_in_pages(connection: Connection) -> None:
    insert(connection, 1, 2, 5000)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error,"
            " reason, failed_at, failed_by) VALUES (%s, %s, 'm', '2026-01-31', 1, 0, 'e', 'failed',"
            f" '{SERVED_AT}', 'w1')",
            [(client, n) for client in ("alice", "bob") for n in range(3, 4500) if n != 2002],
        )
    before = statements(connection)
    for every in (True, False):
        [alice, bob], totals = read(connection, every=every)
        assert (alice.failed, alice.given_up, alice.missing) == (4496, 4496, 501)
        assert alice.gaps == ((2002, 2002), (4500, 4999))
        assert (bob.failed, bob.highest, bob.gaps) == (4496, 4499, ((1, 2), (2002, 2002)))
        assert totals.given_up == 2 * 4496
    assert statements(connection) - before < 80


def test_failures_of_removed_requests_are_looked_up_together(connection: Connection) -> None:
    """A failure may outlive its request, which was served later, and removed later still."""
    insert(connection, 2001)
    connection.begin()
    for counter in range(1, 2001):
        fail(connection, counter, due=False)
    connection.commit()
    query(connection, "INSERT INTO pruned VALUES ('alice', 2000, 1500)")
    query(connection, "INSERT INTO audit_gaps VALUES ('alice', 7, 7), ('alice', 500, 998)")
    before = statements(connection)
    [account], _ = read(connection)
    assert account.failed == 500
    assert statements(connection) - before < 60


def test_a_recount_finds_rows_removed_by_hand(pipeline: Pipeline, connection: Connection) -> None:
    insert(connection, *range(1, 3001))
    count_fully(connection, ["alice"])
    query(connection, "DELETE FROM requests WHERE counter = 5")
    assert found(connection)[0] == 3000
    result = pipeline.run("worker", "audit", "--recount", "--json", code=ExitCode.FAILED)
    [account] = json.loads(result.stdout)["clients"]
    assert (account["served"], account["gaps"]) == (2999, [[5, 5]])
    assert found(connection)[0] == 2999


def test_two_processes_never_count_the_same_client_at_once(
    connection: Connection, other: Connection
) -> None:
    insert(connection, *range(1, 3001))
    assert advance(connection, ["alice"]) == {"alice": 3000}
    other.begin()
    query(other, "SELECT * FROM audits FOR UPDATE")
    assert advance(connection, ["alice"]) == {}
    other.rollback()
    assert advance(connection, ["alice"]) == {"alice": 3000}


def test_an_audit_reports_the_moment_when_it_began(
    connection: Connection, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two of its statements, other connections count, recount and serve."""
    insert(connection, *range(1, 50), *range(60, 3001))
    insert(connection, 1, 2, client="bob")
    expected, totals = read(connection)
    turn = 0
    original = Audit._all  # noqa: SLF001 - where the others come in between

    def interrupted(self: Audit, statement: str, values: object) -> list[object]:
        nonlocal turn
        turn += 1
        [count, recount_all, serve][turn % 3]()
        return original(self, statement, values)

    def count() -> None:
        advance(other, ["alice", "bob"])

    def recount_all() -> None:
        recount(other)

    def serve() -> None:
        insert(other, 50 + turn, by="w9") if turn < 9 else None
        insert(other, 3000 + turn, by="w9")
        insert(other, turn, client="aaa", by="w9")

    with monkeypatch.context() as patch:
        patch.setattr(Audit, "_all", interrupted)
        assert read(connection) == (expected, totals)
    assert turn > 8
    assert read(connection)[1].served > totals.served


def test_a_recount_never_makes_an_audit_wrong(connection: Connection, other: Connection) -> None:
    insert(connection, *range(1, 500), *range(501, 5_001))
    insert(connection, *range(1, 300), client="bob")
    expected, totals = read(connection)

    def recount_often() -> None:
        for _ in range(5):
            recount(other)

    with ThreadPoolExecutor(1) as pool:
        counting_again = pool.submit(recount_often)
        looks = 0
        while not counting_again.done():
            assert read(connection) == (expected, totals)
            looks += 1
        counting_again.result()
    assert looks > 2


@pytest.mark.timeout(300)  # 15 sequences of 30 steps, which a busy machine takes long for
def test_the_account_agrees_with_a_naive_one_after_any_sequence_of_steps(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "STEP", 5)
    monkeypatch.setattr(counting, "STEP", 5)
    monkeypatch.setattr(counting, "GAPS_LOOKED_AT", 2)
    # A failure tells its seed. New seeds each time find more, in the end, than many fixed ones.
    for seed in (*range(4), *random.sample(range(4, 1_000_000), 4)):
        dice = random.Random(seed)
        query(connection, "DELETE FROM requests")
        recount(connection)
        rows: dict[Row, str] = {}
        for _ in range(30):
            kind = dice.random()
            if kind < 0.6:
                client = dice.choice("abc")
                far = dice.choice([8, 30, 1000])
                counter, by = dice.randint(1, far), dice.choice(["w1", "w2"])
                if (client, counter) not in rows:
                    rows[client, counter] = by
                    insert(connection, counter, client=client, by=by)
            elif kind < 0.9:
                there = sorted({client for client, _ in rows})
                advance(connection, dice.sample(there, dice.randint(0, len(there))))
            else:
                recount(connection)
            assert_agrees(connection, rows, dice.choice([1, 2, CHUNK]), f"seed {seed}")


def assert_agrees(connection: Connection, rows: dict[Row, str], chunk: int, hint: str) -> None:
    accounts, totals = read(connection)
    assert totals.clients == len({client for client, _ in rows}), hint
    assert totals.served == len(rows), hint
    assert dict(totals.served_by) == {
        by: n for by in ("w1", "w2") if (n := sum(b == by for b in rows.values()))
    }, hint
    audit = Audit(connection, every=False, chunk=chunk)
    needy = list(audit.accounts())
    assert (needy, audit.totals) == ([a for a in accounts if not a.holds], totals), hint
    for account in accounts:
        counters = {counter for client, counter in rows if client == account.client}
        missing = [n for n in range(1, max(counters) + 1) if n not in counters]
        assert account.missing == len(missing), hint
        assert account.resume_at == min([*missing, max(counters) + 1]), hint
        shown = [n for first, last in account.gaps for n in range(first, last + 1)]
        assert shown == missing[: len(shown)], hint
        assert len(account.gaps) == 10 or len(shown) == len(missing), hint


def test_workers_keep_the_account_up_to_date(
    pipeline: Pipeline,
) -> None:
    pipeline.worker("worker-1", "--prefetch", "200")
    pipeline.worker("worker-2", "--prefetch", "200")
    client = pipeline.send_counted(10_000)
    pipeline.wait_served(10_000, interval=0.2)
    statement = "SELECT through FROM audits WHERE client = %s"

    def counted() -> bool:
        rows = pipeline.servers.database.query(statement, client, name=pipeline.name)
        return bool(rows) and rows[0][0] == 10_000

    pipeline.wait(counted, "the account is kept")
    account = json.loads(pipeline.run("worker", "audit", "--json").stdout)
    assert account["clients"][0]["served"] == 10_000
    assert sum(account["served_by"].values()) == 10_000
