"""A handler's work and the request's row: both are committed, or neither is."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest

from lab.process import Process
from tests.malformed import VALID
from tests.pipeline import Pipeline

ORDERS = """
    import json
    import os
    import sys
    import time

    from turnwise import Reject, Retry

    def serve(request, db):
        order = json.loads(request.message)
        db.execute("INSERT INTO calls (client, counter, pid) VALUES (%s, %s, %s)",
                   (request.client, request.counter, os.getpid()))
        db.execute("UPDATE stock SET items = items - %s WHERE sku = 1", (order.get("items", 1),))
        do = order.get("do", "")
        exec(do)
        db.send("receipts", request.message_id)
"""


class Shop:
    """A pipeline whose workers serve by a handler; a message says what it does besides."""

    def __init__(self, pipeline: Pipeline, module: str = ORDERS) -> None:
        self.pipeline = pipeline
        (pipeline.folder / "orders.py").write_text(textwrap.dedent(module))
        pipeline.run("worker", "migrate")
        self.query("CREATE TABLE stock (sku INT PRIMARY KEY, items INT) ENGINE = InnoDB")
        self.query("INSERT INTO stock VALUES (1, 1000000)")
        self.query(
            "CREATE TABLE calls (n INT AUTO_INCREMENT PRIMARY KEY, client VARCHAR(64),"
            " counter BIGINT, pid INT) ENGINE = InnoDB"
        )

    def worker(self, name: str = "worker-1", *options: str, **environment: str) -> Process:
        return self.pipeline.worker(
            name,
            "--handler",
            "orders:serve",
            *options,
            **{"PYTHONPATH": str(self.pipeline.folder), **environment},
        )

    def query(self, statement: str, *values: object) -> list[Any]:
        return self.pipeline.servers.database.query(statement, *values, name=self.pipeline.name)

    def send(self, *orders: dict[str, object]) -> str:
        return self.pipeline.send(*(json.dumps(order) for order in orders))

    def publish(self, counter: int, **order: object) -> None:
        body = json.dumps(VALID | {"counter": counter, "message": json.dumps(order)})
        self.pipeline.publish(body.encode())

    def failures(self) -> list[dict[str, Any]]:
        columns = ("client", "counter", "attempts", "deaths", "error", "reason", "due_at")
        rows = self.query(f"SELECT {', '.join(columns)} FROM failures ORDER BY counter")
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def items(self) -> int:
        return int(self.query("SELECT items FROM stock")[0][0])

    def sent(self) -> list[str]:
        return [row[0] for row in self.query("SELECT message FROM outbox ORDER BY id")]

    def calls(self) -> list[int]:
        """The counters of the calls whose effects were committed."""
        return [row[0] for row in self.query("SELECT counter FROM calls ORDER BY n")]

    def assert_served(self, *counters: int) -> None:
        """These have had their effects once, and nothing else has had any."""
        assert sorted(row.counter for row in self.pipeline.rows()) == sorted(counters)
        assert sorted(self.calls()) == sorted(counters)
        assert sorted(self.sent()) == sorted(
            f"{row.client}/{row.counter}" for row in self.pipeline.rows()
        )
        assert self.items() == 1_000_000 - len(counters)


@pytest.fixture
def shop(pipeline: Pipeline) -> Shop:
    return Shop(pipeline)


@pytest.mark.parametrize("prefetch", ["1", "50"])
def test_effects_follow_ups_and_rows_are_one_commit(shop: Shop, prefetch: str) -> None:
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
def test_an_exception_rolls_back_its_own_request_only(shop: Shop, prefetch: str) -> None:
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
    told = [e for e in shop.pipeline.events(worker) if e["event"] == "request.failed"]
    assert {e["error"] for e in told} >= {"Reject", "ZeroDivisionError", "Retry", "SystemExit"}
    assert worker.alive()


def test_a_failure_is_served_again_when_it_is_due(shop: Shop) -> None:
    """By another worker too: the one that noted it is dead."""
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


def test_attempts_are_counted_and_end(shop: Shop) -> None:
    shop.worker("worker-1", "--max-attempts", "3")
    shop.send({"do": "raise Retry(after=0.1)"})
    shop.pipeline.wait(lambda: shop.failures() and not shop.failures()[0]["due_at"], "given up")
    [failure] = shop.failures()
    assert (failure["attempts"], failure["deaths"]) == (3, 0)
    shop.assert_served()
