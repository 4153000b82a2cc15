"""producer relay: rows committed to the table outbox are recorded once, whatever dies."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.pipeline import Pipeline
from tests.relaying import (
    at_work,
    client,
    commit,
    start,
    two_relays,
    wait_empty,
    wait_numbered,
    waiting,
)
from turnwise import outbox
from turnwise.errors import ExitCode

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def table(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with its tables created."""
    pipeline.run("worker", "migrate")
    return pipeline


def test_committed_rows_are_recorded_in_order_and_removed(table: Pipeline) -> None:
    table.worker("worker-1")
    at_work(table, "relay-1")
    commit(table, "one", "two")
    commit(table, "three")
    rows = table.wait_served(3)
    assert [(row.counter, row.message) for row in rows] == [(1, "one"), (2, "two"), (3, "three")]
    assert {row.client for row in rows} == {client(table)}
    wait_empty(table)


def test_numbers_follow_the_commits_and_have_no_gap(table: Pipeline) -> None:
    """A long transaction's row has a low id and becomes visible late; another is rolled back."""
    table.worker("worker-1")
    at_work(table, "relay-1")
    database = table.servers.database
    with database.connect(table.name) as long, database.connect(table.name) as undone:
        for cursor, message in ((long, "late"), (undone, "never")):
            cursor.execute("BEGIN")
            outbox.send(cursor, "requests", message)
        commit(table, "first", "second")
        table.wait_served(2)
        wait_numbered(table, 2)
        undone.execute("ROLLBACK")
        commit(table, "third")
        table.wait_served(3)
        assert [row.message for row in table.rows()] == ["first", "second", "third"]
        long.execute("COMMIT")
    rows = table.wait_served(4)
    assert [(row.counter, row.message) for row in rows] == [
        (1, "first"), (2, "second"), (3, "third"), (4, "late")
    ]  # fmt: skip
    wait_empty(table)


def test_rows_far_below_the_ids_sent_long_ago_are_found(table: Pipeline) -> None:
    """As after a transaction of hours, or when the ids restart."""
    table.servers.database.query(
        "UPDATE outbox_relay SET numbered = 1000000000, swept = 999990000", name=table.name
    )
    commit(table, "below")
    at_work(table, "relay-1")
    wait_empty(table)
    commit(table, "again")
    wait_empty(table)
    assert table.ready() == 2


def test_each_queue_has_its_own_numbers(table: Pipeline) -> None:
    table.worker("worker-1")
    table.worker("worker-2", "--queue", "receipts")
    at_work(table, "relay-1")
    with table.servers.database.connect(table.name) as cursor:
        cursor.execute("BEGIN")
        for number in range(1, 301):
            outbox.send(cursor, "requests" if number % 3 else "receipts", f"m{number}")
        cursor.execute("COMMIT")
    rows = table.wait_served(300)
    wait_empty(table)
    for queue, worker, messages in (
        ("requests", "worker-1", [f"m{n}" for n in range(1, 301) if n % 3]),
        ("receipts", "worker-2", [f"m{n}" for n in range(1, 301) if not n % 3]),
    ):
        of_queue = sorted((r for r in rows if r.served_by == worker), key=lambda r: r.counter)
        assert {row.client for row in of_queue} == {client(table, queue)}
        assert [row.counter for row in of_queue] == list(range(1, len(messages) + 1))
        assert [row.message for row in of_queue] == messages


@pytest.mark.parametrize("end", ["kill", "stop", "terminate"])
def test_another_relay_takes_over_within_seconds(table: Pipeline, end: str) -> None:
    table.worker("worker-1")
    first, _ = two_relays(table)
    commit(table, "one")
    table.wait_served(1)
    number = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}[end]
    first.signal(number)
    begun = time.monotonic()
    commit(table, "two")
    table.wait_served(2)
    took = time.monotonic() - begun
    assert took < (4 if end == "terminate" else 15)
    table.assert_exactly_once(client(table), 2)
    if end == "stop":
        first.resume()
        table.wait_event(first, "relay.standing_by", times=2)
        commit(table, "three")
        table.wait_served(3)
        table.assert_exactly_once(client(table), 3)
    if end == "terminate":
        assert first.wait(10) == ExitCode.OK
    wait_empty(table)


def test_rows_left_unconfirmed_by_the_previous_relay_keep_their_numbers(table: Pipeline) -> None:
    proxy, through_proxy = table.broker_proxy()
    first = start(table, "relay-1", AMQP_URL=through_proxy)
    table.wait_event(first, "relay.working")
    commit(table, "zero")
    wait_empty(table)  # declares the queue
    proxy.hold(proxy.down)  # no confirm arrives
    commit(table, *(f"m{i}" for i in range(1, 500)))
    table.wait(lambda: table.ready() == 500, "all published")
    assert waiting(table) == 499
    first.kill()
    commit(table, "new")
    at_work(table, "relay-2")
    wait_empty(table)
    table.worker("worker-1", "--prefetch", "200")
    table.wait_served(501)
    table.wait_all_settled()
    rows = table.assert_exactly_once(client(table), 501)
    assert [r.message for r in sorted(rows, key=lambda r: r.counter)] == [
        "zero", *(f"m{i}" for i in range(1, 500)), "new"
    ]  # fmt: skip
    assert sum(row.deliveries for row in rows) == 501 + 499


def test_a_relay_cut_off_from_the_broker_yields_to_another(table: Pipeline) -> None:
    """The cut is silent: the connection stays open, and nothing passes through it."""
    table.worker("worker-1")
    proxy, through_proxy = table.broker_proxy()
    _, second = two_relays(table, AMQP_URL=through_proxy)
    proxy.hold(proxy.up, proxy.down)
    commit(table, "one")
    table.wait_event(second, "relay.working")
    table.wait_served(1)
    proxy.release(proxy.up, proxy.down)
    wait_empty(table)
    table.wait_all_settled()
    table.assert_exactly_once(client(table), 1)


def test_a_relay_cut_off_from_the_database_yields_to_another(table: Pipeline) -> None:
    table.worker("worker-1")
    proxy, through_proxy = table.database_proxy()
    two_relays(table, MYSQL_URL=through_proxy)
    proxy.hold(proxy.up, proxy.down)
    commit(table, "one")
    table.wait_served(1)
    proxy.release(proxy.up, proxy.down)
    commit(table, "two")
    table.wait_served(2)
    wait_empty(table)
    table.assert_exactly_once(client(table), 2)


def test_the_relay_survives_an_outage_of_both_servers(table: Pipeline) -> None:
    table.worker("worker-1")
    relay = at_work(table, "relay-1")
    commit(table, "one")
    table.wait_served(1)
    table.servers.database.kill()
    table.wait_event(relay, "database.away")
    table.servers.database.start()
    commit(table, "two")
    table.wait_served(2)
    table.servers.rabbitmq.kill()
    commit(table, "three")
    table.wait_event(relay, "broker.away")
    table.servers.start()
    table.wait_served(3)
    wait_empty(table)
    table.assert_exactly_once(client(table), 3)
    assert relay.alive()
