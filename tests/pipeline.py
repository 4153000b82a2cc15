"""The pipeline as tests drive it: start its real commands, break things, inspect the table."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pika

from lab.harness import commands
from lab.harness.commands import BIN
from lab.harness.process import Process, wait_until
from lab.harness.proxy import Proxy
from lab.harness.servers import Servers


@dataclass(frozen=True)
class Row:
    client: str
    counter: int
    message: str
    sent_at: datetime
    served_at: datetime
    served_by: str
    deliveries: int


class Pipeline:
    """One vhost, one schema, and the processes that use them; all gone at the end."""

    def __init__(self, servers: Servers, name: str, folder: Path) -> None:
        self.servers = servers
        self.name = name
        self.folder = folder
        self.outbox = folder / "outbox.db"
        self.amqp_url = servers.rabbitmq.url(name)
        self.mysql_url = servers.database.url(name)
        self._exit = contextlib.ExitStack()
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self.servers.start()  # a test before may have left one down
        self.servers.rabbitmq.make_vhost(self.name)
        self.servers.database.query(f"CREATE DATABASE `{self.name}`")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        self._exit.close()
        self.servers.start()
        self.servers.rabbitmq.remove_vhost(self.name)
        self.servers.database.query(f"DROP DATABASE `{self.name}`")

    # -- the commands

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "AMQP_URL": self.amqp_url,
            "MYSQL_URL": self.mysql_url,
            "MANAGEMENT_URL": self.servers.rabbitmq.management_login(self.name),
            "PRODUCER_OUTBOX": str(self.outbox),
            "PRODUCER_CLIENT": "client",
            "LOG_FORMAT": "json",
            **more,
        }

    def start(self, name: str, *command: str, **environment: str) -> Process:
        """Start a command in the background, with its log in a file called after ``name``."""
        process = commands.start(name, self.folder, list(command), self.environment(**environment))
        return self.adopt(process)

    def adopt(self, process: Process) -> Process:
        """Stop a process along with the pipeline, and show its log if the test fails."""
        self._processes.append(process)
        return process

    def worker(self, name: str, *options: str, **environment: str) -> Process:
        """Start a worker and wait until it consumes."""
        worker = self.start(name, "worker", "run", "--name", name, *options, **environment)
        self.wait_event(worker, "worker.consuming")
        return worker

    def run(
        self, *command: str, stdin: str | bytes = "", code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, which must have this exit code."""
        result = run(*command, stdin=stdin, **self.environment(**environment))
        assert result.returncode == code, f"{command}: {result}"
        assert "Traceback" not in result.stderr
        return result

    def send(self, *messages: str) -> str:
        """Send messages; return the client's name."""
        self.run("producer", "send", "--stdin", stdin="".join(f"{m}\n" for m in messages))
        return self.client()

    def send_counted(self, count: int) -> str:
        """Send messages m1, m2, ...; return the client's name."""
        return self.send(*(f"m{i}" for i in range(1, count + 1)))

    def client(self) -> str:
        return str(self.status()["client"])

    def wait_client(self) -> str:
        """Wait until the outbox exists; return the client's name."""
        self.wait(self.outbox.exists, "an outbox")
        return self.client()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("producer", "status", "--json").stdout))

    # -- what happened

    def events(self, process: Process) -> list[dict[str, Any]]:
        return commands.events(process)

    def wait_event(self, process: Process, event: str, times: int = 1) -> None:
        commands.wait_event(process, event, times)

    def rows(self) -> list[Row]:
        """Return all rows in the order they were served."""
        rows = self.servers.database.query(
            "SELECT client, counter, message, sent_at, served_at, served_by, deliveries"
            " FROM requests ORDER BY served_at, client, counter",
            name=self.name,
        )
        return [Row(*row) for row in rows]

    def served(self) -> int:
        query = "SELECT COUNT(*) FROM requests"
        return int(self.servers.database.query(query, name=self.name)[0][0])

    def wait_served(self, count: int, timeout: float = 60, interval: float = 0.02) -> list[Row]:
        """Wait until the table holds this many rows, and return them."""
        wait_until(lambda: self.served() >= count, f"{count} rows", timeout, interval=interval)
        return self.rows()

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        timeout: float = 60,
        interval: float = 0.02,
    ) -> None:
        wait_until(condition, what, timeout, interval=interval)

    def assert_exactly_once(self, client: str, count: int) -> list[Row]:
        """Assert that the rows are 1 ... count of this client, each once; return them."""
        rows = self.rows()
        assert sorted((row.client, row.counter) for row in rows) == [
            (client, counter) for counter in range(1, count + 1)
        ]
        return rows

    def logs(self) -> str:
        """Return the processes' logs, for the report of a failure."""
        return "\n".join(f"{p.name}:\n{p.log.read_text()[-5000:]}" for p in self._processes)

    # -- the broker's side

    def api(self, method: str, path: str, body: object = None) -> Any:
        return self.servers.rabbitmq.api(method, path, body)

    def version(self) -> str:
        """Return the release of RabbitMQ, such as ``3.10.8``."""
        return str(self.api("GET", "overview")["rabbitmq_version"])

    def queue(self, name: str = "requests") -> dict[str, Any]:
        return dict(self.api("GET", f"queues/{self.name}/{name}"))

    def messages(self, name: str = "requests") -> int | None:
        """Return how many messages a queue holds, ready and unacked, as of a second ago."""
        return self.queue(name).get("messages")

    def wait_all_settled(self) -> None:
        """Wait until no message is ready or unacked."""
        self.wait(lambda: self.messages() == 0, "an empty queue")

    def wait_writing(self, workers: int = 1) -> None:
        """Wait until this many workers hold a request and are writing it."""
        query = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND info LIKE %s"
        values = (self.name, "INSERT INTO requests%")
        self.wait(
            lambda: bool(self.servers.database.query(query, *values) == [(workers,)]),
            f"{workers} writing",
        )

    def ready(self, name: str = "requests") -> int:
        """Return how many messages are ready for delivery, as the queue itself reports."""
        with self.channel() as channel:
            frame = channel.queue_declare(name, passive=True)
        return int(frame.method.message_count)

    def publish(self, body: bytes, **properties: Any) -> None:
        """Publish as another client would, and wait for the confirm."""
        with self.channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish(
                "requests", "requests", body, pika.BasicProperties(**properties), mandatory=True
            )

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """Open a channel with another AMQP client: pika's blocking one."""
        with pika.BlockingConnection(pika.URLParameters(self.amqp_url)) as connection:
            yield connection.channel()

    def proxy(self, target: int, port: int = 0) -> Proxy:
        return self._exit.enter_context(Proxy(target, port))

    def broker_proxy(self, port: int = 0) -> tuple[Proxy, str]:
        """Start a proxy in front of the broker; return it and the AMQP_URL through it."""
        proxy = self.proxy(self.servers.rabbitmq.port, port)
        return proxy, self.servers.rabbitmq.url(self.name, proxy.port)

    def database_proxy(self) -> tuple[Proxy, str]:
        """Start a proxy in front of the database; return it and the MYSQL_URL through it."""
        proxy = self.proxy(self.servers.database.port)
        return proxy, self.servers.database.url(self.name, proxy.port)


def run(
    *command: str, stdin: str | bytes = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands to its end."""
    result = subprocess.run(
        [BIN / command[0], *command[1:]],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=100,
        check=False,
    )
    return subprocess.CompletedProcess(
        result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
    )


def alternation(names: Sequence[str]) -> float:
    """Return the share of neighbours that differ."""
    pairs = list(itertools.pairwise(names))
    return sum(a != b for a, b in pairs) / len(pairs)
