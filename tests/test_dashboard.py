"""What the page rests on: what is decided without a server, and what real servers are asked."""

from __future__ import annotations

import http.client
import json
import socket
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from dashboard import answers
from dashboard.board import FOLLOWED_MOST, KEPT, Board
from dashboard.database import TURNS, Requests
from dashboard.figures import Accounts, Found, Line, Queue, Served
from dashboard.management import parse_url
from dashboard.sight import PATIENCE, Sight
from dashboard.watch import Pace
from lab.process import free_port
from tests.pipeline import Pipeline, run
from turnwise.database import parse_url as parse_database
from turnwise.errors import ExitCode

START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def served(counter: int, by: str = "worker-1", deliveries: int = 1) -> Served:
    moment = datetime.fromtimestamp(START + counter, UTC)
    return Served("client", counter, "hello", 5, moment, moment, by, deliveries)


def state(board: Board, after: str = "") -> dict[str, Any]:
    return dict(json.loads(answers.state(board.view(), after)))


def audited(missing: int, resume_at: int) -> Accounts:
    line = Line("client", 9, 9 + missing, missing, 0, 0, resume_at, ())
    return Accounts(1, 9, missing, 0, 0, (line,), {"worker-1": 9})


# -- whether a server is seen


def test_an_outage_is_told_at_once_with_an_error_and_after_patience_without() -> None:
    sight = Sight(START, KEPT)
    assert not sight.known
    sight.seen(START)
    assert sight.outage(START + PATIENCE) is None
    silent = sight.outage(START + PATIENCE + 0.1)
    assert silent is not None
    assert silent.since == START
    sight.failed("it is gone")
    outage = sight.outage(START + 0.1)
    assert outage is not None
    assert (outage.since, outage.problem) == (START, "it is gone")


def test_an_outage_that_is_over_is_kept_for_the_charts_and_then_forgotten() -> None:
    sight = Sight(START, KEPT)
    sight.seen(START)
    sight.failed("it is gone")
    sight.seen(START + 7)
    [past] = sight.outages(START + 7)
    assert (past.since, past.until) == (START, START + 7)
    for second in range(KEPT + 2):
        sight.seen(START + 8 + second)
    assert sight.outages(START + 8 + KEPT) == []


def test_a_server_that_was_never_seen_is_away_from_the_begin_but_no_band_in_the_charts() -> None:
    sight = Sight(START, KEPT)
    outage = sight.outage(START + 1)
    assert outage is not None
    assert outage.since == START
    assert sight.outages(START + 1) == []


# -- what a page is told


def test_a_page_is_told_what_changed_and_nothing_else() -> None:
    board = Board(["database"], Clock())
    board.put_requests([served(2), served(1)], START)
    first = state(board)
    assert [each["counter"] for each in first["requests"]] == [2, 1]
    assert not first["skipped"]
    assert state(board, first["sequence"])["requests"] == []
    board.put_requests([served(3), served(2, deliveries=2), served(1)], START)
    second = state(board, first["sequence"])
    assert [each["counter"] for each in second["requests"]] == [3, 2]
    assert not second["skipped"]
    board.put_requests([served(9), served(8)], START)
    assert state(board, second["sequence"])["skipped"]


def test_a_page_of_another_process_is_told_what_that_one_may_not_have_seen() -> None:
    """Two processes look at the same database at different times; a browser asks either."""
    clock = Clock()
    one, other = Board(["database"], clock), Board(["database"], clock)
    one.put_requests([served(1)], clock.now)
    other.put_requests([served(1)], clock.now)
    cursor = state(one)["sequence"]
    clock.now += 60
    other.put_requests([served(2), served(1)], clock.now)  # the first has not looked since
    assert [each["counter"] for each in state(one, cursor)["requests"]] == []
    answer = state(other, cursor)
    assert 2 in [each["counter"] for each in answer["requests"]]
    # And back: the first one tells what it saw later than the other's answer was complete.
    clock.now += 60
    one.put_requests([served(3), served(2), served(1)], clock.now)
    assert {3} <= {each["counter"] for each in state(one, answer["sequence"])["requests"]}
    # What both knew for long is not told again.
    for board in (one, other, one, other):
        clock.now += 60
        board.put_requests([served(3), served(2), served(1)], clock.now)
    assert state(other, state(one)["sequence"])["requests"] == []


@pytest.mark.parametrize("cursor", ["", "0", "x-y-z", "nonsense", "5-abc", "-1", "9" * 99])
def test_a_page_whose_cursor_says_nothing_is_told_all(cursor: str) -> None:
    board = Board(["database"], Clock())
    board.put_requests([served(1)], START)
    assert state(board, cursor)["requests"]


def test_a_replica_is_told_of_as_long_as_it_is_in_a_figure() -> None:
    clock = Clock()
    board = Board(["database"], clock)
    board.put_requests([served(2, "b"), served(1, "a")], START)
    clock.now += KEPT + 1
    board.put_requests([served(3, "0"), served(2, "b")], clock.now)
    assert [each["name"] for each in state(board)["replicas"]] == ["0", "b"]


def test_a_replica_is_connected_gone_or_not_known() -> None:
    board = Board(["database", "broker"], Clock())
    board.put_requests([served(2, "b"), served(1, "a")], START)
    board.seen("broker")
    board.put_queue(Queue(0, 1, 1, 0, frozenset({"a"})))
    assert [each["consuming"] for each in state(board)["replicas"]] == [True, False]
    board.failed("broker", "it is gone")
    assert [each["consuming"] for each in state(board)["replicas"]] == [None, None]


def test_seconds_are_counted_from_the_last_one_that_was() -> None:
    clock = Clock()
    board = Board(["database"], clock)
    assert board.counted_from() == START - KEPT
    board.put_served(int(START) - 2, int(START) - 1, {int(START) - 2: {"a": 3}})
    assert board.counted_from() == START - 1
    [first, second] = state(board)["seconds"]
    assert (first["served"], second["served"]) == ({"a": 3}, {})
    clock.now += 10 * KEPT
    assert board.counted_from() == clock.now - KEPT
    board.put_served(int(clock.now), int(clock.now), {})
    assert len(state(board)["seconds"]) == 1


def test_a_gap_is_told_since_when_the_resume_point_stands() -> None:
    clock = Clock()
    board = Board(["audit"], clock)

    def gap_since(missing: int, resume_at: int) -> float | None:
        clock.now += 1
        board.put_audit(audited(missing, resume_at))
        [client] = state(board)["audit"]["clients"]
        since = client["gap_since"]
        return None if since is None else since - START

    assert gap_since(1, 5) == 1
    assert gap_since(1, 5) == 1
    assert gap_since(1, 6) == 3  # it was in somebody's hand
    assert gap_since(0, 10) is None
    assert gap_since(2, 10) == 5


def test_not_too_many_requests_are_followed() -> None:
    board = Board(["database"])
    for counter in range(FOLLOWED_MOST + 1):
        with pytest.raises(TimeoutError):
            board.follow(("client", counter), 0, lambda: None)
    assert len(board.followed()) == FOLLOWED_MOST
    board.put_followed({("client", 1): Found(served(1)), ("client", 2): Found()})
    hurried: list[int] = []
    assert board.follow(("client", 1), 0, lambda: hurried.append(1)) == Found(served(1))
    assert board.follow(("client", 2), 0, lambda: hurried.append(2)) == Found()
    assert hurried == []


def test_whoever_waits_for_a_look_ends_the_wait_of_the_watcher_that_hurries() -> None:
    pace = Pace()
    pace.hurry()
    assert pace.wait(0, hurries=False)
    assert pace.wait(3600, hurries=True)
    pace.stop()
    assert not pace.wait(3600, hurries=False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p%2F@h:15672/v%2Fw", ("h", 15672, "v/w", "u", "p/", "http://h:15672/")),
        ("http://u:p@h", ("h", 15672, "/", "u", "p", "http://h:15672/")),
        ("https://u:p@[::1]/%2F", ("::1", 15671, "/", "u", "p", "https://[::1]:15671/")),
    ],
)
def test_a_management_url_is_read(url: str, shown: tuple[object, ...]) -> None:
    m = parse_url(url)
    assert (m.host, m.port, m.virtual_host, m.username, m.password, m.link) == shown
    assert "p/" not in f"{m} {m!r}"


@pytest.mark.parametrize("url", ["ftp://u:p@h", "http://h/", "http://u:p@/v", "http://u:p@h:x/"])
def test_a_management_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"names|must|has a port"):
        parse_url(url)


# -- the command


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
def test_bad_usage_is_told(options: list[str], environment: dict[str, str], said: str) -> None:
    environment = {"MYSQL_URL": "mysql://u:secret@h/db", **environment}
    result = run("dashboard", *options, **environment)
    assert result.returncode == ExitCode.USAGE
    assert said in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_told(pipeline: Pipeline) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = pipeline.run("dashboard", "--port", port, code=ExitCode.CONFIG)
    assert f"cannot serve on 127.0.0.1:{port}: Address already in use" in result.stderr


# -- over HTTP


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


def test_an_account_that_may_only_read_is_enough(pipeline: Pipeline) -> None:
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


def test_logins_that_are_refused_are_told_without_their_passwords(pipeline: Pipeline) -> None:
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


def test_every_answer_is_guarded(pipeline: Pipeline) -> None:
    client = Client(pipeline)
    for path in ("/", "/api/state", "/static/page.js", "/nonesuch", "/healthz"):
        headers = client.ask(path)[2]
        assert (
            "default-src 'none'; script-src 'self'; style-src 'self'"
            in (headers["Content-Security-Policy"])
        )
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
    # By another name, a page of another site could read it (DNS rebinding).
    assert client.ask("/api/state", Host="evil.example")[0] == 400
    assert client.ask("/api/state", Host=f"localhost:{client.port}")[0] == 200
    for path in ("/api/requests/a%20b/1", f"/api/requests/a/{2**63}", "/api/requests/a/x"):
        assert client.ask(path)[0] == 404
    assert client.ask("/api/state?after=x")[0] == 200
    assert client.ask("/api/state", "POST", "x")[0] == 405


def test_it_ends_with_sigterm(pipeline: Pipeline) -> None:
    client = Client(pipeline)
    client.process.stop(30)
    assert client.process.wait(0) == 0
    assert pipeline.events(client.process)[-1]["event"] == "dashboard.stopped"


def test_those_who_look_cost_the_database_nothing(pipeline: Pipeline) -> None:
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
    # The watchers go on at their pace, whoever looks: a few statements, a few times a second.
    assert asked < 100 + 40 * (time.monotonic() - begun)


class Counted(Requests):
    def reads(self) -> int:
        """How many rows its connection has read since this was asked before."""
        with self._using() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            rows = {name: int(value) for name, value in cursor.fetchall()}
            cursor.execute("FLUSH STATUS")
        return sum(rows.values())


def test_a_look_reads_no_more_rows_than_it_shows(pipeline: Pipeline) -> None:
    """However many there are; the page's second look counts the last second only."""
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
    source = Counted(parse_database(pipeline.mysql_url), board)
    source.look()
    source.reads()
    source.look()
    reads = source.reads()
    source.close()
    assert TURNS <= reads < 3 * TURNS
    assert len(state(board)["requests"]) == TURNS
