"""Actions on many items at once: asked for twice, interrupted, left alone."""

from __future__ import annotations

import html
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from lab.harness.proxy import Proxy
from tests.page import OPERATOR, Visitor, operators_page
from tests.pipeline import Pipeline
from tests.rows import insert_failures
from turnwise.message import Request

LETTERS = 5000


def visit(pipeline: Pipeline, **environment: str) -> Visitor:
    address = operators_page(pipeline, **environment)
    return Visitor("127.0.0.1", urlsplit(address).port or 0)


def ask(visitor: Visitor, path: str, **form: str) -> tuple[int, str]:
    """Post a form as a program does."""
    login = f"Bearer {OPERATOR}"
    status, body, _ = visitor.ask(path, form, Authorization=login, Accept="text/html")
    return status, body


def query(pipeline: Pipeline, statement: str, *values: object) -> list[Any]:
    return pipeline.servers.database.query(statement, *values, name=pipeline.name)


def actions(pipeline: Pipeline) -> list[tuple[int | None, int, str]]:
    """Wait until all actions have ended; return what each expected, did, and its problem."""
    unended = "SELECT COUNT(*) FROM page_actions WHERE ended_at IS NULL"
    pipeline.wait(lambda: query(pipeline, unended)[0][0] == 0, "the actions have ended")
    return list(query(pipeline, "SELECT expected, done, problem FROM page_actions ORDER BY id"))


def dropped(pipeline: Pipeline) -> int:
    return int(query(pipeline, "SELECT COUNT(*) FROM failures WHERE reason = 'dropped'")[0][0])


def test_an_action_ends_although_nobody_looks_and_knows_its_size(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    for client in ("a", "b", "c"):
        insert_failures(pipeline, client, 10_000)
    here = visit(pipeline)
    assert "at least 20,000 match" in here.ask("/failures")[1]
    # The question is exact; the action counts for itself.
    assert "Retry 30,000 failed requests?" in ask(here, "/failures?which=all", do="retry")[1]
    assert ask(here, "/failures?which=all", do="retry", sure="yes")[0] == 303
    assert actions(pipeline) == [(30_000, 30_000, "")]
    assert query(pipeline, "SELECT COUNT(*) FROM failures WHERE attempts = 0")[0][0] == 30_000


def test_two_pages_that_retry_and_drop_the_same_agree(pipeline: Pipeline) -> None:
    """What is dropped stays dropped, is dropped once, and neither action fails."""
    pipeline.run("worker", "migrate")
    for client in ("a", "b", "c"):
        insert_failures(pipeline, client, 1500)
    pages = [visit(pipeline) for _ in range(2)]
    every = "/failures?which=all"
    # Each names another order of the clients, so their locks meet head-on.
    with ThreadPoolExecutor() as pool:
        asked = [
            pool.submit(ask, pages[0], every, do="drop", sure="yes", state="given-up"),
            pool.submit(ask, pages[1], every, do="retry", sure="yes"),
            pool.submit(ask, pages[1], every, do="drop", sure="yes", client="a"),
        ]
        assert [each.result()[0] for each in asked] == [303, 303, 303]
    assert [problem for *_, problem in actions(pipeline)] == ["", "", ""]
    # What was retried in time is no longer given up, and was not dropped by the first.
    query(pipeline, "UPDATE failures SET due_at = NULL WHERE reason <> 'dropped'")
    before = dropped(pipeline)
    assert before >= 1500
    for page in pages:
        assert ask(page, every, do="drop", sure="yes")[0] == 303
    assert dropped(pipeline) == 4500 or actions(pipeline)
    assert sum(done for _, done, _ in actions(pipeline)[-2:]) == 4500 - before
    assert dropped(pipeline) == 4500


def test_a_step_that_meets_a_deadlock_is_repeated(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    insert_failures(pipeline, "a", 5000)
    insert_failures(pipeline, "b", 2)
    here = visit(pipeline)
    waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    lock = "SELECT 1 FROM failures WHERE client = 'b' AND counter = %s FOR UPDATE"
    with pipeline.servers.database.connect(pipeline.name) as cursor:
        cursor.execute("BEGIN")
        # Heavier than the page's step, so that the server ends that one.
        cursor.execute("UPDATE failures SET deaths = 0 WHERE client = 'a'")
        cursor.execute(lock, (2,))
        form = b"do=drop&sure=yes&id=b/1&id=b/2"
        assert here.ask("/failures", form, Authorization=f"Bearer {OPERATOR}")[0] == 303
        pipeline.wait(lambda: query(pipeline, waiting)[0][0], "the step waits for b/2")
        cursor.execute(lock, (1,))
        cursor.execute("COMMIT")
    assert actions(pipeline) == [(2, 2, "")]
    assert dropped(pipeline) == 2


def test_what_fails_after_the_question_is_not_dropped(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    insert_failures(pipeline, "a", 3)
    here = visit(pipeline)
    question = ask(here, "/failures?which=all", do="drop", client="a")[1]
    assert "Drop 3 failed requests?" in question
    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', question)
    query(
        pipeline,
        "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error,"
        " traceback, reason, failed_at, failed_by, due_at) VALUES ('a', 9, 'm', UTC_TIMESTAMP(6),"
        " 1, 0, 'E: it', NULL, 'failed', UTC_TIMESTAMP(6), 'worker-1', NULL)",
    )
    form = {name: html.unescape(value) for name, value in hidden}
    assert ask(here, "/failures?which=all", **form)[0] == 303
    assert actions(pipeline) == [(3, 3, "")]
    assert dropped(pipeline) == 3


def test_a_replay_that_is_cut_off_and_repeated_serves_each_letter_once(
    pipeline: Pipeline,
) -> None:
    pipeline.worker("worker-1", "--prefetch", "200")
    put_letters(pipeline, LETTERS)
    rabbitmq = pipeline.servers.rabbitmq
    with Proxy(rabbitmq.port) as proxy:
        here = visit(pipeline, DASHBOARD_OPERATOR_AMQP_URL=rabbitmq.url(pipeline.name, proxy.port))
        proxy.up.cut_after = 600_000  # some way into the publishes
        every = "/dead?which=all"
        assert ask(here, every, do="replay", sure="yes")[0] == 303
        [(expected, done, problem)] = actions(pipeline)
        assert expected == LETTERS
        assert 0 < done < LETTERS
        assert "replayed for certain" in problem
        assert ask(here, every, do="replay", sure="yes")[0] == 303
        assert not actions(pipeline)[-1][2]
    pipeline.wait_served(LETTERS)
    pipeline.wait(lambda: not pipeline.ready() and not pipeline.ready("requests.dead"), "all done")
    assert [row.counter for row in sorted(pipeline.rows(), key=lambda row: row.counter)] == [
        *range(1, LETTERS + 1)
    ]


def put_letters(pipeline: Pipeline, count: int) -> None:
    """Publish valid requests straight to the dead letters."""
    with pipeline.channel() as channel:
        for number in range(1, count + 1):
            request = Request("till", number, "m" * 100, datetime.now(UTC))
            channel.basic_publish("", "requests.dead", request.encode(), request.properties())
    pipeline.wait(lambda: pipeline.ready("requests.dead") == count, "all dead letters")


EVIL = "\"'><img src=x onerror=alert(1)>"


def test_hostile_values_of_every_column_are_shown_as_text(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    query(
        pipeline,
        "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error,"
        " traceback, reason, failed_at, failed_by, due_at) VALUES ('till', 1, %s,"
        " UTC_TIMESTAMP(6), 1, 0, %s, %s, 'failed', UTC_TIMESTAMP(6), %s, NULL)",
        *(f"{EVIL}\u202e", f"{EVIL}\u202e", f"{EVIL}\u202e", EVIL),
    )
    query(
        pipeline,
        "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
        " VALUES ('till', 2, %s, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), %s)",
        *(f"{EVIL}\u202e", EVIL),
    )
    # The address is what a proxy claims: it may be anything, and of any length.
    here = visit(pipeline, DASHBOARD_TRUSTED_PROXY="*")
    for address, answer in ((EVIL, 400), ("a" * 300, 303)):
        login = {"Authorization": f"Bearer {OPERATOR}", "X_Forwarded_For": address}
        assert here.ask("/failures", {"do": "retry", "id": "till/1"}, **login)[0] == answer
    paths = ("/failures", "/requests/till/1", "/requests/till/2", "/requests", "/actions")
    for path in (*paths, "/actions/1"):
        status, body, _ = here.ask(path)
        assert status == 200
        assert "<img src=x" not in body, path
        assert "\u202e" not in body, path
        assert "&lt;img src=x" in body or "actions" in path, path
