"""Each account tries operations outside its rights, and is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pymysql
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from pymysql.constants import ER
from pymysql.cursors import Cursor

from tests.containers.stack import Stack
from turnwise.database import parse_url

pytestmark = pytest.mark.timeout(600)

Try = Callable[[BlockingChannel], Any]

TRIES: dict[str, Try] = {
    "publish": lambda c: publish(c, "requests"),
    "publish a dead letter": lambda c: publish(c, "requests.dead"),
    "publish to any queue": lambda c: publish(c, ""),
    "take a request": lambda c: c.basic_get("requests"),
    "take a dead letter": lambda c: c.basic_get("requests.dead"),
    "consume": lambda c: c.basic_consume("requests", lambda *_: None),
    "make a queue": lambda c: c.queue_declare("other"),
    "delete the queue": lambda c: c.queue_delete("requests"),
    "delete the exchange": lambda c: c.exchange_delete("requests"),
    "unbind the queue": lambda c: c.queue_unbind("requests", "requests", "requests"),
}
ALLOWED = {
    "producer": {"publish"},
    "worker": {"take a request", "consume"},
    "operator": {"publish", "take a dead letter"},
    "dashboard": set[str](),
}


def publish(channel: BlockingChannel, exchange: str) -> None:
    channel.confirm_delivery()
    # No queue is needed: rights are checked before routing.
    channel.basic_publish(exchange, "nowhere", b"")


@contextlib.contextmanager
def channel(stack: Stack, user: str) -> Iterator[BlockingChannel]:
    with pika.BlockingConnection(pika.URLParameters(stack.amqp_url(user))) as connection:
        yield connection.channel()


@contextlib.contextmanager
def database(stack: Stack, user: str) -> Iterator[Cursor]:
    url = parse_url(stack.mysql_url(user))
    connection = pymysql.connect(
        host=url.host, port=url.port, user=url.user, password=url.password, database=url.name
    )
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


@pytest.mark.parametrize("user", ALLOWED)
@pytest.mark.parametrize("what", TRIES)
def test_each_broker_account_has_only_the_rights_it_needs(
    stack: Stack, user: str, what: str
) -> None:
    with channel(stack, user) as opened:
        if what in ALLOWED[user]:
            TRIES[what](opened)
            return
        with pytest.raises(ChannelClosedByBroker) as refused:
            TRIES[what](opened)
    assert refused.value.reply_code == 403


def test_the_pages_account_may_only_read(stack: Stack) -> None:
    login = stack.management_login()
    status, body = stack.call("GET", "queues/turnwise/requests", *login)
    assert (status, json.loads(body)["name"]) == (200, "requests")
    for method, path in (
        ("DELETE", "queues/turnwise/requests/contents"),
        ("DELETE", "queues/turnwise/requests"),
        ("PUT", "users/mallory"),
        ("GET", "definitions"),
    ):
        assert stack.call(method, path, *login)[0] in {401, 403}, path


@pytest.mark.parametrize(
    ("user", "statement"),
    [
        *(
            (user, statement)
            for user in ("worker", "dashboard", "operator")
            for statement in (
                "DELETE FROM requests",
                "TRUNCATE requests",
                "DROP TABLE requests",
                "ALTER TABLE requests DROP message",
                "CREATE TABLE other (n INT)",
                "GRANT SELECT ON counter_db.* TO dashboard",
                "SELECT * FROM mysql.user",
            )
        ),
        ("dashboard", "UPDATE requests SET deliveries = 1"),
        ("dashboard", "INSERT INTO audits (client, through, repeated) VALUES ('x', 0, 0)"),
        ("dashboard", "UPDATE failures SET attempts = 0"),
        ("dashboard", "UPDATE page_actions SET actor = 'nobody'"),
        ("operator", "UPDATE requests SET deliveries = 1"),
        ("operator", "DELETE FROM failures"),
        ("operator", "DELETE FROM page_actions"),
        ("operator", "UPDATE page_logouts SET ends_at = UTC_TIMESTAMP(6)"),
        ("dashboard", "DELETE FROM page_logouts"),
        ("worker", "DELETE FROM audits"),
        ("migrate", "CREATE DATABASE other"),
        ("migrate", "SELECT * FROM mysql.user"),
    ],
)
def test_each_database_account_has_only_the_rights_it_needs(
    stack: Stack, user: str, statement: str
) -> None:
    with database(stack, user) as cursor:
        cursor.execute("SELECT COUNT(*) FROM requests")
        with pytest.raises(pymysql.Error) as refused:
            cursor.execute(statement)
    assert refused.value.args[0] in {
        ER.TABLEACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.ACCESS_DENIED_ERROR,
    }


def test_the_operators_account_can_manage_dead_letters(stack: Stack) -> None:
    with channel(stack, "producer") as opened:
        opened.confirm_delivery()
        opened.basic_publish("requests", "requests", b"no request")

    def dead(*words: str) -> str:
        command = ("--profile", "operator", "run", "--rm", "-T", "operator", "worker", "dead")
        return stack.compose(*command, *words)

    stack.wait(lambda: "body" in dead("list", "--json"), "a dead letter")
    [letter] = [json.loads(line) for line in dead("list", "--json").splitlines()]
    assert letter["reason"] == "invalid"
    assert "replayed 1" in dead("replay", letter["id"])
    stack.wait(lambda: letter["id"] in dead("list"), "it comes back")
    assert "dropped 1" in dead("drop", "--all")


def test_the_workers_account_has_all_the_rights_it_needs(stack: Stack) -> None:
    # A worker keeps the account after 5,000 requests, and the client never lets it be idle.
    stack.send(11_000)
    stack.wait_served(stack.accepted())
    stack.wait(
        lambda: stack.query("SELECT * FROM counter_db.audits WHERE client > '' AND through > 0"),
        "the audit's account is kept",
    )
    for worker in stack.containers("worker"):
        assert "audit.not_kept" not in stack.logs(worker)
    # Rarely needed: only when a request that was long missing is served.
    with database(stack, "worker") as cursor:
        cursor.execute("DELETE FROM audit_gaps WHERE client = 'nobody'")
        cursor.execute("DELETE FROM failures WHERE client = 'nobody'")


def test_the_workers_account_is_enough_for_a_forged_x_death_header(stack: Stack) -> None:
    """On an old broker such a message is copied, for which this account has no right."""
    with channel(stack, "producer") as opened:
        opened.confirm_delivery()
        forged = pika.BasicProperties(headers={"x-death": [1]})
        opened.basic_publish("requests", "requests", b"no request", forged)
    command = ("--profile", "operator", "run", "--rm", "-T", "operator", "worker", "dead")
    stack.wait(lambda: stack.compose(*command, "list", "--json"), "a dead letter")
    assert "dropped 1" in stack.compose(*command, "drop", "--all")
    assert all("command.failed" not in stack.logs(worker) for worker in stack.containers("worker"))
