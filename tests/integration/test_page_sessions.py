"""A logout ends the session on every page that uses the same database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from lab.harness.process import wait_until
from lab.harness.proxy import Proxy
from tests.page import OPERATOR, Visitor, operators_page, page
from tests.pipeline import Pipeline

TOKEN = "a-token-that-is-none"


def visit(address: str) -> Visitor:
    return Visitor("127.0.0.1", urlsplit(address).port or 0)


def state(visitor: Visitor, cookie: str) -> int:
    return visitor.ask("/api/state", Cookie=cookie)[0]


def wait_refused(visitor: Visitor, cookie: str) -> None:
    wait_until(lambda: state(visitor, cookie) == 401, "the session is over", 30)


@contextmanager
def account(pipeline: Pipeline, *rights: str) -> Iterator[str]:
    """Create an account with these rights on the database; yield its URL."""
    name = pipeline.name.replace("-", "_")
    database = pipeline.servers.database
    database.query(f"CREATE USER '{name}'@'%' IDENTIFIED BY 'pw'")
    for right in rights:
        what, on = right.split(" ON ")
        database.query(f"GRANT {what} ON `{pipeline.name}`.{on} TO '{name}'@'%'")
    try:
        yield f"mysql://{name}:pw@127.0.0.1:{database.port}/{pipeline.name}"
    finally:
        database.query(f"DROP USER '{name}'@'%'")


def test_a_logout_ends_the_session_on_other_pages_and_after_a_restart(
    pipeline: Pipeline,
) -> None:
    pipeline.run("worker", "migrate")
    rights = ("SELECT ON *", "INSERT, DELETE ON page_logouts")
    with account(pipeline, *rights) as url:
        here, there = (
            visit(operators_page(pipeline, DASHBOARD_TOKEN=TOKEN, DASHBOARD_OPERATOR_MYSQL_URL=url))
            for _ in range(2)
        )
        cookie = here.log_in(OPERATOR).split(";")[0]
        other = here.log_in(TOKEN).split(";")[0]
        assert state(there, cookie) == 200
        form = {"do": "retry", "id": "client/1", "csrf": there.csrf(cookie)}
        here.log_out(cookie)
        assert state(here, cookie) == 401
        # The session permits no action, even before the other page has polled.
        assert there.ask("/failures", form, Cookie=cookie)[0] in {303, 403}
        query = "SELECT COUNT(*) FROM page_actions"
        assert pipeline.servers.database.query(query, name=pipeline.name)[0][0] == 0
        wait_refused(there, cookie)
        restarted = visit(operators_page(pipeline, DASHBOARD_TOKEN=TOKEN))
        wait_until(lambda: restarted.ask("/readyz")[0] == 200, "it has looked", 30)
        assert state(restarted, cookie) == 401
        for each in (here, there, restarted):
            assert state(each, other) == 200


def test_a_logout_during_an_outage_reaches_the_other_pages_afterwards(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    there = visit(page(pipeline, DASHBOARD_TOKEN=TOKEN))
    database = pipeline.servers.database
    with Proxy(database.port) as proxy:
        url = database.url(pipeline.name, proxy.port)
        here = visit(page(pipeline, DASHBOARD_TOKEN=TOKEN, MYSQL_URL=url))
        cookie = here.log_in(TOKEN).split(";")[0]
        csrf = here.csrf(cookie)
    assert here.ask("/logout", {"csrf": csrf}, Cookie=cookie)[0] == 303
    assert state(here, cookie) == 401
    assert state(there, cookie) == 200
    with Proxy(database.port, proxy.port):
        wait_refused(there, cookie)


def test_rows_of_expired_sessions_are_removed(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    database = pipeline.servers.database
    database.query(
        "INSERT INTO page_logouts VALUES ('old', UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE)",
        name=pipeline.name,
    )
    here = visit(page(pipeline, DASHBOARD_TOKEN=TOKEN))
    here.log_out(here.log_in(TOKEN).split(";")[0])
    [[identity]] = database.query("SELECT id FROM page_logouts", name=pipeline.name)
    assert identity != "old"


def test_a_read_only_page_warns_that_a_logout_is_local(
    pipeline: Pipeline,
) -> None:
    pipeline.run("worker", "migrate")
    with account(pipeline, "SELECT ON *") as url:
        here = visit(page(pipeline, DASHBOARD_TOKEN=TOKEN, MYSQL_URL=url))
        cookie = here.log_in(TOKEN).split(";")[0]
        here.log_out(cookie)
        assert state(here, cookie) == 401
        log = next(pipeline.folder.glob("dashboard-*.log")).read_text()
        assert "logout.here_only" in log
