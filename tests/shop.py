"""A pipeline whose workers run a handler, and the effects that tests inspect."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from lab.harness.process import Process
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
        exec(do, {**globals(), "request": request, "db": db})
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
        """Start a worker and wait until it consumes."""
        worker = self.start(name, *options, **environment)
        self.pipeline.wait_event(worker, "worker.consuming")
        return worker

    def start(self, name: str = "worker-1", *options: str, **environment: str) -> Process:
        environment = {"PYTHONPATH": str(self.pipeline.folder), **environment}
        command = ["worker", "run", "--name", name, "--handler", "orders:serve", *options]
        return self.pipeline.start(name, *command, **environment)

    def wait_handling(self) -> None:
        """Wait until a handler has run its first statement, but not its last."""
        locked = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_modified > 1"
        self.pipeline.wait(lambda: self.query(locked) != [(0,)], "a handler at work")

    def query(self, statement: str, *values: object) -> list[Any]:
        return self.pipeline.servers.database.query(statement, *values, name=self.pipeline.name)

    def send(self, *orders: Mapping[str, object]) -> str:
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
        """Return the counters of the calls whose effects were committed."""
        return [row[0] for row in self.query("SELECT counter FROM calls ORDER BY n")]

    def assert_served(self, *counters: int) -> None:
        """Assert that these requests had their effects exactly once, and no others had any."""
        assert sorted(row.counter for row in self.pipeline.rows()) == sorted(counters)
        assert sorted(self.calls()) == sorted(counters)
        assert sorted(self.sent()) == sorted(
            f"{row.client}/{row.counter}" for row in self.pipeline.rows()
        )
        assert self.items() == 1_000_000 - len(counters)
