"""The failures on the page: finding them among many."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dashboard import failures
from dashboard.failures import PAGE
from dashboard.lookup import Lookups
from dashboard.walking import LOOKED
from tests.pipeline import Pipeline
from tests.rows import numbers
from turnwise.database import parse_url
from worker.schema import STEPS, VERSION

FAILURES = 100_000
BEGUN = datetime(2026, 1, 1)  # noqa: DTZ001 - as the database holds it


@pytest.fixture
def failed(pipeline: Pipeline) -> Pipeline:
    """A hundred thousand failures of ten clients; each state belongs to one client in ten."""
    pipeline.run("worker", "migrate")
    pipeline.servers.database.query(
        "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error,"
        f" traceback, reason, failed_at, failed_by, due_at) {numbers(5)}"
        " SELECT CONCAT('c', n MOD 10), n DIV 10 + 1, 'm', %s, 1, 0, 'E: it', NULL,"
        " CASE WHEN n MOD 50 = 7 THEN 'dropped' WHEN n MOD 10000 = 5000 THEN 'timeout'"
        " ELSE 'failed' END, %s + INTERVAL n SECOND, CONCAT('worker-', n MOD 3),"
        " IF(n MOD 50 = 7 OR n MOD 50 = 9, NULL, %s) FROM s",
        BEGUN,
        BEGUN,
        BEGUN,
        name=pipeline.name,
    )
    return pipeline


def find(pipeline: Pipeline, before: str = "", **form: str) -> tuple[failures.Page, int]:
    """Return a page, and the number of rows the server read for it and its count."""
    lookups = Lookups(parse_url(pipeline.mysql_url), "test")
    with lookups.cursor() as cursor:
        cursor.execute("FLUSH STATUS")
        wanted = failures.parse(form)
        found = failures.page(cursor, wanted, before)
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        read = sum(int(value) for _, value in cursor.fetchall())
    lookups.close()
    return found, read


def all_pages(pipeline: Pipeline, **form: str) -> list[tuple[str, int]]:
    found, before = [], ""
    for _ in range(60):
        page, read = find(pipeline, before, **form)
        assert read < 8 * LOOKED  # of two states, put into one order, and where that ended
        found += [(each.client, each.counter) for each in page.failures]
        if page.more is None:
            return found
        before = page.more
    pytest.fail("it has no end")


def test_the_latest_of_each_state_are_read_by_index(failed: Pipeline) -> None:
    for form, seconds in (
        ({"state": "dropped"}, range(99_957, 0, -50)),
        ({"state": "given-up"}, range(99_959, 0, -50)),
        ({"state": "waiting"}, (n for n in range(99_999, 0, -1) if n % 50 not in {7, 9})),
        ({}, (n for n in range(99_999, 0, -1) if n % 50 != 7)),
        ({"until": "2026-01-01T00:59:59"}, (n for n in range(3599, 0, -1) if n % 50 != 7)),
    ):
        expected = [n for n, _ in zip(seconds, range(2 * PAGE), strict=False)]
        first, read = find(failed, **form)
        assert read < 30 * PAGE, form
        second, read = find(failed, first.more or "", **form)
        assert read < 30 * PAGE, form
        found = [(e.client, e.counter) for e in (*first.failures, *second.failures)]
        assert found == [(f"c{n % 10}", n // 10 + 1) for n in expected], form


def test_rare_failures_are_found_in_bounded_steps(failed: Pipeline) -> None:
    expected = [(f"c{n % 10}", n // 10 + 1) for n in range(95_000, 0, -10_000)]
    assert all_pages(failed, reason="timeout") == expected
    assert all_pages(failed, reason="timeout", client="c0") == expected
    page, _ = find(failed, reason="timeout")
    assert page.looked_to is not None


def test_failures_of_the_same_moment_are_all_shown(failed: Pipeline) -> None:
    failed.servers.database.query(
        "UPDATE failures SET failed_at = %s WHERE client IN ('c1', 'c2') AND counter <= 100",
        datetime.now(UTC).replace(tzinfo=None),
        name=failed.name,
    )
    found = all_pages(failed, since="2026-01-03")
    assert sorted(found) == [(c, n) for c in ("c1", "c2") for n in range(1, 101)]
    assert len(found) == 200


def test_an_interrupted_migration_resumes(pipeline: Pipeline) -> None:
    """MySQL commits each step implicitly, before the step is recorded as done."""
    pipeline.run("worker", "migrate")
    database = pipeline.servers.database
    alters = [n for n, step in enumerate(STEPS, 1) if "ALTER TABLE" in step]
    assert alters
    for number in alters:
        database.query("DELETE FROM schema_version WHERE version >= %s", number, name=pipeline.name)
        pipeline.run("worker", "migrate")
    done = database.query("SELECT MAX(version) FROM schema_version", name=pipeline.name)
    assert done[0][0] == VERSION
