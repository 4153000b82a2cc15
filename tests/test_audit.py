"""The account of what was served, however many rows there are."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.pipeline import Pipeline
from turnwise import audit as audits
from turnwise.audit import MARGIN, Audit, advance, audit, recount
from turnwise.database import Connection, parse_url
from turnwise.errors import ExitCode


@pytest.fixture
def connection(pipeline: Pipeline) -> Iterator[Connection]:
    pipeline.run("worker", "migrate")
    with parse_url(pipeline.mysql_url).connect("test") as connection:
        yield connection


def insert(connection: Connection, *counters: int, client: str = "alice", by: str = "w1") -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
            f" VALUES (%s, %s, 'm', '2026-01-31', '2026-01-31', '{by}')",
            [(client, counter) for counter in counters],
        )


def found(connection: Connection) -> tuple[int, int, int, int, tuple[tuple[int, int], ...]]:
    [account] = audit(connection).clients
    return account.served, account.highest, account.missing, account.resume_at, account.gaps


def advance_fully(connection: Connection) -> None:
    through = -1
    while (now := advance(connection, "alice")) != through:
        assert now is not None
        through = now


def test_the_account_is_the_same_wherever_counting_stands(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "STEP", 700)
    there = [n for n in range(1, 5001) if n not in {1, 2, 50, 700, 701, 1400, 4500, 4999}]
    insert(connection, *there)
    expected = (4992, 5000, 8, 1, ((1, 2), (50, 50), (700, 701), (1400, 1400), (4500, 4500),
                                   (4999, 4999)))  # fmt: skip
    assert found(connection) == expected
    through = 0
    while through < 5000 - MARGIN:
        now = advance(connection, "alice")
        assert now is not None
        assert now == min(through + 700, 5000 - MARGIN)
        through = now
        assert found(connection) == expected
        assert audit(connection).served_by == {"w1": 4992}
    assert advance(connection, "alice") == through


def test_a_gap_that_closes_later_is_noticed(connection: Connection) -> None:
    insert(connection, *range(1, 100), *range(110, 3001))
    advance_fully(connection)
    assert found(connection) == (2990, 3000, 10, 100, ((100, 109),))
    insert(connection, 100, 105, by="w2")
    for _ in range(2):
        assert found(connection) == (2992, 3000, 8, 101, ((101, 104), (106, 109)))
        assert audit(connection).served_by == {"w1": 2990, "w2": 2}
        advance_fully(connection)
    insert(connection, *range(101, 105), *range(106, 110), by="w2")
    for _ in range(2):
        assert found(connection) == (3000, 3000, 0, 3001, ())
        assert audit(connection).holds
        advance_fully(connection)


def test_a_table_without_its_key_shows_what_is_repeated(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE requests DROP PRIMARY KEY")
    insert(connection, *range(1, 3001), 7, 7, 2999)
    for _ in range(2):
        [account] = audit(connection).clients
        assert (account.served, account.repeated, account.holds) == (3000, 3, False)
        advance_fully(connection)


def test_clients_are_accounted_for_each(connection: Connection) -> None:
    insert(connection, 1, 2, 3)
    insert(connection, 2, client="bob")
    insert(connection, 1, client="Alice")
    assert [(a.client, a.served, a.missing) for a in audit(connection).clients] == [
        ("Alice", 1, 0), ("alice", 3, 0), ("bob", 1, 1),
    ]  # fmt: skip
    assert audit(connection) != Audit((), {})


def test_rows_removed_by_hand_are_found_by_counting_again(
    pipeline: Pipeline, connection: Connection
) -> None:
    insert(connection, *range(1, 3001))
    advance_fully(connection)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM requests WHERE counter = 5")
    assert found(connection)[0] == 3000
    result = pipeline.run("worker", "audit", "--recount", "--json", code=ExitCode.FAILED)
    [account] = json.loads(result.stdout)["clients"]
    assert (account["served"], account["gaps"]) == (2999, [[5, 5]])
    assert found(connection)[0] == 2999
    recount(connection)
    assert found(connection)[0] == 2999


def test_two_do_not_count_the_same_client_at_once(
    pipeline: Pipeline, connection: Connection
) -> None:
    insert(connection, *range(1, 3001))
    assert advance(connection, "alice") == 2000
    with parse_url(pipeline.mysql_url).connect("other") as other:
        other.begin()
        with other.cursor() as cursor:
            cursor.execute("SELECT * FROM audits FOR UPDATE")
        assert advance(connection, "alice") is None
        other.rollback()
    assert advance(connection, "alice") == 2000


def test_workers_keep_the_account_as_they_go(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1", "--prefetch", "200")
    pipeline.worker("worker-2", "--prefetch", "200")
    client = pipeline.send_counted(10_000)
    pipeline.wait_served(10_000, interval=0.2)
    query = "SELECT through FROM audits WHERE client = %s"

    def counted() -> bool:
        rows = pipeline.servers.database.query(query, client, name=pipeline.name)
        return bool(rows) and rows[0][0] >= 10_000 - 3 * MARGIN

    pipeline.wait(counted, "the account is kept")
    account = json.loads(pipeline.run("worker", "audit", "--json").stdout)
    assert account["clients"][0]["served"] == 10_000
    assert sum(account["served_by"].values()) == 10_000
