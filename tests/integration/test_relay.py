"""producer relay: what is committed in the table outbox is recorded once, whatever dies."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pymysql.err import OperationalError

from lab.process import Process, free_port
from tests.pipeline import Pipeline
from turnwise import outbox
from turnwise.database import parse_url
from turnwise.errors import ExitCode
from turnwise.limits import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def table(pipeline: Pipeline) -> Pipeline:
    """The pipeline, with its tables."""
    pipeline.run("worker", "migrate")
    return pipeline


def start(pipeline: Pipeline, name: str, **environment: str) -> Process:
    """Start a relay."""
    return pipeline.start(name, "producer", "relay", "--name", name, **environment)


def at_work(pipeline: Pipeline, name: str) -> Process:
    """Start a relay, and wait until it is the one at work."""
    relay = start(pipeline, name)
    pipeline.wait_event(relay, "relay.working")
    return relay


def commit(pipeline: Pipeline, *messages: str, queue: str = "requests") -> None:
    """Leave messages in the outbox, in one transaction."""
    with pipeline.servers.database.connect(pipeline.name) as cursor:
        cursor.execute("BEGIN")
        for message in messages:
            outbox.send(cursor, queue, message)
        cursor.execute("COMMIT")


def waiting(pipeline: Pipeline) -> int:
    """How many rows wait in the outbox."""
    [(count,)] = pipeline.servers.database.query("SELECT COUNT(*) FROM outbox", name=pipeline.name)
    return int(count)


def client(pipeline: Pipeline, queue: str = "requests") -> str:
    """As whom the relay sends to a queue."""
    [(name,)] = pipeline.servers.database.query(
        "SELECT client FROM outbox_clients WHERE queue = %s", queue, name=pipeline.name
    )
    return str(name)


def wait_empty(pipeline: Pipeline) -> None:
    """Wait until nothing is left in the outbox, nor in the relay's books."""
    pipeline.wait(lambda: waiting(pipeline) == 0, "an empty outbox")
    batches = pipeline.servers.database.query("SELECT * FROM outbox_batches", name=pipeline.name)
    assert batches == []


def wait_numbered(pipeline: Pipeline, count: int) -> None:
    """Wait until so many requests of the queue 'requests' have a number."""
    query = "SELECT last FROM outbox_clients WHERE queue = 'requests'"
    pipeline.wait(
        lambda: pipeline.servers.database.query(query, name=pipeline.name) == [(count,)],
        f"{count} numbers",
    )


def test_what_is_committed_is_recorded_in_order_and_removed(table: Pipeline) -> None:
    table.worker("worker-1")
    at_work(table, "relay-1")
    commit(table, "one", "two")
    commit(table, "three")
    rows = table.wait_served(3)
    assert [(row.counter, row.message) for row in rows] == [(1, "one"), (2, "two"), (3, "three")]
    assert {row.client for row in rows} == {client(table)}
    wait_empty(table)


def test_numbers_are_given_by_commit_and_have_no_gap(table: Pipeline) -> None:
    """A row of a long transaction has a low id and becomes visible late; one is rolled back."""
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


def test_rows_far_below_what_was_sent_long_ago_are_found(table: Pipeline) -> None:
    """As after a transaction of hours, or when the ids begin anew."""
    table.servers.database.query(
        "UPDATE outbox_relay SET numbered = 1000000000, swept = 999990000", name=table.name
    )
    commit(table, "below")
    at_work(table, "relay-1")
    wait_empty(table)
    commit(table, "again")
    wait_empty(table)
    assert table.ready() == 2


def test_each_queue_has_numbers_of_its_own(table: Pipeline) -> None:
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
    first = at_work(table, "relay-1")
    second = start(table, "relay-2")
    table.wait_event(second, "relay.standing_by")
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


def test_what_the_one_before_published_unconfirmed_keeps_its_number(table: Pipeline) -> None:
    proxy, through_proxy = table.broker_proxy()
    first = start(table, "relay-1", AMQP_URL=through_proxy)
    table.wait_event(first, "relay.working")
    commit(table, "zero")
    wait_empty(table)  # the queue is there
    proxy.hold(proxy.down)  # no confirm comes back
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


def test_a_relay_that_is_cut_off_from_the_broker_lets_another_work(table: Pipeline) -> None:
    """Silently: its connection stands, and nothing comes through it."""
    table.worker("worker-1")
    proxy, through_proxy = table.broker_proxy()
    first = start(table, "relay-1", AMQP_URL=through_proxy)
    table.wait_event(first, "relay.working")
    second = start(table, "relay-2")
    table.wait_event(second, "relay.standing_by")
    proxy.hold(proxy.up)
    proxy.hold(proxy.down)
    commit(table, "one")
    table.wait_event(second, "relay.working")
    table.wait_served(1)
    proxy.release(proxy.up)
    proxy.release(proxy.down)
    wait_empty(table)
    table.wait_all_settled()
    table.assert_exactly_once(client(table), 1)


def test_a_relay_that_is_cut_off_from_the_database_lets_another_work(table: Pipeline) -> None:
    table.worker("worker-1")
    proxy, through_proxy = table.database_proxy()
    first = start(table, "relay-1", MYSQL_URL=through_proxy)
    table.wait_event(first, "relay.working")
    second = start(table, "relay-2")
    table.wait_event(second, "relay.standing_by")
    proxy.hold(proxy.up)
    proxy.hold(proxy.down)
    commit(table, "one")
    table.wait_served(1)
    proxy.release(proxy.up)
    proxy.release(proxy.down)
    commit(table, "two")
    table.wait_served(2)
    wait_empty(table)
    table.assert_exactly_once(client(table), 2)


def test_both_servers_may_go_away_and_come_back(table: Pipeline) -> None:
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


def test_a_queue_that_takes_nothing_keeps_only_its_own_requests(table: Pipeline) -> None:
    table.worker("worker-1")
    with table.channel() as channel:  # another program's queue: ours would have other arguments
        channel.queue_declare("odd", durable=True)
    relay = at_work(table, "relay-1")
    commit(table, *("waits",) * 3000, queue="odd")
    commit(table, "goes")
    table.wait_served(1)
    table.wait_event(relay, "queue.stuck")
    commit(table, *("goes",) * 3000)
    table.wait_served(3001)
    table.wait(lambda: waiting(table) == 3000, "the others are gone")
    with table.channel() as channel:
        channel.queue_delete("odd")
    table.wait_event(relay, "queue.free")
    wait_empty(table)
    assert table.ready("odd") == 3000
    table.assert_exactly_once(client(table), 3001)


def test_a_queue_that_is_gone_from_where_it_was_is_not_made_again(table: Pipeline) -> None:
    """It would hide that what was confirmed in it is lost."""
    relay = at_work(table, "relay-1")
    commit(table, "one")
    wait_empty(table)
    with table.channel() as channel:
        channel.queue_delete("requests")
    commit(table, "two")
    table.wait_event(relay, "queue.stuck", times=2)  # what is published comes back; none is there
    [_, gone, *_] = _events(table, relay, "queue.stuck")
    assert "has no queue 'requests' any more" in gone["error"]
    table.worker("worker-1")  # makes it
    table.wait_served(1)
    wait_empty(table)
    [row] = table.rows()
    assert (row.counter, row.message) == (2, "two")


def test_another_cluster_is_not_published_to_by_mistake(table: Pipeline) -> None:
    """A node that lost its disk is one, until it joins the others again."""
    relay = at_work(table, "relay-1")
    commit(table, "one")
    wait_empty(table)
    relay.kill()
    query = table.servers.database.query
    [(known,)] = query("SELECT cluster FROM outbox_clients", name=table.name)
    query("UPDATE outbox_clients SET cluster = 'rabbit@elsewhere'", name=table.name)
    commit(table, "two")
    refused = start(table, "relay-2")
    table.wait(lambda: "rabbit@elsewhere" in refused.log.read_text(), "a word about it")
    assert waiting(table) == 1
    refused.kill()
    start(table, "relay-3", AMQP_URL=f"{table.amqp_url}?cluster={quote(known)}")
    wait_empty(table)
    assert query("SELECT cluster FROM outbox_clients", name=table.name) == [(known,)]


def test_a_row_that_is_no_request_is_left_out_and_reported(table: Pipeline) -> None:
    """Only by force: the constraints are off. It has no number, and so leaves no gap."""
    table.worker("worker-1")
    relay = at_work(table, "relay-1")
    with table.servers.database.connect(table.name) as cursor:
        cursor.execute("SET check_constraint_checks = OFF")
        cursor.execute(outbox.INSERT, ("requests", "x" * (MAX_MESSAGE_BYTES + 1)))
        cursor.execute("SET sql_mode = ''")
        cursor.execute(
            "INSERT INTO outbox (queue, message, created_at) VALUES ('requests', 'm', 0)"
        )
        cursor.execute(outbox.INSERT, ("no queue", "lost"))
    commit(table, "one")
    table.wait_served(1)
    table.wait_event(relay, "row.invalid", times=3)
    commit(table, "two")
    table.wait_served(2)
    table.assert_exactly_once(client(table), 2)
    assert waiting(table) == 3


def test_status_says_who_works_and_what_waits(table: Pipeline) -> None:
    assert "none is at work" in table.run("producer", "status", "--table").stdout
    commit(table, "one", "two", queue="receipts")
    before = json.loads(table.run("producer", "status", "--table", "--json").stdout)
    assert before["waiting"] == 2
    assert before["oldest_seconds"] > 0
    assert before["queues"][0]["client"] is None
    at_work(table, "relay-1")
    wait_empty(table)
    text = table.run("producer", "status", "--mysql-url", table.mysql_url).stdout
    assert "relay      relay-1, seen" in text
    assert "confirmed  2" in text
    assert "waiting    0" in text
    both = table.run("producer", "status", "--table", "--outbox", "x", code=ExitCode.USAGE)
    assert "either --outbox or --table" in both.stderr


def test_metrics_of_the_one_at_work_and_of_the_one_standing_by(table: Pipeline) -> None:
    ports = free_port(), free_port()
    relays = [start(table, f"relay-{port}", RELAY_HTTP=str(port)) for port in ports]
    table.wait(lambda: any(_events(table, relay, "relay.working") for relay in relays), "one works")
    commit(table, "one")
    wait_empty(table)
    with table.channel() as channel:
        channel.queue_declare("odd", durable=True)
    commit(table, "waits", queue="odd")
    table.wait(
        lambda: all(
            'turnwise_outbox_waiting{queue="odd"} 1.0' in _get(p, "metrics") for p in ports
        ),
        "the figures",
    )
    pages = [_get(port, "metrics") for port in ports]
    assert sorted(re.findall(r"(?m)^turnwise_relay_at_work (\S+)", "".join(pages))) == [
        "0.0",
        "1.0",
    ]
    assert any('turnwise_relay_queue_stuck{queue="odd"} 1.0' in page for page in pages)
    assert any("turnwise_relay_confirmed_total 1.0" in page for page in pages)
    for page in pages:
        assert f'numbered_total{{client="{client(table)}",queue="requests"}} 1.0' in page
        [oldest] = re.findall(r'oldest_seconds\{queue="odd"\} (\S+)', page)
        assert float(oldest) > 0
    for port in ports:
        assert '"ready": true' in _get(port, "readyz")


def test_the_relay_waits_for_the_tables(pipeline: Pipeline) -> None:
    relay = start(pipeline, "relay-1")
    pipeline.wait_event(relay, "database.away")
    [away, *_] = _events(pipeline, relay, "database.away")
    assert "waiting for 'worker migrate'" in away["error"]
    pipeline.run("worker", "migrate")
    pipeline.wait_event(relay, "relay.working")


def test_the_account_of_the_containers_is_enough_for_a_relay_and_for_no_more(
    pipeline: Pipeline,
) -> None:
    """Its rights are given before there is a table, as in docker/."""
    database = pipeline.servers.database
    user, password = f"relay-{secrets.token_hex(4)}", secrets.token_hex(8)
    database.query(f"CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")
    try:
        rights = (ROOT / "docker" / "mysql" / "20-rights.sql").read_text()
        for right in re.findall(r"^(?:GRANT|REVOKE) .*'relay'@'%';$", rights, re.MULTILINE):
            database.query(
                right.replace("counter_db", f"`{pipeline.name}`").replace("'relay'", f"'{user}'")
            )
        pipeline.run("worker", "migrate")
        url = f"mysql://{user}:{password}@127.0.0.1:{database.port}/{pipeline.name}"
        relay = start(pipeline, "relay-1", MYSQL_URL=url)
        pipeline.wait_event(relay, "relay.working")
        commit(pipeline, "one", "two")
        wait_empty(pipeline)
        assert "confirmed  2" in pipeline.run("producer", "status", "--mysql-url", url).stdout
        login = parse_url(url)
        with contextlib.closing(login.connect("test")) as connection:
            for statement in (
                "SELECT * FROM requests",
                "INSERT INTO outbox (queue, message) VALUES ('requests', 'mine')",
                "UPDATE outbox SET message = ''",
                "DELETE FROM outbox_clients",
                "DELETE FROM outbox_relay",
                "DROP TABLE outbox",
                "CREATE TABLE other (id INT)",
            ):
                with connection.cursor() as cursor, pytest.raises(OperationalError, match="denied"):
                    cursor.execute(statement)
    finally:
        database.query(f"DROP USER '{user}'@'%'")


def _events(pipeline: Pipeline, relay: Process, name: str) -> list[dict[str, Any]]:
    return [event for event in pipeline.events(relay) if event["event"] == name]


def _get(port: int, page: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as response:
        return str(response.read().decode())
