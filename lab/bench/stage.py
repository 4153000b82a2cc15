"""A separate pipeline for each measurement: empty at first, checked and deleted at the end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pika

from lab.bench.usage import Fsyncs, cpu_seconds, peak_memory
from lab.harness import commands
from lab.harness.errors import LabError
from lab.harness.process import Process, wait_until
from lab.harness.servers import Servers
from turnwise.topology import Topology

TIMEOUT = 900.0
"""Seconds after which a measurement fails."""

_LOOK = 0.2
"""Seconds between two counts of the table, since counting takes the database's time."""

_ROWS_A_LOOK = 500_000
"""Rows per second of pause between two counts of a large table."""

_ROWS = """
    SELECT COUNT(*), COUNT(DISTINCT client, counter), SUM(counter),
        TIMESTAMPDIFF(MICROSECOND, %s, MAX(served_at)) / 1e6
    FROM requests WHERE {theirs}
"""
# The rows that were committed when the last statement began: no later time is known.
_EARLIER = """
    SELECT COUNT(*) FROM requests WHERE {theirs}
    AND served_at < (SELECT MAX(served_at) FROM requests WHERE {theirs})
"""
_MANY = 1000
"""Clients that are not named in a statement any more: the table must hold nothing else."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that succeeded: its lines, each with its time in seconds, and what it used.

    Its peak memory is in MiB, its CPU time in seconds, including those before its first line.
    """

    lines: list[tuple[float, str]]
    peak_memory: float
    cpu: float

    @property
    def seconds(self) -> float:
        """Seconds from the first line to the last."""
        return self.lines[-1][0] - self.lines[0][0]

    @property
    def client(self) -> str:
        """The client's name, as ``producer send --json`` reports it at the end."""
        return str(json.loads(self.lines[-1][1])["client"])


@dataclass(frozen=True, slots=True)
class Drained:
    """The figures of a backlog, served by all workers from their release to the last commit."""

    rows_per_s: float
    seconds: float
    fsyncs: Fsyncs
    workers_cpu: float
    """CPU seconds, like the next two."""
    broker_cpu: float
    database_cpu: float
    peak_memory: float
    """MiB, of the largest worker."""


class Stage:
    """A virtual host and a schema of one name, and the workers that serve it."""

    def __init__(self, servers: Servers, name: str) -> None:
        self.servers = servers
        self.name = name
        self.folder = servers.folder / name
        self.environment = {
            "AMQP_URL": servers.rabbitmq.url(name),
            "MYSQL_URL": servers.database.url(name),
            "PRODUCER_OUTBOX": str(self.folder / "outbox.db"),
            "PRODUCER_CLIENT": "bench",
        }
        self.workers: list[Process] = []

    def __enter__(self) -> Self:
        self.folder.mkdir()
        self.servers.rabbitmq.make_vhost(self.name)
        self.servers.database.query(f"CREATE DATABASE `{self.name}`")
        self.run("worker", "migrate")
        topology = Topology()
        with self.channel() as channel:
            for queue, arguments in (
                (topology.dead, topology.dead_arguments),
                (topology.queue, topology.queue_arguments),
            ):
                channel.exchange_declare(queue, "direct", durable=True)
                channel.queue_declare(queue, durable=True, arguments=arguments)
                channel.queue_bind(queue, queue, queue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        self.servers.rabbitmq.remove_vhost(self.name)
        self.servers.database.query(f"DROP DATABASE `{self.name}`")

    # -- workers

    def start_workers(self, count: int, prefetch: int, *options: str) -> None:
        """Start Turnwise's workers and wait until they consume."""
        self._start(count, "worker", "run", "--prefetch", str(prefetch), *options, "--name")

    def start_textbook(self, count: int, *options: str) -> None:
        """Start textbook consumers and wait until they consume."""
        self._start(count, "python", "-m", "lab.bench.textbook_consumer", *options)

    def start_native(self, count: int, program: Path, prefetch: int) -> None:
        """Start workers in C and wait until they consume."""
        database = self.servers.database
        self.environment |= {
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(database.port),
            "DB_USER": database.user,
            "DB_PASSWORD": database.password,
            "DB_NAME": self.name,
        }
        self._start(count, str(program), "serve", str(prefetch))

    def _start(self, count: int, *command: str) -> None:
        environment = {"LOG_FORMAT": "json", **self.environment}
        for number in range(1, count + 1):
            name = f"worker-{number}"
            self.workers.append(commands.start(name, self.folder, [*command, name], environment))
        for worker in self.workers:
            commands.wait_event(worker, "worker.consuming")

    def freeze(self) -> None:
        """Freeze the workers, so that they start together when drain() releases them."""
        for worker in self.workers:
            worker.pause()

    # -- requests

    def send(self, count: int, size: int = 0) -> Finished:
        """Send ``count`` lines of at least ``size`` bytes with ``producer send --stdin``."""
        lines = self.folder / "lines"
        with lines.open("w") as file:
            file.writelines(f"{f'message {number}':-<{size}}\n" for number in range(1, count + 1))
        return self.run("producer", "send", "--stdin", "--json", stdin=lines)

    def run(
        self,
        *command: str,
        stdin: Path = Path(os.devnull),
        good: Sequence[int] = (0,),
        **environment: str,
    ) -> Finished:
        """Run a command to its end. Raises LabError unless its exit code is in ``good``."""
        errors = self.folder / "errors.log"
        lines, peak = [], 0.0
        # This adds up the children that have ended, and only this one ends meanwhile.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with (
            stdin.open("rb") as source,
            errors.open("wb") as log,
            subprocess.Popen(
                [commands.BIN / command[0], *command[1:]],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self.environment, **environment},
                text=True,
            ) as process,
        ):
            for line in process.stdout or ():
                lines.append((time.monotonic(), line))
                peak = peak_memory(process.pid) or peak
        if process.returncode not in good:
            raise LabError(f"{' '.join(command)}: exit {process.returncode}: {errors.read_text()}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Finished(lines, peak, cpu)

    def drain(self, counts: Mapping[str, int]) -> Drained:
        """Release the workers, and wait until each client's requests 1 to count are stored once.

        Raises LabError if anything else of these clients is stored.
        """
        clients, count = tuple(counts), sum(counts.values())
        fsyncs = Fsyncs.read(self.servers)
        cpu = self._cpu()
        [(begun,)] = self.query("SELECT UTC_TIMESTAMP(6)")
        for worker in self.workers:
            worker.resume()
        self.wait_served(clients, count)
        used = [after - before for after, before in zip(self._cpu(), cpu, strict=True)]
        theirs = self._theirs(clients)
        [(rows, distinct, total, seconds)] = self.query(_ROWS.format(theirs=theirs), begun)
        if not rows == distinct == count or total != sum(n * (n + 1) // 2 for n in counts.values()):
            raise LabError(f"{count} requests became {rows} rows, {distinct} different ones")
        [(earlier,)] = self.query(_EARLIER.format(theirs=theirs))
        return Drained(
            rows_per_s=earlier / float(seconds),
            seconds=float(seconds),
            fsyncs=Fsyncs.read(self.servers) - fsyncs,
            broker_cpu=used[0],
            database_cpu=used[1],
            workers_cpu=sum(used[2:]),
            peak_memory=max(peak_memory(worker.pid or 0) or 0 for worker in self.workers),
        )

    def wait_served(self, clients: Sequence[str], count: int) -> None:
        """Wait until these clients have ``count`` rows."""
        query = f"SELECT COUNT(*) FROM requests WHERE {self._theirs(clients)}"  # noqa: S608
        wait_until(
            lambda: self.query(query)[0][0] >= count,
            f"{count} rows",
            TIMEOUT,
            interval=max(_LOOK, count / _ROWS_A_LOOK),
        )

    @staticmethod
    def _theirs(clients: Sequence[str]) -> str:
        """Return the condition that a row is of one of these clients."""
        if len(clients) > _MANY:
            return "TRUE"
        return "client IN ('{}')".format("','".join(clients))

    def _cpu(self) -> list[float]:
        servers = (self.servers.rabbitmq.runner, self.servers.database.runner)
        return [cpu_seconds(runner) for runner in (*servers, *self.workers)]

    # -- queries

    def query(self, statement: str, *values: object) -> list[Any]:
        """Run one statement in this stage's schema."""
        return self.servers.database.query(statement, *values, name=self.name)

    def ready(self, queue: str = "requests") -> int:
        """Return how many messages are ready in a queue."""
        with self.channel() as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """Yield a channel of pika's blocking connection."""
        url = pika.URLParameters(self.environment["AMQP_URL"])
        with pika.BlockingConnection(url) as connection:
            yield connection.channel()
