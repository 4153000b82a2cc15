"""Several hosts in MYSQL_URL: the first that accepts the worker, and fail-over to the next."""

from __future__ import annotations

import socket
import time

import pymysql
import pytest
from pymysql.constants import ER

from lab.harness.process import free_port
from tests.pipeline import Pipeline
from turnwise.database import TIMEOUT, parse_url, translate
from turnwise.errors import ExitCode

URLS = "mysql://u:geheim@one/db, mysql://u:geheim@two:3307/db"


def test_several_hosts_count_as_one_database() -> None:
    database = parse_url(URLS)
    assert [(each.host, each.port) for each in (database, *database.others)] == [
        ("one", 3306),
        ("two", 3307),
    ]
    assert "geheim" not in f"{database!r}"
    # A comma in the password does not separate hosts.
    assert parse_url("mysql://u:a,b@one/db").password == "a,b"
    with pytest.raises(ValueError, match="several databases"):
        parse_url("mysql://u@one/db,mysql://u@two/other")


@pytest.mark.parametrize(
    ("code", "left"),
    [
        (ER.OPTION_PREVENTS_STATEMENT, True),
        (1047, True),
        (ER.SERVER_SHUTDOWN, True),
        (ER.LOCK_DEADLOCK, False),
        (ER.LOCK_WAIT_TIMEOUT, False),
    ],
)
def test_a_host_that_cannot_serve_is_left_and_a_busy_one_is_kept(code: int, left: bool) -> None:
    database = parse_url(URLS)
    translate(pymysql.err.OperationalError(code, "because"), database)
    assert bool(database._trouble) == left  # noqa: SLF001


def test_one_reachable_host_of_several_is_enough(pipeline: Pipeline) -> None:
    away = pipeline.servers.database.url(pipeline.name, free_port())
    wrong = pipeline.mysql_url.replace(pipeline.servers.database.password, "wrong")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = pipeline.servers.database.url(pipeline.name, mute.getsockname()[1])
        begun = time.monotonic()
        pipeline.run("worker", "migrate", MYSQL_URL=f"{away},{wrong},{silent},{pipeline.mysql_url}")
        assert time.monotonic() - begun < TIMEOUT + 2
    pipeline.run("worker", "migrate", MYSQL_URL=f"{wrong},{wrong}", code=ExitCode.REFUSED)


def test_a_worker_fails_over_to_the_next_host(pipeline: Pipeline) -> None:
    """The first host is lost under load."""
    first, first_url = pipeline.database_proxy()
    second, second_url = pipeline.database_proxy()
    worker = pipeline.worker("worker-1", MYSQL_URL=f"{first_url},{second_url}")
    pipeline.send_counted(5)
    pipeline.wait_served(5)
    assert second.accepted == 0
    first.close()
    pipeline.send_counted(5)
    pipeline.wait_served(10, timeout=10)
    assert second.accepted >= 1
    names = [event["event"] for event in pipeline.events(worker)]
    assert "broker.away" not in names
    pipeline.assert_exactly_once(pipeline.client(), 10)
