"""The page over HTTP: access, its queries to real servers, and what they cost."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import Any

import pytest

from dashboard import answers
from dashboard.board import Board
from dashboard.database import TURNS, Requests
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from lab.harness.process import free_port
from tests.pipeline import Pipeline, run
from turnwise.database import parse_url as parse_database
from turnwise.errors import ExitCode


def state(board: Board, after: str = "") -> dict[str, Any]:
    return dict(json.loads(answers.state(board.view(), after)))


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["--host", "192.0.2.1"], {}, "give a --token"),
        (["--host", "::"], {"DASHBOARD_TOKEN": ""}, "give a --token"),
        (["--management-url", "http://secret@"], {}, "names no host"),
        (["--management-link", "javascript:alert(1)"], {}, "must begin with http"),
        (["--management-link", "http://u:secret@h/"], {}, "must hold no login"),
    ],
)
def test_wrong_usage_of_the_page_is_refused(
    options: list[str], environment: dict[str, str], said: str
) -> None:
    environment = {"MYSQL_URL": "mysql://u:secret@h/db", **environment}
    result = run("dashboard", *options, **environment)
    assert result.returncode == ExitCode.USAGE
    assert said in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_the_page_reports_a_port_in_use(pipeline: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = pipeline.run("dashboard", "--port", port, code=ExitCode.CONFIG)
    assert f"cannot serve on 127.0.0.1:{port}: Address already in use" in result.stderr


class Client:
    def __init__(self, pipeline: Pipeline, **environment: str) -> None:
        self.port = free_port()
        self.process = pipeline.start(
            "dashboard", "dashboard", "--port", str(self.port), **environment
        )
        pipeline.wait_event(self.process, "dashboard.serving")

    def ask(
        self, path: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        form = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        connection.request(method, path, body, {**form, **headers})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        is_json = response.headers.get_content_type() == "application/json"
        return response.status, json.loads(text) if is_json else text, response.headers

    def state(self) -> dict[str, Any]:
        return dict(self.ask("/api/state")[1])


def test_a_read_only_account_is_enough(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    name = pipeline.name.replace("-", "_")
    database, rabbitmq = pipeline.servers.database, pipeline.servers.rabbitmq
    database.query(f"CREATE USER '{name}'@'%' IDENTIFIED BY 'pw'")
    database.query(f"GRANT SELECT ON `{pipeline.name}`.* TO '{name}'@'%'")
    rabbitmq.api("PUT", f"users/{name}", {"password": "pw", "tags": "monitoring"})
    rabbitmq.grant(name, pipeline.name, configure="^$", write="^$", read="^$")
    try:
        client = Client(
            pipeline,
            MYSQL_URL=f"mysql://{name}:pw@127.0.0.1:{database.port}/{pipeline.name}",
            MANAGEMENT_URL=f"http://{name}:pw@127.0.0.1:{rabbitmq.management_port}/{pipeline.name}",
        )
        pipeline.send("hello")
        pipeline.wait(
            lambda: client.state()["requests"] and client.state().get("audit", {}).get("served"),
            "it is shown",
        )
        pipeline.wait(lambda: (client.state()["queue"] or {}).get("consumers") == 1, "a consumer")
        assert all(server["seen"] for server in client.state()["servers"].values())
    finally:
        database.query(f"DROP USER '{name}'@'%'")
        rabbitmq.api("DELETE", f"users/{name}")


def test_refused_logins_are_reported_without_their_passwords(pipeline: Pipeline) -> None:
    client = Client(
        pipeline,
        MYSQL_URL=f"mysql://nobody:hushhush@127.0.0.1:{pipeline.servers.database.port}/x",
        MANAGEMENT_URL=f"http://nobody:hushhush@127.0.0.1:"
        f"{pipeline.servers.rabbitmq.management_port}/",
    )
    pipeline.wait(lambda: client.ask("/readyz")[0] == 200, "both were asked")
    servers = client.state()["servers"]
    assert "refuses the user 'nobody'" in servers["database"]["problem"]
    assert "refuses the user 'nobody'" in servers["broker"]["problem"]
    assert client.ask("/healthz")[0] == 200
    assert "hushhush" not in json.dumps(client.state()) + pipeline.logs()


def test_every_response_carries_the_security_headers(pipeline: Pipeline) -> None:
    client = Client(pipeline)
    for path in ("/", "/api/state", "/static/page.js", "/nonesuch", "/healthz"):
        headers = client.ask(path)[2]
        assert (
            "default-src 'none'; script-src 'self'; style-src 'self'"
            in (headers["Content-Security-Policy"])
        )
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    # Under another host name, another site's page could read it (DNS rebinding).
    assert client.ask("/api/state", Host="evil.example")[0] == 400
    assert client.ask("/api/state", Host=f"localhost:{client.port}")[0] == 200
    for path in ("/api/requests/a%20b/1", f"/api/requests/a/{2**63}", "/api/requests/a/x"):
        assert client.ask(path)[0] == 404
    assert client.ask("/api/state?after=x")[0] == 200
    assert client.ask("/api/state", "POST", "x")[0] == 405


def test_sigterm_stops_the_page(pipeline: Pipeline) -> None:
    client = Client(pipeline)
    client.process.stop(30)
    assert client.process.wait(0) == 0
    assert pipeline.events(client.process)[-1]["event"] == "dashboard.stopped"


def test_viewers_cost_the_database_nothing(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    pipeline.send("hello")
    client = Client(pipeline)
    pipeline.wait(lambda: client.state()["requests"], "it is shown")
    database = pipeline.servers.database

    def statements() -> int:
        return int(database.query("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    begun, before = time.monotonic(), statements()
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    for _ in range(1000):
        connection.request("GET", "/api/state")
        assert json.loads(connection.getresponse().read())["requests"]
    asked = statements() - before
    connection.close()
    # The watchers poll at their own pace, whatever the viewers: a few statements, a few times a
    # second.
    assert asked < 100 + 40 * (time.monotonic() - begun)


class Counted(Requests):
    def reads(self) -> int:
        """Return how many rows the connection has read since the previous call."""
        with self._using() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            rows = {name: int(value) for name, value in cursor.fetchall()}
            cursor.execute("FLUSH STATUS")
        return sum(rows.values())


def test_a_query_reads_no_more_rows_than_it_shows(pipeline: Pipeline) -> None:
    """With any number of rows; the page's second query counts the last second only."""
    pipeline.run("worker", "migrate")
    digits = " UNION ALL ".join(f"SELECT {digit} AS n" for digit in range(10))
    pipeline.servers.database.query(
        "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
        f" WITH d AS ({digits}) SELECT CONCAT('c', e.n), a.n + 10 * b.n + 100 * c.n + 1, 'x',"
        " UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL (a.n + 10 * b.n + 100 * c.n) SECOND, 'w'"
        " FROM d AS a, d AS b, d AS c, d AS e",
        name=pipeline.name,
    )
    board = Board(["database"])
    database = parse_database(pipeline.mysql_url)
    source = Counted(database, board, Logouts(Lookups(database, "test")))
    source.look()
    source.reads()
    source.look()
    reads = source.reads()
    source.close()
    assert TURNS <= reads < 3 * TURNS
    assert len(state(board)["requests"]) == TURNS
