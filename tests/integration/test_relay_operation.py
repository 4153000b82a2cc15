"""producer relay: queues that refuse messages, invalid rows, figures, rights."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from pathlib import Path
from urllib.parse import quote

import pytest
from pymysql.cursors import Cursor
from pymysql.err import OperationalError

from lab.harness.process import free_port
from tests.pipeline import Pipeline
from tests.relaying import at_work, client, commit, events, get, start, wait_empty, waiting
from turnwise import outbox
from turnwise.database import parse_url
from turnwise.errors import ExitCode
from turnwise.limits import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def table(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with its tables created."""
    pipeline.run("worker", "migrate")
    return pipeline


@pytest.mark.timeout(300)
def test_a_queue_that_refuses_messages_holds_up_only_its_own_requests(table: Pipeline) -> None:
    table.worker("worker-1")
    with (
        table.channel() as channel
    ):  # another program's queue, with other arguments than Turnwise's
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


def test_a_lost_queue_is_never_recreated_by_the_relay(table: Pipeline) -> None:
    """Recreating it would hide that the requests confirmed in it are lost."""
    relay = at_work(table, "relay-1")
    commit(table, "one")
    wait_empty(table)
    with table.channel() as channel:
        channel.queue_delete("requests")
    commit(table, "two")
    table.wait_event(
        relay, "queue.stuck", times=2
    )  # first the publish is returned, then the queue is missing
    [_, gone, *_] = events(table, relay, "queue.stuck")
    assert "no longer has the queue 'requests'" in gone["error"]
    table.worker("worker-1")  # declares the queue
    table.wait_served(1)
    wait_empty(table)
    [row] = table.rows()
    assert (row.counter, row.message) == (2, "two")


def test_the_relay_publishes_to_no_other_cluster_than_the_url_names(table: Pipeline) -> None:
    """A node that lost its disk is such a cluster until it rejoins the others."""
    relay = at_work(table, "relay-1")
    commit(table, "one")
    wait_empty(table)
    relay.kill()
    [(known,)] = table.servers.database.query("SELECT cluster FROM outbox_clients", name=table.name)
    commit(table, "two")
    refused = start(table, "relay-2", AMQP_URL=f"{table.amqp_url}?cluster=rabbit%40elsewhere")
    table.wait(lambda: "rabbit@elsewhere" in refused.log.read_text(), "that it is logged")
    assert waiting(table) == 1
    refused.kill()
    start(table, "relay-3", AMQP_URL=f"{table.amqp_url}?cluster={quote(known)}")
    wait_empty(table)


def lift_constraints(cursor: Cursor) -> None:
    """Let rows in that the table refuses: MariaDB for this session, MySQL for all."""
    cursor.execute("SELECT VERSION()")
    if "MariaDB" in str(cursor.fetchone()):
        cursor.execute("SET check_constraint_checks = OFF")
        return
    for name in ("outbox_queue", "outbox_message"):
        cursor.execute(f"ALTER TABLE outbox ALTER CHECK {name} NOT ENFORCED")


def test_an_invalid_row_is_skipped_and_reported(table: Pipeline) -> None:
    """Inserting one takes force: constraints off. It has no number, and so leaves no gap."""
    table.worker("worker-1")
    relay = at_work(table, "relay-1")
    with table.servers.database.connect(table.name) as cursor:
        lift_constraints(cursor)
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


def test_status_shows_the_working_relay_and_what_waits(table: Pipeline) -> None:
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


def test_the_working_and_the_standby_relay_expose_metrics(table: Pipeline) -> None:
    ports = free_port(), free_port()
    relays = [start(table, f"relay-{port}", RELAY_HTTP=str(port)) for port in ports]
    table.wait(lambda: any(events(table, relay, "relay.working") for relay in relays), "one works")
    commit(table, "one")
    wait_empty(table)
    with table.channel() as channel:
        channel.queue_declare("odd", durable=True)
    commit(table, "waits", queue="odd")
    table.wait(
        lambda: all('turnwise_outbox_waiting{queue="odd"} 1.0' in get(p, "metrics") for p in ports),
        "the figures",
    )
    pages = [get(port, "metrics") for port in ports]
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
        assert '"ready": true' in get(port, "readyz")


def test_the_relay_waits_for_the_tables(pipeline: Pipeline) -> None:
    relay = start(pipeline, "relay-1")
    pipeline.wait_event(relay, "database.away")
    [away, *_] = events(pipeline, relay, "database.away")
    assert "waiting for 'worker migrate'" in away["error"]
    pipeline.run("worker", "migrate")
    pipeline.wait_event(relay, "relay.working")


def test_the_account_of_the_containers_has_only_the_rights_a_relay_needs(
    pipeline: Pipeline,
) -> None:
    """Its rights are granted before any table exists, as in docker/."""
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
