"""Claiming requests in an open transaction, concurrently with other claims."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.pipeline import Pipeline
from turnwise.database import Connection, parse_url
from turnwise.message import Request
from worker.handler_claim import Claims
from worker.store import Outcome, Store, claim

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def request(counter: int, message: str = "m", sent_at: datetime = NOW) -> Request:
    return Request("alice", counter, message, sent_at)


def outcomes(connection: Connection, *requests: Request) -> str:
    return "".join(outcome.name[0] for outcome in claim(connection, requests, "w1"))


def deliveries(pipeline: Pipeline) -> dict[int, tuple[str, int]]:
    return {row.counter: (row.message, row.deliveries) for row in pipeline.rows()}


@pytest.fixture
def stores(pipeline: Pipeline) -> Iterator[tuple[Store, Store]]:
    pipeline.run("worker", "migrate")
    database = parse_url(pipeline.mysql_url)
    with (
        contextlib.closing(Store(database, "w1")) as one,
        contextlib.closing(Store(database, "w2")) as other,
    ):
        yield one, other


def test_a_batch_may_mix_new_repeated_and_conflicting_requests(
    pipeline: Pipeline, stores: tuple[Store, Store]
) -> None:
    connection = stores[0].open()
    connection.begin()
    assert outcomes(connection, request(3), request(1)) == "SS"
    connection.commit()
    connection.begin()
    later = request(1, sent_at=NOW + timedelta(hours=1))
    batch = [request(2), later, request(3, "other"), request(4), request(4), request(4, "other"),
             request(1), request(2)]  # fmt: skip
    assert outcomes(connection, *batch) == "SRCSRCRR"
    connection.commit()
    assert deliveries(pipeline) == {1: ("m", 3), 2: ("m", 2), 3: ("m", 1), 4: ("m", 2)}
    assert pipeline.rows()[0].sent_at == NOW.replace(tzinfo=None)


def test_only_certainly_new_requests_take_the_fast_path(
    pipeline: Pipeline, stores: tuple[Store, Store]
) -> None:
    connection = stores[0].open()
    connection.begin()
    claims = Claims("w1")
    assert claims.all_new(connection, [request(12), request(11)])
    connection.commit()
    query = pipeline.servers.database.query
    query("INSERT INTO pruned (client, through) VALUES ('alice', 10)", name=pipeline.name)
    query(
        "INSERT INTO failures (client, counter, message, sent_at, attempts, deaths, error, reason,"
        " failed_at, failed_by) VALUES ('alice', 14, 'm', NOW(6), 1, 0, '', 'failed', NOW(6), '')",
        name=pipeline.name,
    )
    for doubtful in ([11], [13, 11], [13, 13], [10], [13, 14]):
        connection.begin()
        assert not claims.all_new(connection, [request(counter) for counter in doubtful])
        connection.rollback()
    assert deliveries(pipeline) == {11: ("m", 1), 12: ("m", 1)}


def test_a_claim_commits_nothing(pipeline: Pipeline, stores: tuple[Store, Store]) -> None:
    connection = stores[0].open()
    connection.begin()
    assert outcomes(connection, request(1)) == "S"
    connection.rollback()
    assert pipeline.served() == 0
    connection.begin()
    assert outcomes(connection, request(1)) == "S"


@pytest.mark.parametrize(("committed", "outcome"), [(True, "RS"), (False, "SS")])
def test_a_claim_waits_for_an_earlier_claim_of_the_same_request(
    pipeline: Pipeline, stores: tuple[Store, Store], committed: bool, outcome: str
) -> None:
    first, second = (store.open() for store in stores)
    first.begin()
    assert outcomes(first, request(1)) == "S"
    second.begin()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(outcomes, second, request(1), request(2))
        blocked = "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        pipeline.wait(lambda: pipeline.servers.database.query(blocked), "the second one waits")
        if committed:
            first.commit()
        else:
            first.rollback()
        assert waiting.result() == outcome
    second.commit()
    assert deliveries(pipeline) == {1: ("m", 1 + committed), 2: ("m", 1)}


def test_a_claim_sees_rows_committed_after_its_snapshot(
    stores: tuple[Store, Store],
) -> None:
    first, second = (store.open() for store in stores)
    second.begin()
    with second.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM requests")
    first.begin()
    assert outcomes(first, request(1)) == "S"
    first.commit()
    assert outcomes(second, request(1), request(2)) == "RS"


def test_a_write_stores_the_new_requests_of_a_mixed_batch(
    pipeline: Pipeline, stores: tuple[Store, Store]
) -> None:
    one, other = stores
    assert one.write([request(1), request(2)]) == [Outcome.SERVED] * 2
    again = [request(2, sent_at=NOW + timedelta(1)), request(3), request(1, "other")]
    assert other.write(again) == [Outcome.REPEATED, Outcome.SERVED, Outcome.CONFLICT]
    assert deliveries(pipeline) == {1: ("m", 1), 2: ("m", 2), 3: ("m", 1)}
