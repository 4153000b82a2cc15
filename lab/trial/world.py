"""The world of a trial: the servers, the processes, and the links between them."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pika
import pymysql

from lab.harness import commands
from lab.harness.commands import BIN
from lab.harness.errors import LabError
from lab.harness.process import free_port
from lab.harness.proxy import Proxy
from lab.harness.servers import Servers
from lab.harness.trio import Trio
from lab.trial.applications import Application
from lab.trial.callers import Caller
from lab.trial.members import Client, Member
from lab.trial.network import Network
from lab.trial.probe import Probe
from lab.trial.removed import STORED, TABLE
from lab.trial.server_state import ServerState
from lab.trial.workload import SERVED_OR_GIVEN_UP, Workload
from turnwise.topology import Topology

BALLAST = 500
"""Rows to change, for a transaction that must weigh more than a worker's."""

DOORS = 2
CALLERS = 2
RELAYS = 2
APPLICATIONS = 2


Program = Callable[[list[str]], list[str | Path]]
"""Turns a command of the project into a command line."""


def installed(command: list[str]) -> list[str | Path]:
    """Return the command as it is installed."""
    return [BIN / command[0], *command[1:]]


class World:
    """Everything of one trial, in ``folder``.

    ``name`` is the name of its virtual host, its schema, and the workers' own database account,
    since read_only does not bind the lab's account.
    """

    def __init__(
        self,
        servers: Servers | Trio,
        name: str,
        folder: Path,
        *,
        workers: int,
        clients: int,
        prefetch: int,
        per_second: float,
        program: Program = installed,
        workload: Workload | None = None,
    ) -> None:
        self.workload = workload
        self.program = program
        self.servers = servers
        self.name = name
        self.folder = folder
        self.prefetch = prefetch
        self.heals: list[float] = []
        """The times at which a server answered again, in seconds since 1970."""
        self.brokers = [ServerState(server, self.heals) for server in servers.rabbits]
        self.databases = [ServerState(server, self.heals) for server in servers.databases]
        self.broker, self.database = self.brokers[0], self.databases[0]
        self.held: Counter[str] = Counter()
        """How many faults hold each server-wide state: an alarm, read_only ..."""
        self._password = secrets.token_urlsafe(12)
        self.network = Network(servers, name)
        self._probes: list[Probe] = []
        self._served_connection: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        self.clients = [
            self._client(f"client-{n}", per_second, program, lines=n % 2 == 0)
            for n in range(1, clients + 1)
        ]
        self.workers = [self._worker(f"worker-{n}", program) for n in range(1, workers + 1)]
        self.doors = [self._door(f"door-{n}", program) for n in range(1, DOORS + 1)]
        self._probes += [Probe(client, client.port) for client in self.clients]
        ports = [door.links["caller"].port for door in self.doors]
        self.callers = [
            Caller(f"caller-{n}", lambda: ports, per_second / 2) for n in range(1, CALLERS + 1)
        ]
        self.relays = [self._relay(f"relay-{n}", program) for n in range(1, RELAYS + 1)]
        self.applications = [
            Application(f"application-{n}", self.as_worker, per_second / 2)
            # A handler may not understand their messages.
            for n in range(1, (0 if workload else APPLICATIONS) + 1)
        ]

    @property
    def trio(self) -> Trio:
        """The servers, where there are three of each."""
        assert isinstance(self.servers, Trio)  # noqa: S101
        return self.servers

    @property
    def members(self) -> list[Member]:
        """All processes of the pipeline."""
        return [*self.workers, *self.clients, *self.doors, *self.relays]

    def prepare(self) -> None:
        """Create everything that must exist before the first process starts."""
        self.servers.rabbitmq.make_vhost(self.name)
        query = self.servers.database.query
        query(f"CREATE DATABASE `{self.name}`")
        query(f"CREATE USER '{self.name}'@'%%' IDENTIFIED BY %s", self._password)
        query(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"
            f" ON `{self.name}`.* TO '{self.name}'@'%'"
        )
        query(f"CREATE TABLE `{self.name}`.ballast (n INT PRIMARY KEY, weight INT NOT NULL)")
        self.servers.database.query(TABLE, name=self.name)
        if self.workload:
            # The handler's tables may refer to Turnwise's.
            commands.finish(["worker", "migrate"], self.environment)
        with self.servers.database.connect(self.name) as cursor:
            if self.workload and self.workload.prepare:
                self.workload.prepare(cursor)
            cursor.executemany("INSERT INTO ballast VALUES (%s, 0)", [(n,) for n in range(BALLAST)])
        for client in self.clients:
            client.prepare()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command that connects directly to the servers."""
        return {
            "AMQP_URL": self.servers.rabbitmq.url(self.name),
            "MYSQL_URL": self.servers.database.url(self.name),
        }

    @property
    def in_hands(self) -> int:
        """How many requests workers may hold at once.

        A frozen worker keeps its own for a while, and so does a connection that a worker has
        abandoned but the broker has not: up to two of those for each worker.
        """
        return 3 * self.prefetch * len(self.workers)

    def dead_letters(self) -> list[bytes]:
        """Remove all dead letters from their queue and return their bodies."""
        parameters = pika.URLParameters(self.servers.rabbitmq.url(self.name).split(",")[0])
        bodies: list[bytes] = []
        with pika.BlockingConnection(parameters) as connection:
            channel = connection.channel()
            while True:
                method, _, body = channel.basic_get(Topology().dead, auto_ack=True)
                if method is None:
                    return bodies
                bodies.append(body or b"")

    def tick(self, now: float) -> None:
        """Supervise the servers and the processes."""
        for server in (*self.brokers, *self.databases):
            server.tick(now)
        for member in self.members:
            member.tick(now)

    def close(self) -> None:
        """End the processes and the links, and delete what was created on the servers."""
        for probe in self._probes:
            probe.close()
        for caller in self.callers:
            caller.abandon()
        for application in self.applications:
            application.finish()
        for member in self.members:
            member.process.resume()
            member.process.kill()
        for client in self.clients:
            client.end_of_lines()
        self.network.close()
        with contextlib.suppress(LabError, pymysql.Error):
            self.servers.start()
            self.servers.rabbitmq.remove_vhost(self.name)
            self.servers.database.query(f"DROP DATABASE `{self.name}`")
            self.servers.database.query(f"DROP USER '{self.name}'@'%'")

    # -- the servers

    def as_worker(self, port: int | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """Connect with a worker's rights, directly."""
        return pymysql.connect(
            host="127.0.0.1",
            port=port or self.servers.database.port,
            user=self.name,
            password=self._password,
            database=self.name,
            autocommit=True,
            connect_timeout=2,
            read_timeout=5,
            write_timeout=5,
        )

    def refusal(self, statement: str, port: int | None = None) -> int:
        """Return the number of the error that a worker would get for a statement now; 0 if none."""
        with contextlib.closing(self.as_worker(port)) as connection, connection.cursor() as cursor:
            try:
                cursor.execute(statement)
            except pymysql.Error as error:
                return int(error.args[0])
        return 0

    def kill_worker_connections(self, cursor: pymysql.cursors.Cursor) -> int:
        """Kill the workers' connections to the database; return how many."""
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE user = %s",
            (self.name,),
        )
        killed = 0
        for (number,) in cursor.fetchall():
            with contextlib.suppress(pymysql.Error):  # it has ended already
                cursor.execute("KILL %s", (number,))
                killed += 1
        return killed

    def served(self) -> int | None:
        """Return the number of rows ever stored and failures given up; None if unknown now."""
        return self._count(STORED if self.workload is None else SERVED_OR_GIVEN_UP)

    def left(self) -> int | None:
        """Return how many rows wait in the table outbox; None if that is unknown now."""
        return self._count("SELECT COUNT(*) FROM outbox")

    def relayed(self) -> dict[str, int]:
        """Return the clients that relays used for the workers' queue, each with its last number."""
        rows = self.servers.database.query(
            "SELECT client, last FROM outbox_clients WHERE queue = %s",
            Topology().queue,
            name=self.name,
        )
        return {str(client): int(last) for client, last in rows}

    def _count(self, query: str) -> int | None:
        try:
            if self._served_connection is None:
                self._served_connection = pymysql.connect(
                    host="127.0.0.1",
                    port=self.servers.database.port,
                    user="lab",
                    password=self.servers.database.password,
                    database=self.name,
                    autocommit=True,
                    connect_timeout=1,
                    read_timeout=1,
                )
            with self._served_connection.cursor() as cursor:
                cursor.execute(query)
                return int(cursor.fetchone()[0])
        except pymysql.Error:
            self._served_connection = None
            return None

    def queued(self) -> int | None:
        """Return how many requests the queue held a second ago; None if that is unknown now."""
        with contextlib.suppress(LabError):
            queue = self.servers.rabbitmq.api("GET", f"queues/{self.name}/{Topology().queue}")
            if "messages" in queue:
                return int(queue["messages"])
        return None

    def failures(self) -> int | None:
        """Return how many failures wait for a retry; None if that is unknown now."""
        if self.workload is None:
            return 0
        with (
            contextlib.suppress(pymysql.Error),
            self.servers.database.connect(self.name, timeout=2) as cursor,
        ):
            cursor.execute("SELECT COUNT(due_at) FROM failures")
            return int(cursor.fetchall()[0][0])
        return None

    def rig(self, worker: Member) -> Path:
        """Return the folder through which a worker's handler is held."""
        return self.folder / f"rig-{worker.name}"

    # -- the links

    def link(self, pick: int, of: str) -> tuple[Member, Proxy]:
        """Choose a link of a kind: client-broker, worker-database, caller-door ..."""
        who, _, server = of.partition("-")
        if who == "caller":
            door = self.doors[pick % len(self.doors)]
            return door, door.links["caller"]
        members: dict[str, Sequence[Member]] = {
            "client": self.clients,
            "worker": self.workers,
            "door": self.doors,
            "relay": self.relays,
        }
        member = members[who][pick % len(members[who])]
        return member, member.links[server]

    def _client(self, name: str, per_second: float, program: Program, *, lines: bool) -> Client:
        brokers = self.network.broker_links()
        return Client(
            name,
            self.folder,
            program,
            self.network.amqp_url(brokers),
            brokers,
            per_second,
            lines=lines,
            message=self.workload.message if self.workload else None,
        )

    def _worker(self, name: str, program: Program) -> Member:
        brokers, databases = self.network.broker_links(), self.network.database_links()
        environment = {
            "AMQP_URL": self.network.amqp_url(brokers),
            "MYSQL_URL": self.network.mysql_url(databases, self._password),
            "LOG_FORMAT": "json",
        }
        port = free_port()
        command = ["worker", "run", "--name", name, "--prefetch", str(self.prefetch)]
        command += ["--http", str(port)]
        if self.workload:
            command += self.workload.options
            environment |= self.workload.environment(self.folder / f"rig-{name}")
        links = {**brokers, **databases}
        return self._probed(Member(name, self.folder, program(command), environment, links), port)

    def _probed(self, member: Member, port: int) -> Member:
        self._probes.append(Probe(member, port))
        return member

    def _door(self, name: str, program: Program) -> Member:
        brokers, port = self.network.broker_links(), free_port()
        command = program(["producer", "serve", "--http", str(port), "--timeout", "3s"])
        environment = {"AMQP_URL": self.network.amqp_url(brokers), "LOG_FORMAT": "json"}
        links = {**brokers, "caller": self.network.proxy(port)}
        return self._probed(Member(name, self.folder, command, environment, links), port)

    def _relay(self, name: str, program: Program) -> Member:
        brokers = self.network.broker_links()
        database = {"database": self.network.proxy(self.servers.database.port)}
        environment = {
            "AMQP_URL": self.network.amqp_url(brokers),
            "MYSQL_URL": self.network.mysql_url(database, self._password),
            "LOG_FORMAT": "json",
        }
        port = free_port()
        command = program(["producer", "relay", "--name", name, "--http", str(port)])
        links = {**brokers, **database}
        return self._probed(Member(name, self.folder, command, environment, links), port)
