"""Serve some orders on private servers:  python examples/orders/demo.py."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from turnwise.database import Connection, parse_url

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
ORDERS = (
    '{"sku": "apple", "items": 2}',
    '{"sku": "pear", "items": 5}',
    '{"sku": "pear", "items": 1}',
    '{"sku": "apple", "items": 0}',
    '{"sku": "apple", "items": 3}',
)


def main() -> None:
    """Start the servers, serve the orders, show the outcomes, and stop everything."""
    run("lab", "up", "--workers", "0")
    os.environ.update(settings())
    worker = None
    try:
        connection = parse_url(os.environ["MYSQL_URL"]).connect("orders")
        run("worker", "migrate")
        for statement in filter(str.strip, (HERE / "tables.sql").read_text().split(";")):
            ask(connection, statement)
        worker = subprocess.Popen([BIN / "worker", "run", "--handler", "orders:serve"], cwd=HERE)
        subprocess.run(
            [BIN / "producer", "send", "--stdin"], input="\n".join(ORDERS), text=True, check=True
        )
        wait_for(connection, len(ORDERS))
        run("worker", "failed", "list")
        for what in ("stock", "orders"):
            print(f"{what}:", *ask(connection, f"SELECT * FROM {what}"), sep="\n  ")
        print("receipts:", *ask(connection, "SELECT message FROM outbox"), sep="\n  ")
    finally:
        if worker:
            worker.terminate()
            worker.wait()
        run("lab", "down")


def wait_for(connection: Connection, count: int) -> None:
    """Wait until each order is served, or has failed once."""
    both = "SELECT (SELECT COUNT(*) FROM requests) + (SELECT COUNT(*) FROM failures)"
    for _ in range(600):
        if ask(connection, both)[0][0] >= count:
            return
        time.sleep(0.1)
    raise SystemExit("not all orders were served in a minute")


def ask(connection: Connection, statement: str) -> list[tuple[object, ...]]:
    """Run a statement and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def run(program: str, *arguments: str) -> None:
    """Run one of Turnwise's commands."""
    print(f"$ {shlex.join([program, *arguments])}", flush=True)
    subprocess.run([BIN / program, *arguments], check=True)


def settings() -> dict[str, str]:
    """Return the variables that 'lab env' prints for a shell."""
    lines = subprocess.run(
        [BIN / "lab", "env"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    return {name: shlex.split(value)[0] for name, _, value in pairs}


if __name__ == "__main__":
    main()
