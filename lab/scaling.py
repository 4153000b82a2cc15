"""How the rate grows with workers and prefetch, on one node of each server and on three.

python -m lab.scaling [--nodes 3]: a table for docs/scale.md, in a few minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from lab.harness import commands
from lab.harness.process import wait_until
from lab.harness.servers import DEFAULT_FOLDER, Servers
from lab.harness.trio import Trio

WORKERS = (1, 2, 4, 8)
BACKLOGS = {1: 3_000, 20: 20_000, 200: 60_000}
"""Requests to serve, by prefetch."""

TIMEOUT = 300.0

_RATE = """
    SELECT SUM(place BETWEEN 0.2 AND 0.9)
        / (TIMESTAMPDIFF(MICROSECOND, MIN(IF(place >= 0.2, served_at, NULL)),
                         MAX(IF(place <= 0.9, served_at, NULL))) / 1e6)
    FROM (SELECT served_at, PERCENT_RANK() OVER (ORDER BY served_at) AS place FROM requests)
        AS ranked
"""
"""Rows per second in the middle of a run, since workers end at different times."""


def measure(servers: Servers | Trio, folder: Path, workers: int, prefetch: int) -> float:
    """Return the rows per second at which workers that begin together serve a backlog."""
    name, count = f"scaling-{workers}-{prefetch}", BACKLOGS[prefetch]
    servers.rabbitmq.make_vhost(name)
    servers.database.query(f"CREATE DATABASE `{name}`")
    environment = {
        "AMQP_URL": servers.rabbitmq.url(name),
        "MYSQL_URL": servers.database.url(name),
        "PRODUCER_OUTBOX": str(folder / f"{name}.db"),
        "LOG_FORMAT": "json",
    }
    started = []

    def rows() -> int:
        return int(servers.database.query("SELECT COUNT(*) FROM requests", name=name)[0][0])

    try:
        commands.finish(["worker", "migrate"], environment)
        producer = ["producer", "send", "hello", "--count", str(count), "--quantum", "0"]
        commands.finish(producer, environment)
        with servers.database.connect(name) as cursor:
            # Or the first ones would be done before the last one has started.
            cursor.execute("LOCK TABLES requests WRITE")
            for number in range(workers):
                words = ["worker", "run", "--name", f"w{number}", "--prefetch", str(prefetch)]
                started.append(commands.start(f"{name}-{number}", folder, words, environment))
            for process in started:
                commands.wait_event(process, "worker.consuming")
        wait_until(lambda: rows() == count, f"{count} rows", TIMEOUT, interval=0.5)
        [(rate,)] = servers.database.query(_RATE, name=name)
        return float(rate)
    finally:
        for process in started:
            process.kill()
        servers.rabbitmq.remove_vhost(name)
        servers.database.query(f"DROP DATABASE `{name}`")


@click.command()
@click.option("--nodes", type=click.Choice(["1", "3"]), default="1", show_default=True)
def main(nodes: str) -> None:
    """Measure each number of workers with each prefetch, on private servers."""
    with tempfile.TemporaryDirectory() as folder:
        base, packages = Path(folder), DEFAULT_FOLDER / "packages"
        servers = Trio(base, packages) if nodes == "3" else Servers(base, packages)
        with servers:
            click.echo("| workers | " + " | ".join(f"prefetch {each}" for each in BACKLOGS) + " |")
            click.echo("|---|" + "---|" * len(BACKLOGS))
            for workers in WORKERS:
                rates = [measure(servers, base, workers, prefetch) for prefetch in BACKLOGS]
                click.echo(f"| {workers} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
