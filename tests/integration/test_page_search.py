"""The search: its results, its refusals, and that it never reads the whole table."""

from __future__ import annotations

import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from pymysql.cursors import DictCursor

from dashboard import failures, search
from dashboard.asking import Unclear
from dashboard.lookup import Lookups
from dashboard.search import PAGE, Page
from dashboard.walking import LOOKED
from tests.page import page
from tests.pipeline import Pipeline
from tests.rows import numbers
from turnwise.database import parse_url

ROWS = 100_000
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """A hundred thousand requests of ten clients, one a second; every 10,000th is special."""
    pipeline.run("worker", "migrate")
    pipeline.servers.database.query(
        "INSERT INTO requests (client, counter, message, sent_at, served_at, served_by)"
        f" {numbers(5)} SELECT CONCAT('c', n MOD 10), n DIV 10 + 1,"
        " IF(n MOD 10000 = 5000, 'the Special one', 'ordinary'), %s, %s + INTERVAL n SECOND,"
        " CONCAT('worker-', n MOD 3) FROM s",
        BEGUN.replace(tzinfo=None),
        BEGUN.replace(tzinfo=None),
        name=pipeline.name,
    )
    return pipeline


def find(pipeline: Pipeline, before: str = "", **form: str) -> tuple[Page, int]:
    """Return a page, and the number of rows the server read for it."""
    lookups = Lookups(parse_url(pipeline.mysql_url), "test")
    with lookups.cursor() as cursor:
        cursor.execute("FLUSH STATUS")
        found = search.find(cursor, search.parse(form), before)
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        read = sum(int(value) for _, value in cursor.fetchall())
    lookups.close()
    return found, read


def all_pages(pipeline: Pipeline, **form: str) -> list[tuple[str, int]]:
    """Return the contents of all pages together."""
    found, before, pages = [], "", 0
    while True:
        pages += 1
        assert pages < 100
        result, read = find(pipeline, before, **form)
        assert read < 4 * LOOKED
        found += [request.identity for request in result.requests]
        if result.more is None:
            return found
        before = result.more


def at(second: int) -> str:
    return (BEGUN + timedelta(seconds=second)).replace(tzinfo=None).isoformat()


def test_searches_along_an_index_read_only_what_they_show(filled: Pipeline) -> None:
    for form in (
        {},
        {"client": "c3"},
        {"client": "c3", "first": "100", "last": "9000"},
        {"since": at(5000)},
        {"until": at(90_000)},
        {"since": at(5000), "until": at(90_000)},
    ):
        result, read = find(filled, **form)
        assert len(result.requests) == PAGE, form
        assert read < 10 * PAGE, form
        further, read = find(filled, result.more or "", **form)
        assert read < 10 * PAGE, form
        assert not {r.identity for r in further.requests} & {r.identity for r in result.requests}


SEARCHES: tuple[dict[str, str], ...] = (
    {},
    {"client": "c3"},
    {"client": "c3", "first": "100", "last": "9000"},
    {"client": "c3", "text": "x", "replica": "w"},
    {"since": "2026-01-01"},
    {"until": "2026-01-01"},
    {"since": "2026-01-01", "text": "x"},
    {"since": "2026-01-01", "until": "2026-01-02", "replica": "w", "client": "c3"},
)
FILTERS: tuple[dict[str, str], ...] = (
    {},
    *({"state": state} for state in failures.STATES),
    *({"reason": reason} for reason in failures.REASONS),
    {"client": "c3"},
    {"client": "c3", "since": "2026-01-01", "state": "waiting"},
    {"since": "2026-01-01", "until": "2026-01-02", "replica": "w"},
)


@pytest.mark.parametrize("table", ["requests", "failures"])
def test_every_accepted_search_follows_the_order_of_an_index(
    pipeline: Pipeline, table: str
) -> None:
    """The database's own plan shows neither a sort nor a full scan."""
    pipeline.run("worker", "migrate")
    lookups = Lookups(parse_url(pipeline.mysql_url), "test")
    with lookups.connection() as connection, connection.cursor(DictCursor) as cursor:
        for form in SEARCHES if table == "requests" else FILTERS:
            for before in ("", "2026-01-01T00:00:00 c3/777"):
                if table == "requests":
                    query = search.parse(form)
                    way, sift = search.way(query, before), search.sift(query)
                else:
                    wanted = failures.parse(form)
                    way, sift = wanted.way(before), wanted.sift()
                for each in way.ranges:
                    alone = dataclasses.replace(way, ranges=(each,))
                    inner, values = alone.inner((sift[0] or "1 = 1", sift[1]), LOOKED)
                    cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL {inner}", values)
                    [step] = cursor.fetchall()
                    assert step["key"] == way.index, (form, before, step)
                    assert step["type"] in {"range", "ref", "index"}, (form, before, step)
                    assert "filesort" not in (step["Extra"] or ""), (form, before, step)
    lookups.close()


def test_pages_skip_nothing(filled: Pipeline) -> None:
    wanted = {"client": "c3", "first": "101", "last": "400"}
    assert all_pages(filled, **wanted) == [("c3", counter) for counter in range(400, 100, -1)]
    wanted = {"since": at(99_000), "until": at(99_299)}
    expected = [(f"c{second % 10}", second // 10 + 1) for second in range(99_299, 98_999, -1)]
    assert all_pages(filled, **wanted) == expected
    # Including requests served at the same instant.
    filled.servers.database.query(
        "UPDATE requests SET served_at = %s WHERE client = 'c1' AND counter <= 200",
        BEGUN.replace(tzinfo=None) + timedelta(days=30),
        name=filled.name,
    )
    wanted = {"since": at(30 * 86_400)}
    assert all_pages(filled, **wanted) == [("c1", counter) for counter in range(200, 0, -1)]


def test_a_text_is_found_in_bounded_steps(filled: Pipeline) -> None:
    specials = [(f"c{s % 10}", s // 10 + 1) for s in range(95_000, 0, -10_000)]
    assert all_pages(filled, text="Special", since=at(0)) == specials
    assert all_pages(filled, text="special", since=at(0)) == []  # upper and lower case differ
    assert all_pages(filled, text="Special", client="c0") == specials
    first, read = find(filled, text="Special", since=at(0))
    assert read < 4 * LOOKED
    assert first.looked_to == ("c0", (ROWS - LOOKED) // 10 + 1)


def test_a_replica_and_a_client_are_found_within_a_period(filled: Pipeline) -> None:
    found = all_pages(filled, replica="worker-1", since=at(99_000))
    assert len(found) == len([s for s in range(99_000, ROWS) if s % 3 == 1])
    found = all_pages(filled, client="c4", since=at(99_000), until=at(99_099))
    assert found == [("c4", s // 10 + 1) for s in range(99_099, 98_999, -1) if s % 10 == 4]
    assert all_pages(filled, client="c4", first="2", last="3", since=at(0)) == [
        ("c4", 3),
        ("c4", 2),
    ]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"text": "x"}, "would read the whole table"),
        ({"replica": "worker-1"}, "would read the whole table"),
        ({"text": "x", "until": "2026-01-01T00:00"}, "would read the whole table"),
        ({"first": "3"}, "name the client too"),
        ({"client": "a b"}, "cannot be the name of a client"),
        ({"client": "c", "last": "-1"}, "is not a counter"),
        ({"client": "c", "last": str(2**63)}, "is not a counter"),
        ({"since": "yesterday"}, "is not a time"),
        ({"client": "c", "text": "x" * 201}, "at most 200"),
    ],
)
def test_searches_that_would_read_everything_or_are_meaningless_are_refused(
    form: dict[str, str], said: str
) -> None:
    with pytest.raises(Unclear, match=said):
        search.parse(form)


@pytest.mark.parametrize("before", ["x", "2026-01-01T00:00:00 nonsense", "' OR 1=1 --", "9" * 30])
def test_a_malformed_address_is_refused(pipeline: Pipeline, before: str) -> None:
    pipeline.run("worker", "migrate")
    address = page(pipeline)
    query = urllib.parse.urlencode({"before": before})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{address}requests?{query}", timeout=30)  # noqa: S310
    with caught.value as answer:
        assert answer.code == 400
        assert "Traceback" not in answer.read().decode()


def test_every_view_has_an_address_that_can_be_shared(filled: Pipeline) -> None:
    address = page(filled)
    query = urllib.parse.urlencode({"text": "Special", "client": "c0"})
    with urllib.request.urlopen(f"{address}requests?{query}", timeout=30) as answer:  # noqa: S310
        body = answer.read().decode()
    assert body.count("the Special one") == 10
    assert 'value="Special"' in body
    with urllib.request.urlopen(f"{address}requests/c0/9501", timeout=30) as answer:  # noqa: S310
        assert "the Special one" in answer.read().decode()


def test_the_page_reports_a_database_that_is_away(pipeline: Pipeline) -> None:
    pipeline.run("worker", "migrate")
    address = page(pipeline, MYSQL_URL="mysql://u:hushhush@127.0.0.1:1/x")
    for path in ("requests?client=a", "failures", "actions", "requests/a/1"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}{path}", timeout=30)  # noqa: S310
        with caught.value as answer:
            assert answer.code == 503
            said = answer.read().decode()
            assert "cannot reach" in said
            assert "hushhush" not in said
    with urllib.request.urlopen(f"{address}api/state", timeout=30) as answer:  # noqa: S310
        assert not json.load(answer)["servers"]["database"]["seen"]


def test_a_link_to_a_removed_request_says_that_it_was_served(pipeline: Pipeline) -> None:
    pipeline.worker("worker-1")
    client = pipeline.send("gone")
    pipeline.wait_served(1)
    pipeline.servers.database.query(
        "UPDATE requests SET served_at = served_at - INTERVAL 2 DAY", name=pipeline.name
    )
    pipeline.run("worker", "prune", "--older-than", "1d")
    assert pipeline.served() == 0
    with urllib.request.urlopen(f"{page(pipeline)}requests/{client}/1") as answer:  # noqa: S310
        assert "Served. Its row has since been removed" in answer.read().decode()
