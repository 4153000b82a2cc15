"""A handler's work and the request's row are committed together or not at all."""

from __future__ import annotations

import pytest

from tests.shop import Shop


def test_a_new_request_adds_three_statements_in_two_round_trips(shop: Shop) -> None:
    shop.worker()
    shop.query("SET GLOBAL log_output = 'TABLE'")
    shop.query("SET GLOBAL general_log = ON")
    try:
        shop.send({"do": "db.execute('SELECT 41')"})
        shop.pipeline.wait_served(1)
    finally:
        shop.query("SET GLOBAL general_log = OFF")
    its_thread = "(SELECT thread_id FROM mysql.general_log WHERE argument = 'SELECT 41')"
    said = shop.query(
        "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log"
        f" WHERE command_type IN ('Query', 'Execute') AND thread_id IN {its_thread}"
        " ORDER BY event_time"
    )
    words = [statement.split()[0] for (statement,) in said]
    begin = words.index("INSERT")
    own = ["INSERT", "UPDATE", "SELECT", "INSERT"]
    assert words[begin : begin + 7] == ["INSERT", "SELECT", *own, "COMMIT"]


@pytest.mark.parametrize("prefetch", ["1", "50"])
def test_effects_follow_up_requests_and_rows_share_one_commit(shop: Shop, prefetch: str) -> None:
    shop.worker("worker-1", "--prefetch", prefetch)
    shop.worker("worker-2", "--prefetch", prefetch)
    shop.send(*({} for _ in range(200)))
    shop.pipeline.wait_served(200)
    shop.pipeline.wait_all_settled()
    shop.assert_served(*range(1, 201))
    assert shop.failures() == []


def test_a_repeat_never_reaches_the_handler(shop: Shop) -> None:
    worker = shop.worker()
    shop.publish(7)
    shop.publish(7)
    shop.publish(7, items=5)
    shop.pipeline.wait_event(worker, "request.dead_lettered")
    shop.pipeline.wait_all_settled()
    shop.assert_served(7)
    [row] = shop.pipeline.rows()
    assert row.deliveries == 2


@pytest.mark.parametrize("prefetch", ["1", "50"])
def test_an_exception_rolls_back_only_its_own_request(shop: Shop, prefetch: str) -> None:
    worker = shop.worker("worker-1", "--prefetch", prefetch)
    orders: list[dict[str, object]] = [{} for _ in range(40)]
    orders[9] = {"do": "raise Reject('nothing was ordered')"}
    orders[19] = {"do": "1 / 0"}
    orders[29] = {"do": "raise Retry(after=1000)"}
    orders[39] = {"do": "sys.exit(3)"}
    shop.send(*orders)
    shop.pipeline.wait(lambda: len(shop.failures()) == 4, "four failures")
    shop.pipeline.wait_served(36)
    shop.pipeline.wait_all_settled()
    shop.assert_served(*(n for n in range(1, 41) if n % 10))
    rejected, failed, put_off, ended = shop.failures()
    assert (rejected["reason"], rejected["error"]) == ("rejected", "nothing was ordered")
    assert rejected["due_at"] is None
    assert (failed["reason"], failed["error"]) == ("failed", "ZeroDivisionError: division by zero")
    assert failed["due_at"] is not None
    assert put_off["error"] == "Retry: not now"
    assert ended["error"] == "SystemExit: 3"
    reported = [e for e in shop.pipeline.events(worker) if e["event"] == "request.failed"]
    assert {e["error"] for e in reported} >= {"Reject", "ZeroDivisionError", "Retry", "SystemExit"}
    assert worker.alive()


def test_a_failure_is_retried_when_it_is_due(shop: Shop) -> None:
    """Another worker may retry it: the one that recorded it is dead."""
    first = shop.worker()
    shop.query("CREATE TABLE seen (n INT) ENGINE = InnoDB")
    do = "if not db.execute('SELECT * FROM seen').fetchall(): raise Retry(after=1)"
    shop.send({"do": do})
    shop.pipeline.wait(shop.failures, "a failure")
    first.kill()
    shop.query("INSERT INTO seen VALUES (1)")
    shop.worker("worker-2")
    [row] = shop.pipeline.wait_served(1)
    assert row.served_by == "worker-2"
    shop.assert_served(1)
    shop.pipeline.wait(lambda: not shop.failures(), "no failure")


def test_attempts_are_counted_and_limited(shop: Shop) -> None:
    shop.worker("worker-1", "--max-attempts", "3")
    shop.send({"do": "raise Retry(after=0.1)"})
    shop.pipeline.wait(lambda: shop.failures() and not shop.failures()[0]["due_at"], "given up")
    [failure] = shop.failures()
    assert (failure["attempts"], failure["deaths"]) == (3, 0)
    shop.assert_served()
