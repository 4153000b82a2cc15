"""What the page costs the database: its statements, counted."""

from __future__ import annotations

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from dashboard.board import Board
from dashboard.database import Audits, Requests
from dashboard.logouts import Logouts
from dashboard.lookup import Lookups
from tests.page import OPERATOR, Visitor, operators_page
from tests.pipeline import Pipeline
from tests.rows import insert_failures
from turnwise.database import parse_url


def statements(source: Audits | Requests) -> int:
    """Return how many statements the source's connection has sent."""
    with source._using() as connection, connection.cursor() as cursor:  # noqa: SLF001
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return int(cursor.fetchall()[0][1])


def test_a_hundred_open_pages_cost_the_database_no_statement(pipeline: Pipeline) -> None:
    """Each is logged in, so each of its requests must be checked against the logouts."""
    pipeline.worker("worker-1")
    pipeline.send("hello")
    here = Visitor("127.0.0.1", urlsplit(operators_page(pipeline)).port or 0)
    cookies = [here.log_in(OPERATOR).split(";")[0] for _ in range(100)]

    def look(cookie: str) -> str:
        status, body, _ = here.ask("/api/state", Cookie=cookie)
        assert status == 200
        return str(json.loads(body)["sequence"])

    pipeline.wait(lambda: look(cookies[0]), "it is shown")
    questions = "SHOW GLOBAL STATUS LIKE 'Questions'"
    database = pipeline.servers.database
    begun, before = time.monotonic(), int(database.query(questions)[0][1])
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(look, cookies * 12))) == 1200
    asked = int(database.query(questions)[0][1]) - before
    # The watchers and the worker have a pace of their own, whatever the pages ask.
    assert asked < 200 + 40 * (time.monotonic() - begun)


def test_a_poll_sends_few_statements(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    database = parse_url(pipeline.mysql_url)
    source = Requests(database, Board(["database"]), Logouts(Lookups(database, "test")))
    source.look()
    counts = [statements(source)]
    for _ in range(3):
        source.look()
        counts.append(statements(source))
    source.close()
    # The time, the latest requests, once a second the counts; and the question of this test.
    assert min(b - a for a, b in itertools.pairwise(counts)) <= 3


def test_an_audit_reads_the_failures_once(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    pipeline.servers.database.query(
        "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
        " VALUES ('other', 1, 'm', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'worker-1')",
        name=pipeline.name,
    )
    source = Audits(parse_url(pipeline.mysql_url), Board(["audit"]))
    source.look()
    without = statements(source)
    source.close()
    insert_failures(pipeline, "till", 5000)
    source = Audits(parse_url(pipeline.mysql_url), Board(["audit"]))
    source.look()
    # A thousand at a time, and for each step whether their rows were removed.
    assert statements(source) <= without + 2 * 6 + 4
    source.close()
